"""Which tokens a factor's activation depends on."""

from numbers import Integral

import numpy as np
import pandas as pd
from rich.cells import cell_len
from sklearn.utils import check_scalar

from skfactors.reports.plots._axes import axes_or_new
from skfactors.reports.plots._checks import check_numbers

DIVERGING = "PuOr_r"
FONT_SIZE, SMALLEST_FONT_SIZE = 11, 5
# In units of the font size: a character of a fixed-width font, what lies around a token, and a line.
CHARACTER_WIDTH, TOKEN_PADDING, LINE_HEIGHT = 0.61, 0.5, 2.0
LONGEST_TOKEN = 40
POINTS_AN_INCH = 72
# Inches; beside the lines of text, a new figure holds the title and the bar of colours.
FIGURE_WIDTH, SIDE_MARGINS, ABOVE_AND_BELOW = 8.0, 0.3, 1.3


def plot_token_saliency(saliency, target=None, *, tokens=None, ax=None):
    """
    Plot the tokens of one context, shaded by how much a factor's activation depends on each.

    Parameters
    ----------
    saliency : Series or array-like of shape (n_tokens,)
        Weight of each token, in the order of the text. Weights above zero raise the activation, those below lower it.
    target : int, default=None
        Place, from 0, of the token where the activation was read; it is framed.
    tokens : sequence of str of length n_tokens, default=None
        The tokens; None takes the index of a Series, or its level `token`.
    ax : matplotlib Axes, default=None
        Where to plot; a new figure, as high as the text needs, by default.

    Returns
    -------
    matplotlib Axes
        Without an axis of its own; the figure has a bar of colours for the weights.

    Raises
    ------
    ImportError
        If matplotlib is not installed.
    TypeError, ValueError
        If saliency is empty or holds no finite numbers, tokens and weights differ in number, there is no such target,
        or the tokens do not fit into `ax`.

    Examples
    --------
    >>> from skfactors.reports.plots import plot_token_saliency
    >>> ax = plot_token_saliency([0.1, 0.8, -0.2, 0.3], target=1, tokens=["She", "left", "the", "park"])
    >>> ax.get_title("left")
    'framed: the token whose activation is explained'
    """
    weights = check_numbers(saliency, "saliency")
    tokens = _check_tokens(saliency if tokens is None else tokens, len(weights))
    if target is not None:
        check_scalar(target, "target", Integral, min_val=0, max_val=len(weights) - 1)
    cells = [cell_len(token) for token in tokens]
    is_new = ax is None
    if is_new:
        lines = _wrap(cells, (FIGURE_WIDTH - SIDE_MARGINS) * POINTS_AN_INCH / FONT_SIZE)
        height = len(lines) * LINE_HEIGHT * FONT_SIZE / POINTS_AN_INCH + ABOVE_AND_BELOW
        ax = axes_or_new(None, figsize=(FIGURE_WIDTH, height))
    mapping = _color_bar(ax, weights)
    font_size, lines = (FONT_SIZE, lines) if is_new else _fit(cells, ax)
    _draw(ax, tokens, mapping.to_rgba(weights), lines, target, font_size)
    ax.set_axis_off()
    if target is not None:
        ax.set_title("framed: the token whose activation is explained", loc="left", fontsize="medium")
    return ax


def _check_tokens(tokens, n_tokens):
    if isinstance(tokens, pd.Series):
        index = tokens.index
        tokens = index.get_level_values("token") if "token" in index.names else index
    if isinstance(tokens, str):
        raise TypeError("tokens is one string; pass a list of tokens.")
    tokens = list(tokens)
    strange = [token for token in tokens if not isinstance(token, str)]
    if strange:
        raise TypeError(
            f"tokens hold {strange[0]!r}, which is not a string; pass the tokens, or a Series that they index."
        )
    if len(tokens) != n_tokens:
        raise ValueError(f"there are {len(tokens)} tokens and {n_tokens} weights; each token needs one.")
    return [_displayed(token) for token in tokens]


def _displayed(token):
    """Return a token as one short run of printable characters."""
    token = token.strip(" ")
    if len(token) > LONGEST_TOKEN:
        token = token[: LONGEST_TOKEN - 1] + "\N{HORIZONTAL ELLIPSIS}"
    return "".join(
        character if character.isprintable() else character.encode("unicode_escape").decode() for character in token
    )


def _wrap(cells, line_width):
    """
    Break tokens into lines.

    Parameters
    ----------
    cells : list of int
        Width of each token, in characters of a fixed-width font.
    line_width : float
        In units of the font size.

    Returns
    -------
    list of list of int
        Places of the tokens of each line.
    """
    lines, used = [[]], 0.0
    for place, n_cells in enumerate(cells):
        width = n_cells * CHARACTER_WIDTH + TOKEN_PADDING
        if lines[-1] and used + width > line_width:
            lines.append([])
            used = 0.0
        lines[-1].append(place)
        used += width
    return lines


def _fit(cells, ax):
    """Return the largest font size whose lines fit into the axes, and these lines."""
    box = ax.get_window_extent()
    width, height = (pixels * POINTS_AN_INCH / ax.figure.dpi for pixels in (box.width, box.height))
    widest = max(cells) * CHARACTER_WIDTH + TOKEN_PADDING
    for font_size in np.arange(FONT_SIZE, SMALLEST_FONT_SIZE - 0.5, -0.5):
        lines = _wrap(cells, width / font_size)
        if len(lines) * LINE_HEIGHT * font_size <= height and widest * font_size <= width:
            return font_size, lines
    raise ValueError(
        f"{len(cells)} tokens do not fit into axes of {width:.0f} by {height:.0f} points; pass larger axes, fewer "
        "tokens, or ax=None for a figure that is large enough."
    )


def _color_bar(ax, weights):
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize

    largest = np.abs(weights).max() or 1.0
    mapping = ScalarMappable(Normalize(-largest, largest), DIVERGING)
    bar = ax.figure.colorbar(mapping, ax=ax, location="bottom", shrink=0.6, aspect=40)
    bar.set_label("saliency weight (above zero: the token raises the activation)")
    return mapping


def _draw(ax, tokens, colors, lines, target, font_size):
    from matplotlib.offsetbox import AnchoredOffsetbox, HPacker, VPacker

    boxes = [
        _token_box(token, color, font_size, is_target=place == target)
        for place, (token, color) in enumerate(zip(tokens, colors, strict=True))
    ]
    gap = TOKEN_PADDING * font_size
    rows = [HPacker(children=[boxes[place] for place in line], align="baseline", pad=0, sep=gap) for line in lines]
    text = VPacker(children=rows, align="left", pad=0, sep=gap)
    ax.add_artist(AnchoredOffsetbox("upper left", child=text, pad=0.3, borderpad=0, frameon=False))


def _token_box(token, color, font_size, *, is_target):
    from matplotlib.offsetbox import TextArea

    red, green, blue, _ = color
    is_dark = 0.299 * red + 0.587 * green + 0.114 * blue < 0.5
    frame = {"boxstyle": "square,pad=0.15", "facecolor": color, "edgecolor": "black" if is_target else "none"}
    return TextArea(
        token,
        textprops={
            "family": "monospace",
            "fontsize": font_size,
            "fontweight": "bold" if is_target else "normal",
            "color": "white" if is_dark else "black",
            "bbox": frame | {"linewidth": 1.8 if is_target else 0.0},
            # Tokens are data: a dollar sign in them opens no formula.
            "parse_math": False,
            "usetex": False,
        },
    )
