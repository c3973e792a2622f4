"""Codes as they come in, checked."""

import numpy as np
from scipy import sparse

# Of larger values sums of products may overflow.
LARGEST = {"float32": 1e15, "float64": 1e70}


def check_codes(codes, n_components: int | None = None, n_rows: int | None = None, *, finite: bool = True):
    """
    Check codes, dense or sparse, and leave the caller's as they are.

    Parameters
    ----------
    codes : array-like, DataFrame or sparse array of shape (n_rows, n_components)
    n_components : int, default=None
        Of the dictionary that they belong to, where it is known.
    n_rows : int, default=None
        Of the rows that they belong to, where they are known.
    finite : bool, default=True
        Whether NaN, infinite and huge values are refused.

    Returns
    -------
    codes : csr_array, without duplicate entries, or ndarray

    Raises
    ------
    ValueError
        If `codes` is not a table of real numbers, holds values that are NaN, infinite or too large to be squared, or
        its shape does not fit.
    """
    if sparse.issparse(codes):
        codes = sparse.csr_array(codes)
        if not codes.has_canonical_format:
            codes = codes.copy()
            codes.sum_duplicates()
        numbers = codes.data
    else:
        codes = numbers = np.asarray(codes)
    if codes.ndim != 2 or numbers.dtype.kind not in "buif":
        raise ValueError(
            "codes must be a 2D array of real numbers, with one row per row of X and one column per factor, got a "
            f"{codes.ndim}D array of {numbers.dtype}."
        )
    if finite:
        require_finite(numbers, "codes")
    if n_components is not None and codes.shape[1] != n_components:
        raise ValueError(f"codes of shape {codes.shape} do not fit a dictionary of {n_components} components.")
    if n_rows is not None and codes.shape[0] != n_rows:
        raise ValueError(f"X has {n_rows} rows and codes {codes.shape[0]}.")
    return codes


def require_finite(values: np.ndarray, name: str) -> None:
    """
    Refuse values that are NaN, infinite, or so large that their squares would be.

    Parameters
    ----------
    values : ndarray
    name : str
        What the message calls them.

    Raises
    ------
    ValueError
        If there are any; their number is named.
    """
    n_bad = values.size - np.count_nonzero(np.isfinite(values))
    if n_bad:
        raise ValueError(
            f"{name} holds {n_bad} NaN or infinite value{'s' if n_bad > 1 else ''}; "
            "remove or repair the rows concerned first."
        )
    require_squares(values, name)


def require_squares(values: np.ndarray, name: str, largest: float = LARGEST["float64"], first: int = 0) -> None:
    """
    Refuse finite values whose products would overflow.

    Parameters
    ----------
    values : ndarray
    name : str
        What the message calls them.
    largest : float, default=1e70
        The largest that is allowed.
    first : int, default=0
        Number of the first row.

    Raises
    ------
    ValueError
        If there are any; the first row that has one is named.
    """
    # What a type cannot hold needs no search.
    if values.dtype.kind != "f" or values.size == 0 or float(np.finfo(values.dtype).max) <= largest:
        return
    if max(values.max(), -values.min()) <= largest:
        return
    row = int(np.argmax((abs(values) > largest).reshape(len(values), -1).any(axis=1)))
    remedy = "scale them down" + (", or set dtype='float64'" if largest < LARGEST["float64"] else "")
    raise ValueError(
        f"{name} holds values above {largest:g}, the first in row {first + row} ({abs(values[row]).max():.3g}), too "
        f"large to be computed with: {remedy}."
    )


def csr_of(codes) -> sparse.csr_array:
    """Make a CSR array of a tensor of codes; zeros are dropped where they are, so that only the others are moved."""
    if codes.device.type == "cpu":
        return sparse.csr_array(codes.numpy())
    rows, factors = codes.nonzero(as_tuple=True)
    row_ends = np.concatenate([[0], np.cumsum((codes != 0).sum(1).cpu().numpy())])
    # SciPy wants the same type of integer in both, and many estimators of scikit-learn take no wider ones.
    wide = np.int32 if row_ends[-1] <= np.iinfo(np.int32).max else np.int64
    values, factors = codes[rows, factors].cpu().numpy(), factors.cpu().numpy().astype(wide)
    return sparse.csr_array((values, factors, row_ends.astype(wide)), shape=tuple(codes.shape))
