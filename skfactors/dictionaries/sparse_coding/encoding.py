"""Rows to codes with a given dictionary, and what codes say of their rows, a batch at a time."""

from dataclasses import dataclass, replace

import numpy as np
import scipy.sparse
import torch
from sklearn.exceptions import ConvergenceWarning

from skfactors.callers import warn_caller
from skfactors.codes import LARGEST
from skfactors.devices import free_memory, keep_to_one_thread_if_forked
from skfactors.dictionaries.rows import batches_of, check_values, dense
from skfactors.dictionaries.sparse_coding.objective import relative_duality_gap
from skfactors.dictionaries.sparse_coding.solvers import SOLVERS
from skfactors.dictionaries.sparse_coding.solvers.nested import Nested
from skfactors.dictionaries.sparse_coding.solvers.pursuit import Pursuit, refit
from skfactors.learning.batches import slices

_ROWS_MEASURED_AT_A_TIME = 1024
# An accelerator is kept busy by no fewer rows, if there is the memory for some arrays of their codes.
_ROWS_ON_AN_ACCELERATOR = 8192
_ARRAYS_OF_CODES = 16
# Rows whose squares overflow are coded in double precision, as far as single precision holds their codes.
LARGEST_CODED = {"float32": 1e35, "float64": LARGEST["float64"]}


@dataclass(frozen=True)
class Coding:
    """
    How rows are coded, and where.

    Attributes
    ----------
    alpha : float
    positive : bool
    solver : str
        Name in `SOLVERS`.
    tol : float
    max_iter : int
        Of the solver.
    n_nonzero_coefs : int or None
        The most factors a code may have. Where there is such a number, codes are pursued, without a penalty.
    debias : bool
        Whether codes, once made, are refitted on the factors that are active in them.
    device : str
    dtype : torch.dtype
    group_ends : tuple of int
        Where nested groups of factors end; of fewer than two, codes are not nested.
    threshold : ndarray of shape (n_components,) or None
        Of nested codes: which correlation lets each factor in.
    """

    alpha: float
    positive: bool
    solver: str
    tol: float
    max_iter: int
    n_nonzero_coefs: int | None
    debias: bool
    device: str
    dtype: torch.dtype
    group_ends: tuple[int, ...] = ()
    threshold: np.ndarray | None = None

    def rows(self, X: np.ndarray) -> torch.Tensor:
        """Copy rows to the device, after checking that they can be squared."""
        check_values(X, "a batch of X", self.largest)
        return self.tensor(X)

    @property
    def largest(self) -> float:
        """The largest value of a row that is computed with in this precision."""
        return LARGEST[self.precision]

    @property
    def precision(self) -> str:
        """Name of the type that is computed in."""
        return str(self.dtype).removeprefix("torch.")

    @property
    def least(self) -> float:
        """The length of a row from which on it can be learned from; none where a penalty leaves short ones no code."""
        return 0.0 if self.n_nonzero_coefs is None else 1 / self.largest

    def n_open(self, gaps: torch.Tensor) -> int:
        """Count the gaps that are not within the tolerance, NaN among them; without a penalty there are none."""
        return int((~(gaps <= self.tol)).sum()) if self.penalised else 0

    @property
    def penalised(self) -> bool:
        """Whether codes minimise the objective with the penalty; others are least squares codes on their factors."""
        return self.n_nonzero_coefs is None and not self.nested

    @property
    def nested(self) -> bool:
        """Whether there are several groups."""
        return len(self.group_ends) > 1

    def tensor(self, rows: np.ndarray) -> torch.Tensor:
        """Copy numbers to the device."""
        # By NumPy, which does so in this thread.
        dtype = np.float64 if self.dtype == torch.float64 else np.float32
        return torch.from_numpy(np.array(rows, dtype=dtype, order="C")).to(self.device)

    def solver_for(self, components: torch.Tensor):
        """Prepare the solver for a dictionary."""
        keep_to_one_thread_if_forked()
        if self.nested:
            return Nested(components, group_ends=self.group_ends, threshold=self.threshold, positive=self.positive)
        if self.n_nonzero_coefs is not None:
            return Pursuit(components, n_nonzero_coefs=self.n_nonzero_coefs, positive=self.positive)
        return SOLVERS[self.solver](
            components, alpha=self.alpha, positive=self.positive, tol=self.tol, max_iter=self.max_iter
        )

    def codes_of(self, components: torch.Tensor, X: torch.Tensor) -> torch.Tensor:
        """Code rows: a tensor of shape (n_rows, n_components)."""
        if not X.abs().amax() <= self.largest:
            raise ValueError(f"X holds values that are NaN, infinite or above {self.largest:g}: scale the rows down.")
        solver = self.solver_for(components)
        if not self.debias:
            return solver.solve(X)[0]
        return torch.from_numpy(refit(solver.solve_sparse(X)[0], X, components, self.positive).toarray()).to(X)


