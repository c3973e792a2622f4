"""What a sparsity costs: explained variance over L0."""

from collections.abc import Mapping

import numpy as np
import pandas as pd

from skfactors.reports.plots._axes import MARKERS, PALETTE, axes_or_new, legend_outside

COLUMNS = ["alpha", "l0", "explained_variance"]
SCORES = {"l0": "l0_scorer", "explained_variance": "explained_variance_scorer"}
# Points of a page between two labels, below which one of them is left out.
LABEL_WIDTH, LABEL_HEIGHT = 34, 11


def plot_frontier(results, *, ax=None):
    """
    Plot the explained variance over the number of active factors per row (L0), a point for each `alpha`.

    Parameters
    ----------
    results : array-like of shape (n_candidates, 3), DataFrame, mapping or fitted search
        One of

        - rows of `alpha`, L0 and explained variance, in this order; a DataFrame has columns `alpha`, `l0` and
          `explained_variance`
        - a search over `alpha`, such as a fitted GridSearchCV, or its `cv_results_`, with
          ``scoring={"l0": l0_scorer, "explained_variance": explained_variance_scorer}`` and maybe others. Bars show
          the standard deviation over the folds. Candidates that differ in other parameters too are on a line for each
          setting of these. Candidates that failed are left out.
    ax : matplotlib Axes, default=None
        Where to plot; a new figure by default.

    Returns
    -------
    matplotlib Axes
        L0 is on a logarithmic scale unless it is zero somewhere. Labels give `alpha`, where there is room for one.

    Raises
    ------
    ImportError
        If matplotlib is not installed.
    TypeError, ValueError
        If there are no results, they are not of one of these forms, or `alpha`, L0 or explained variance is out of
        range.

    Examples
    --------
    >>> from skfactors.reports.plots import plot_frontier
    >>> ax = plot_frontier([[2.0, 5.0, 0.4], [1.0, 12.0, 0.6], [0.5, 30.0, 0.75]])
    >>> ax.get_xlabel(), ax.get_ylabel()
    ('L0 (mean number of active factors per row)', 'explained variance')
    """
    results = getattr(results, "cv_results_", results)
    table = _from_search(results) if isinstance(results, Mapping) else _from_rows(results)
    _check_ranges(table)

    ax = axes_or_new(ax)
    if (table["l0"] > 0).all():
        ax.set_xscale("log")
    lines = [(setting, line.sort_values("l0")) for setting, line in table.groupby("setting", sort=False)]
    for number, (setting, line) in enumerate(lines):
        ax.errorbar(
            line["l0"],
            line["explained_variance"],
            xerr=line["l0_deviation"],
            yerr=line["explained_variance_deviation"],
            color=PALETTE[number % len(PALETTE)],
            marker=MARKERS[number % len(MARKERS)],
            elinewidth=0.8,
            label=setting,
        )
    ax.set_xlabel("L0 (mean number of active factors per row)")
    ax.set_ylabel("explained variance")
    # Room for the labels, which stand to the lower right of their points.
    ax.margins(x=0.12, y=0.1)
    if ax.get_xscale() == "log" and table["l0"].nunique() > 1:
        _tick_round_numbers(ax)
    _label_alphas(ax, table)
    if len(lines) > 1:
        legend_outside(ax)
    return ax


def _from_rows(rows):
    if isinstance(rows, pd.DataFrame):
        missing = [name for name in COLUMNS if name not in rows]
        if missing:
            raise ValueError(f"results lack the columns {missing}; they need {COLUMNS}.")
        rows = rows[COLUMNS]
    try:
        values = np.asarray(rows, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise TypeError(
            f"results must be rows of {', '.join(COLUMNS)}, a fitted search or its cv_results_; got {rows!r:.80}."
        ) from error
    if values.size == 0:
        raise ValueError("results are empty; there is nothing to plot.")
    if values.ndim != 2 or values.shape[1] != 3:
        raise ValueError(f"results have shape {values.shape}; each row must be {', '.join(COLUMNS)}.")
    if not np.isfinite(values).all():
        raise ValueError("results hold NaN or infinite values.")
    table = pd.DataFrame(values, columns=COLUMNS)
    return table.assign(setting="", l0_deviation=0.0, explained_variance_deviation=0.0)


def _from_search(results):
    missing = [name for name in SCORES if f"mean_test_{name}" not in results]
    if missing:
        scoring = ", ".join(f"{name!r}: {scorer}" for name, scorer in SCORES.items())
        raise ValueError(
            f"cv_results_ has no {' and no '.join(f'mean_test_{name}' for name in missing)}; "
            f"search with scoring={{{scoring}}}."
        )
    candidates = [_alpha_and_setting(parameters) for parameters in results["params"]]
    table = pd.DataFrame(candidates, columns=["alpha", "setting"])
    for name in SCORES:
        table[name] = np.asarray(results[f"mean_test_{name}"], dtype=np.float64)
        table[f"{name}_deviation"] = np.asarray(results[f"std_test_{name}"], dtype=np.float64)
    # The scorer negates, because a greater score has to be a better one.
    table["l0"] = -table["l0"]
    table = table[np.isfinite(table["l0"]) & np.isfinite(table["explained_variance"])]
    if table.empty:
        raise ValueError(
            "Every candidate has a NaN or infinite l0 or explained variance; search with error_score='raise' to see "
            "why."
        )
    return table


def _alpha_and_setting(parameters):
    """Return a candidate's alpha, and its other parameters as one label."""
    names = [name for name in parameters if name.split("__")[-1] == "alpha"]
    if len(names) != 1:
        raise ValueError(f"a candidate of the search has {len(names)} parameters named alpha, not one: {parameters}.")
    others = (f"{name.split('__')[-1]}={value}" for name, value in parameters.items() if name != names[0])
    return parameters[names[0]], ", ".join(others)


def _check_ranges(table):
    if (table["alpha"] < 0).any():
        raise ValueError(f"alpha={table['alpha'].min():g} is negative; a sparsity penalty is zero or more.")
    if (table["l0"] < 0).any():
        raise ValueError(f"an L0 of {table['l0'].min():g} is negative; it is a number of active factors.")
    if (table["explained_variance"] > 1).any():
        raise ValueError(
            f"an explained variance of {table['explained_variance'].max():g} is above one; "
            f"each row must be {', '.join(COLUMNS)}, in this order."
        )


def _tick_round_numbers(ax):
    """Write 1, 2, 5, 10 and so on below a logarithmic axis, or, where it is short, as many numbers as have room."""
    from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter, StrMethodFormatter

    ax.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5), numticks=12))
    left, right = ax.get_xlim()
    if sum(left <= tick <= right for tick in ax.xaxis.get_majorticklocs()) < 3:
        ax.xaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 5, 10]))
    ax.xaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    ax.xaxis.set_minor_formatter(NullFormatter())


def _label_alphas(ax, table):
    """Write alpha beside the points, largest first, except where it would touch a label that stands."""
    points_a_pixel = 72 / ax.figure.dpi
    taken = []
    for row in table.sort_values("alpha", ascending=False).itertuples():
        place = ax.transData.transform((row.l0, row.explained_variance)) * points_a_pixel
        if any(abs(place - other)[0] < LABEL_WIDTH and abs(place - other)[1] < LABEL_HEIGHT for other in taken):
            continue
        taken.append(place)
        ax.annotate(
            f"α={row.alpha:g}",
            (row.l0, row.explained_variance),
            xytext=(5, -5),
            textcoords="offset points",
            verticalalignment="top",
            fontsize="small",
        )
