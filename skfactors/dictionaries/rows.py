"""Rows as they come in: checked, weighted, and read batch by batch."""

from collections.abc import Iterator

import numpy as np
import scipy.sparse
from sklearn.utils.validation import _check_sample_weight, check_array, validate_data

from skfactors.codes import LARGEST, require_squares
from skfactors.learning.batches import check_finite, is_streamed, slices

# Half precision is widened a batch at a time: a file of it may fill half the memory.
_DTYPES = [np.float32, np.float64, np.float16]
_ROWS_CHECKED_AT_A_TIME = 8192
# Of weights only the ratios matter. Products of these with squares of rows stay finite, and above zero.
_LEAST_WEIGHT, _LARGEST_WEIGHT = 1e-25, 1e25
_WEIGHT_OF_NOTHING = 1e-35


def check_rows(estimator, X, *, reset: bool, largest: float = LARGEST["float64"]) -> np.ndarray:
    """
    Check rows of activations; a memory-mapped array stays one.

    Parameters
    ----------
    estimator : BaseEstimator
    X : array-like, Tensor or ActivationStore of shape (n_rows, n_features)
        A store stays one, too.
    reset : bool
        Whether the estimator learns its number and names of features from X.
    largest : float, default=1e70
        The largest value that is allowed.

    Returns
    -------
    X : ndarray of float32, float64 or float16, or ActivationStore

    Raises
    ------
    ValueError
        If the shape is wrong, or values are NaN, infinite or too large to be squared; the first row that has one is
        named.
    """
    if is_streamed(X):
        return _check_store(estimator, X, reset=reset)
    if hasattr(X, "detach"):
        X = as_numbers(X)
    X = validate_data(estimator, X, reset=reset, dtype=_DTYPES, ensure_all_finite=False)
    check_values(X, "X", largest)
    return X


def check_targets(Y, largest: float) -> np.ndarray:
    """
    Check rows that are to be predicted.

    Parameters
    ----------
    Y : array-like, Tensor or ActivationStore of shape (n_rows, n_outputs) or (n_rows,)
        A store stays one.
    largest : float
        The largest value that is allowed.

    Returns
    -------
    Y : ndarray of shape (n_rows, n_outputs), or ActivationStore

    Raises
    ------
    ValueError
        If there are none, the shape is wrong, or values are NaN, infinite or too large to be squared.
    """
    if Y is None:
        raise ValueError("requires y to be passed, but the target y is None: give the rows that are to be predicted.")
    if is_streamed(Y):
        return _sound(Y, "Y")
    if hasattr(Y, "detach"):
        Y = as_numbers(Y)
    Y = check_array(Y, dtype=_DTYPES, ensure_all_finite=False, ensure_2d=False, input_name="Y")
    Y = Y[:, None] if Y.ndim == 1 else Y
    check_values(Y, "Y", largest)
    return Y


def check_values(X: np.ndarray, name: str, largest: float) -> None:
    """Refuse values that are NaN, infinite or too large to be squared; rows are read once, a batch at a time."""
    if X.dtype == np.float16:
        # None is too large.
        return check_finite(X, name)
    is_known_finite = False
    for rows in slices(len(X), _ROWS_CHECKED_AT_A_TIME):
        values = X[rows].ravel()
        # A sum of squares is small when they all are, and is quickly had.
        if float(np.vdot(values, values)) <= largest**2:
            continue
        if not is_known_finite:
            check_finite(X, name)
            is_known_finite = True
        require_squares(X[rows], name, largest, rows.start)


def _check_store(estimator, store, *, reset: bool):
    # Of a store scikit-learn's own check sees a row, which is enough for its width.
    validate_data(estimator, np.zeros((1, store.shape[1])), reset=reset)
    return _sound(store, "X")


def _sound(store, name: str):
    if len(store) == 0:
        raise ValueError("the store holds no rows: its texts gave no tokens.")
    if store.n_nonfinite:
        raise ValueError(
            f"Input {name} contains NaN or infinity: {store.n_nonfinite} values of the store. Half precision overflows "
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
    Check row weights, which are taken by place.

    Returns
    -------
    weight : ndarray of shape (n_rows,), or what else is indexed by rows
        Ones where `sample_weight` is None; for a store None then, and its own vector of weights as it is. Weights of
        less than 1e-35 are zeros.

    Raises
    ------
    ValueError
        If a weight is negative or not finite, none is positive, the largest is far from 1, or there are more or fewer
        than rows.
    """
    if is_streamed(X):
        if sample_weight is None:
            return None
        # A store's own weights are looked up a batch at a time.
        if hasattr(sample_weight, "fingerprint"):
            if sample_weight.shape != (len(X),):
                raise ValueError(f"sample_weight has shape {sample_weight.shape}, and the store {len(X)} rows.")
            return sample_weight
    if hasattr(sample_weight, "detach"):
        sample_weight = as_numbers(sample_weight)
    weight = _check_sample_weight(
        sample_weight, X if not is_streamed(X) else np.empty((len(X), 0)), dtype=np.float64, ensure_non_negative=True
    )
    largest = weight.max()
    if largest == 0:
        raise ValueError("sample_weight is zero for every row: at least one must be positive.")
    if not _LEAST_WEIGHT <= largest <= _LARGEST_WEIGHT:
        raise ValueError(
            f"the largest sample_weight is {largest:.3g}, and sums with it would overflow or vanish. Only the ratios "
            "of weights matter: divide them by the largest."
        )
    lost = (weight > 0) & (weight < _WEIGHT_OF_NOTHING)
    return np.where(lost, 0.0, weight) if lost.any() else weight


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
