"""A report as a folder: report.json, which holds all of it, and tables for spreadsheets."""

import hashlib
import json
import math
from pathlib import Path

import numpy as np
import pandas as pd

from skfactors._version import __version__
from skfactors.files import read_member, replace_files
from skfactors.records import ANY, NATURAL, check_schema, damaged, read_json, sealed, unsealed
from skfactors.reports.contexts import CONTEXT_COLUMNS
from skfactors.reports.counting.histogram import HISTOGRAM_COLUMNS, N_BINS
from skfactors.reports.counting.samples import N_SAMPLED, N_SAMPLED_OF_ALL, SAMPLE_COLUMNS
from skfactors.reports.counting.surroundings import SHADE_COLUMNS, are_shades
from skfactors.reports.counting.tally import ORIGIN, PARAMETERS
from skfactors.reports.counting.tally_file import parsed_tally, read_tally, tally_bytes
from skfactors.reports.importance import factor_by_layer
from skfactors.reports.layout import MAP_COLUMNS
from skfactors.reports.names import names_by_factor
from skfactors.reports.neighbours import NEIGHBOUR_COLUMNS
from skfactors.reports.saliency.records import from_records, to_records
from skfactors.reports.spreadsheets import as_csv
from skfactors.reports.tables import ReportTables, outputs_table

REPORT_FILE = "report.json"
TALLY_FILE = "tally.safetensors"
FORMAT = "skfactors factor report"
FORMAT_VERSION = 5

_REMEDY = "Save the report again."
_REMEDY_OF_TALLY = "Save the report again, or delete this file to load the report without being able to merge it."
_BY_LAYER = {"importance": float, "active_rows": int, "activation_sums": float}
_KINDS = {str: ("token", "left", "right"), float: ("activation", "similarity", *MAP_COLUMNS), bool: ("met_before",)}
_OF_DICTIONARY = ("directions", "layout")
_SHADES = ("shades", "sample_shades")
_INT64 = range(-(2**63), 2**63)
_SPREADSHEETS = ("summary.csv", "importance.csv", "contexts.csv")
_OF_FILE = {"bytes": NATURAL, "sha256": str}
_SCHEMA = {
    "format": frozenset({FORMAT}),
    "format_version": NATURAL,
    "skfactors_version": str,
    "parameters": PARAMETERS,
    "totals": {
        **dict.fromkeys(("n_documents", "n_tokens", "n_rows"), range(1, 2**62)),
        "layers": [_INT64],
        "n_components": range(1, 2**62),
        "explained_variance": (None, float),
        "l0": float,
        "dead_fraction": float,
    },
    "contexts": dict.fromkeys(CONTEXT_COLUMNS, list),
    **dict.fromkeys(_BY_LAYER, [list]),
    "saliency": ANY,
    "histogram": dict.fromkeys(HISTOGRAM_COLUMNS, list),
    "directions": (None, dict.fromkeys(NEIGHBOUR_COLUMNS, list)),
}
_WITH_FILES = {"origin": ORIGIN, "files": {**dict.fromkeys(_SPREADSHEETS, _OF_FILE), f"{TALLY_FILE}?": _OF_FILE}}
_OUTPUTS = {"speaks_for": [str], "speaks_against": [str], "loss_effect?": [(None, float)]}
# What each version has beside these.
_ADDED = {
    2: {"tally?": (None, str)},
    3: {"tally": (None, str)},
    4: _WITH_FILES,
    FORMAT_VERSION: {
        **_WITH_FILES,
        "names": {"factor": [NATURAL], "name": [str]},
        "samples": (None, dict.fromkeys(SAMPLE_COLUMNS, list)),
        **dict.fromkeys(_SHADES, dict.fromkeys(SHADE_COLUMNS, list)),
        "outputs": (None, _OUTPUTS),
        "layout": (None, dict.fromkeys(MAP_COLUMNS, list)),
    },
}
_FIRST_WITH_CHECKSUM = 3
_OTHER_FOLDERS = {
    "manifest.json": "a store of hidden states, which ActivationStore opens",
    "config.json": "a dictionary, which FactorModel.load opens",
}


