"""Importance over the layers."""


def plot_importance(importance, factors, *, ax=None):
    """
    Plot the importance of some factors over the layers, a line each.

    Parameters
    ----------
    importance : DataFrame of shape (n_components, n_layers)
        As :func:`~skfactors.reports.importance_by_layer` gives it.
    factors : sequence of int
        Rows to plot.
    ax : matplotlib Axes, default=None
        Where to plot; a new figure by default.

    Returns
    -------
    matplotlib Axes

    Raises
    ------
    ImportError
        If matplotlib is not installed.
    """
    if ax is None:
        ax = _new_axes()
    for factor in factors:
        curve = importance.loc[factor]
        ax.plot(curve.index.to_numpy(), curve.to_numpy(), marker="o", label=f"factor {factor}")
    ax.set_xlabel("layer")
    ax.set_xticks(importance.columns.to_numpy())
    ax.set_ylabel("importance")
    ax.set_ylim(bottom=0)
    ax.legend()
    return ax


def _new_axes():
    try:
        from matplotlib import pyplot
    except ImportError as error:
        raise ImportError('plots need matplotlib: pip install "skfactors[plots]"') from error
    _, ax = pyplot.subplots()
    return ax
