"""Importance over the layers."""

from skfactors.reports.plots._axes import MARKERS, PALETTE, axes_or_new, layer_colors, legend_outside, thinned
from skfactors.reports.plots._checks import check_factors, check_importance


def plot_importance(importance, factors, *, names=None, ax=None):
    """
    Plot the importance of some factors over the layers, with a line for each.

    Up to seven factors are told apart by colour and marker, with a legend. More are thin lines, coloured by the layer
    where each peaks.

    Parameters
    ----------
    importance : DataFrame of shape (n_components, n_layers)
        As :func:`~skfactors.reports.importance_by_layer` gives it.
    factors : int or sequence of int
        Rows to plot, by their index.
    names : Series or dict of str, default=None
        What the legend says of factors beside their numbers, such as a top token.
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
        If there is no such factor, or importance is empty or holds negative or non-finite values.

    Examples
    --------
    >>> import pandas as pd
    >>> from skfactors.reports.plots import plot_importance
    >>> importance = pd.DataFrame([[1.0, 3.0, 2.0], [0.0, 1.0, 4.0]], columns=[0, 1, 2])
    >>> ax = plot_importance(importance, [0, 1])
    >>> [line.get_label() for line in ax.lines]
    ['factor 0', 'factor 1']
    """
    importance = check_importance(importance)
    curves = importance.loc[check_factors(factors, importance.index)]
    ax = axes_or_new(ax)
    layers = importance.columns.to_numpy()
    if len(curves) <= len(PALETTE):
        _draw_named(ax, layers, curves, {} if names is None else dict(names))
    else:
        _draw_many(ax, layers, curves)
    ax.set_xlabel("layer")
    ax.set_xticks(thinned(layers))
    ax.set_ylabel("importance (mean of the largest activations)")
    ax.set_ylim(bottom=0)
    return ax


def _draw_named(ax, layers, curves, names):
    for (factor, curve), color, marker in zip(curves.iterrows(), PALETTE, MARKERS, strict=False):
        label = f"factor {factor}" + (f": {names[factor]}" if names.get(factor) else "")
        ax.plot(layers, curve.to_numpy(), color=color, marker=marker, label=label)
    legend_outside(ax)


def _draw_many(ax, layers, curves):
    from matplotlib.cm import ScalarMappable

    cmap, norm = layer_colors(layers)
    peaks = layers[curves.to_numpy().argmax(axis=1)]
    for (factor, curve), peak in zip(curves.iterrows(), peaks, strict=True):
        ax.plot(layers, curve.to_numpy(), color=cmap(norm(peak)), linewidth=0.8, alpha=0.7, label=f"factor {factor}")
    bar = ax.figure.colorbar(ScalarMappable(norm, cmap), ax=ax, label="peak layer", spacing="uniform")
    bar.set_ticks(thinned(layers), labels=thinned(layers))
    bar.minorticks_off()
