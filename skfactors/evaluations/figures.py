"""A table of figures: each with its interval, the dictionary's difference from it, and the controls that do as well."""

from numbers import Integral

import numpy as np
import pandas as pd
from sklearn.utils import check_scalar

DIFFERENCE = ("difference", "difference_low", "difference_high")
COLUMNS = ("measure", "scored", "value", "low", "high", *DIFFERENCE, "n_units", "inside", "note")
# What rows are of besides controls, which have none of these names.
DICTIONARY = "dictionary"
MEAN, ZERO, CLEAN = "mean row", "zeros", "the model's own states"
STATES, CLASS_MEANS = "hidden states", "difference of class means"
RAW, COMPONENTS, DENSE = "raw hidden dimensions", "projections on principal components", "the whole hidden state"
TRUE_FEATURES, K_MEANS, OTHERS_NAME = "true features", "k-means", "another factor's name"
TAKEN = {
    *(DICTIONARY, MEAN, ZERO, CLEAN, STATES, CLASS_MEANS, RAW, COMPONENTS, DENSE),
    *(TRUE_FEATURES, K_MEANS, OTHERS_NAME),
}
# To reach what they have is no fault, and to be behind it no news.
_CEILINGS = {CLEAN, STATES, DENSE, TRUE_FEATURES}
# What controls are made equal in, or what is no merit: to be like them in it says nothing.
_MADE_EQUAL = {"answered", "l0"}
# A dictionary without factors of letters absorbs none, and fails at nothing: less of these is not better.
_UNRANKED = _MADE_EQUAL | {"absorbed", "failed"}
_BETTER_IF_LESS = {"dead_fraction", "kl", "loss"}
FEWEST_UNITS = 5
# Share by which a control may have more or fewer active factors before it is said.
_UNEQUAL = 0.1
_SHARES = (0.025, 0.975)


class Figures:
    """
    Gathers ratios of sums over units, such as texts, and makes a table of them.

    Parameters
    ----------
    n_resamples : int
        Times that the units are drawn anew, with replacement, for the 95 % interval of a figure.
    random_state : int
        For the draws.

    Notes
    -----
    Intervals are percentiles of the bootstrap [1]_. Of fewer than 5 units there is none, nor where a resample has no
    figure; the note says why. The dictionary's figure less that of a control is over the same draws where both are over
    the same units: what makes a text, task or feature hard for all does not widen its interval. Otherwise, as over the
    factors of each, it is that of two independent samples.

    References
    ----------
    .. [1] Efron, Tibshirani (1993), "An Introduction to the Bootstrap".
    """

    def __init__(self, n_resamples: int, random_state: int):
        check_scalar(n_resamples, "n_resamples", Integral, min_val=1)
        self._n_resamples, self._random_state = n_resamples, random_state
        self._rows, self._units, self._resampled = [], [], []

    def add(self, measure, scored, above, below=None, *, units=None, classes=None, complement=False, note="") -> None:
        """
        Add a ratio of two sums over units.

        Parameters
        ----------
        measure, scored : str
            What is told, and of what.
        above, below : array-like of shape (n_units,)
            The ratio is the sum of `above` by that of `below`; of None, ones, it is a mean. Where the sum of `below` is
            not positive the figure is NaN.
        units : str or array-like of shape (n_units,), default=None
            What they are, such as "texts", or a number for each: figures of one measure whose units are equal are
            compared unit by unit. None: they have no counterparts.
        classes : array-like of shape (n_units,), default=None
            Where what a unit counts depends on how many are of its class: units are drawn class by class, so that these
            numbers stay, and of the smallest there must be enough for an interval.
        complement : bool, default=False
            Whether the figure is 1 less the ratio.
        note : str, default=""
            What a reader must know of it.
        """
        above = np.asarray(above, dtype=np.float64)
        below = np.ones_like(above) if below is None else np.asarray(below, dtype=np.float64)
        value = _ratio(above.sum(), below.sum(), complement)
        ratios = np.full(self._n_resamples, np.nan)
        alike = _places_by(np.zeros(len(above)) if classes is None else np.asarray(classes))
        n_fewest = min(map(len, alike), default=0)
        if n_fewest >= FEWEST_UNITS:
            random = np.random.default_rng(self._random_state)
            for number in range(self._n_resamples):
                drawn = np.concatenate([places[random.integers(len(places), size=len(places))] for places in alike])
                ratios[number] = _ratio(above[drawn].sum(), below[drawn].sum(), complement)
        low, high = np.quantile(ratios, _SHARES)
        # Where nothing is left that means anything, the note says why already.
        if not (note and np.isnan(value)):
            note = "; ".join(
                filter(None, [note, _lack(value, low, n_fewest, "" if classes is None else " of a class")])
            )
        self._rows.append((measure, scored, value, low, high, len(above), note))
        self._units.append((len(above), units))
        self._resampled.append(ratios)

    def table(self) -> pd.DataFrame:
        """Return the table, measure by measure, what is evaluated before its controls."""
        table = pd.DataFrame(self._rows, columns=["measure", "scored", "value", "low", "high", "n_units", "note"])
        table[list(DIFFERENCE)] = self._differences(table)
        order = {measure: number for number, measure in enumerate(table["measure"].unique())}
        table = table.sort_values("measure", key=lambda names: names.map(order), kind="stable", ignore_index=True)
        table["inside"] = [_inside(table, row) for row in table.itertuples()]
        more = [(_by_difference(table, row), _behind(table, row), _unequal(table, row)) for row in table.itertuples()]
        table["note"] = ["; ".join(filter(None, [note, *of])) for note, of in zip(table["note"], more, strict=True)]
        return table[list(COLUMNS)]

    def _differences(self, table) -> np.ndarray:
        """Return the dictionary's figure less that of each row, and its interval."""
        differences = np.full((len(table), len(DIFFERENCE)), np.nan)
        of_dictionary = {row.measure: row.Index for row in table.itertuples() if row.scored == DICTIONARY}
        for row in table.itertuples():
            number = of_dictionary.get(row.measure, row.Index)
            if number != row.Index:
                resampled = self._resampled[row.Index]
                if not self._are_paired(number, row.Index):
                    resampled = np.random.default_rng(self._random_state).permutation(resampled)
                low, high = np.quantile(self._resampled[number] - resampled, _SHARES)
                differences[row.Index] = table["value"][number] - row.value, low, high
        return differences

    def _are_paired(self, *numbers) -> bool:
        (n_first, first), (n_second, second) = (self._units[number] for number in numbers)
        return first is not None and n_first == n_second and np.array_equal(first, second)


