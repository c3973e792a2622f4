"""Rows as they come in: checked, weighted, and read batch by batch."""

from collections.abc import Iterator

import numpy as np
import scipy.sparse
from sklearn.utils.validation import _check_sample_weight, validate_data

from skfactors.learning.batches import check_finite, is_streamed, slices

# Half precision is widened a batch at a time: a file of it may fill half the memory.
_DTYPES = [np.float32, np.float64, np.float16]


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
    X : ndarray of float32, float64 or float16, or ActivationStore

    Raises
    ------
    ValueError
        If the shape is wrong, or values are NaN or infinite; their count is named.
    """
    if is_streamed(X):
        return _check_store(estimator, X, reset=reset)
    if hasattr(X, "detach"):
        X = as_numbers(X)
    X = validate_data(estimator, X, reset=reset, dtype=_DTYPES, ensure_all_finite=False)
    check_finite(X)
    return X


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
        # A store's own weights are looked up a batch at a time. A Series would be looked up by its index.
        if hasattr(sample_weight, "fingerprint"):
            if sample_weight.shape != (len(X),):
                raise ValueError(f"sample_weight has shape {sample_weight.shape}, and the store {len(X)} rows.")
            return sample_weight
    weight = _check_sample_weight(
        sample_weight, X if not is_streamed(X) else np.empty((len(X), 0)), dtype=np.float64, ensure_non_negative=True
    )
    if not weight.any():
        raise ValueError("sample_weight is zero for every row: at least one must be positive.")
    return weight


def as_numbers(values) -> np.ndarray:
    """Return an array, a tensor on any device and of any precision, or a DataFrame as an ndarray."""
    if hasattr(values, "detach"):
        import torch

        values = values.detach().to("cpu", torch.promote_types(values.dtype, torch.float32)).numpy()
    values = np.asarray(values)
    return values.astype(np.float64) if values.dtype == object else values


def dense(codes) -> np.ndarray:
    """Return codes, sparse or not, in NumPy or torch, as an ndarray."""
    if hasattr(codes, "cpu"):
        return codes.cpu().numpy()
    return codes.toarray() if scipy.sparse.issparse(codes) else codes
