"""The answers of a dictionary and its controls, to look at and to keep."""

import html
import json
import math
from pathlib import Path

import numpy as np
import pandas as pd
from rich.console import Console
from rich.table import Table
from rich.text import Text

from skfactors.evaluations.figures import COLUMNS, DICTIONARY
from skfactors.files import replace_files, replaced_file
from skfactors.records import NATURAL, check_schema, damaged, read_sealed, sealed

_FILE, _SPREADSHEET = "evaluation.json", "evaluation.csv"
_FORMAT = "skfactors evaluation"
_REMEDY = "Evaluate again, and save the report again."
_ALL_COLUMNS = ("evaluation", *COLUMNS)
_NUMBERS = ("value", "low", "high")
_SCHEMA = {
    "format": frozenset({_FORMAT}),
    "format_version": frozenset({1}),
    "facts": {
        **dict.fromkeys(("model", "dictionary", "skfactors"), str),
        **dict.fromkeys(("n_components", "n_texts", "n_resamples", "random_state"), NATURAL),
    },
    "table": {
        **dict.fromkeys(("evaluation", "measure", "scored", "inside"), [str]),
        **dict.fromkeys(_NUMBERS, [(None, float)]),
        "n_units": [NATURAL],
    },
}
_PAGE = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<title>Evaluation of a dictionary</title>
<style>
body {{ font: 15px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; }}
table {{ border-collapse: collapse; width: 100%; }}
th, td {{ text-align: left; padding: .25rem .75rem; border-bottom: 1px solid #8884; }}
td.number {{ text-align: right; font-variant-numeric: tabular-nums; }}
tr.dictionary td {{ font-weight: 600; }}
tr.inside td {{ background: #f90a0a1a; }}
</style>
{body}
</html>
"""


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
    name: it does not tell the dictionary from the control.

    Examples
    --------
    >>> import pandas as pd
    >>> from skfactors.evaluations import EvaluationReport
    >>> table = pd.DataFrame(
    ...     [
    ...         ("core", "l0", "dictionary", 4.0, 3.9, 4.1, 20, "random factors"),
    ...         ("core", "l0", "random factors", 4.0, 4.0, 4.0, 20, ""),
    ...     ],
    ...     columns=["evaluation", "measure", "scored", "value", "low", "high", "n_units", "inside"],
    ... )
    >>> facts = {"model": "bert", "dictionary": "0f", "n_components": 8, "n_texts": 20}
    >>> EvaluationReport(table, facts).table["value"].tolist()
    [4.0, 4.0]
    """

    def __init__(self, table: pd.DataFrame, facts: dict):
        self.table = table
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
        table = Table(title=Text(self._title()), title_justify="left")
        for name in ("measure", "of", "value", "95 % interval", ""):
            table.add_column(name, justify="right" if name == "value" else "left")
        for line in self._lines():
            style = "bold" if line["is_dictionary"] else "dim"
            cells = (line[name] for name in ("measure", "scored", "value", "interval", "mark"))
            table.add_row(*map(Text, cells), style=style, end_section=line["is_last"])
        return table

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
        with replaced_file(path, text=True) as file:
            file.write(_PAGE.format(body=self._html()))

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
        content = {"format": _FORMAT, "format_version": 1, "facts": self.facts, "table": table}
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
        table = pd.DataFrame({name: columns[name] for name in _ALL_COLUMNS})
        return cls(table.astype(dict.fromkeys(_NUMBERS, np.float64)), content["facts"])

    def _csv(self) -> bytes:
        return self.table.to_csv(index=False, lineterminator="\n").encode("utf-8")

    def _title(self) -> str:
        facts = self.facts
        return f"{facts['n_components']:,} factors of {facts['model']}, on {facts['n_texts']:,} texts"

    def _lines(self):
        measures = self.table[["evaluation", "measure"]].apply(tuple, axis=1).tolist()
        for number, row in enumerate(self.table.itertuples()):
            yield {
                "measure": row.measure if number == 0 or measures[number - 1] != measures[number] else "",
                "scored": row.scored,
                "value": _rounded(row.value),
                "interval": "" if math.isnan(row.low) else f"{_rounded(row.low)} to {_rounded(row.high)}",
                "mark": f"like {row.inside}" if row.inside else "",
                "is_dictionary": row.scored == DICTIONARY,
                "is_last": number + 1 == len(measures) or measures[number + 1] != measures[number],
            }

    def _html(self) -> str:
        rows = []
        for line in self._lines():
            kinds = ("dictionary" * line["is_dictionary"], "inside" * bool(line["mark"]))
            cells = "".join(
                f'<td class="{"number" * (name == "value")}">{html.escape(line[name])}</td>'
                for name in ("measure", "scored", "value", "interval", "mark")
            )
            rows.append(f'<tr class="{" ".join(kinds).strip()}">{cells}</tr>')
        head = "".join(f"<th>{name}</th>" for name in ("measure", "of", "value", "95 % interval", ""))
        return (
            f"<h1>{html.escape(self._title())}</h1><table><thead><tr>{head}</tr></thead>"
            f"<tbody>{''.join(rows)}</tbody></table>"
        )


def _rounded(value: float) -> str:
    return "none" if math.isnan(value) else f"{value:.3f}"


def _plain(value):
    return None if isinstance(value, float) and not math.isfinite(value) else value
