"""Running sums over the rows of a corpus."""

import numpy as np
from scipy import sparse
from sklearn.utils import gen_batches

from skfactors.reports.exact_sums import ExactSums, SignedExactSums, exact_products, halves
from skfactors.reports.growth import added, grown

ROWS_A_BATCH = 4096
SIGNIFICANT_DIGITS = 9


class ActivitySums:
    """
    How often and how strongly the factors are active.

    Parameters
    ----------
    n_components : int

    Attributes
    ----------
    rows_by_slot : ndarray of int of shape (n_slots,)
        Rows of each layer.
    active_rows : ndarray of int of shape (n_groups,)
        Rows of a layer in which a factor is above zero.
    activations : ExactSums
        Sum of a factor's activations above zero in a layer.
    n_nonzero : int
        Codes that are not zero.
    used : ndarray of bool of shape (n_components,)
        Factors with a code that is not zero.
    """

    def __init__(self, n_components):
        self.rows_by_slot = np.empty(0, dtype=np.int64)
        self.active_rows = np.empty(0, dtype=np.int64)
        self.activations = ExactSums()
        self.n_nonzero = 0
        self.used = np.zeros(n_components, dtype=bool)

    def add(self, codes, slots, groups, activations, n_groups):
        """
        Take in one part.

        Parameters
        ----------
        codes : csr_array or ndarray of shape (n_rows, n_components)
        slots : ndarray of int of shape (n_rows,)
            Slot of each row's layer.
        groups : ndarray of int of shape (n_entries,)
            Group of each positive code.
        activations : ndarray of float of shape (n_entries,)
        n_groups : int
            Groups opened so far.
        """
        self.rows_by_slot = grown(self.rows_by_slot, n_groups // len(self.used))
        self.rows_by_slot += np.bincount(slots, minlength=len(self.rows_by_slot))
        self.active_rows = grown(self.active_rows, n_groups)
        self.active_rows += np.bincount(groups, minlength=n_groups)
        self.activations.add(groups, activations, n_groups)
        factors = codes.indices[codes.data != 0] if sparse.issparse(codes) else np.nonzero(codes)[1]
        self.n_nonzero += len(factors)
        self.used[factors] = True

    def merge(self, other, slots, groups, n_groups):
        """
        Add what another holds.

        Parameters
        ----------
        other : ActivitySums
        slots, groups : ndarray of int
            The slot and the group here of each of its slots and groups.
        n_groups : int
            Groups opened so far.
        """
        self.rows_by_slot = added(self.rows_by_slot, other.rows_by_slot, slots, n_groups // len(self.used))
        self.active_rows = added(self.active_rows, other.active_rows, groups, n_groups)
        self.activations.merge(other.activations, groups, n_groups)
        self.n_nonzero += other.n_nonzero
        self.used = self.used | other.used

    def state(self) -> dict[str, np.ndarray]:
        """Return everything there is to keep, as arrays."""
        return {
            "rows_by_slot": self.rows_by_slot,
            "active_rows": self.active_rows,
            "n_nonzero": np.array([self.n_nonzero]),
            "used": self.used,
            **self.activations.state(),
        }

    def restore(self, state):
        """Take the place of the sums whose :meth:`state` this is."""
        self.rows_by_slot, self.active_rows = state["rows_by_slot"], state["active_rows"]
        self.n_nonzero, self.used = int(state["n_nonzero"][0]), state["used"]
        self.activations.restore(state)


class ReconstructionSums:
    """
    The explained variance 1 - Σ‖x - x̂‖² / Σ‖x - μ‖², with μ the mean of each feature over all rows.

    Notes
    -----
    Each batch of rows is summed in float64 as differences from its first row o, so that a large common offset costs no
    digits: Σ(x - o) and Σ(x - o)². The batches are then put together exactly, by Σx = Σ(x - o) + n·o and
    Σx² = Σ(x - o)² + 2·o·Σ(x - o) + n·o², hence the same in any order; and equal rows have a variance of exactly zero.
    """

    def __init__(self):
        self._n_rows = 0
        self._sums = SignedExactSums()
        self._squares = SignedExactSums()
        self._squared_residual = SignedExactSums()

    def add(self, X, codes, reconstruct):
        """
        Take in one part.

        Parameters
        ----------
        X : ndarray of shape (n_rows, n_features)
        codes : csr_array or ndarray of shape (n_rows, n_components)
        reconstruct : callable
            From some rows of codes to a dense array of shape (n_rows, n_features).

        Raises
        ------
        ValueError
            If a value is NaN, infinite, or too large to be squared.
        """
        for batch in gen_batches(len(X), ROWS_A_BATCH):
            self._add_batch(X[batch].astype(np.float64), reconstruct(codes[batch]))
        self._n_rows += len(X)

    def _add_batch(self, X, reconstruction):
        residual = X - reconstruction
        origin = X[0]
        difference = X - origin
        sums = difference.sum(axis=0)
        origins = [len(X) * half for half in halves(origin)]
        squares = [np.einsum("ij,ij->j", difference, difference), *exact_products(origin, 2 * sums)]
        squares += [product for half in origins for product in exact_products(half, origin)]
        squared_residual = np.vdot(residual, residual)
        if not (np.isfinite(squares).all() and np.isfinite(squared_residual)):
            raise ValueError(
                "the rows or their reconstructions hold values that are NaN, infinite or too large to be squared; "
                "remove or repair those rows first."
            )
        for values in (sums, *origins):
            self._sums.add(values)
        for values in squares:
            self._squares.add(values)
        self._squared_residual.add(np.array([squared_residual]))

    def merge(self, other):
        """Add what another holds."""
        self._n_rows += other._n_rows
        for mine, others in zip(self._parts().values(), other._parts().values(), strict=True):
            mine.merge(others)

    def explained_variance(self):
        """
        Return the explained variance; None where nothing was taken in. Rows all equal count as in the metric.

        The share that is not explained is rounded to nine significant digits: beyond them it would show how the rows
        were divided into batches.
        """
        if self._n_rows == 0:
            return None
        variation = sum(self._squares.exact()) - sum(total**2 for total in self._sums.exact()) / self._n_rows
        (squared_residual,) = self._squared_residual.exact()
        if variation <= 0:
            return float(squared_residual == 0)
        return 1 - float(format(float(squared_residual / variation), f".{SIGNIFICANT_DIGITS}g"))

    def state(self) -> dict[str, np.ndarray]:
        """Return everything there is to keep, as arrays."""
        state = {"n_rows": np.array([self._n_rows])}
        for name, part in self._parts().items():
            state |= {f"{name}.{key}": array for key, array in part.state().items()}
        return state

    def restore(self, state):
        """Take the place of the sums whose :meth:`state` this is."""
        self._n_rows = int(state["n_rows"][0])
        for name, part in self._parts().items():
            part.restore({key: state[f"{name}.{key}"] for key in part.state()})

    def _parts(self):
        return {"sums": self._sums, "squares": self._squares, "squared_residual": self._squared_residual}
