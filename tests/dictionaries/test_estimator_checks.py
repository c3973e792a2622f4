"""Every check that scikit-learn has for a transformer, none of them expected to fail."""

from dataclasses import replace

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


class HalvedDictionary(SparseDictionary):
    """Nested, with as many components as a check sets: one cannot be halved."""

    def _coding(self, alpha=None):
        n_components = self.n_components or self.n_features_in_
        ends = (n_components // 2, n_components) if n_components > 1 else ()
        return replace(super()._coding(alpha), group_ends=ends, debias=False)


@parametrize_with_checks([HalvedDictionary(), HalvedDictionary(n_nonzero_coefs=1, sparse_output=False)])
def test_a_nested_dictionary_passes_every_check_of_scikit_learn(estimator, check):
    check(estimator)
