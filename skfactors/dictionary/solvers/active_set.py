"""Working sets on the Gram matrix: each row's few active factors, solved exactly, one row a thread."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import scipy.sparse
import torch

from skfactors.dictionary.solvers._working_set import code_rows
from skfactors.dictionary.solvers.base import Solver

_ROWS_A_TASK = 64
_ROWS_A_PRODUCT = 256


class ActiveSet(Solver):
    """
    Code rows by growing a working set of factors and solving for it exactly, until the duality gap closes.

    A row starts with no factor. Each round measures the gap, takes in factors whose correlation with the residual
    exceeds the penalty, and solves the small problem of the working set: coordinate descent until the active factors
    settle, then a Cholesky factorization of their part of the Gram matrix. A handful of rounds do for most rows, and
    the code is then as exact as the precision allows. Rows are coded on the CPU, wherever the tensors are, in parallel
    on as many threads as torch may use.

    Parameters as in :class:`~skfactors.dictionary.solvers.base.Solver`.

    References
    ----------
    Massias, Gramfort, Salmon (2018), "Celer: a fast solver for the lasso with dual extrapolation", for working sets.
    Osborne, Presnell, Turlach (2000), "A new approach to variable selection in least squares problems", for the exact
    step on the active factors.
    """

    def __init__(self, components: torch.Tensor, **problem):
        super().__init__(components, **problem)
        local = components.cpu()
        self._components = local.numpy()
        self._gram = (local @ local.T).numpy()

    def solve(self, X: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Code rows, then fill their codes up with zeros."""
        codes, gaps = self.solve_sparse(X)
        return torch.from_numpy(codes.toarray()).to(X.device), gaps

    def solve_sparse(self, X: torch.Tensor) -> tuple[scipy.sparse.csr_array, torch.Tensor]:
        """Code rows, without a dense array of codes."""
        rows = X.cpu().numpy()
        correlations = self._correlate(rows)

        def code(start):
            task = slice(start, start + _ROWS_A_TASK)
            problem = (self.alpha, self.positive, self.tol, self.max_iter)
            return code_rows(rows[task], correlations[task], self._components, self._gram, *problem)

        with ThreadPoolExecutor(torch.get_num_threads()) as threads:
            parts = list(threads.map(code, range(0, len(rows), _ROWS_A_TASK)))
        counts, indices, values, gaps = (np.concatenate(pieces) for pieces in zip(*parts, strict=True))
        row_ends = np.concatenate([[0], np.cumsum(counts)])
        codes = scipy.sparse.csr_array((values, indices, row_ends), shape=(len(rows), len(self._components)))
        return codes, torch.from_numpy(gaps).to(X)

    def _correlate(self, rows: np.ndarray) -> np.ndarray:
        """Multiply in blocks of one size, so that rounding does not depend on how many rows there are."""
        n_rows, n_features = rows.shape
        blocks = np.zeros((-(-n_rows // _ROWS_A_PRODUCT), _ROWS_A_PRODUCT, n_features), dtype=rows.dtype)
        blocks.reshape(-1, n_features)[:n_rows] = rows
        return (blocks @ self._components.T).reshape(-1, len(self._components))[:n_rows]
