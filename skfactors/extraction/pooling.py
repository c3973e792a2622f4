"""Many rows of a group to one: pooling that takes its rows in parts."""

import numpy as np


class GroupPool:
    """
    Pool rows by group as parts of them come in.

    Parameters
    ----------
    n_groups, n_features : int
    pooling : {"mean", "max", "sum", "first", "last"}
    dtype : dtype, default=float64

    Examples
    --------
    >>> import numpy as np
    >>> pool = GroupPool(n_groups=3, n_features=1, pooling="mean")
    >>> pool.add(np.array([[1.0], [3.0], [5.0]]), groups=np.array([0, 0, 2]))
    >>> pool.add(np.array([[7.0]]), groups=np.array([2]))
    >>> pool.result().ravel()
    array([2., 0., 6.])
    """

    def __init__(self, n_groups: int, n_features: int, pooling: str, dtype=np.float64):
        self.pooling = pooling
        self._pooled = np.zeros((n_groups, n_features), dtype=dtype)
        self._counts = np.zeros(n_groups, dtype=np.int64)

    def add(self, values: np.ndarray, groups: np.ndarray) -> None:
        """
        Take in rows.

        Parameters
        ----------
        values : ndarray of shape (n_rows, n_features)
        groups : ndarray of shape (n_rows,)
            Group of each row; the rows of a group stand together, in order.
        """
        if not len(values):
            return
        starts = np.flatnonzero(np.r_[True, groups[1:] != groups[:-1]])
        stops = np.r_[starts[1:], len(groups)]
        ids = groups[starts]
        self._combine(ids, values, starts, stops)
        self._counts[ids] += stops - starts

    def _combine(self, ids, values, starts, stops) -> None:
        seen = self._counts[ids, None] > 0
        if self.pooling in ("mean", "sum"):
            self._pooled[ids] += np.add.reduceat(values, starts, axis=0, dtype=self._pooled.dtype)
        elif self.pooling == "max":
            highest = np.maximum.reduceat(values, starts, axis=0)
            self._pooled[ids] = np.where(seen, np.maximum(self._pooled[ids], highest), highest)
        elif self.pooling == "first":
            self._pooled[ids] = np.where(seen, self._pooled[ids], values[starts])
        else:
            self._pooled[ids] = values[stops - 1]

    def result(self) -> np.ndarray:
        """
        Return one row per group.

        Returns
        -------
        pooled : ndarray of shape (n_groups, n_features)
            Groups that no row belongs to are rows of zeros.
        """
        if self.pooling == "mean":
            return self._pooled / np.maximum(self._counts, 1)[:, None]
        return self._pooled
