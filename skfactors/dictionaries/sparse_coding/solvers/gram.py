"""What solvers share that code a row at a time on the Gram matrix, in compiled code on the CPU."""

from abc import abstractmethod

import numpy as np
import scipy.sparse
import torch

from skfactors.dictionaries.sparse_coding.solvers.base import Solver
from skfactors.learning.threads import in_parallel

_ROWS_A_TASK = 128
_FACTORS_A_TASK = 256


class GramSolver(Solver):
    """
    A solver that needs the Gram matrix of the components and each row's correlations with them.

    Rows are coded on the CPU, wherever the tensors are, in parallel on as many threads as torch may use.

    Parameters as in :class:`~skfactors.dictionaries.sparse_coding.solvers.base.Solver`.
    """

    def __init__(self, components: torch.Tensor, **problem):
        super().__init__(components, **problem)
        self._components = components.cpu().numpy()
        self._gram = _gram_matrix(self._components)

    @abstractmethod
    def code_task(self, rows: np.ndarray, correlations: np.ndarray) -> tuple[np.ndarray, ...]:
        """
        Code some rows.

        Parameters
        ----------
        rows : ndarray of shape (n_rows, n_features)
        correlations : ndarray of shape (n_rows, n_components)

        Returns
        -------
        counts : ndarray of int of shape (n_rows,)
            Active factors of each row.
        indices, values : ndarray of shape (counts.sum(),)
            Factors in ascending order, and their codes, row after row.
        gaps : ndarray of shape (n_rows,)
        """

    def solve(self, X: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Code rows, then fill their codes up with zeros."""
        codes, gaps = self.solve_sparse(X)
        return torch.from_numpy(codes.toarray()).to(X.device), gaps

    def solve_sparse(self, X: torch.Tensor) -> tuple[scipy.sparse.csr_array, torch.Tensor]:
        """Code rows, without a dense array of codes."""
        rows = X.cpu().numpy()
        tasks = [rows[start : start + _ROWS_A_TASK] for start in range(0, len(rows), _ROWS_A_TASK)]
        parts = in_parallel(lambda task: self.code_task(task, self._correlate(task)), tasks)
        counts, indices, values, gaps = (np.concatenate(pieces) for pieces in zip(*parts, strict=True))
        row_ends = np.concatenate([[0], np.cumsum(counts)])
        if row_ends[-1] <= np.iinfo(np.int32).max:
            # Many estimators of scikit-learn take no wider indices.
            row_ends = row_ends.astype(np.int32)
        codes = scipy.sparse.csr_array((values, indices, row_ends), shape=(len(X), len(self._components)))
        return codes, torch.from_numpy(gaps).to(X)

    def _correlate(self, rows: np.ndarray) -> np.ndarray:
        """Multiply a task's rows, always as many, so that rounding does not depend on how many there are."""
        if len(rows) == _ROWS_A_TASK:
            return rows @ self._components.T
        filled = np.zeros((_ROWS_A_TASK, rows.shape[1]), rows.dtype)
        filled[: len(rows)] = rows
        return (filled @ self._components.T)[: len(rows)]


def _gram_matrix(components: np.ndarray) -> np.ndarray:
    """Multiply the components with each other, one half of the pairs, and mirror it."""
    n_components = len(components)
    gram = np.empty((n_components, n_components), components.dtype)

    def fill(start):
        stop = min(start + _FACTORS_A_TASK, n_components)
        gram[start:stop, :stop] = components[start:stop] @ components[:stop].T
        gram[:start, start:stop] = gram[start:stop, :start].T

    # The longest first, so that no thread ends with one of them.
    in_parallel(fill, range(0, n_components, _FACTORS_A_TASK)[::-1])
    return gram