def write_report(path, tables, tally, summary):
    """
    Write a report to a folder, in place of one that is there.

    Parameters
    ----------
    path : path-like
        Made if need be. Its files are replaced as a whole, all or none.
    tables : ReportTables
    tally : Tally or None
        What the report was counted from.
    summary : DataFrame
    """
    spreadsheets = summary.reset_index(), tables.importance.reset_index(), tables.contexts
    files = {name: as_csv(table) for name, table in zip(_SPREADSHEETS, spreadsheets, strict=True)}
    if tally is not None:
        files[TALLY_FILE] = tally_bytes(tally)
    content = {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "skfactors_version": __version__,
        "origin": tables.origin,
        "parameters": tables.parameters,
        "totals": tables.totals,
        "contexts": {name: tables.contexts[name].tolist() for name in CONTEXT_COLUMNS},
        **{name: getattr(tables, name).to_numpy().T.tolist() for name in _BY_LAYER},
        "saliency": to_records(tables.saliency),
        "names": {"factor": sorted(tables.names), "name": [tables.names[factor] for factor in sorted(tables.names)]},
        "samples": None if tables.samples is None else tables.samples.to_dict("list"),
        "histogram": tables.histogram.to_dict("list"),
        "outputs": None if tables.outputs is None else _plain_outputs(tables.outputs),
        **{name: getattr(tables, name).to_dict("list") for name in _SHADES},
        **{name: None if (of := getattr(tables, name)) is None else of.to_dict("list") for name in _OF_DICTIONARY},
        "files": {name: {"bytes": len(of), "sha256": hashlib.sha256(of).hexdigest()} for name, of in files.items()},
    }
    record = json.dumps(sealed(content), ensure_ascii=True, allow_nan=False).encode("ascii")
    replace_files(path, files, REPORT_FILE, record, without=() if tally is not None else (TALLY_FILE,))


def read_report(path, *, whole=False):
    """
    Read what :func:`write_report` wrote.

    Parameters
    ----------
    path : path-like
    whole : bool, default=False
        Whether all files that were saved with the report must be there and as they were.

    Returns
    -------
    tables : ReportTables
    tally : Tally or None
        None where its file is missing.

    Raises
    ------
    FileNotFoundError
        If the folder holds no report.
    ValueError
        If a file is cut short or altered, or of a format that this version does not read; if `whole`, also if one is
        missing.
    """
    folder = Path(path)
    content = _read_record(folder)
    while True:
        try:
            tally = _read_tally(folder, content, whole)
            if whole:
                _check_spreadsheets(folder, content)
            break
        except (FileNotFoundError, ValueError):
            # Another process may have saved a report meanwhile.
            before, content = content, _read_record(folder)
            if content == before:
                raise
    file = folder / REPORT_FILE
    try:
        tables = _tables_of(content)
        if tally is not None:
            tables.check_counted_in(tally)
    except ValueError as error:
        raise damaged(file, str(error), _REMEDY) from error
    return tables, tally


def _read_record(folder):
    """Read report.json, whose content is as its version has it, but may contradict itself."""
    file = folder / REPORT_FILE
    try:
        content = read_json(file, folder, remedy=_REMEDY)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise type(error)(f"{str(file)!r} does not exist: {_found_at(folder)}") from error
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise ValueError(f"{str(file)!r} does not hold a factor report. {_REMEDY}")
    version = content.get("format_version")
    if type(version) is not int or version not in _ADDED:
        raise ValueError(
            f"{str(file)!r} holds a report of format version {version!r}; this version of skfactors reads up to "
            f"{FORMAT_VERSION}. Update skfactors, or save the report again."
        )
    if version >= _FIRST_WITH_CHECKSUM:
        unsealed(file, content, remedy=_REMEDY)
    check_schema(file, content, _SCHEMA | _ADDED[version], remedy=_REMEDY)
    return content


def _found_at(folder):
    if not folder.exists():
        return f"there is nothing at {str(folder)!r}; load the folder that a report was saved to."
    if not folder.is_dir():
        return f"{str(folder)!r} is a file; load the folder that a report was saved to."
    kinds = [kind for name, kind in _OTHER_FOLDERS.items() if (folder / name).is_file()]
    found = kinds[0] if kinds else "no report"
    return f"the folder holds {found}; load the folder that a report was saved to."


def _read_tally(folder, content, whole):
    """Read the tally of a report; None where there is none and none is asked for."""
    file = folder / TALLY_FILE
    expected = content["files"].get(TALLY_FILE) if "files" in content else content.get("tally")
    if expected is None:
        return None
    try:
        if isinstance(expected, dict):
            found = read_member(folder, TALLY_FILE, expected["bytes"], expected["sha256"], remedy=_REMEDY_OF_TALLY)
            return parsed_tally(file, found, remedy=_REMEDY_OF_TALLY)[0]
        tally, _, checksum = read_tally(file, folder, remedy=_REMEDY_OF_TALLY)
    except FileNotFoundError as error:
        if not whole:
            return None
        raise ValueError(f"{error} This report opens, but cannot be merged.") from error
    if checksum != expected:
        # Earlier versions could be stopped between the two files.
        if whole:
            raise ValueError(
                f"{str(file)!r} is that of another report: this report opens, but cannot be merged. {_REMEDY}"
            )
        return None
    return tally