def encode(X: np.ndarray, components: np.ndarray, coding: Coding, *, batch_size: int, sparse: bool):
    """
    Code every row.

    Parameters
    ----------
    X : ndarray or ActivationStore of shape (n_rows, n_features)
    components : ndarray of shape (n_components, n_features)
    coding : Coding
    batch_size : int
        Rows at a time; on an accelerator, whose memory they fit in, more.
    sparse : bool
        Whether to return a CSR array.

    Returns
    -------
    codes : csr_array or ndarray of shape (n_rows, n_components)

    Warns
    -----
    ConvergenceWarning
        If the gap of some rows stays above `tol`.
    """
    encoder = _BatchEncoder(components, coding, sparse)
    batches = [encoder.encode(rows) for rows in batches_of(X, _rows_at_a_time(batch_size, encoder.components))]
    warn_of_open_rows(encoder.n_open, len(X), coding)
    return scipy.sparse.vstack(batches, format="csr") if sparse else np.concatenate(batches)


class _BatchEncoder:
    """Codes a batch at a time, and counts the rows that are left open."""

    def __init__(self, components: np.ndarray, coding: Coding, sparse: bool):
        self.components = coding.tensor(components)
        self.n_open = 0
        self._given, self._coding, self._sparse = components, coding, sparse
        self._solver = coding.solver_for(self.components)

    def encode(self, rows: np.ndarray):
        if rows.dtype == np.float16 or float(np.vdot(rows, rows)) <= self._coding.largest**2:
            return self._encode(rows)
        check_values(rows, "a batch of X", LARGEST_CODED[self._coding.precision])
        large = (abs(rows) > min(self._coding.largest, float(np.finfo(rows.dtype).max))).any(axis=1)
        codes = self._encode(np.where(large[:, None], 0, rows))
        if not large.any():
            return codes
        # The squares of these overflow in single precision. No row's code depends on other rows.
        in_double = _BatchEncoder(self._given, replace(self._coding, device="cpu", dtype=torch.float64), self._sparse)
        of_large = in_double.encode(rows[large]).astype(codes.dtype)
        self.n_open += in_double.n_open
        places = np.flatnonzero(large), np.arange(of_large.shape[0])
        put = scipy.sparse.csr_array(
            (np.ones(of_large.shape[0], codes.dtype), places), shape=(len(rows), of_large.shape[0])
        )
        return codes + put @ of_large

    def _encode(self, rows: np.ndarray):
        batch = self._coding.tensor(rows)
        in_sparse = self._sparse or self._coding.debias
        codes, gaps = self._solver.solve_sparse(batch) if in_sparse else self._solver.solve(batch)
        self.n_open += self._coding.n_open(gaps)
        if self._coding.debias:
            codes = refit(codes, batch, self.components, self._coding.positive)
        return codes if self._sparse else dense(codes)


def _rows_at_a_time(batch_size: int, components: torch.Tensor) -> int:
    if components.device.type == "cpu":
        return batch_size
    bytes_of_a_row = _ARRAYS_OF_CODES * len(components) * components.itemsize
    return max(batch_size, int(min(_ROWS_ON_AN_ACCELERATOR, free_memory(components.device) / 2 / bytes_of_a_row)))


def warn_of_open_rows(n_open: int, n_rows: int, coding: Coding) -> None:
    """Say how many rows the solver left above the tolerance."""
    if n_open:
        warn_caller(
            f"The codes of {n_open} of {n_rows} rows have a relative duality gap above tol={coding.tol:g} "
            f"after max_solver_iter={coding.max_iter} steps: raise max_solver_iter, tol, or alpha, "
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
        batch = torch.tensor(np.asarray(X[rows]), dtype=torch.float64)
        batch_codes = torch.tensor(dense(codes[rows]), dtype=torch.float64)
        gaps[rows] = relative_duality_gap(batch, batch_codes, atoms, alpha, positive).numpy()
    return gaps
