"""A report as a folder: report.json, which holds all of it, and tables for spreadsheets."""

import json
from pathlib import Path

import numpy as np
import pandas as pd

from skfactors._version import __version__
from skfactors.files import replaced_file
from skfactors.reports.contexts import CONTEXT_COLUMNS
from skfactors.reports.histogram import HISTOGRAM_COLUMNS, N_BINS
from skfactors.reports.importance import factor_by_layer
from skfactors.reports.neighbours import NEIGHBOUR_COLUMNS
from skfactors.reports.saliency_records import from_records, to_records
from skfactors.reports.tally_file import read_tally, write_tally

REPORT_FILE = "report.json"
TALLY_FILE = "tally.safetensors"
FORMAT = "skfactors factor report"
FORMAT_VERSION = 2
TEXT_COLUMNS = ("token", "left", "right")
FLOAT_COLUMNS = ("activation", "similarity")
PARAMETERS = {"k": int, "top": int, "window": int, "unique_documents": bool}
TOTALS = {
    "n_documents": int,
    "n_tokens": int,
    "n_rows": int,
    "layers": list,
    "n_components": int,
    "explained_variance": (float, type(None)),
    "l0": float,
    "dead_fraction": float,
}
BY_LAYER = {"importance": float, "active_rows": int, "activation_sums": float}

_READ_AS_FORMULA = "=+-@＝＋－＠"


def write_folder(path, *, tally, summary, **content):
    """
    Write a report to a folder.

    Parameters
    ----------
    path : path-like
        Made if need be. Each file in it is replaced as a whole.
    tally : ReportAccumulator or None
        What the report was counted from.
    summary : DataFrame
    **content
        As :func:`write_json` takes it.
    """
    folder = Path(path)
    folder.mkdir(parents=True, exist_ok=True)
    write_csv(folder / "summary.csv", summary.reset_index())
    write_csv(folder / "importance.csv", content["by_layer"]["importance"].reset_index())
    write_csv(folder / "contexts.csv", content["contexts"])
    checksum = None if tally is None else write_tally(folder / TALLY_FILE, tally)
    # The report, which says what tally is its own, comes last: one left by a save that was cut off is known by that.
    write_json(folder / REPORT_FILE, tally=checksum, **content)
    if tally is None:
        (folder / TALLY_FILE).unlink(missing_ok=True)


def read_folder(path):
    """
    Read what :func:`write_folder` wrote.

    Parameters
    ----------
    path : path-like

    Returns
    -------
    dict
        The content of :func:`read_json`, with `tally` the ReportAccumulator: None where its file is missing, or is that
        of another report.

    Raises
    ------
    FileNotFoundError
        If the folder holds no report.
    ValueError
        If a file is cut short or altered, or of a format that this version does not read.
    """
    folder = Path(path)
    content = read_json(folder / REPORT_FILE)
    expected = content.pop("tally")
    tally = None
    if (folder / TALLY_FILE).is_file():
        remedy = "save the report again, or delete this file to load the report without being able to merge it"
        found, _, checksum = read_tally(folder / TALLY_FILE, remedy=remedy)
        tally = found if checksum == expected else None
    return content | {"tally": tally}


def write_json(path, *, parameters, totals, contexts, by_layer, saliency, histogram, directions, tally=None):
    """
    Write everything that a report is made of to a JSON file.

    Parameters
    ----------
    path : Path
        The file. It is replaced as a whole, or stays as it was.
    parameters, totals : dict
    contexts : DataFrame
    by_layer : dict of str to DataFrame of shape (n_components, n_layers)
        The tables named in `BY_LAYER`.
    saliency : dict
        By context, as :func:`~skfactors.reports.saliency_records.context_key` names it.
    histogram : DataFrame
    directions : DataFrame or None
    tally : str, default=None
        Checksum of what the report was counted from, where that is saved too.
    """
    content = {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "skfactors_version": __version__,
        "parameters": parameters,
        "totals": totals,
        "contexts": {name: contexts[name].tolist() for name in CONTEXT_COLUMNS},
        **{name: table.to_numpy().T.tolist() for name, table in by_layer.items()},
        "saliency": to_records(saliency),
        "histogram": histogram.to_dict("list"),
        "directions": None if directions is None else directions.to_dict("list"),
        "tally": tally,
    }
    with replaced_file(path, text=True) as file:
        json.dump(content, file, ensure_ascii=True, allow_nan=False)


