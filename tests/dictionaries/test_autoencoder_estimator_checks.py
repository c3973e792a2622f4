"""Every check that scikit-learn has for a transformer, with every activation, none of them expected to fail."""

from sklearn.utils.estimator_checks import parametrize_with_checks

from skfactors import SparseAutoencoder
from skfactors.dictionaries import ACTIVATIONS


@parametrize_with_checks(
    [SparseAutoencoder(activation=activation) for activation in ACTIVATIONS]
    + [SparseAutoencoder(dict_init="random", sparse_output=False)]
)
def test_sparse_autoencoder_passes_every_check_of_scikit_learn(estimator, check):
    check(estimator)