def _check_spreadsheets(folder, content):
    for name in set(content.get("files", ())) - {TALLY_FILE}:
        of = content["files"][name]
        read_member(folder, name, of["bytes"], of["sha256"], remedy=f"The report itself opens. {_REMEDY}")


def _tables_of(content):
    totals, layers = content["totals"], content["totals"]["layers"]
    if not layers or sorted(set(layers)) != layers:
        raise ValueError("the layers are not in ascending order")
    shape = len(layers), totals["n_components"]
    tables = ReportTables(
        contexts=_table("contexts", content["contexts"]),
        **{name: factor_by_layer(_matrix(name, content[name], *shape), layers) for name in _BY_LAYER},
        histogram=_table("histogram", content["histogram"]),
        totals=totals,
        parameters=content["parameters"],
        outputs=None if content.get("outputs") is None else _outputs_table(content["outputs"], shape[1]),
        **{name: _table(name, content.get(name, dict.fromkeys(SHADE_COLUMNS, []))) for name in _SHADES},
        **{name: None if content.get(name) is None else _table(name, content[name]) for name in _OF_DICTIONARY},
        saliency=from_records(content["saliency"], shape[1], layers),
        samples=_table("samples", content["samples"]) if content.get("samples") else None,
        names=_names(shape[1], **content.get("names", {"factor": [], "name": []})),
        origin=content.get("origin", dict.fromkeys(ORIGIN)),
    )
    _check_lists(tables, layers, shape[1])
    _check_totals(tables)
    return tables


def _plain_outputs(outputs):
    # JSON has no NaN.
    return {name: [None if pd.isna(value) else value for value in outputs[name].tolist()] for name in outputs}


def _outputs_table(columns, n_components):
    if {len(values) for values in columns.values()} != {n_components}:
        raise ValueError(f"the columns of outputs are not of {n_components} factors")
    return outputs_table(**columns)


def _names(n_components, factor, name):
    names = dict(zip(factor, name, strict=False))
    if names_by_factor(names, n_components) != names or len(factor) != len(name) or list(names) != sorted(set(factor)):
        raise ValueError("the names are not such as a report gives")
    if not all(name):
        raise ValueError("a name is empty")
    return names


def _matrix(name, lines, n_layers, n_components):
    if len(lines) != n_layers or any(len(line) != n_components for line in lines):
        raise ValueError(f"{name} is not a table of {n_components} factors by {n_layers} layers")
    table = np.array([_column(name, line, _BY_LAYER[name]) for line in lines])
    if (table < 0).any():
        raise ValueError(f"{name} holds a negative number")
    return np.ascontiguousarray(table.T)


def _table(name, columns):
    kinds = {column: next((kind for kind, names in _KINDS.items() if column in names), int) for column in columns}
    if len({len(values) for values in columns.values()}) > 1:
        raise ValueError(f"the columns of {name} differ in length")
    of_columns = {column: _column(f"{name}: {column}", values, kinds[column]) for column, values in columns.items()}
    return pd.DataFrame(of_columns)


def _column(name, values, kind):
    """Return values of one type as a column; ints and bools are no floats."""
    strange = set(map(type, values)) - {kind}
    if strange:
        raise ValueError(f"{name} holds a {strange.pop().__name__}")
    if kind is str:
        return pd.Series(values, dtype=object)
    if kind is float and not all(map(math.isfinite, values)):
        raise ValueError(f"{name} holds a number that is not finite")
    if kind is int and values and not (min(values) in _INT64 and max(values) in _INT64):
        raise ValueError(f"{name} holds a number that is too large")
    return np.array(values, dtype=np.int64 if kind is int else kind)


