"""Saliencies that a report keeps: by context, as one table, and as plain values for a file."""

import pandas as pd

from skfactors.records import mismatch
from skfactors.reports.levels import context_span

PLACE = ("factor", "layer", "document", "position")
TABLE_COLUMNS = (*PLACE, "token_position", "token", "start", "end", "saliency")
FACTS = ("activation", "method", "n_samples", "masking")

_INT64 = range(-(2**63), 2**63)
_RECORD = {
    **dict.fromkeys((*PLACE, "first_position"), _INT64),
    "activation": float,
    "method": str,
    "n_samples": (None, range(1, 2**62)),
    "masking": (None, str),
    "token": [str],
    "start": [_INT64],
    "end": [_INT64],
    "saliency": [float],
}


def context_key(context) -> tuple[int, int, int, int]:
    """Name a row of a table of contexts: its factor, layer, document and position."""
    return tuple(int(getattr(context, name)) for name in PLACE)


def saliency_series(tokens, first_position, weights, attrs) -> pd.Series:
    """
    Put a saliency together.

    Parameters
    ----------
    tokens : list of str
        Their texts.
    first_position : int
        Position of the first of them in its document.
    weights : array-like of float of length n_tokens
    attrs : dict
        What the Series is to say of itself.

    Returns
    -------
    Series
        Named "saliency", with the index levels `position` and `token`.
    """
    # Plain Python strings: the string type that pandas would pick cannot hold a lone surrogate everywhere.
    levels = [pd.RangeIndex(first_position, first_position + len(tokens)), pd.Index(tokens, dtype=object)]
    index = pd.MultiIndex.from_arrays(levels, names=["position", "token"])
    saliency = pd.Series(weights, index=index, dtype="float64", name="saliency")
    saliency.attrs = attrs
    return saliency


def saliency_table(saliencies) -> pd.DataFrame:
    """
    Put saliencies into one table, a row for each token of each context.

    Parameters
    ----------
    saliencies : dict of context key to Series

    Returns
    -------
    DataFrame
        Columns as in `TABLE_COLUMNS`.
    """
    columns = {name: [] for name in TABLE_COLUMNS}
    for key, saliency in saliencies.items():
        for name, value in zip(PLACE, key, strict=True):
            columns[name] += [value] * len(saliency)
        columns["token_position"] += saliency.index.get_level_values("position").tolist()
        columns["token"] += saliency.index.get_level_values("token").tolist()
        columns["start"] += saliency.attrs["start"]
        columns["end"] += saliency.attrs["end"]
        columns["saliency"] += saliency.tolist()
    kinds = dict.fromkeys(TABLE_COLUMNS, "int64") | {"token": object, "saliency": "float64"}
    return pd.DataFrame({name: pd.Series(values, dtype=kinds[name]) for name, values in columns.items()})


def factor_spans(saliencies, peak_layers) -> pd.Series:
    """
    Return how far the context reaches that factors depend on.

    Parameters
    ----------
    saliencies : dict of context key to Series
    peak_layers : Series
        Peak layer by factor.

    Returns
    -------
    Series
        By factor: the median of :func:`context_span` over its contexts at the peak layer, or over all it has where it
        has none there. Factors without saliency are left out.
    """
    spans = pd.DataFrame(
        [(factor, layer, context_span(saliency)) for (factor, layer, *_), saliency in saliencies.items()],
        columns=["factor", "layer", "span"],
    )
    at_peak = spans[spans["layer"] == spans["factor"].map(peak_layers)]
    everywhere = spans.groupby("factor")["span"].median()
    return at_peak.groupby("factor")["span"].median().combine_first(everywhere).astype("float64")


def to_records(saliencies) -> list[dict]:
    """
    Turn saliencies into plain values for JSON.

    Parameters
    ----------
    saliencies : dict of context key to Series

    Returns
    -------
    list of dict
    """
    return [
        {
            **dict(zip(PLACE, key, strict=True)),
            **{name: saliency.attrs[name] for name in FACTS},
            "first_position": int(saliency.index[0][0]),
            "token": saliency.index.get_level_values("token").tolist(),
            "start": saliency.attrs["start"],
            "end": saliency.attrs["end"],
            "saliency": saliency.tolist(),
        }
        for key, saliency in saliencies.items()
    ]


def from_records(records, n_components, layers) -> dict:
    """
    Turn what :func:`to_records` made, of a report with so many factors and these layers, back into saliencies.

    Raises
    ------
    ValueError
        If a record is not such, or does not fit together.
    """
    problem = mismatch(records, [_RECORD], "saliency")
    if problem is not None:
        raise ValueError(problem)
    saliencies = {}
    for record in records:
        key, first = tuple(record[name] for name in PLACE), record["first_position"]
        attrs = {name: record[name] for name in ("factor", "layer", "position", *FACTS, "start", "end")}
        n_tokens = len(record["token"])
        if {len(record[name]) for name in ("start", "end", "saliency")} != {n_tokens}:
            raise ValueError("the columns of a saliency differ in length")
        if record["position"] not in range(first, first + n_tokens):
            raise ValueError("a saliency is not of a token that it explains")
        if record["factor"] not in range(n_components) or record["layer"] not in layers:
            raise ValueError("a saliency is of a factor or a layer that does not exist")
        if key in saliencies:
            raise ValueError("a context has two saliencies")
        saliencies[key] = saliency_series(record["token"], first, record["saliency"], attrs)
    return saliencies
