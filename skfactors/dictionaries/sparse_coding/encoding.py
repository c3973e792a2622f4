"""Rows to codes with a given dictionary, and what codes say of their rows, a batch at a time."""

import numpy as np
import scipy.sparse
import torch
from sklearn.exceptions import ConvergenceWarning

from skfactors.callers import warn_caller
from skfactors.dictionaries.rows import batches_of, dense
from skfactors.dictionaries.sparse_coding.objective import relative_duality_gap
from skfactors.dictionaries.sparse_coding.solvers.pursuit import refit
from skfactors.dictionaries.sparse_coding.step import Problem
from skfactors.learning.batches import slices

_ROWS_MEASURED_AT_A_TIME = 1024


def encode(
    X: np.ndarray, components: np.ndarray, problem: Problem, *, batch_size: int, sparse: bool, debias: bool = False
):
    """
    Code every row.

    Parameters
    ----------
    X : ndarray or ActivationStore of shape (n_rows, n_features)
    components : ndarray of shape (n_components, n_features)
    problem : Problem
    batch_size : int
    sparse : bool
        Whether to return a CSR array.
    debias : bool, default=False
        Whether to refit each code on the factors that are active in it.

    Returns
    -------
    codes : csr_array or ndarray of shape (n_rows, n_components)

    Warns
    -----
    ConvergenceWarning
        If the gap of some rows stays above `tol`.
    """
    components = problem.tensor(components)
    solver = problem.solver_for(components)
    n_open, batches = 0, []
    for rows in batches_of(X, batch_size):
        batch = problem.tensor(rows)
        codes, gaps = solver.solve_sparse(batch) if sparse or debias else solver.solve(batch)
        n_open += int((gaps > problem.tol).sum())
        if debias:
            codes = refit(codes, batch, components, problem.positive)
        batches.append(codes if sparse else dense(codes))
    warn_of_open_rows(n_open, len(X), problem)
    return scipy.sparse.vstack(batches, format="csr") if sparse else np.concatenate(batches)


def warn_of_open_rows(n_open: int, n_rows: int, problem: Problem) -> None:
    """Say how many rows the solver left above the tolerance."""
    if n_open:
        warn_caller(
            f"The codes of {n_open} of {n_rows} rows have a relative duality gap above tol={problem.tol:g} "
            f"after max_solver_iter={problem.max_iter} steps: raise max_solver_iter, tol, or alpha, "
            "or set dtype='float64'.",
            ConvergenceWarning,
        )


def row_gaps(X: np.ndarray, codes, components: np.ndarray, alpha: float, positive: bool) -> np.ndarray:
    """
    Measure the relative duality gap of each row's code, in double precision whatever the codes were made in.

    Returns
    -------
    gaps : ndarray of float64 of shape (n_rows,)
    """
    atoms = torch.tensor(components, dtype=torch.float64)
    gaps = np.empty(len(X))
    for rows in slices(len(X), _ROWS_MEASURED_AT_A_TIME):
        batch = torch.tensor(X[rows], dtype=torch.float64)
        batch_codes = torch.tensor(dense(codes[rows]), dtype=torch.float64)
        gaps[rows] = relative_duality_gap(batch, batch_codes, atoms, alpha, positive).numpy()
    return gaps
