"""Running sums over the rows of a corpus."""

import numpy as np
from scipy import sparse
from sklearn.utils import gen_batches

from skfactors.reports.streaming import grown

ROWS_A_BATCH = 4096


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
    activation_sums : ndarray of float of shape (n_groups,)
        Sum of a factor's activations above zero in a layer.
    n_nonzero : int
        Codes that are not zero.
    used : ndarray of bool of shape (n_components,)
        Factors with a code that is not zero.
    """

    def __init__(self, n_components):
        self.rows_by_slot = np.empty(0, dtype=np.int64)
        self.active_rows = np.empty(0, dtype=np.int64)
        self.activation_sums = np.empty(0)
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
        self.activation_sums = grown(self.activation_sums, n_groups)
        # One by one in row order: the sums do not depend on where one part ends and the next begins.
        np.add.at(self.activation_sums, groups, activations)
        factors = codes.indices[codes.data != 0] if sparse.issparse(codes) else np.nonzero(codes)[1]
        self.n_nonzero += len(factors)
        self.used[factors] = True


class ReconstructionSums:
    """
    The explained variance 1 - Σ‖x - x̂‖² / Σ‖x - μ‖², with μ the mean of each feature over all rows.

    Sums are in float64 and of differences from the first row, so that a large common offset costs no digits and
    equal rows have a variance of exactly zero.
    """

    def __init__(self):
        self._n_rows = 0
        self._squared_residual = 0.0
        self._origin = None
        self._sums = None
        self._squares = None

    def add(self, X, codes, reconstruct):
        """
        Take in one part.

        Parameters
        ----------
        X : ndarray of shape (n_rows, n_features)
        codes : csr_array or ndarray of shape (n_rows, n_components)
        reconstruct : callable
            From some rows of codes to a dense array of shape (n_rows, n_features).
        """
        if self._origin is None:
            self._origin = X[0].astype(np.float64)
            self._sums = np.zeros(X.shape[1])
            self._squares = np.zeros(X.shape[1])
        for batch in gen_batches(len(X), ROWS_A_BATCH):
            difference = np.subtract(X[batch], reconstruct(codes[batch]), dtype=np.float64)
            self._squared_residual += float(np.vdot(difference, difference))
            difference = X[batch] - self._origin
            self._sums += difference.sum(axis=0)
            self._squares += np.einsum("ij,ij->j", difference, difference)
        self._n_rows += len(X)

    def explained_variance(self):
        """Return the explained variance; None where nothing was taken in. Rows all equal count as in the metric."""
        if self._n_rows == 0:
            return None
        variation = float((self._squares - self._sums**2 / self._n_rows).sum())
        if variation <= 0:
            return float(self._squared_residual == 0)
        return 1 - self._squared_residual / variation
