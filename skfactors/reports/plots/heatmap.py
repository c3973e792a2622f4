"""Importance of many factors at once."""

import numpy as np

from skfactors.reports.plots._axes import SEQUENTIAL, axes_or_new, thinned
from skfactors.reports.plots._checks import check_factors, check_importance

MOST_NAMED_FACTORS = 40
# As a share of the height of the axes: what the label of one group of factors takes.
LABEL_SHARE = 0.05


def plot_importance_heatmap(importance, factors=None, *, relative=True, ax=None):
    """
    Plot the importance of factors by layer as a heat map, sorted by the layer where each peaks.

    Of factors that peak in the same layer, those with more of their importance in earlier layers come first. Factors
    that never fire are left out, and the label of the axis counts them.

    Parameters
    ----------
    importance : DataFrame of shape (n_components, n_layers)
        As :func:`~skfactors.reports.importance_by_layer` gives it.
    factors : int or sequence of int, default=None
        Rows to plot, by their index; None plots all.
    relative : bool, default=True
        Whether a colour is the share of the factor's own peak, so that weak factors are as legible as strong ones.
        False shows the importance itself.
    ax : matplotlib Axes, default=None
        Where to plot; a new figure by default.

    Returns
    -------
    matplotlib Axes
        Its image is the array plotted. Up to 40 factors are named; of more, groups are named by their peak layer.

    Raises
    ------
    ImportError
        If matplotlib is not installed.
    TypeError, ValueError
        If there is no such factor, none of them fires, or importance is empty or holds negative or non-finite values.

    Examples
    --------
    >>> import pandas as pd
    >>> from skfactors.reports.plots import plot_importance_heatmap
    >>> importance = pd.DataFrame([[0.0, 1.0, 4.0], [2.0, 1.0, 1.0]], columns=[0, 1, 2])
    >>> ax = plot_importance_heatmap(importance)
    >>> [label.get_text() for label in ax.get_yticklabels()]
    ['1', '0']
    >>> ax.images[0].get_array().tolist()
    [[1.0, 0.5, 0.5], [0.0, 0.25, 1.0]]
    """
    importance = check_importance(importance)
    if factors is not None:
        importance = importance.loc[check_factors(factors, importance.index)]
    fires = importance.to_numpy().max(axis=1) > 0
    if not fires.any():
        raise ValueError(f"none of the {len(importance)} factors ever fires; there is nothing to plot.")
    importance, peaks = _by_peak(importance[fires])
    shown = importance.div(importance.max(axis=1), axis="index") if relative else importance

    ax = axes_or_new(ax)
    image = ax.imshow(shown.to_numpy(), aspect="auto", cmap=SEQUENTIAL, vmin=0, interpolation="nearest")
    label = "importance, share of the factor's peak" if relative else "importance (mean of the largest activations)"
    ax.figure.colorbar(image, ax=ax, label=label)
    layers = importance.columns.to_numpy()
    ax.set_xlabel("layer")
    ax.set_xticks(np.flatnonzero(np.isin(layers, thinned(layers))), labels=thinned(layers))
    if len(importance) <= MOST_NAMED_FACTORS:
        ax.set_yticks(range(len(importance)), labels=importance.index, fontsize="small", parse_math=False)
        what = "factor"
    else:
        _name_groups(ax, peaks)
        what = f"{len(importance):,} factors by peak layer"
    n_silent = len(fires) - len(importance)
    ax.set_ylabel(what + (f" ({n_silent:,} that never fire left out)" if n_silent else ""))
    return ax


def _by_peak(importance):
    """Return the rows of importance sorted, and the peak layer of each."""
    values, layers = importance.to_numpy(), importance.columns.to_numpy()
    peaks = layers[values.argmax(axis=1)]
    centres = values @ np.arange(len(layers)) / values.sum(axis=1)
    order = np.lexsort((centres, peaks))
    return importance.iloc[order], peaks[order]


def _name_groups(ax, peaks):
    """Draw a line between groups of factors, and name each that is high enough for its label."""
    layers, starts, sizes = np.unique(peaks, return_index=True, return_counts=True)
    for start in starts[1:]:
        ax.axhline(start - 0.5, color="white", linewidth=1)
    named = sizes >= LABEL_SHARE * len(peaks)
    middles = starts + (sizes - 1) / 2
    labels = [f"layer {layer}: {size:,}" for layer, size in zip(layers, sizes, strict=True)]
    ax.set_yticks(middles[named], labels=np.array(labels)[named])
