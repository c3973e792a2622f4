"""The answers of a dictionary and its controls, to look at and to keep."""

import base64
import hashlib
import html
import json
import math
from importlib.resources import files
from pathlib import Path

import numpy as np
import pandas as pd
from rich.console import Console, Group
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from skfactors.evaluations.figures import COLUMNS, DICTIONARY, DIFFERENCE, compared
from skfactors.files import replace_files, replaced_file
from skfactors.records import NATURAL, check_schema, damaged, read_sealed, sealed
from skfactors.reports.display import visible
from skfactors.reports.spreadsheets import as_csv

_FILE, _SPREADSHEET = "evaluation.json", "evaluation.csv"
_FORMAT = "skfactors evaluation"
_REMEDY = "Evaluate again, and save the report again."
_ALL_COLUMNS = ("evaluation", *COLUMNS)
_NUMBERS = ("value", "low", "high")
_FACTS = {
    **dict.fromkeys(("model", "dictionary", "skfactors"), str),
    **dict.fromkeys(("n_components", "n_texts", "n_resamples", "random_state"), NATURAL),
}
_SCHEMA = {
    "format": frozenset({_FORMAT}),
    # The first had no differences.
    "format_version": frozenset({1, 2}),
    "facts": _FACTS,
    "table": {
        **dict.fromkeys(("evaluation", "measure", "scored", "inside", "note"), [str]),
        **dict.fromkeys(_NUMBERS, [(None, float)]),
        **{f"{name}?": [(None, float)] for name in DIFFERENCE},
        "n_units": [NATURAL],
    },
}
_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{policy}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Evaluation of a dictionary</title>
<style>{style}</style>
</head>
<body>
{body}
</body>
</html>
"""
# The difference of the dictionary's figure and that of the row: an interval, or without one the difference itself.
_AHEAD = "dictionary minus this"
_HEAD = (
    '<thead><tr><td></td><th scope="col" class="value">value</th>'
    f'<th scope="col" colspan="2">95 % interval</th><th scope="col">{_AHEAD}</th></tr></thead>'
)
# Of the picture of an interval.
_WIDTH, _HEIGHT, _MARGIN = 200, 16, 6


class EvaluationReport:
    """
    Figures of a dictionary, each beside those of its controls.

    Parameters
    ----------
    table : DataFrame
        Of :func:`evaluate`: `evaluation`, and the columns that :func:`ground_truth` has.
    facts : dict
        What was evaluated: `model`, `dictionary` (its fingerprint), `n_components`, `n_texts`, `n_resamples`,
        `random_state`, `skfactors`.

    Attributes
    ----------
    table : DataFrame
        The figures.
    facts : dict
        What they are of.

    See Also
    --------
    evaluate : Makes it.

    Notes
    -----
    A figure of the dictionary that lies within the interval of a control is marked in every view, with the control's
    name. Beside each control stands the interval of the difference, over the same texts, tasks or words where there are
    such. Where interval and difference tell two things, a note says so. Notes are below the figures that they are on.

    Examples
    --------
    >>> import pandas as pd
    >>> from skfactors.evaluations import EvaluationReport
    >>> table = pd.DataFrame(
    ...     [
    ...         ("core", "mcc", "dictionary", 0.2, 0.1, 0.3, None, None, None, 8, "random factors", ""),
    ...         ("core", "mcc", "random factors", 0.1, 0.0, 0.2, 0.1, -0.1, 0.3, 8, "", ""),
    ...     ],
    ...     columns=["evaluation", "measure", "scored", "value", "low", "high"]
    ...     + ["difference", "difference_low", "difference_high", "n_units", "inside", "note"],
    ... )
    >>> facts = {"model": "bert", "dictionary": "0f", "n_components": 8, "n_texts": 20}
    >>> facts |= {"n_resamples": 1000, "random_state": 0, "skfactors": "0.1"}
    >>> EvaluationReport(table, facts).table["value"].tolist()
    [0.2, 0.1]
    """

    def __init__(self, table: pd.DataFrame, facts: dict):
        # A table that was made before there were differences has none.
        for what, found, known, needed in (
            ("facts", facts, set(_FACTS), set(_FACTS)),
            ("table", table, set(_ALL_COLUMNS), set(_ALL_COLUMNS) - set(DIFFERENCE)),
        ):
            if lacking := sorted(needed.difference(found)):
                raise ValueError(f"{what} lacks {', '.join(lacking)}.")
            if unknown := sorted(set(found) - known, key=str):
                raise ValueError(f"{what} has {unknown[0]!r}, which is not known here: leave it out.")
        self.table = table.reindex(columns=list(_ALL_COLUMNS))
        self.facts = facts

    def __eq__(self, other):
        return isinstance(other, EvaluationReport) and self.facts == other.facts and self.table.equals(other.table)

    __hash__ = None

    def __repr__(self):
        console = Console(width=120, force_terminal=False, color_system=None)
        with console.capture() as capture:
            console.print(self)
        return capture.get().rstrip()

    def __rich__(self):
        parts = [Text(visible(self._title()), style="bold"), Text(self._verdict())]
        for name, of_evaluation in self.table.groupby("evaluation", sort=False):
            title = Text(visible(_question(name) or name), style="italic")
            table = Table(title=title, title_justify="left")
            for column in ("", "value", "95 % interval", _AHEAD):
                # Names are wrapped before they hide a figure.
                justify = "right" if column == "value" else "left"
                table.add_column(column.replace(" minus", "\nminus"), justify=justify, no_wrap=column != "")
            notes = []
            for measure, rows in of_evaluation.groupby("measure", sort=False):
                table.add_row(Text(visible(measure), style="italic"))
                for row in rows.itertuples():
                    name = f"{row.scored}, {_mark(row)}" if row.inside else row.scored
                    figures = _rounded(row.value), _interval(row.low, row.high), _difference(row)
                    style = "bold" if row.scored == DICTIONARY else "dim"
                    table.add_row(Padding(Text(visible(name)), (0, 0, 0, 2)), *figures, style=style)
                table.add_section()
                notes += [f"{measure}: {note}" for note in _notes(rows)]
            parts += [table, *(Text(visible(note)) for note in notes)]
        return Group(*parts)

    def _repr_html_(self):
        return self._html()

    def show(self) -> None:
        """Print the table."""
        Console().print(self)

    def to_html(self, path) -> None:
        """
        Write one page that loads nothing.

        Parameters
        ----------
        path : path-like
            The file.
        """
        style = files("skfactors.evaluations").joinpath("page.css").read_text(encoding="utf-8")
        source = base64.b64encode(hashlib.sha256(style.encode("utf-8")).digest()).decode("ascii")
        policy = f"default-src 'none'; style-src 'sha256-{source}'; form-action 'none'; base-uri 'none'"
        page = _PAGE.format(policy=policy, style=style, body=self._html())
        with replaced_file(path) as file:
            # Names are anybody's: what is no plain letter becomes a character reference.
            file.write(page.encode("ascii", "xmlcharrefreplace"))

    def to_csv(self, path) -> None:
        """
        Write the table for a spreadsheet.

        Parameters
        ----------
        path : path-like
            The file.
        """
        with replaced_file(path) as file:
            file.write(self._csv())

    def save(self, path) -> None:
        """
        Save to a folder: evaluation.json, which holds all of it, and evaluation.csv.

        Parameters
        ----------
        path : path-like
            Made if need be.
        """
        spreadsheet = self._csv()
        table = {name: [_plain(value) for value in self.table[name].tolist()] for name in _ALL_COLUMNS}
        content = {"format": _FORMAT, "format_version": 2, "facts": self.facts, "table": table}
        record = json.dumps(sealed(content), allow_nan=False).encode("ascii")
        replace_files(path, {_SPREADSHEET: spreadsheet}, _FILE, record)

    @classmethod
    def load(cls, path) -> "EvaluationReport":
        """
        Load what :meth:`save` saved.

        Parameters
        ----------
        path : path-like
            The folder.

        Returns
        -------
        EvaluationReport
            Equal to the one that was saved.

        Raises
        ------
        FileNotFoundError
            If the folder holds no saved evaluation.
        ValueError
            If the file was cut short or altered.
        """
        file = Path(path) / _FILE
        content = read_sealed(file, path, remedy=_REMEDY)
        check_schema(file, content, _SCHEMA, remedy=_REMEDY)
        columns = content["table"]
        if len({len(values) for values in columns.values()}) != 1:
            raise damaged(file, "its columns differ in length", _REMEDY)
        table = pd.DataFrame({name: columns[name] for name in _ALL_COLUMNS if name in columns})
        numbers = [name for name in (*_NUMBERS, *DIFFERENCE) if name in columns]
        return cls(table.astype(dict.fromkeys(numbers, np.float64)), content["facts"])

    def _csv(self) -> bytes:
        return as_csv(self.table)

    def _title(self) -> str:
        facts = self.facts
        return f"{facts['n_components']:,} factors of {facts['model']}, on {facts['n_texts']:,} texts"

    def _verdict(self) -> str:
        are_compared = [is_it for _, rows in self.table.groupby("evaluation", sort=False) for is_it in compared(rows)]
        n_marked = int((self.table["inside"] != "").sum())
        if not any(are_compared):
            return "No figure of the dictionary is compared with a control: figures, controls or intervals are lacking."
        said = f"{sum(are_compared)} of {len(are_compared)} figures of the dictionary are compared with controls"
        lie, are = ("lies", "is") if n_marked == 1 else ("lie", "are")
        marked = f"{n_marked} {lie} within a control's interval, and {are} marked"
        return f"{said}; {marked if n_marked else 'none lies within an interval'}."

    def _html(self) -> str:
        facts = self.facts
        names = ("dictionary", "n_resamples", "random_state", "skfactors")
        said = ", ".join(f"{name} {str(facts[name])[:12]}" for name in names)
        sections = []
        for name, rows in self.table.groupby("evaluation", sort=False):
            head = f'<h2>{_escaped(name)}</h2><p class="asked">{_escaped(_question(name))}</p>'
            sections.append(f"<section>{head}{_tables(rows)}</section>")
        return (
            f"<h1>{_escaped(self._title())}</h1><p>{_escaped(self._verdict())}</p>"
            f'<p class="facts">{_escaped(said)}. Lines are 95 % intervals; the long stroke is the figure of the '
            f"dictionary.</p>{''.join(sections)}"
        )


def _question(name: str) -> str:
    # Where questions are, evaluations are made, of which a report that is read needs nothing.
    from skfactors.evaluations.registry import EVALUATIONS

    return EVALUATIONS[name].question if name in EVALUATIONS else ""


def _tables(of_evaluation) -> str:
    """Return a table for each measure, and its notes."""
    parts = []
    for measure, rows in of_evaluation.groupby("measure", sort=False):
        place_of = _scale(rows)
        values = rows.loc[rows["scored"] == DICTIONARY, "value"].tolist()
        lines = []
        for row in rows.itertuples():
            mark = f" <mark>{_escaped(_mark(row))}</mark>" if row.inside else ""
            lines.append(
                f'<tr class="{"dictionary" if row.scored == DICTIONARY else "control"}">'
                f'<th scope="row">{_escaped(row.scored)}{mark}</th><td class="value">{_rounded(row.value)}</td>'
                f'<td class="interval">{_interval(row.low, row.high)}</td>'
                f'<td class="plot">{_picture(row, values, place_of)}</td>'
                f'<td class="interval difference">{_difference(row)}</td></tr>'
            )
        notes = "".join(f'<p class="note">{_escaped(note)}</p>' for note in _notes(rows))
        parts.append(f"<table><caption>{_escaped(measure)}</caption>{_HEAD}{''.join(lines)}</table>{notes}")
    return "".join(parts)


def _scale(rows):
    """Return a function from figures to places in the picture, the same for all rows of a measure."""
    figures = rows[list(_NUMBERS)].to_numpy(dtype=np.float64)
    figures = figures[np.isfinite(figures)]
    low, high = (figures.min(), figures.max()) if len(figures) else (0.0, 0.0)
    width = _WIDTH - 2 * _MARGIN
    return lambda figure: f"{_MARGIN + width * ((figure - low) / (high - low) if high > low else 0.5):.1f}"


def _picture(row, values, place_of) -> str:
    middle, parts = _HEIGHT // 2, []
    parts += [
        f'<path d="M{place_of(value)} 0V{_HEIGHT}" stroke="currentColor" stroke-opacity="0.35"/>'
        for value in values
        if math.isfinite(value)
    ]
    if math.isfinite(row.low):
        ends = f"M{place_of(row.low)} {middle}H{place_of(row.high)}"
        parts.append(f'<path d="{ends}" stroke="currentColor" stroke-width="3" stroke-opacity="0.6"/>')
    if math.isfinite(row.value):
        parts.append(f'<circle cx="{place_of(row.value)}" cy="{middle}" r="4" fill="currentColor"/>')
    box = f'viewBox="0 0 {_WIDTH} {_HEIGHT}" width="{_WIDTH}" height="{_HEIGHT}" preserveAspectRatio="xMinYMid"'
    return f'<svg {box} aria-hidden="true">{"".join(parts)}</svg>'


def _notes(rows) -> list[str]:
    """Return the notes on rows, each once, with what it is on unless it is on all."""
    notes = []
    for note, of_note in rows[rows["note"] != ""].groupby("note", sort=False):
        is_of_all = len(of_note) == len(rows)
        notes.append(note if is_of_all else f"{', '.join(of_note['scored'])}: {note}")
    return notes


def _mark(row) -> str:
    return f"like {row.inside}" if row.inside else ""


def _interval(low: float, high: float, sign: str = "") -> str:
    return "" if math.isnan(low) else f"{_rounded(low, sign)} to {_rounded(high, sign)}"


def _difference(row) -> str:
    if math.isnan(row.difference_low):
        return "" if math.isnan(row.difference) else _rounded(row.difference, "+")
    return _interval(row.difference_low, row.difference_high, "+")


def _escaped(text) -> str:
    return html.escape(visible(str(text)))


def _rounded(value: float, sign: str = "") -> str:
    return "none" if math.isnan(value) else f"{value:{sign}.3f}"


def _plain(value):
    return None if isinstance(value, float) and not math.isfinite(value) else value
