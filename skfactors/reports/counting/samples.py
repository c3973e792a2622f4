"""A few active rows of every factor, drawn at random while a corpus streams by."""

import numpy as np
import pandas as pd

from skfactors.reports.contexts import CONTEXT_COLUMNS, context_table, cut_excerpts
from skfactors.reports.counting.entries import largest_in_groups
from skfactors.reports.counting.excerpts import excerpts_of, excerpts_to_bytes, woven
from skfactors.reports.counting.groups import Gathered
from skfactors.reports.counting.surroundings import shades_apart, shades_together
from skfactors.reports.repetition import are_met_before

N_SAMPLED = 100
# Of all rows, active or not: what samples of factors are compared with.
N_SAMPLED_OF_ALL = 2000
SAMPLE_COLUMNS = (*(name for name in CONTEXT_COLUMNS if name != "rank"), "met_before")

_ARRAYS = {
    "factors": np.int64,
    "layers": np.int64,
    "lots": np.int64,
    "activations": np.float64,
    "documents": np.int64,
    "positions": np.int64,
    "met_before": np.bool_,
    "excerpts": object,
    "shades": object,
}
# Made for the rows that are taken in.
_MADE = ("met_before", "excerpts", "shades")


class SampledRows(Gathered):
    """
    Draw active rows of each factor, each as likely as the other, and rows whether active or not.

    A row is drawn by a lot that its place and the factor determine: the same rows, however a corpus is divided.

    Parameters
    ----------
    n_components : int
        One more than the last factor; as the factor of this number count all rows, each with an activation of 1.
    window : int
        Words of context on either side, at most.

    Attributes
    ----------
    is_whole : ndarray of bool of shape (1,)
        Whether it saw all rows that there were; what was counted by an earlier version has no sample.
    """

    arrays = (*_ARRAYS, "is_whole")

    def __init__(self, n_components, window):
        self.window = window
        self.is_whole = np.array([True])
        for name, dtype in _ARRAYS.items():
            setattr(self, name, np.empty(0, dtype=dtype))
        self._sizes = np.full(n_components + 1, N_SAMPLED)
        self._sizes[n_components] = N_SAMPLED_OF_ALL
        self._raise_limits()

    def add(self, factors, activations, rows, batch, surroundings, texts):
        """Take in positive entries of one part, in whose `rows` they are, and the rows of a batch of it."""
        places, n_rows = surroundings.places, batch.stop - batch.start
        factors = np.concatenate([factors, np.full(n_rows, len(self._sizes) - 1)])
        activations = np.concatenate([activations, np.ones(n_rows)])
        rows = np.concatenate([rows, np.arange(batch.start, batch.stop)])
        lots = _lots(factors, _place_lots(places[batch])[rows - batch.start])
        fresh = lots < self._limits[factors]
        rows = rows[fresh]
        added = {
            "factors": factors[fresh],
            "layers": places.layer[rows],
            "lots": lots[fresh],
            "activations": activations[fresh],
            "documents": places.document[rows],
            "positions": places.position[rows],
        }
        n_held = len(self.factors)
        chosen = self._chosen(*(np.concatenate([getattr(self, name), added[name]]) for name in ("factors", "lots")))
        is_new = chosen >= n_held
        held, new = chosen[~is_new], chosen[is_new] - n_held
        added["excerpts"] = cut_excerpts(places, rows[new], texts, self.window)
        added["shades"] = surroundings.shades(rows[new], added["factors"][new], added["excerpts"], texts)
        added["met_before"] = are_met_before(places, rows[new], texts)
        for name in _ARRAYS:
            of_new = added[name] if name in _MADE else added[name][new]
            setattr(self, name, woven(is_new, getattr(self, name)[held], of_new))
        self._raise_limits()

    def merge(self, other):
        """Take in the rows that another drew of other rows."""
        self.is_whole = self.is_whole & other.is_whole
        both = {name: np.concatenate([getattr(self, name), getattr(other, name)]) for name in _ARRAYS}
        chosen = self._chosen(both["factors"], both["lots"])
        for name, array in both.items():
            setattr(self, name, array[chosen])
        self._raise_limits()

    def state(self) -> dict[str, np.ndarray]:
        """Return everything there is to keep, as arrays; excerpts as the bytes of JSON."""
        return shades_apart(super().state() | {"excerpts": excerpts_to_bytes(self.excerpts)})

    def restore(self, state):
        """Take the place of the sample whose :meth:`state` this is."""
        n_rows = len(state["factors"])
        excerpts = excerpts_of(state["excerpts"], n_rows, "samples")
        super().restore(shades_together(state | {"excerpts": excerpts}, n_rows))
        self._raise_limits()

    def table(self) -> pd.DataFrame | None:
        """Return the drawn rows by factor, each one's in the order of their lots; None where it did not see all."""
        if not self.is_whole[0]:
            return None
        ranks = np.zeros(len(self.factors), dtype=np.int64)
        columns = (self.factors, self.layers, ranks, self.activations, self.excerpts, self.documents, self.positions)
        table = context_table(*columns).drop(columns="rank").assign(met_before=self.met_before)
        return table[list(SAMPLE_COLUMNS)]

    def _chosen(self, factors, lots):
        chosen, ranks = largest_in_groups(factors, -lots, int(self._sizes.max()))
        return chosen[ranks < self._sizes[factors[chosen]]]

    def _raise_limits(self):
        """Note the last lot of each full sample: later ones must be lower."""
        self._limits = np.full(len(self._sizes), np.iinfo(np.int64).max)
        counts = np.bincount(self.factors, minlength=len(self._sizes))
        last = np.cumsum(counts) - 1
        is_full = counts == self._sizes
        self._limits[is_full] = self.lots[last[is_full]]


def empty_samples() -> dict[str, np.ndarray]:
    """Return the state of a sample that did not see the rows."""
    sampled = SampledRows(0, 0)
    sampled.is_whole = np.array([False])
    return sampled.state()


def _place_lots(places):
    lots = _mixed(places.document.astype(np.uint64))
    lots = _mixed(lots ^ places.position.astype(np.uint64))
    return _mixed(lots ^ places.layer.astype(np.uint64))


def _lots(factors, place_lots):
    return (_mixed(place_lots ^ factors.astype(np.uint64)) >> np.uint64(1)).astype(np.int64)


def _mixed(numbers):
    """Scramble 64-bit numbers as SplitMix64 does (Steele, Lea, Flood 2014)."""
    numbers = numbers + np.uint64(0x9E3779B97F4A7C15)
    numbers = (numbers ^ (numbers >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    numbers = (numbers ^ (numbers >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return numbers ^ (numbers >> np.uint64(31))
