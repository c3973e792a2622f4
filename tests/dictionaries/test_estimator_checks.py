"""Every check that scikit-learn has for a transformer, none of them expected to fail."""

from sklearn.utils.estimator_checks import parametrize_with_checks

from skfactors import SparseDictionary


@parametrize_with_checks(
    [
        SparseDictionary(update=update, sparse_output=sparse_output, solver=solver)
        for solver in ("auto", "fista")
        for update in ("block", "hessian")
        for sparse_output in (True, False)
    ]
)
def test_sparse_dictionary_passes_every_check_of_scikit_learn(estimator, check):
    check(estimator)
