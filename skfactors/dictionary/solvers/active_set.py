"""Working sets on the Gram matrix: each row's few active factors, solved exactly, one row a thread."""

from concurrent.futures import ThreadPoolExecutor
from functools import cache

import numpy as np
import scipy.sparse
import torch
from threadpoolctl import ThreadpoolController

from skfactors.dictionary.solvers._working_set import code_rows
from skfactors.dictionary.solvers.base import Solver

_ROWS_A_TASK = 128
_FACTORS_A_TASK = 256
_TASKS_WORTH_NO_THREADS = 2


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
        self._components = components.cpu().numpy()
        self._transposed = np.ascontiguousarray(self._components.T)
        self._gram = _gram_matrix(self._components)

    def solve(self, X: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Code rows, then fill their codes up with zeros."""
        codes, gaps = self.solve_sparse(X)
        return torch.from_numpy(codes.toarray()).to(X.device), gaps

    def solve_sparse(self, X: torch.Tensor) -> tuple[scipy.sparse.csr_array, torch.Tensor]:
        """Code rows, without a dense array of codes."""

        def code(rows):
            problem = (self.alpha, self.positive, self.tol, self.max_iter)
            return code_rows(rows, self._correlate(rows), self._components, self._gram, *problem)

        rows = X.cpu().numpy()
        parts = _in_parallel(code, _cut(rows, _ROWS_A_TASK))
        counts, indices, values, gaps = (np.concatenate(pieces) for pieces in zip(*parts, strict=True))
        row_ends = np.concatenate([[0], np.cumsum(counts)])
        codes = scipy.sparse.csr_array((values, indices, row_ends), shape=(len(X), len(self._components)))
        return codes, torch.from_numpy(gaps).to(X)

    def _correlate(self, rows: np.ndarray) -> np.ndarray:
        """Multiply a task's rows, always as many, so that rounding does not depend on how many there are."""
        if len(rows) == _ROWS_A_TASK:
            return rows @ self._transposed
        filled = np.zeros((_ROWS_A_TASK, rows.shape[1]), rows.dtype)
        filled[: len(rows)] = rows
        return (filled @ self._transposed)[: len(rows)]


def _gram_matrix(components: np.ndarray) -> np.ndarray:
    """Multiply the components with each other, one half of the pairs, and mirror it."""
    n_components = len(components)
    gram = np.empty((n_components, n_components), components.dtype)

    def fill(factors):
        start, stop = factors[0], factors[-1] + 1
        gram[start:stop, :stop] = components[start:stop] @ components[:stop].T
        gram[:start, start:stop] = gram[start:stop, :start].T

    # The longest first, so that no thread ends with one of them.
    _in_parallel(fill, _cut(np.arange(n_components), _FACTORS_A_TASK)[::-1])
    return gram


def _cut(rows: np.ndarray, size: int) -> list[np.ndarray]:
    return [rows[start : start + size] for start in range(0, len(rows), size)]


def _in_parallel(function, tasks) -> list:
    """
    Apply a function to tasks, on as many threads as torch may use.

    Each of them multiplies matrices by itself: threads of the BLAS would wait for more in a loop that takes a core.
    """
    with _libraries().limit(limits=1, user_api="blas"):
        if len(tasks) <= _TASKS_WORTH_NO_THREADS:
            return [function(task) for task in tasks]
        with ThreadPoolExecutor(torch.get_num_threads()) as threads:
            return list(threads.map(function, tasks))


@cache
def _libraries() -> ThreadpoolController:
    return ThreadpoolController()
