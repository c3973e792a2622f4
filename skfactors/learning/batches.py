"""Where minibatches come from: an array, in memory or mapped, or rows that are read in shuffled order."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice

import numpy as np

# Of rows that are streamed, the most that are held out: they are kept in memory.
_MOST_HELD_OUT = 16_384
_ROWS_AT_A_TIME = 65_536
# Of rows that are streamed, as many are measured to say something of all.
_MEASURED = 65_536
_FIRST_BYTES = 8


class ArrayRows:
    """
    Rows of an array that count.

    Parameters
    ----------
    X : ndarray of shape (n_rows, n_features)
        A memory-mapped one is read a batch at a time.
    weight : ndarray of shape (n_rows,)
    rows : ndarray of int, default=None
        Which of them; None takes all of positive weight.
    """

    def __init__(self, X: np.ndarray, weight: np.ndarray, rows: np.ndarray | None = None):
        self._X, self._weight = X, weight
        self._rows = np.flatnonzero(weight) if rows is None else rows
        self.total_weight = float(weight[self._rows].sum())

    def __len__(self) -> int:
        return len(self._rows)

    def draw(self, n_rows: int, random_state: np.random.RandomState) -> tuple[np.ndarray, np.ndarray]:
        """Draw rows and their weights at random."""
        chosen = next(shuffled_rows(self._rows, n_rows, random_state))
        return self._X[chosen], self._weight[chosen]

    def hold_out(self, n_rows: int, random_state: np.random.RandomState) -> tuple["ArrayRows", "ArrayRows"]:
        """Split into the rows that stay and `n_rows` that are held out."""
        held_out = np.sort(random_state.permutation(self._rows)[:n_rows])
        left = np.setdiff1d(self._rows, held_out, assume_unique=True)
        return ArrayRows(self._X, self._weight, left), ArrayRows(self._X, self._weight, held_out)

    def shuffled(self, size: int, random_state: np.random.RandomState, skip: int = 0) -> Iterator[tuple]:
        """Yield all rows and their weights in shuffled batches, the first `skip` left out."""
        for chosen in islice(shuffled_rows(self._rows, size, random_state), skip, None):
            yield self._X[chosen], self._weight[chosen]

    def in_order(self, size: int) -> Iterator[tuple]:
        """Yield all rows and their weights in batches."""
        for chosen in slices(len(self._rows), size):
            yield self._X[self._rows[chosen]], self._weight[self._rows[chosen]]

    def to_measure(self, size: int) -> Iterator[tuple]:
        """Yield rows and weights that stand for all, in batches: all of them."""
        return self.in_order(size)


class StreamedRows:
    """
    Rows of a store, read in shuffled order a batch at a time; there is never an array of all of them.

    Parameters
    ----------
    store : object
        With `shape` and ``iter_shuffled(batch_size, random_state)``, as an ActivationStore has. A fit reads it in a
        thread of its own.
    weight : ndarray, other vector that is indexed by rows, or None
        None counts every row once.
    left_out : ndarray of int of shape (n_left_out,)
        Rows that are not to be learned from, ascending.
    """

    def __init__(self, store, weight, left_out=()):
        self._store, self._weight = store, weight
        self._left_out = np.asarray(left_out, dtype=np.int64)
        self.total_weight = self._total_weight()

    def __len__(self) -> int:
        return self._store.shape[0] - len(self._left_out)

    def draw(self, n_rows: int, random_state: np.random.RandomState) -> tuple[np.ndarray, np.ndarray]:
        """Draw rows and their weights at random."""
        return next(self.shuffled(n_rows, random_state))

    def hold_out(self, n_rows: int, random_state: np.random.RandomState) -> tuple["StreamedRows", ArrayRows]:
        """Split into the rows that stay and those that are held out, `n_rows` or the most that memory is spent on."""
        rows, X = next(iter(self._store.iter_shuffled(min(n_rows, _MOST_HELD_OUT), random_state)))
        return StreamedRows(self._store, self._weight, rows), ArrayRows(X, self._weight_of(rows))

    def shuffled(self, size: int, random_state: np.random.RandomState, skip: int = 0) -> Iterator[tuple]:
        """Yield all rows and their weights in shuffled batches, the first `skip` left out."""
        for rows, X in islice(self._store.iter_shuffled(size, random_state), skip, None):
            check_finite(X)
            weight = self._weight_of(rows)
            kept = weight > 0
            if len(self._left_out):
                kept &= ~np.isin(rows, self._left_out, assume_unique=True)
            yield (X, weight) if kept.all() else (X[kept], weight[kept])

    def to_measure(self, size: int) -> Iterator[tuple]:
        """Yield rows and weights that stand for all, in batches: some that are always the same."""
        return islice(self.shuffled(size, np.random.RandomState(0)), -(-_MEASURED // size))

    def _weight_of(self, rows: np.ndarray) -> np.ndarray:
        return np.ones(len(rows)) if self._weight is None else self._weight[rows]

    def _total_weight(self) -> float:
        # Other vectors than arrays have mean 1, and what is left out is a sample of all.
        if isinstance(self._weight, np.ndarray):
            return float(self._weight.sum() - self._weight[self._left_out].sum())
        return float(len(self))


def rows_of(X, weight) -> ArrayRows | StreamedRows:
    """Return where minibatches of X come from."""
    return StreamedRows(X, weight) if is_streamed(X) else ArrayRows(X, weight)


def read_ahead(batches: Iterator) -> Iterator:
    """Yield what an iterator yields; a thread reads what comes next while the caller works on what there is."""
    with ThreadPoolExecutor(1) as reader:
        upcoming = reader.submit(next, batches, None)
        while (batch := upcoming.result()) is not None:
            upcoming = reader.submit(next, batches, None)
            yield batch


def hold_out(
    rows: ArrayRows | StreamedRows, share: float, random_state: np.random.RandomState
) -> tuple[ArrayRows | StreamedRows, ArrayRows]:
    """
    Split into the rows that stay and those that are held out.

    Raises
    ------
    ValueError
        If none would stay.
    """
    n_held_out = int(np.ceil(share * len(rows)))
    if n_held_out == len(rows):
        raise ValueError(f"early_stopping leaves none of the {len(rows)} rows to learn from: give more rows.")
    return rows.hold_out(n_held_out, random_state)


def is_streamed(X) -> bool:
    """Say whether X is read piece by piece, as an ActivationStore is, and never an array."""
    return hasattr(X, "iter_shuffled")


def check_finite(X: np.ndarray, name: str = "X") -> None:
    """
    Refuse NaN and infinite values.

    Raises
    ------
    ValueError
        Naming how many there are, in how many rows, and the first of these.
    """
    n_values, bad_rows = 0, []
    for rows in slices(len(X), _ROWS_AT_A_TIME):
        # A sum is finite almost always when its terms are, and takes a third of the time.
        if np.isfinite(X[rows].sum(dtype=np.float64)):
            continue
        bad = ~np.isfinite(X[rows])
        n_values += int(bad.sum())
        bad_rows.extend(rows.start + np.flatnonzero(bad.any(axis=1)))
    if n_values:
        raise ValueError(
            f"Input {name} contains NaN or infinity: {n_values} values in {len(bad_rows)} rows, first row "
            f"{bad_rows[0]}. Drop these rows, or look into where they come from (half precision overflows, for one)."
        )


def slices(n_rows: int, size: int) -> Iterator[slice]:
    """Cut `n_rows` rows into slices of at most `size`."""
    return (slice(start, min(start + size, n_rows)) for start in range(0, n_rows, size))


def shuffled_rows(rows: np.ndarray, size: int, random_state: np.random.RandomState) -> Iterator[np.ndarray]:
    """Shuffle row numbers and cut them into batches; within a batch they ascend, which disks prefer."""
    rows = random_state.permutation(rows)
    return (np.sort(rows[batch]) for batch in slices(len(rows), size))


def merge_repeats(X: np.ndarray, weight: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """
    Make one row of each set of equal rows, with their weights summed, in an order that depends on the rows alone.

    So a weight of 2 is to the last bit the same as a row given twice.

    Parameters
    ----------
    X : ndarray of shape (n_rows, n_features)
    weight : ndarray of shape (n_rows,)

    Returns
    -------
    X : ndarray of shape (n_distinct, n_features)
    weight : ndarray of shape (n_distinct,)
    """
    X = np.ascontiguousarray(X)
    # Rows seldom begin alike, and those that do not are sorted by their first bytes, quickly.
    beginnings = np.zeros((len(X), _FIRST_BYTES), np.uint8)
    in_bytes = X.view(np.uint8)[:, :_FIRST_BYTES]
    beginnings[:, : in_bytes.shape[1]] = in_bytes
    keys = beginnings.view(">u8").ravel().astype(np.uint64)
    _, places, counts = np.unique(keys, return_inverse=True, return_counts=True)
    is_alike = counts[places] > 1
    alike, other = np.flatnonzero(is_alike), np.flatnonzero(~is_alike)
    as_bytes = X[alike].view(np.dtype((np.void, X.itemsize * X.shape[1]))).ravel()
    _, first, inverse = np.unique(as_bytes, return_index=True, return_inverse=True)
    chosen = np.concatenate([other, alike[first]])
    weight = np.concatenate([weight[other], np.bincount(inverse.ravel(), weights=weight[alike])])
    order = np.argsort(keys[chosen], kind="stable")
    return X[chosen[order]], weight[order]
