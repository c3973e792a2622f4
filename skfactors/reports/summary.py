"""One row per factor: what it is, how strong, how frequent, on which tokens; and which factors to look at first."""

import numpy as np
import pandas as pd

from skfactors.reports.levels import classify_levels, emergence
from skfactors.reports.naming import token_name, top_tokens
from skfactors.reports.saliency.records import factor_spans

ENOUGH_DOCUMENTS = 5
FREQUENT = 0.1
_BASE = 0.25


def summarize(contexts, importance, active_rows, activation_sums, n_rows, saliency, names, samples, patterns):
    """
    Describe each factor in a row.

    Parameters
    ----------
    contexts : DataFrame
        Top contexts by factor and layer.
    importance, active_rows, activation_sums : DataFrame of shape (n_components, n_layers)
    n_rows : int
        Rows of the corpus, over all layers.
    saliency : dict
        Saliency of tokens by context, which says what spans of context factors depend on.
    names : dict of int to str
    samples : DataFrame or None
        Active rows drawn at random, where there are any.
    patterns : Series or None
        By factor, as :func:`firing_patterns` tells them.

    Returns
    -------
    DataFrame
        Index `factor`; columns `level`, `peak_layer`, `peak_importance`, `frequency`, `mean_activation`, `span`,
        `top_tokens`, `name`, `emergence`, `coverage`, `activation_coverage` and `pattern`. A factor that never fires
        has no peak layer and no mean activation.
    """
    scores = importance.to_numpy()
    n_active = active_rows.to_numpy().sum(axis=1)
    sums = activation_sums.to_numpy().sum(axis=1)
    fires = n_active > 0
    peak_layer = importance.columns.to_numpy()[scores.argmax(axis=1)]
    spans = factor_spans(saliency, pd.Series(peak_layer, index=importance.index))
    tokens = top_tokens(_at_peak(contexts, peak_layer), len(importance))
    return pd.DataFrame(
        {
            "level": classify_levels(importance, span=spans),
            "peak_layer": pd.arrays.IntegerArray(peak_layer, mask=~fires),
            "peak_importance": scores.max(axis=1),
            "frequency": n_active / n_rows,
            "mean_activation": np.divide(sums, n_active, out=np.full(len(sums), np.nan), where=fires),
            "span": spans.reindex(importance.index).astype(np.float64),
            "top_tokens": pd.Series([", ".join(of_factor) for of_factor in tokens], importance.index, dtype=object),
            "name": name_column(names, importance.index),
            "emergence": emergence(importance),
            **_coverage(samples, tokens, importance.index),
            "pattern": pd.Series("", importance.index, dtype=object) if patterns is None else patterns,
        },
        index=importance.index,
    )


def name_column(names, factors) -> pd.Series:
    """Return the names of factors, empty where they have none."""
    return pd.Series([names.get(factor, "") for factor in factors], factors, dtype=object)


def _coverage(samples, tokens, factors):
    """Return what share of its active rows, and of its activation, a factor's top tokens make up."""
    if samples is None:
        return dict.fromkeys(("coverage", "activation_coverage"), np.nan)
    samples = samples[samples["factor"] < len(tokens)]
    is_top = [
        token_name(token) in tokens[factor] for factor, token in zip(samples["factor"], samples["token"], strict=True)
    ]
    covered = samples.assign(rows=1, is_top=is_top, top=samples["activation"] * is_top).groupby("factor")
    sums = covered[["rows", "is_top", "activation", "top"]].sum().reindex(factors)
    return {"coverage": sums["is_top"] / sums["rows"], "activation_coverage": sums["top"] / sums["activation"]}


def clearest_order(summary, contexts, k) -> list[int]:
    """
    Order the factors by how much they tell a reader at first sight.

    Parameters
    ----------
    summary : DataFrame
        As :func:`summarize` gives it.
    contexts : DataFrame
        Top contexts by factor and layer.
    k : int
        Contexts in a full list.

    Returns
    -------
    list of int
        The factors that fire.

    Notes
    -----
    A factor stands out by the mean activation of its list of contexts at the peak layer (those missing from a full
    list count as zeros) relative to its mean activation anywhere. This is multiplied by a quarter plus the share of its
    activation that its top tokens cover, 1 where there is a pattern other than word pieces, which says what its tokens
    do not; by a quarter plus its emergence; and divided by the square root of its frequency, since a factor for few
    things is sooner understood than one for many. What is not known counts as half. Factors come first whose contexts
    are from five documents or more, and that are active in at most a tenth of the rows. In these as in the others,
    every peak layer in turn gives the factor that stands out most of those it has left.
    """
    order = summary[summary["peak_layer"].notna()].copy()
    lists = _at_peak(contexts, summary["peak_layer"].fillna(-1).to_numpy(dtype=np.int64)).groupby("factor")
    order["unclear"] = (lists["document"].nunique().reindex(order.index) < ENOUGH_DOCUMENTS) | (
        order["frequency"] > FREQUENT
    )
    standing = lists["activation"].sum().reindex(order.index) / k / order["mean_activation"]
    told = order["activation_coverage"].where(order["pattern"].isin(["", "word pieces"]), 1)
    meaning = (_BASE + told.fillna(0.5)) * (_BASE + order["emergence"].fillna(0.5))
    order["standing"] = standing * meaning / np.sqrt(order["frequency"])
    order = order.sort_values("standing", ascending=False, kind="stable")
    order["turn"] = order.groupby(["unclear", "peak_layer"]).cumcount()
    return order.sort_values(["unclear", "turn", "peak_layer"], kind="stable").index.tolist()


def _at_peak(contexts, peak_layer):
    return contexts[contexts["layer"].to_numpy() == peak_layer[contexts["factor"].to_numpy()]]