def read_json(path):
    """
    Read what :func:`write_json` wrote.

    Parameters
    ----------
    path : Path

    Returns
    -------
    dict
        What :func:`write_json` takes, by name.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If the file is cut short, altered, or no report that this version reads.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path} does not exist; load the folder that a report was saved to.")
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} is not complete JSON ({error}); save the report again.") from error
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise ValueError(f"{path} does not hold a factor report.")
    if content.get("format_version") != FORMAT_VERSION:
        raise ValueError(
            f"{path} holds a report of format version {content.get('format_version')!r}; this version of skfactors "
            f"reads {FORMAT_VERSION}."
        )
    try:
        return _checked(content)
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise ValueError(f"{path} is damaged: {error!r}.") from error


def _checked(content):
    parameters = _typed(content["parameters"], PARAMETERS)
    totals = _typed(content["totals"], TOTALS)
    layers = _integers(totals["layers"])
    contexts = _table("contexts", content["contexts"], CONTEXT_COLUMNS)
    histogram = _table("histogram", content["histogram"], HISTOGRAM_COLUMNS)
    directions = content["directions"]
    if directions is not None:
        directions = _table("directions", directions, NEIGHBOUR_COLUMNS)
    shape = (len(layers), totals["n_components"])
    by_layer = {}
    for name, kind in BY_LAYER.items():
        values = [_integers(column) if kind is int else _floats(column) for column in content[name]]
        table = np.array(values)
        if table.shape != shape:
            raise ValueError(f"{name} has shape {table.shape} instead of {shape}")
        by_layer[name] = factor_by_layer(np.ascontiguousarray(table.T), layers)
    for table in (contexts, histogram) if directions is None else (contexts, histogram, directions):
        for factors in (table[name] for name in ("factor", "neighbour") if name in table):
            if not factors.between(0, totals["n_components"] - 1).all():
                raise ValueError("a table names factors that there are none of")
    if not (histogram["layer"].isin(layers) & histogram["bin"].between(0, N_BINS - 1)).all():
        raise ValueError("histogram names layers or bins that there are none of")
    saliency = from_records(content["saliency"], totals["n_components"], layers.tolist())
    return {
        "parameters": parameters,
        "totals": totals,
        "contexts": contexts,
        "by_layer": by_layer,
        "saliency": saliency,
        "histogram": histogram,
        "directions": directions,
        # Reports of earlier versions of this package have none.
        "tally": content.get("tally"),
    }


def _table(name, content, column_names):
    columns = {column: _column(column, content[column]) for column in column_names}
    if len(set(map(len, columns.values()))) > 1:
        raise ValueError(f"the columns of {name} differ in length")
    return pd.DataFrame(columns)


def _typed(values, kinds):
    for name, kind in kinds.items():
        if not isinstance(values[name], kind):
            raise TypeError(f"{name} is {values[name]!r}")
    return {name: values[name] for name in kinds}


def _column(name, values):
    if name in TEXT_COLUMNS:
        if not all(isinstance(value, str) for value in values):
            raise TypeError(f"{name} holds what is no text")
        return pd.Series(values, dtype=object)
    return _floats(values) if name in FLOAT_COLUMNS else _integers(values)


def _integers(values):
    if not all(type(value) is int for value in values):
        raise TypeError("a column of integers holds something else")
    return np.array(values, dtype=np.int64)


def _floats(values):
    if not all(type(value) is float for value in values):
        raise TypeError("a column of numbers holds something else")
    return np.array(values, dtype=np.float64)


def write_csv(path, table):
    """
    Write a table for a spreadsheet, in UTF-8.

    Parameters
    ----------
    path : Path
        The file. It is replaced as a whole, or stays as it was.
    table : DataFrame
        With the columns to be written; its index is left out.

    Notes
    -----
    Text that a spreadsheet would run as a formula, since after white space it begins with = + - or @, gets an
    apostrophe in front. What UTF-8 cannot hold, lone surrogates, is written as a backslash escape.
    """
    texts = table.select_dtypes(exclude="number")
    plain = {name: pd.Series(map(_as_plain_text, texts[name]), texts.index, dtype=object) for name in texts}
    table = table.assign(**plain)
    with replaced_file(path, text=True) as file:
        table.to_csv(file, index=False)


def _as_plain_text(text):
    return "'" + text if text.lstrip().startswith(tuple(_READ_AS_FORMULA)) else text