def _ratio(above, below, complement):
    if not below > 0:
        return np.nan
    return 1 - above / below if complement else above / below


def _places_by(classes) -> list[np.ndarray]:
    """Return where the units of each class are."""
    _, numbers, counts = np.unique(classes, return_inverse=True, return_counts=True)
    return np.split(np.argsort(numbers, kind="stable"), np.cumsum(counts)[:-1]) if len(counts) else []


def _lack(value, low, n_units, of="") -> str:
    """Say why there is no figure, or no interval."""
    if n_units < FEWEST_UNITS:
        return f"{n_units} units{of}; an interval needs {FEWEST_UNITS}"
    if np.isnan(value):
        return "no figure: what it would be a share of is not above zero"
    return "no interval: in some resamples it would be a share of nothing" if np.isnan(low) else ""


def _inside(table, row):
    """Name the controls whose intervals a figure of the dictionary lies in."""
    return ", ".join(_around(table, row)["scored"])


def _around(table, row):
    """Return the controls whose intervals a figure of the dictionary lies in."""
    if row.scored != DICTIONARY or row.measure in _MADE_EQUAL:
        return table[:0]
    controls = _others(table, row)
    return controls[(controls["low"] <= row.value) & (row.value <= controls["high"])]


def _by_difference(table, row) -> str:
    """Say of which controls their intervals tell one thing, and the intervals of differences another."""
    if row.scored != DICTIONARY or row.measure in _MADE_EQUAL:
        return ""
    controls = _others(table, row)
    is_around, low, high = controls.index.isin(_around(table, row).index), *_sides(controls, row)
    more, less = ("more than", "less than") if row.measure in _UNRANKED else ("better than", "worse than")
    said = {more: is_around & (low > 0), less: is_around & (high < 0), "like": ~is_around & (low <= 0) & (high >= 0)}
    found = [f"{what} {', '.join(controls['scored'][are])}" for what, are in said.items() if are.any()]
    return f"by the difference, {'; '.join(found)}" if found else ""


def _behind(table, row) -> str:
    """Say which of the others are better than the dictionary by their whole interval, and that of the difference."""
    if row.scored != DICTIONARY or row.measure in _UNRANKED:
        return ""
    others = _others(table, row)
    is_better = others["high"] < row.value if row.measure in _BETTER_IF_LESS else others["low"] > row.value
    _, high = _sides(others, row)
    is_better &= ~(high >= 0)
    return f"behind {', '.join(others['scored'][is_better])}" if is_better.any() else ""


def _sides(others, row):
    """Return by how much the dictionary is better than others: the least and the most of the interval."""
    low, high = others["difference_low"], others["difference_high"]
    return (-high, -low) if row.measure in _BETTER_IF_LESS else (low, high)


def _others(table, row):
    """Return what a figure of the dictionary is compared with."""
    return table[(table["measure"] == row.measure) & ~table["scored"].isin({DICTIONARY, *_CEILINGS})]


def _unequal(table, row) -> str:
    """Say by how much a control has more or fewer active factors than the dictionary, if it is much."""
    if row.measure != "l0" or row.scored == DICTIONARY:
        return ""
    of_dictionary = table[(table["measure"] == "l0") & (table["scored"] == DICTIONARY)]["value"]
    if of_dictionary.empty or abs(row.value - of_dictionary.iloc[0]) <= _UNEQUAL * of_dictionary.iloc[0]:
        return ""
    return f"{row.value:.3g} active factors a row where the dictionary has {of_dictionary.iloc[0]:.3g}"


def compared(table) -> list[bool]:
    """Tell of each figure of the dictionary, but what controls are made equal in, whether an interval is beside it."""
    of_dictionary = table[(table["scored"] == DICTIONARY) & ~table["measure"].isin(_MADE_EQUAL)]
    return [
        not np.isnan(row.value) and bool(_others(table, row)["low"].notna().any()) for row in of_dictionary.itertuples()
    ]


def sums_by(groups: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Sum values by group; groups are numbered from 0, and those without values are left out."""
    _, numbers = np.unique(groups, return_inverse=True)
    return np.bincount(numbers, weights=values)
