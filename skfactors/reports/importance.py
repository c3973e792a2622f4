"""The importance score: how strongly a factor shows in each layer."""

from numbers import Integral

import numpy as np
import pandas as pd
from sklearn.utils import check_scalar

from skfactors.codes import check_codes
from skfactors.reports.counting.entries import largest_in_groups, positive_entries


def importance_by_layer(codes, layers, *, top=200) -> pd.DataFrame:
    """
    Score each factor's importance in each layer: the mean of its `top` largest activations there.

    Parameters
    ----------
    codes : sparse array or ndarray of shape (n_rows, n_components)
        Activations of the factors.
    layers : array-like of int of shape (n_rows,)
        Layer that each row came from.
    top : int, default=200
        Activations that the mean is taken over. Where a factor has fewer above zero in a layer, the missing ones count
        as zeros.

    Returns
    -------
    DataFrame of shape (n_components, n_layers)
        Index `factor`, columns `layer` ascending.

    Raises
    ------
    TypeError, ValueError
        If `top` is out of range, codes and layers differ in length, or codes are not finite.

    Notes
    -----
    This is the importance score of Yun et al. (2021), "Transformer visualization via dictionary learning". Plotted over
    the layers it shows where a factor emerges. Scores of different layers compare only where each gave equally many
    rows, as they do when every token was read in every layer.

    Examples
    --------
    >>> from skfactors.reports import importance_by_layer
    >>> importance_by_layer([[4.0, 0.0], [2.0, 0.0], [1.0, 3.0]], [0, 0, 6], top=2)  # doctest: +NORMALIZE_WHITESPACE
    layer     0    6
    factor
    0       3.0  0.5
    1       0.0  1.5
    """
    check_scalar(top, "top", Integral, min_val=1)
    codes = check_codes(codes)
    layers = np.asarray(layers)
    if layers.shape != (codes.shape[0],):
        raise ValueError(
            f"codes have {codes.shape[0]} rows and layers has shape {layers.shape}; pass one layer per row."
        )
    rows, factors, activations = positive_entries(codes)
    numbers, layer_places = np.unique(layers, return_inverse=True)
    groups = factors * len(numbers) + layer_places[rows]
    chosen, _ = largest_in_groups(groups, activations, top)
    means = mean_of_largest(groups[chosen], activations[chosen], codes.shape[1] * len(numbers), top)
    return factor_by_layer(means.reshape(codes.shape[1], len(numbers)), numbers)


def mean_of_largest(groups, values, n_groups, top):
    """
    Average the `top` largest values of each group.

    Parameters
    ----------
    groups : ndarray of int of shape (n_entries,)
    values : ndarray of float of shape (n_entries,)
        At most `top` a group, the largest first: they are added in this order, so that the same values always give the
        same mean to the last bit.
    n_groups : int
    top : int

    Returns
    -------
    ndarray of float of shape (n_groups,)
    """
    return np.bincount(groups, weights=values, minlength=n_groups) / top


def factor_by_layer(values, layers):
    """Return a table of factors by layers, `values` being of shape (n_components, n_layers)."""
    return pd.DataFrame(
        values,
        index=pd.RangeIndex(len(values), name="factor"),
        columns=pd.Index(np.asarray(layers, dtype=np.int64), name="layer"),
    )
