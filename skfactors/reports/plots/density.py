"""How often the factors fire."""

from numbers import Integral

import numpy as np
from sklearn.utils import check_scalar

from skfactors.reports.plots._axes import PALETTE, axes_or_new
from skfactors.reports.plots._checks import check_numbers


def plot_density(frequency, *, bins=30, ax=None):
    """
    Plot how many factors fire how often, as a histogram over a logarithmic scale.

    Parameters
    ----------
    frequency : array-like of shape (n_components,)
        Share of rows in which each factor is active: the column `frequency` of
        :meth:`~skfactors.reports.FactorReport.summary`, or what :func:`~skfactors.metrics.density` gives. Factors that
        never fire have no place on the scale; the title counts them.
    bins : int, default=30
        Intervals, of equal width on the logarithmic scale, from the rarest factor that fires to the most frequent one.
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
        If frequency is empty, holds a value that is not a share, or is zero throughout, or `bins` is out of range.

    Examples
    --------
    >>> from skfactors.reports.plots import plot_density
    >>> plot_density([0.5, 0.01, 0.02, 0.0]).get_title()
    '1 of 4 never fire; median of the others 0.02'
    """
    frequency = check_numbers(frequency, "frequency")
    check_scalar(bins, "bins", Integral, min_val=1)
    if (frequency < 0).any() or (frequency > 1).any():
        raise ValueError(
            f"frequency goes from {frequency.min():g} to {frequency.max():g}; pass shares of rows, between 0 and 1."
        )
    firing = frequency[frequency > 0]
    if len(firing) == 0:
        raise ValueError(f"none of the {len(frequency)} factors ever fires; there is nothing to plot.")

    ax = axes_or_new(ax)
    ax.hist(firing, _edges(firing, bins), color=PALETTE[0])
    ax.axvline(np.median(firing), color=PALETTE[1], linestyle="--")
    ax.set_xscale("log")
    ax.set_xlabel("density (share of rows in which a factor fires)")
    ax.set_ylabel("factors")
    ax.yaxis.get_major_locator().set_params(integer=True)
    n_silent = len(frequency) - len(firing)
    title = f"{n_silent:,} of {len(frequency):,} never fire; median of the others {np.median(firing):.2g}"
    ax.set_title(title, fontsize="medium")
    return ax


def _edges(firing, bins):
    low, high = firing.min(), firing.max()
    if low == high:
        low, high = low / 2, high * 2
    edges = np.geomspace(low, high, bins + 1)
    # Rounding must not leave the extremes outside.
    edges[[0, -1]] = low, high
    return edges
