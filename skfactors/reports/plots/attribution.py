"""Which factors, at which tokens, contribute to a target."""

import numpy as np

from skfactors.reports.plots._axes import axes_or_new


def plot_attribution(table, k=10, *, ax=None):
    """
    Plot what factors contribute to a target as a heat map of factors by tokens.

    Parameters
    ----------
    table : DataFrame
        As :func:`skfactors.interventions.attribute` gives it.
    k : int, default=10
        How many factors are shown: those with the largest contributions, of either sign.
    ax : matplotlib Axes, default=None
        Where to plot; a new figure by default.

    Returns
    -------
    matplotlib Axes
        Its image is the array plotted. A factor goes by its layer and number.

    Raises
    ------
    ImportError
        If matplotlib is not installed.
    ValueError
        If the table is empty.

    Examples
    --------
    >>> import pandas as pd
    >>> from skfactors.reports.plots import plot_attribution
    >>> columns = ["site", "layer", "position", "token", "factor", "contribution"]
    >>> rows = [["mlp_output", 3, 0, "Paris", 7, 1.5], ["mlp_output", 3, 1, " is", 2, -0.5]]
    >>> table = pd.DataFrame(rows, columns=columns)
    >>> plot_attribution(table).images[0].get_array().tolist()
    [[1.5, 0.0], [0.0, -0.5]]
    """
    if not len(table):
        raise ValueError("the table is empty; there is nothing to plot.")
    several = table["site"].nunique() > 1
    names = table["layer"].astype(str) + "/" + table["factor"].astype(str)
    names = table["site"] + " " + names if several else names
    summed = table.assign(name=names).pivot_table("contribution", "name", "position", "sum", fill_value=0)
    largest = summed.abs().max(axis=1).sort_values(ascending=False, kind="stable").index[:k]
    shown = summed.loc[largest]
    tokens = table.drop_duplicates("position").set_index("position")["token"][shown.columns]

    ax = axes_or_new(ax)
    limit = np.abs(shown.to_numpy()).max()
    image = ax.imshow(shown.to_numpy(), aspect="auto", cmap="RdBu_r", vmin=-limit, vmax=limit, interpolation="nearest")
    ax.figure.colorbar(image, ax=ax, label=f"contribution to {table.attrs.get('target', 'the target')!r}")
    ax.set_xticks(range(shown.shape[1]), labels=tokens, rotation=90, parse_math=False)
    ax.set_yticks(range(len(shown)), labels=shown.index, parse_math=False)
    ax.set_ylabel("site, layer/factor" if several else "layer/factor")
    return ax
