"""What the plots share: axes, colours, and the axis of layers."""

import numpy as np

# The palette of Okabe and Ito, which colour-blind readers can tell apart, in an order that keeps neighbours distinct;
# without its yellow, which is too light on white.
PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
SEQUENTIAL = "viridis"
# The light end of the colour map, as a share of it, is too pale for a line on white.
DARKER_SHARE = 0.88
MOST_LAYER_TICKS = 16


def axes_or_new(ax, figsize=None):
    """
    Return `ax`, or the axes of a new figure that keeps legends and colour bars clear of everything else.

    Raises
    ------
    ImportError
        If matplotlib is not installed.
    """
    if ax is not None:
        return ax
    try:
        from matplotlib import pyplot
    except ImportError as error:
        raise ImportError('plots need matplotlib: pip install "skfactors[plots]"') from error
    _, ax = pyplot.subplots(figsize=figsize, layout="constrained")
    return ax


def layer_colors(layers):
    """Return a colour map and norm that give each layer a colour, darkest for the first, all dark enough for lines."""
    from matplotlib import colormaps
    from matplotlib.colors import BoundaryNorm, ListedColormap

    layers = np.asarray(layers, dtype=np.float64)
    colors = colormaps[SEQUENTIAL](np.linspace(0, DARKER_SHARE, len(layers)))
    between = (layers[1:] + layers[:-1]) / 2
    return ListedColormap(colors), BoundaryNorm([layers[0] - 0.5, *between, layers[-1] + 0.5], len(layers))


def thinned(layers):
    """Return the layers that ticks stand at: all, or evenly many of them where all would not fit."""
    return layers[:: -(-len(layers) // MOST_LAYER_TICKS)]


def legend_outside(ax):
    """Put the legend right of the axes, where it covers no data."""
    legend = ax.legend(loc="center left", bbox_to_anchor=(1, 0.5), frameon=False)
    for text in legend.get_texts():
        text.set_parse_math(False)
