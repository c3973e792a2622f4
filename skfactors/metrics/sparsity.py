"""How many factors are active, and how often."""

import numpy as np
from scipy import sparse

from skfactors.codes import check_codes


def l0(codes) -> float:
    """Return the mean number of active factors per row.

    Parameters
    ----------
    codes : array-like or sparse array of shape (n_rows, n_components)
        Activations of the factors. A factor is active in a row where its code is not zero; zeros that a sparse
        array happens to store do not count.

    Returns
    -------
    float
        Between 0 and `n_components`.

    Raises
    ------
    ValueError
        If `codes` is empty or holds NaN or infinite values.

    Examples
    --------
    >>> from skfactors.metrics import l0
    >>> l0([[0.0, 2.0, 1.0], [0.0, 0.5, 0.0]])
    1.5
    """
    codes = _check_some(codes)
    return float(_active_rows(codes).sum() / codes.shape[0])


def density(codes) -> np.ndarray:
    """Return the share of rows in which each factor is active.

    Parameters
    ----------
    codes : array-like or sparse array of shape (n_rows, n_components)
        Activations of the factors. A factor is active in a row where its code is not zero; zeros that a sparse
        array happens to store do not count.

    Returns
    -------
    ndarray of shape (n_components,)
        Shares between 0 and 1.

    Raises
    ------
    ValueError
        If `codes` is empty or holds NaN or infinite values.

    Examples
    --------
    >>> from skfactors.metrics import density
    >>> density([[0.0, 2.0, 1.0], [0.0, 0.5, 0.0]])
    array([0. , 1. , 0.5])
    """
    codes = _check_some(codes)
    return _active_rows(codes) / codes.shape[0]


def dead_fraction(codes) -> float:
    """Return the share of factors that are active in none of these rows.

    Parameters
    ----------
    codes : array-like or sparse array of shape (n_rows, n_components)
        Activations of the factors. A factor is active in a row where its code is not zero; zeros that a sparse
        array happens to store do not count.

    Returns
    -------
    float
        Between 0 and 1. It depends on how many rows there are: a rare factor looks dead in few of them.

    Raises
    ------
    ValueError
        If `codes` is empty or holds NaN or infinite values.

    Examples
    --------
    >>> from skfactors.metrics import dead_fraction
    >>> dead_fraction([[0.0, 2.0, 1.0, 3.0], [0.0, 0.5, 0.0, 0.0]])
    0.25
    """
    return float(np.mean(density(codes) == 0))


def _check_some(codes):
    codes = check_codes(codes)
    if 0 in codes.shape:
        raise ValueError(f"codes of shape {codes.shape} are empty: at least one row and one factor are needed.")
    return codes


def _active_rows(codes):
    """Return in how many rows each factor is active."""
    if sparse.issparse(codes):
        return np.bincount(codes.indices[codes.data != 0], minlength=codes.shape[1])
    return np.count_nonzero(codes, axis=0)
