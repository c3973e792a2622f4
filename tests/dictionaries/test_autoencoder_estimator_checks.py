"""Every check that scikit-learn has for a transformer, with every activation, none of them expected to fail."""

from sklearn.utils.estimator_checks import parametrize_with_checks

from skfactors import Crosscoder, SparseAutoencoder, Transcoder
from skfactors.dictionaries import ACTIVATIONS


# Widths of rows differ from check to check, and only one site divides them all.
@parametrize_with_checks(
    [SparseAutoencoder(activation=activation) for activation in ACTIVATIONS]
    + [SparseAutoencoder(dict_init="random", sparse_output=False)]
    + [Transcoder(), Crosscoder(n_sites=1)]
    + [
        Transcoder(activation=activation, skip=True, jacobian_penalty=0.1, dict_init="random", sparse_output=False)
        for activation in ACTIVATIONS
    ]
    + [Crosscoder(n_sites=1, activation=activation, dict_init="random") for activation in ("jump_relu", "gated")]
)
def test_autoencoders_pass_every_check_of_scikit_learn(estimator, check):
    check(estimator)
