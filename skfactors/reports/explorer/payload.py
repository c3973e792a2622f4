"""A report as columns of numbers and texts for the page: every text once, every number to four digits."""

import hashlib
import json

import numpy as np
import pandas as pd

from skfactors.reports.counting.histogram import BIN_EDGES
from skfactors.reports.display import said_of, visible_token
from skfactors.reports.explanation import FACTORS_SHOWN, Explanation
from skfactors.reports.naming import first_token

MAP_SIZE = 2000
# Characters beyond it are two of JavaScript's.
_LAST_OF_ONE_UNIT = "\uffff"
SAMPLES_A_QUANTILE = 2
TEXT_COLUMNS = ["document", "position", "left", "token", "right"]


def sections_of(report, about, layout, method):
    """
    Return the data of a report's page, by the part of it that needs them.

    Parameters
    ----------
    report : FactorReport
    about : str
        What the report is of, for the heading.
    layout : DataFrame of shape (n_components, 2) or None
        Where each factor lies on the map.
    method : str
        What the map was made by.

    Returns
    -------
    dict of str to dict
        `factors` for the first view; `contexts`, `samples` from the whole range, `shades` and `sample-shades` of their
        tokens, `histogram`, `near-direction`, `near-contexts` and `saliency` for a factor; `map` for all. "A group" is
        a pair of factor and layer, numbered factor * n_layers + place of the layer; `counts` say how many entries of
        the columns belong to each group, to each factor, or to each context, in turn.
    """
    layers, n_factors = report.totals["layers"], report.totals["n_components"]
    contexts = report.top_contexts()
    strongest = contexts.groupby(["factor", "layer"])["activation"]
    samples, sample_shades = _few_of_each_tenth(report.sampled_contexts(), report.token_activations("samples"))
    strongest_of_all = contexts.groupby("factor")["activation"].max().reindex(samples["factor"])
    sections = {
        "factors": _factors(report, about),
        "contexts": _contexts(contexts, layers, n_factors),
        "samples": _samples(samples, n_factors),
        "shades": _shades(contexts, report.token_activations(), strongest.transform("max")),
        "sample-shades": _shades(samples, sample_shades, strongest_of_all),
        "histogram": _histogram(report.histogram(), layers, n_factors),
        "near-direction": _neighbours(report.neighbours("direction"), n_factors),
        "near-contexts": _neighbours(report.neighbours("contexts"), n_factors),
        "saliency": _saliency(report.saliency(), contexts),
        "map": _map(layout, method),
    }
    identity = hashlib.sha256(json.dumps(sections["factors"]).encode("ascii")).hexdigest()
    sections["factors"]["identity"] = identity[:16]
    return sections


def examples_section(examples):
    """
    Return examples as titles and tables.

    Parameters
    ----------
    examples : sequence of str, DataFrame or Explanation

    Returns
    -------
    list of dict
        Each with `title`, `columns` and `rows`. A cell is a string or, of an explanation, a dict: its `factors`, each
        as number, activation and what it responds to, and the share `left` unexplained.

    Raises
    ------
    TypeError
        If an example is none of these.
    """
    return [_example(number, example) for number, example in enumerate(examples)]


def _example(number, example):
    if isinstance(example, str):
        return {"title": example, "columns": [], "rows": []}
    if isinstance(example, Explanation):
        columns = ["token", *(f"layer {layer}" for layer in example.layers)]
        rows = [[visible_token(token), *map(_explained, cells)] for token, cells in example.lines(FACTORS_SHOWN)]
        return {"title": example.text, "columns": columns, "rows": rows}
    if not isinstance(example, pd.DataFrame):
        raise TypeError(f"examples[{number}] is a {type(example).__name__}; pass texts, explanations or DataFrames.")
    table = example if example.index.names == [None] else example.reset_index()
    rows = [[_cell(value) for value in row] for row in table.itertuples(index=False, name=None)]
    return {"title": "", "columns": list(map(str, table.columns)), "rows": rows}


def _explained(cell):
    factors, left = cell
    columns = zip(factors["factor"], factors["activation"], factors["top_tokens"], strict=True)
    return {
        "factors": [[int(factor), f"{activation:.3g}", first_token(tokens)] for factor, activation, tokens in columns],
        "left": f"{left:.0%} left",
    }


def _cell(value):
    return f"{value:.4g}" if isinstance(value, (float, np.floating)) else str(value)


def _factors(report, about):
    summary = report.summary()
    levels, level_names = pd.factorize(summary["level"], sort=True)
    return {
        "about": about,
        "n_factors": report.totals["n_components"],
        "layers": report.totals["layers"],
        "n_rows": report.totals["n_rows"],
        "level_names": level_names.tolist(),
        "level": levels.tolist(),
        "peak_layer": [None if pd.isna(layer) else int(layer) for layer in summary["peak_layer"]],
        "strength": _rounded(summary["peak_importance"]),
        "frequency": _rounded(summary["frequency"]),
        "mean_activation": _rounded(summary["mean_activation"].fillna(0)),
        "top_tokens": summary["top_tokens"].tolist(),
        **{name: _or_none(summary[name]) for name in ("emergence", "coverage", "activation_coverage")},
        "pattern": summary["pattern"].tolist(),
        "said": [said_of(facts) for facts in summary.to_dict("records")] if "speaks_for" in summary else [],
        "importance": [_rounded(row) for row in report.importance_by_layer().to_numpy()],
        "clearest": report.clearest(report.totals["n_components"]).index.tolist(),
    }


