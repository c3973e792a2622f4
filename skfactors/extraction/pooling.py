"""Many rows of a group to one: pooling that takes its rows in parts."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.sparse import csr_array, issparse


@dataclass(frozen=True)
class Pooling:
    """
    A way to make one row of many.

    Attributes
    ----------
    of_run : callable
        ``of_run(values, starts, stops, dtype)`` makes one row of each run of rows that stand together.
    join : callable
        ``join(before, row)`` joins it with what earlier rows of the group gave.
    is_mean : bool
        Whether the result is divided by the number of rows.
    """

    of_run: Callable
    join: Callable
    is_mean: bool = False


def _sum(values, starts, stops, dtype):
    if issparse(values):
        n_rows = values.shape[0]
        runs = csr_array((np.ones(n_rows, dtype=dtype), np.arange(n_rows), np.r_[starts, n_rows]))
        return (runs @ values).toarray()
    return np.add.reduceat(values, starts, axis=0, dtype=dtype)


def _highest(values, starts, stops, dtype):
    values = values.toarray() if issparse(values) else values
    return np.maximum.reduceat(values, starts, axis=0)


POOLINGS = {
    "mean": Pooling(_sum, np.add, is_mean=True),
    "sum": Pooling(_sum, np.add),
    "max": Pooling(_highest, np.maximum),
    "first": Pooling(lambda values, starts, stops, dtype: values[starts], lambda before, row: before),
    "last": Pooling(lambda values, starts, stops, dtype: values[stops - 1], lambda before, row: row),
}


class GroupPool:
    """
    Pool rows by group as parts of them come in.

    Parameters
    ----------
    n_groups, n_features : int
    pooling : {"mean", "max", "sum", "first", "last"}
        A name in `POOLINGS`.
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
        self._pooling = POOLINGS[pooling]
        self._pooled = np.zeros((n_groups, n_features), dtype=dtype)
        self._counts = np.zeros(n_groups, dtype=np.int64)

    def add(self, values, groups: np.ndarray) -> None:
        """
        Take in rows.

        Parameters
        ----------
        values : ndarray or, to be summed, averaged or for their maxima, sparse array of shape (n_rows, n_features)
        groups : ndarray of shape (n_rows,)
            Group of each row; the rows of a group stand together, in order.
        """
        if not len(groups):
            return
        starts = np.flatnonzero(np.r_[True, groups[1:] != groups[:-1]])
        stops = np.r_[starts[1:], len(groups)]
        ids = groups[starts]
        rows = self._pooling.of_run(values, starts, stops, self._pooled.dtype)
        seen = self._counts[ids, None] > 0
        self._pooled[ids] = np.where(seen, self._pooling.join(self._pooled[ids], rows), rows)
        self._counts[ids] += stops - starts

    def result(self) -> np.ndarray:
        """
        Return one row per group.

        Returns
        -------
        pooled : ndarray of shape (n_groups, n_features)
            Groups that no row belongs to are rows of zeros.
        """
        if self._pooling.is_mean:
            return self._pooled / np.maximum(self._counts, 1)[:, None]
        return self._pooled
