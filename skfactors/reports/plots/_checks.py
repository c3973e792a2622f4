"""Checks of what the plots are given."""

import numpy as np

from skfactors.reports.arguments import check_known


def check_importance(importance):
    """
    Return the table of importance with its layers ascending.

    Raises
    ------
    ValueError
        If it has no factor or no layer, or holds negative or non-finite values.
    """
    if importance.size == 0:
        raise ValueError(
            f"importance is empty: it has {importance.shape[0]} factors and {importance.shape[1]} layers, and a plot "
            "needs one of each."
        )
    values = importance.to_numpy(dtype=np.float64)
    if not np.isfinite(values).all() or (values < 0).any():
        raise ValueError("importance holds negative, NaN or infinite values; it is a mean of activations above zero.")
    return importance.sort_index(axis="columns")


def check_factors(factors, known):
    """
    Return the asked factors as a list.

    Parameters
    ----------
    factors : int or sequence of int
    known : sequence of int
        Those there are.

    Raises
    ------
    TypeError, ValueError
        If none is asked for, or one is not an integer or not known.
    """
    known = np.asarray(known)
    is_range = np.array_equal(known, np.arange(len(known)))
    factors = check_known(factors, range(len(known)) if is_range else known.tolist(), "factor")
    if not factors:
        raise ValueError("factors is empty; ask for one factor at least.")
    return factors


def check_numbers(values, name):
    """
    Return values as a flat array of float.

    Raises
    ------
    ValueError
        If there are none, they are not a flat sequence of numbers, or one is NaN or infinite.
    """
    values = np.asarray(values)
    if values.ndim != 1 or values.dtype.kind not in "buif":
        raise ValueError(f"{name} must be a flat sequence of numbers; got {values.ndim} dimensions of {values.dtype}.")
    if len(values) == 0:
        raise ValueError(f"{name} is empty; there is nothing to plot.")
    values = values.astype(np.float64)
    n_bad = np.count_nonzero(~np.isfinite(values))
    if n_bad:
        raise ValueError(f"{name} holds {n_bad} NaN or infinite values.")
    return values