def _few_of_each_tenth(samples, shades):
    """Return the first draws of each tenth, and their shades by the new line numbers."""
    kept = (samples["draw"] <= SAMPLES_A_QUANTILE).to_numpy(dtype=bool)
    shades = shades[kept[shades["line"]]]
    return samples[kept], shades.assign(line=(np.cumsum(kept) - 1)[shades["line"]])


def _samples(samples, n_factors):
    return {
        "counts": np.bincount(samples["factor"].to_numpy(dtype=np.int64), minlength=n_factors).tolist(),
        "layer": samples["layer"].tolist(),
        "quantile": samples["quantile"].tolist(),
        **_texts(samples),
    }


def _contexts(contexts, layers, n_factors):
    return {"counts": _group_counts(contexts, layers, n_factors), **_texts(contexts)}


def _texts(contexts):
    # In the order of the corpus overlapping contexts are neighbours, which is what the compression lives on.
    texts = list(contexts[TEXT_COLUMNS].itertuples(index=False, name=None))
    distinct = sorted(set(texts))
    numbers = {text: number for number, text in enumerate(distinct)}
    return {
        "activation": _rounded(contexts["activation"]),
        "text": [numbers[text] for text in texts],
        "document": [text[0] for text in distinct],
        "position": [text[1] for text in distinct],
        "texts": [part for text in distinct for part in text[2:]],
    }


def _shades(lines, shades, strongest):
    """Return the other tokens of each line on which its factor is active, in hundredths of `strongest`."""
    texts = (lines["left"] + lines["token"] + lines["right"]).tolist()
    line, starts, ends = (shades[name].to_numpy() for name in ("line", "start", "end"))
    percents = np.rint(100 * shades["activation"].to_numpy() / strongest.to_numpy()[line]).clip(max=100).astype(int)
    kept = percents > 0
    line, starts, ends, percents = line[kept], starts[kept], ends[kept], percents[kept]
    for place, number in enumerate(line.tolist()):
        text = texts[number]
        if not text.isascii() and max(text) > _LAST_OF_ONE_UNIT:
            starts[place], ends[place] = (_utf16_length(text[: offsets[place]]) for offsets in (starts, ends))
    before = np.where(np.diff(line, prepend=-1) == 0, np.concatenate([[0], ends[:-1]]), 0)
    columns = {"gap": starts - before, "length": ends - starts, "percent": percents}
    counts = np.bincount(line, minlength=len(texts))
    return {"counts": counts.tolist(), **{name: column.tolist() for name, column in columns.items()}}


def _map(layout, method):
    """Return whole numbers from 0 to `size`, with the same scale on both axes."""
    if layout is None:
        return None
    places = np.asarray(layout, dtype=np.float64)
    ranges = np.ptp(places, axis=0)
    scale = MAP_SIZE / (ranges.max() or 1)
    columns = np.rint((places - places.min(axis=0) + (ranges.max() - ranges) / 2) * scale).astype(int)
    return {"method": method, "size": MAP_SIZE, "x": columns[:, 0].tolist(), "y": columns[:, 1].tolist()}


def _histogram(histogram, layers, n_factors):
    return {
        "counts": _group_counts(histogram, layers, n_factors),
        "edges": _rounded(BIN_EDGES),
        "bin": np.searchsorted(BIN_EDGES, histogram["lower"]).tolist(),
        "size": histogram["count"].tolist(),
    }


def _neighbours(neighbours, n_factors):
    factors = neighbours["factor"].to_numpy(dtype=np.int64)
    return {
        "counts": np.bincount(factors, minlength=n_factors).tolist(),
        "neighbour": neighbours["neighbour"].tolist(),
        "similarity": _rounded(neighbours["similarity"]),
    }


def _saliency(saliency, contexts):
    """Return [start, end, weight] of each token, by the place of its context in the lists of the page."""
    of_context = dict(iter(saliency.groupby(["factor", "layer", "document", "position"])))
    held = {}
    for context in contexts.itertuples():
        tokens = of_context.get((context.factor, context.layer, context.document, context.position))
        if tokens is not None:
            key = f"{context.factor} {context.layer} {context.rank}"
            held[key] = _spans(tokens, context.left, context.token, context.right)
    return held


def _spans(tokens, left, token, right):
    """Return the tokens within a context, with places in JavaScript's characters from its start."""
    target = tokens[tokens["token_position"] == tokens["position"]].iloc[0]
    text, shift = left + token + right, len(left) - target["start"]
    # A long token is shown without its middle, and what comes after it stands so much nearer.
    left_out = max(0, target["end"] - target["start"] - len(token))
    starts, ends = (tokens[side] + shift - left_out * (tokens[side] >= target["end"]) for side in ("start", "end"))
    spans = []
    for start, end, weight in zip(starts, ends, tokens["saliency"], strict=True):
        start, end = max(0, start), min(len(text), end)
        if start < end:
            spans.append([_utf16_length(text[:start]), _utf16_length(text[:end]), float(f"{weight:.4g}")])
    return spans


def _utf16_length(text):
    return len(text.encode("utf-16-le", "surrogatepass")) // 2


def _group_counts(table, layers, n_factors):
    groups = table["factor"].to_numpy() * len(layers) + np.searchsorted(layers, table["layer"].to_numpy())
    return np.bincount(groups, minlength=n_factors * len(layers)).tolist()


def _or_none(values):
    return [None if pd.isna(value) else float(f"{value:.4g}") for value in values]


def _rounded(values):
    return [float(f"{value:.4g}") for value in values]
