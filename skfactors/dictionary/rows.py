"""Rows as they come in: checked, weighted, and read batch by batch."""

from collections.abc import Iterator

import numpy as np
import scipy.sparse
import torch
from sklearn.utils.validation import _check_sample_weight, validate_data

_ROWS_AT_A_TIME = 65_536


def check_rows(estimator, X, *, reset: bool) -> np.ndarray:
    """
    Check rows of activations; a memory-mapped array stays one.

    Parameters
    ----------
    estimator : BaseEstimator
    X : array-like, Tensor or ActivationStore of shape (n_rows, n_features)
        A store stays one, too.
    reset : bool
        Whether the estimator learns its number and names of features from X.

    Returns
    -------
    X : ndarray of float32 or float64, or ActivationStore

    Raises
    ------
    ValueError
        If the shape is wrong, or values are NaN or infinite; their count is named.
    """
    if is_streamed(X):
        return _check_store(estimator, X, reset=reset)
    if isinstance(X, torch.Tensor):
        X = X.detach().to("cpu", torch.promote_types(X.dtype, torch.float32)).numpy()
    X = validate_data(estimator, X, reset=reset, dtype=[np.float32, np.float64], ensure_all_finite=False)
    check_finite(X)
    return X


def is_streamed(X) -> bool:
    """Say whether X is read piece by piece, as an ActivationStore is, and never an array."""
    return hasattr(X, "iter_shuffled")


def _check_store(estimator, store, *, reset: bool):
    # Of a store scikit-learn's own check sees a row, which is enough for its width.
    validate_data(estimator, np.zeros((1, store.shape[1])), reset=reset)
    if len(store) == 0:
        raise ValueError("the store holds no rows: its texts gave no tokens.")
    if store.n_nonfinite:
        raise ValueError(
            f"Input X contains NaN or infinity: {store.n_nonfinite} values of the store. Half precision overflows "
            'where float32 does not: extract again, to another folder, with dtype="float32".'
        )
    return store


def batches_of(X, size: int) -> Iterator[np.ndarray]:
    """Yield the rows of an array or a store in order, at most `size` at a time."""
    parts = (X.read_shard(number).X for number in range(X.n_shards)) if is_streamed(X) else [X]
    for part in parts:
        for rows in slices(len(part), size):
            yield part[rows]


def check_finite(X: np.ndarray) -> None:
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
            f"Input X contains NaN or infinity: {n_values} values in {len(bad_rows)} rows, first row {bad_rows[0]}. "
            "Drop these rows, or look into where they come from (half precision overflows, for one)."
        )


def check_weight(sample_weight, X):
    """
    Check row weights.

    Returns
    -------
    weight : ndarray of shape (n_rows,), or what else is indexed by rows
        Ones where `sample_weight` is None; for a store None then, and its own vector of weights as it is.

    Raises
    ------
    ValueError
        If a weight is negative or not finite, none is positive, or there are more or fewer than rows.
    """
    if is_streamed(X):
        if sample_weight is None:
            return None
        if hasattr(sample_weight, "shape") and not isinstance(sample_weight, np.ndarray):
            if sample_weight.shape != (len(X),):
                raise ValueError(f"sample_weight has shape {sample_weight.shape}, and the store {len(X)} rows.")
            return sample_weight
    weight = _check_sample_weight(
        sample_weight, X if not is_streamed(X) else np.empty((len(X), 0)), dtype=np.float64, ensure_non_negative=True
    )
    if not weight.any():
        raise ValueError("sample_weight is zero for every row: at least one must be positive.")
    return weight


def check_codes(codes, n_components: int, n_rows: int | None = None):
    """
    Check codes, dense or sparse.

    Returns
    -------
    codes : ndarray or csr_array

    Raises
    ------
    ValueError
        If their shape does not fit.
    """
    codes = scipy.sparse.csr_array(codes) if scipy.sparse.issparse(codes) else np.asarray(codes)
    if codes.ndim != 2 or codes.shape[1] != n_components:
        raise ValueError(f"codes of shape {codes.shape} do not fit a dictionary of {n_components} components.")
    if n_rows is not None and codes.shape[0] != n_rows:
        raise ValueError(f"X has {n_rows} rows and codes {codes.shape[0]}.")
    return codes


def dense(codes) -> np.ndarray:
    """Return codes, sparse or not, in NumPy or torch, as an ndarray."""
    if isinstance(codes, torch.Tensor):
        return codes.cpu().numpy()
    return codes.toarray() if scipy.sparse.issparse(codes) else codes


def slices(n_rows: int, size: int) -> Iterator[slice]:
    """Cut `n_rows` rows into slices of at most `size`."""
    return (slice(start, min(start + size, n_rows)) for start in range(0, n_rows, size))


def shuffled_batches(rows: np.ndarray, size: int, random_state: np.random.RandomState) -> Iterator[np.ndarray]:
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
    as_bytes = X.view(np.dtype((np.void, X.itemsize * X.shape[1]))).ravel()
    _, first, inverse = np.unique(as_bytes, return_index=True, return_inverse=True)
    return X[first], np.bincount(inverse.ravel(), weights=weight)
