"""Working sets on the Gram matrix: each row's few active factors, solved exactly, one row a thread."""

from skfactors.dictionaries.sparse_coding.solvers._working_set import code_rows
from skfactors.dictionaries.sparse_coding.solvers.gram import GramSolver


class ActiveSet(GramSolver):
    """
    Code rows by growing a working set of factors and solving for it exactly, until the duality gap closes.

    A row starts with no factor. Each round measures the gap, takes in factors whose correlation with the residual
    exceeds the penalty, and solves the small problem of the working set: coordinate descent until the active factors
    settle, then, near the optimum, a Cholesky factorization of their part of the Gram matrix. A handful of rounds do
    for most rows, and the code is then as exact as the precision allows.

    Parameters as in :class:`~skfactors.dictionaries.sparse_coding.solvers.base.Solver`.

    References
    ----------
    Massias, Gramfort, Salmon (2018), "Celer: a fast solver for the lasso with dual extrapolation", for working sets.
    Osborne, Presnell, Turlach (2000), "A new approach to variable selection in least squares problems", for the exact
    step on the active factors.
    """

    def code_task(self, rows, correlations):
        """Code some rows."""
        problem = (self.alpha, self.positive, self.tol, self.max_iter)
        return code_rows(rows, correlations, self._components, self._gram, *problem)
