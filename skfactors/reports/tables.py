"""The tables of a report: everything that it says of the factors, and that is kept of it."""

from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from skfactors.reports.layout import map_of_directions
from skfactors.reports.neighbours import nearest_directions
from skfactors.reports.saliency.records import to_records


@dataclass(eq=False)
class ReportTables:
    """
    What a :class:`FactorReport` knows. Two are equal where every table is, to the last bit.

    Parameters
    ----------
    contexts : DataFrame
        Top contexts by factor and layer, as :func:`top_contexts` gives them.
    importance, active_rows, activation_sums : DataFrame of shape (n_components, n_layers)
        By factor and layer: the importance score, the number of rows in which the factor is active, and the sum of
        its activations.
    histogram : DataFrame
        Counts of activations by factor, layer and bin.
    shades, sample_shades : DataFrame
        The other tokens of contexts, and of samples, on which their factor is active: columns `line`, of that table,
        `start` and `end`, in characters of the context, and `activation`. Two reports may be equal whatever these are:
        of a document that was cut, what is beyond the cut is not known.
    totals, parameters : dict
        See :class:`FactorReport`.
    directions : DataFrame, default=None
        Factors near each factor by direction, where the dictionary is known.
    outputs : DataFrame, default=None
        What each factor does to a decoder's output, where that was added: `speaks_for`, `speaks_against`, and perhaps
        `loss_effect`, which may be NaN.
    layout : DataFrame of shape (n_components, 2), default=None
        Where each factor lies on the map, by direction.
    saliency : dict, default={}
        Saliency of tokens by context, as :func:`~skfactors.reports.saliency.records.context_key` names it.
    names : dict of int to str, default={}
        Names that were given to factors.
    samples : DataFrame, default=None
        Active rows of each factor, drawn at random, and rows of all as those of a factor one beyond the last, with the
        words around them that patterns are told from, which may be more than are shown; None where a report of an
        earlier version has none.
    origin : dict, default={}
        Fingerprints of what the tables were counted from; two tables may be equal whatever that was.
    """

    contexts: pd.DataFrame
    importance: pd.DataFrame
    active_rows: pd.DataFrame
    activation_sums: pd.DataFrame
    histogram: pd.DataFrame
    shades: pd.DataFrame
    sample_shades: pd.DataFrame
    totals: dict
    parameters: dict
    directions: pd.DataFrame | None = None
    outputs: pd.DataFrame | None = None
    layout: pd.DataFrame | None = None
    saliency: dict = field(default_factory=dict)
    names: dict = field(default_factory=dict)
    samples: pd.DataFrame | None = None
    origin: dict = field(default_factory=dict)

    @classmethod
    def of(cls, tally, components=None):
        """Return the tables that were counted in a tally, and those that tell of the dictionary's components."""
        counted = (
            "contexts",
            "importance",
            "active_rows",
            "activation_sums",
            "histogram",
            "totals",
            "samples",
            "shades",
            "sample_shades",
        )
        tables = {name: getattr(tally, name)() for name in counted}
        if components is not None:
            tables |= {"directions": nearest_directions(components), "layout": map_of_directions(components)}
        return cls(**tables, parameters=dict(tally.parameters), origin=tally.origin)

    def check_counted_in(self, tally):
        """
        Check that a tally may be what the tables were counted in.

        Raises
        ------
        ValueError
            If it is of other parameters or of another number of factors.
        """
        if (tally.parameters, tally.n_components) != (self.parameters, self.totals["n_components"]):
            raise ValueError("it has other parameters or factors than what it was counted in")

    def __eq__(self, other):
        alike = {"origin": None, "shades": None, "sample_shades": None}
        mine, others = ({**vars(of), "saliency": _records(of), **alike} for of in (self, other))
        return all(_same(table, others[name]) for name, table in mine.items())


def _same(one, other):
    # Of a table and None, pandas compares each cell with None.
    is_table = {isinstance(of, pd.DataFrame) for of in (one, other)}
    return one.equals(other) if is_table == {True} else is_table == {False} and one == other


def _records(tables):
    return to_records(dict(sorted(tables.saliency.items())))


def outputs_table(speaks_for, speaks_against, loss_effect=None) -> pd.DataFrame:
    """
    Put together what each factor does to a decoder's output.

    Parameters
    ----------
    speaks_for, speaks_against : sequence of str of length n_components
        Output tokens at either end.
    loss_effect : sequence of float of length n_components, default=None
        What the loss rises by without the factor; NaN or None where that is not known.

    Returns
    -------
    DataFrame
        Index `factor`.

    Raises
    ------
    ValueError
        If an effect is infinite.
    """
    table = pd.DataFrame({"speaks_for": list(speaks_for), "speaks_against": list(speaks_against)}, dtype=object)
    if loss_effect is not None:
        table["loss_effect"] = np.array(list(loss_effect), dtype=np.float64)
        if np.isinf(table["loss_effect"]).any():
            raise ValueError("an effect on the loss is infinite")
    return table.rename_axis("factor")
