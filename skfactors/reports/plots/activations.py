"""How strongly a factor fires."""

from numbers import Integral

import numpy as np
from sklearn.utils import check_scalar

from skfactors.codes import check_codes
from skfactors.reports.counting.entries import positive_entries
from skfactors.reports.plots._axes import PALETTE, axes_or_new, layer_colors
from skfactors.reports.plots._checks import check_factors

# Between two panels, as a share of one.
_GAP = 0.15


def plot_activations(codes, factor, *, layers=None, bins=30, ax=None):
    """
    Plot how often a factor is active with which strength, as a histogram whose counts are on a logarithmic scale.

    Parameters
    ----------
    codes : sparse array or ndarray of shape (n_rows, n_components)
        Activations of the factors. Rows in which the factor is not above zero are left out.
    factor : int
        The column to plot.
    layers : array-like of int of shape (n_rows,), default=None
        Layer that each row came from; with it, each layer in which the factor fires has a panel of its own.
    bins : int, default=30
        Intervals of equal width from zero to the largest activation.
    ax : matplotlib Axes, default=None
        Where to plot; a new figure by default.

    Returns
    -------
    matplotlib Axes
        Those that were plotted on.

    Raises
    ------
    ImportError
        If matplotlib is not installed.
    TypeError, ValueError
        If there is no such factor or it never fires, codes are empty or not finite, codes and layers differ in length,
        or `bins` is out of range.

    Examples
    --------
    >>> from skfactors.reports.plots import plot_activations
    >>> ax = plot_activations([[0.5, 0.0], [2.0, 1.0], [1.9, 0.0]], 0, bins=2)
    >>> [int(bar.get_height()) for bar in ax.patches]
    [1, 2]
    """
    codes = check_codes(codes)
    if 0 in codes.shape:
        raise ValueError(f"codes are empty: their shape is {codes.shape}.")
    check_scalar(bins, "bins", Integral, min_val=1)
    (factor,) = check_factors(check_scalar(factor, "factor", Integral), np.arange(codes.shape[1]))
    rows, _, activations = positive_entries(codes[:, [factor]])
    if len(rows) == 0:
        raise ValueError(f"factor {factor} is above zero in none of the {codes.shape[0]:,} rows; nothing to plot.")
    edges = np.linspace(0, activations.max(), bins + 1)
    row_layers = None if layers is None else _check_layers(layers, codes.shape[0])[rows]

    ax = axes_or_new(ax)
    if row_layers is None:
        _draw(ax, activations, edges, PALETTE[0])
    else:
        _draw_by_layer(ax, activations, row_layers, edges)
    ax.set_xlabel(f"activation of factor {factor} (above zero in {len(rows):,} of {codes.shape[0]:,} rows)")
    ax.set_ylabel("rows")
    return ax


def _check_layers(layers, n_rows):
    layers = np.asarray(layers)
    if layers.shape != (n_rows,):
        raise ValueError(f"codes have {n_rows} rows and layers has shape {layers.shape}; pass one layer per row.")
    return layers


def _draw(ax, activations, edges, color):
    ax.hist(activations, edges, color=color)
    ax.set_xlim(0, edges[-1])
    ax.set_yscale("log")
    # Half a row, so that bins of a single row stand above the axis.
    ax.set_ylim(bottom=0.5)


def _draw_by_layer(ax, activations, row_layers, edges):
    """Draw panels below each other, the first layer on top, which share the axis of activations."""
    layers = np.unique(row_layers)
    cmap, norm = layer_colors(layers)
    ax.set_xlim(0, edges[-1])
    # Room for the numbers of the panels' own axes.
    ax.set_yticks([])
    ax.yaxis.labelpad = 28
    ax.spines[:].set_visible(False)
    most = np.histogram(activations, edges)[0].max()
    for number, layer in enumerate(layers[::-1]):
        panel = ax.inset_axes([0, number / len(layers), 1, (1 - _GAP) / len(layers)])
        in_layer = activations[row_layers == layer]
        _draw(panel, in_layer, edges, cmap(norm(layer)))
        panel.set_ylim(top=2 * most)
        panel.set_yticks([1, 10 ** np.floor(np.log10(most))] if most >= 10 else [1])
        panel.yaxis.minorticks_off()
        panel.set_xticklabels([])
        panel.spines[["top", "right"]].set_visible(False)
        panel.text(0.99, 0.9, f"layer {layer}: {len(in_layer):,} rows", transform=panel.transAxes, ha="right", va="top")
