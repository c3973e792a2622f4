"""Rows of two places side by side, each as it comes: arrays, mapped arrays, or two places of one store."""

import copy

import numpy as np

from skfactors.fingerprints import fingerprint
from skfactors.learning.batches import is_streamed


class Paired:
    """
    Rows of two arrays side by side, put together when they are asked for.

    Parameters
    ----------
    X : ndarray of shape (n_rows, n_features)
    Y : ndarray of shape (n_rows, n_outputs)
    """

    def __init__(self, X, Y):
        self.X, self.Y = X, Y
        self.shape = (len(X), X.shape[1] + Y.shape[1])
        self.dtype = np.result_type(X.dtype, Y.dtype)

    def __len__(self) -> int:
        return len(self.X)

    def __getitem__(self, rows) -> np.ndarray:
        return np.hstack([np.asarray(self.X[rows]), np.asarray(self.Y[rows])])

    def fingerprint(self) -> str:
        """Tell these rows from others."""
        return fingerprint([self.X, self.Y])


class PairedStores(Paired):
    """Rows of two places of a store side by side, read in shuffled order."""

    def iter_shuffled(self, batch_size, random_state):
        """Yield the numbers of rows, and the rows, in shuffled batches: the same for both places."""
        same_state = copy.deepcopy(random_state)
        batches = zip(
            self.X.iter_shuffled(batch_size, random_state), self.Y.iter_shuffled(batch_size, same_state), strict=True
        )
        for (rows, X), (same_rows, Y) in batches:
            if not np.array_equal(rows, same_rows):
                raise ValueError("X and Y are read in different orders: give two places of one store, as by at().")
            yield rows, np.hstack([X, Y])


def paired(X, Y) -> Paired:
    """
    Put rows of two places side by side.

    Raises
    ------
    ValueError
        If there are more of one than of the other, or one is a store and the other is not.
    """
    if len(X) != len(Y):
        raise ValueError(f"X has {len(X)} rows and Y has {len(Y)}: give a row of Y for each row of X.")
    if is_streamed(X) != is_streamed(Y):
        raise ValueError("one of X and Y is a store and the other is not: give two places of one store, or two arrays.")
    return (PairedStores if is_streamed(X) else Paired)(X, Y)