def _check_lists(tables, layers, n_components):
    """Check the tables whose lines are of a factor and a layer, or of two factors."""
    contexts, histogram, directions = tables.contexts, tables.histogram, tables.directions
    _check_lines("contexts", contexts, ["factor", "layer", "rank"], layers, n_components)
    _check_lines("histogram", histogram, ["factor", "layer", "bin"], layers, n_components)
    if not (histogram["bin"].between(0, N_BINS - 1) & (histogram["count"] > 0)).all():
        raise ValueError("the histogram names a bin that does not exist, or one that is empty")
    if tables.samples is not None:
        _check_samples(tables, layers, n_components)
    rows = tables.active_rows.stack()
    if not histogram.groupby(["factor", "layer"])["count"].sum().reindex(rows.index, fill_value=0).equals(rows):
        raise ValueError("the histogram counts other activations than active_rows")
    groups = contexts.groupby(["factor", "layer"])
    if not (contexts["rank"].eq(groups.cumcount() + 1) & (contexts["rank"] <= tables.parameters["k"])).all():
        raise ValueError("the contexts of a factor are not ranked one after the other")
    if (contexts["activation"] <= 0).any() or (groups["activation"].diff() > 0).any():
        raise ValueError("the contexts of a factor are not in the order of their activations")
    if (groups.size() > rows.reindex(groups.size().index)).any():
        raise ValueError("there are more contexts of a factor than rows in which it is active")
    if tables.parameters["unique_documents"] and contexts.duplicated(["factor", "layer", "document"]).any():
        raise ValueError("a document is in a list of contexts twice")
    if directions is not None:
        _check_lines("directions", directions, ["factor"], layers, n_components)
        if not (directions["similarity"].between(0, 1) & (directions["factor"] != directions["neighbour"])).all():
            raise ValueError("directions holds a similarity that is none of two factors")

    if tables.layout is not None and len(tables.layout) != n_components:
        raise ValueError("the map has not one place for each factor")
    for shades, lines in ((tables.shades, contexts), (tables.sample_shades, tables.samples)):
        _check_shades(shades, contexts[:0] if lines is None else lines)


def _check_shades(shades, lines):
    lengths = sum(lines[column].str.len().to_numpy(dtype=np.int64) for column in _KINDS[str])
    if not are_shades(shades, len(lines)) or (shades["end"].to_numpy() > lengths[shades["line"]]).any():
        raise ValueError("shades names a token that is not within a context")


def _check_samples(tables, layers, n_components):
    samples = tables.samples
    _check_lines("samples", samples, ["factor"], layers, n_components + 1)
    if (samples["activation"] <= 0).any():
        raise ValueError("samples holds a row in which its factor is not active")
    active = np.append(tables.active_rows.to_numpy().sum(axis=1), tables.totals["n_rows"])
    sizes = np.append(np.full(n_components, N_SAMPLED), N_SAMPLED_OF_ALL)
    if not np.array_equal(np.bincount(samples["factor"], minlength=n_components + 1), np.minimum(active, sizes)):
        raise ValueError("samples holds more or fewer rows of a factor than are drawn")


def _check_lines(name, table, order, layers, n_components):
    for column in {"factor", "neighbour"}.intersection(table):
        if not table[column].between(0, n_components - 1).all():
            raise ValueError(f"{name} names a {column} that does not exist")
    if "layer" in table and not table["layer"].isin(layers).all():
        raise ValueError(f"{name} names a layer that does not exist")
    places = pd.MultiIndex.from_frame(table[order])
    if not places.is_monotonic_increasing or (len(order) > 1 and not places.is_unique):
        raise ValueError(f"the lines of {name} are not in the order of {', '.join(order)}")


def _check_totals(tables):
    """Check that the totals are such as these tables can have."""
    totals, active = tables.totals, tables.active_rows.to_numpy()
    n_rows, n_layers = totals["n_rows"], len(totals["layers"])
    sums, importance = tables.activation_sums.to_numpy(), tables.importance.to_numpy()
    share_of_silent = 1 - np.count_nonzero(active.any(axis=1)) / len(active)
    fits = {
        "n_tokens": active.max() <= totals["n_tokens"] <= n_rows <= totals["n_tokens"] * n_layers,
        "n_documents": totals["n_documents"] <= n_rows,
        "explained_variance": totals["explained_variance"] is None or totals["explained_variance"] <= 1,
        "l0": float(active.sum(dtype=np.float64)) <= totals["l0"] * n_rows * (1 + 1e-9) + 1e-9
        and totals["l0"] <= len(active),
        "dead_fraction": 0 <= totals["dead_fraction"] <= share_of_silent + 1e-9,
        "activation_sums": not sums[active == 0].any(),
        "importance": not importance[active == 0].any(),
    }
    wrong = [name for name, holds in fits.items() if not holds]
    if wrong:
        raise ValueError(f"{wrong[0]} contradicts the tables")
