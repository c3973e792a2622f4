"""A report as a folder: report.json, which holds all of it, and tables for spreadsheets."""

import hashlib
import json
from pathlib import Path

import numpy as np
import pandas as pd

from skfactors._version import __version__
from skfactors.files import replaced_file
from skfactors.reports.contexts import CONTEXT_COLUMNS
from skfactors.reports.counting.histogram import HISTOGRAM_COLUMNS, N_BINS
from skfactors.reports.counting.tally_file import read_tally, write_tally
from skfactors.reports.importance import factor_by_layer
from skfactors.reports.neighbours import NEIGHBOUR_COLUMNS
from skfactors.reports.saliency.records import from_records, to_records
from skfactors.reports.tables import ReportTables

REPORT_FILE = "report.json"
TALLY_FILE = "tally.safetensors"
FORMAT = "skfactors factor report"
FORMAT_VERSION = 3
# Without a checksum of report.json itself.
FORMAT_BEFORE = 2

_TOTALS = (
    "n_documents",
    "n_tokens",
    "n_rows",
    "layers",
    "n_components",
    "explained_variance",
    "l0",
    "dead_fraction",
)
_PARAMETERS = ("k", "top", "window", "unique_documents")
_BY_LAYER = {"importance": np.float64, "active_rows": np.int64, "activation_sums": np.float64}
_TEXT_COLUMNS = ("token", "left", "right")
_FLOAT_COLUMNS = ("activation", "similarity")
_READ_AS_FORMULA = "=+-@＝＋－＠"


def write_report(path, tables, tally, summary):
    """
    Write a report to a folder.

    Parameters
    ----------
    path : path-like
        Made if need be. Each file in it is replaced as a whole.
    tables : ReportTables
    tally : Tally or None
        What the report was counted from.
    summary : DataFrame
    """
    folder = Path(path)
    folder.mkdir(parents=True, exist_ok=True)
    write_csv(folder / "summary.csv", summary.reset_index())
    write_csv(folder / "importance.csv", tables.importance.reset_index())
    write_csv(folder / "contexts.csv", tables.contexts)
    checksum = None if tally is None else write_tally(folder / TALLY_FILE, tally)
    # The report, which says what tally is its own, comes last: one left by a save that was cut off is known by that.
    write_json(folder / REPORT_FILE, tables, checksum)
    if tally is None:
        (folder / TALLY_FILE).unlink(missing_ok=True)


def read_report(path, *, whole=False):
    """
    Read what :func:`write_report` wrote.

    Parameters
    ----------
    path : path-like
    whole : bool, default=False
        Whether a tally that was saved with the report must be there.

    Returns
    -------
    tables : ReportTables
    tally : Tally or None
        None where its file is missing, or is that of another report.

    Raises
    ------
    FileNotFoundError
        If the folder holds no report.
    ValueError
        If a file is cut short or altered, or of a format that this version does not read; if `whole`, also if the
        tally is missing or that of another report.
    """
    folder = Path(path)
    tables, expected = read_json(folder / REPORT_FILE)
    tally = None
    if (folder / TALLY_FILE).is_file():
        remedy = "save the report again, or delete this file to load the report without being able to merge it"
        found, _, checksum = read_tally(folder / TALLY_FILE, remedy=remedy)
        tally = found if checksum == expected else None
    if whole and tally is None and expected is not None:
        raise ValueError(
            f"{folder / TALLY_FILE} is missing or that of another report: this report opens, but cannot be merged. "
            "Save it again."
        )
    return tables, tally


def write_json(path, tables, tally_checksum):
    """
    Write everything that a report is made of to a JSON file, with a checksum.

    Parameters
    ----------
    path : Path
        The file. It is replaced as a whole, or stays as it was.
    tables : ReportTables
    tally_checksum : str or None
        Of what the report was counted from, where that is saved too.
    """
    content = {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "skfactors_version": __version__,
        "parameters": tables.parameters,
        "totals": tables.totals,
        "contexts": {name: tables.contexts[name].tolist() for name in CONTEXT_COLUMNS},
        **{name: getattr(tables, name).to_numpy().T.tolist() for name in _BY_LAYER},
        "saliency": to_records(tables.saliency),
        "histogram": tables.histogram.to_dict("list"),
        "directions": None if tables.directions is None else tables.directions.to_dict("list"),
        "tally": tally_checksum,
    }
    content["sha256"] = _checksum(content)
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
    tables : ReportTables
    tally_checksum : str or None

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If the file is cut short or altered, or not a report that this version reads.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path} does not exist; load the folder that a report was saved to.")
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} is not complete JSON ({error}); save the report again.") from error
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise ValueError(f"{path} does not hold a factor report.")
    version = content.get("format_version")
    if version not in (FORMAT_BEFORE, FORMAT_VERSION):
        raise ValueError(
            f"{path} holds a report of format version {version!r}; this version of skfactors reads up to "
            f"{FORMAT_VERSION}."
        )
    if version == FORMAT_VERSION and content.pop("sha256", None) != _checksum(content):
        raise ValueError(f"{path} is damaged: its checksum is not that of its content. Save the report again.")
    try:
        return _tables_of(content), content.get("tally")
    except (LookupError, TypeError, ValueError, OverflowError) as error:
        raise ValueError(f"{path} is damaged: {error!r}.") from error


def _checksum(content):
    # Numbers, read from JSON and written again, are the same digits.
    text = json.dumps(content, ensure_ascii=True, sort_keys=True)
    return hashlib.sha256(text.encode("ascii")).hexdigest()


def _tables_of(content):
    totals = {name: content["totals"][name] for name in _TOTALS}
    layers, n_components = totals["layers"], totals["n_components"]
    by_layer = {}
    for name, dtype in _BY_LAYER.items():
        table = np.array(content[name], dtype=dtype)
        if table.shape != (len(layers), n_components):
            raise ValueError(f"{name} has shape {table.shape} instead of {(len(layers), n_components)}")
        if not (np.isfinite(table) & (table >= 0)).all():
            raise ValueError(f"{name} holds a value that is negative or not finite")
        by_layer[name] = factor_by_layer(np.ascontiguousarray(table.T), layers)
    histogram = _table(content["histogram"], HISTOGRAM_COLUMNS, n_components)
    if not (histogram["layer"].isin(layers) & histogram["bin"].between(0, N_BINS - 1)).all():
        raise ValueError("the histogram names a layer or a bin that does not exist")
    directions = content["directions"]
    return ReportTables(
        contexts=_table(content["contexts"], CONTEXT_COLUMNS, n_components),
        **by_layer,
        histogram=histogram,
        totals=totals,
        parameters={name: content["parameters"][name] for name in _PARAMETERS},
        directions=None if directions is None else _table(directions, NEIGHBOUR_COLUMNS, n_components),
        saliency=from_records(content["saliency"], n_components, layers),
    )


def _table(content, columns, n_components):
    table = pd.DataFrame({name: pd.Series(content[name], dtype=_dtype_of(name)) for name in columns})
    if table.isna().any(axis=None):
        raise ValueError("the columns of a table differ in length")
    for name in ("factor", "neighbour"):
        if name in table and not table[name].between(0, n_components - 1).all():
            raise ValueError(f"a table names a {name} that does not exist")
    return table


def _dtype_of(column):
    if column in _TEXT_COLUMNS:
        return object
    return np.float64 if column in _FLOAT_COLUMNS else np.int64


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
