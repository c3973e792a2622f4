"""The strongest activations of a corpus, kept while it streams by in parts.

Both classes hold a bounded number of entries for each group, a (factor, layer) pair, and the value that an entry must
exceed to get in. Once the lists are full, that threshold turns most entries away before anything is sorted.
"""

import numpy as np
from sklearn.utils import gen_batches

from skfactors.reports.contexts import cut_excerpts, strongest_contexts
from skfactors.reports.counting.entries import largest_in_groups
from skfactors.reports.counting.excerpts import excerpts_of, excerpts_to_bytes, woven
from skfactors.reports.counting.groups import Gathered, grown
from skfactors.reports.counting.surroundings import shades_apart, shades_together
from skfactors.reports.importance import mean_of_largest

GROUPS_AT_ONCE = 4096
CONTEXT_ARRAYS = ("groups", "activations", "documents", "positions", "excerpts", "shades")


class TopContexts(Gathered):
    """
    The `k` strongest contexts of every group.

    Parameters
    ----------
    k : int
        Contexts in a list, at most.
    window : int
        Words of context on either side, at most.
    unique_documents : bool
        Whether a document appears in a list at most once.

    Notes
    -----
    A document dropped from a full list can be forgotten even if it continues in a later part. The entries of the
    list only ever grow stronger; what the document shows later either beats them, and is then its strongest context, or
    would not have made the list.
    """

    arrays = (*CONTEXT_ARRAYS, "ranks", "thresholds")

    def __init__(self, k, window, unique_documents):
        self.k = k
        self.window = window
        self.unique_documents = unique_documents
        self.groups = np.empty(0, dtype=np.int64)
        self.ranks = np.empty(0, dtype=np.int64)
        self.activations = np.empty(0)
        self.documents = np.empty(0, dtype=np.int64)
        self.positions = np.empty(0, dtype=np.int64)
        self.excerpts = np.empty(0, dtype=object)
        self.shades = np.empty(0, dtype=object)
        self.thresholds = np.empty(0)

    def add(self, groups, activations, rows, surroundings, texts, n_groups):
        """Take in positive entries of one part, in whose `rows` they are; the others are of the part as a whole."""
        places = surroundings.places
        self.thresholds = grown(self.thresholds, n_groups)
        fresh = activations > self.thresholds[groups]
        if not fresh.any():
            return
        groups, activations, rows = groups[fresh], activations[fresh], rows[fresh]
        documents = places.document[rows]
        # Entries held from earlier parts go first, so that of equal activations the earlier row wins.
        n_held = len(self.groups)
        groups = np.concatenate([self.groups, groups])
        activations = np.concatenate([self.activations, activations])
        documents = np.concatenate([self.documents, documents])
        chosen, self.ranks = strongest_contexts(groups, activations, documents, self.k, self.unique_documents)
        new = chosen >= n_held
        new_rows, factors = rows[chosen[new] - n_held], groups[chosen[new]] % surroundings.n_components
        held = chosen[~new]
        excerpts = cut_excerpts(places, new_rows, texts, self.window)
        self.excerpts = woven(new, self.excerpts[held], excerpts)
        self.shades = woven(new, self.shades[held], surroundings.shades(new_rows, factors, excerpts, texts))
        self.positions = woven(new, self.positions[held], places.position[new_rows])
        self.groups, self.activations, self.documents = groups[chosen], activations[chosen], documents[chosen]
        self._raise_thresholds()

    def merge(self, other, groups, n_groups):
        """Take in the contexts that another, of the same parameters, kept of other rows."""
        held = {name: np.concatenate([getattr(self, name), getattr(other, name)]) for name in CONTEXT_ARRAYS}
        held["groups"] = np.concatenate([self.groups, groups[other.groups]])
        # In the order of the corpus, so that of equal activations the earlier row wins.
        order = np.lexsort((held["positions"], held["documents"]))
        ranked = (held[name][order] for name in ("groups", "activations", "documents"))
        chosen, ranks = strongest_contexts(*ranked, self.k, self.unique_documents)
        for name, array in held.items():
            setattr(self, name, array[order][chosen])
        self.ranks = ranks
        self.thresholds = grown(self.thresholds, n_groups)
        self._raise_thresholds()

    def state(self) -> dict[str, np.ndarray]:
        """Return everything there is to keep, as arrays; excerpts as the bytes of JSON."""
        return shades_apart(super().state() | {"excerpts": excerpts_to_bytes(self.excerpts)})

    def restore(self, state):
        """Take the place of the contexts whose :meth:`state` this is."""
        n_contexts = len(state["groups"])
        excerpts = excerpts_of(state["excerpts"], n_contexts, "contexts")
        super().restore(shades_together(state | {"excerpts": excerpts}, n_contexts))

    def _raise_thresholds(self):
        last = self.ranks == self.k - 1
        self.thresholds[self.groups[last]] = self.activations[last]


class TopValues(Gathered):
    """
    The `top` largest values of every group.

    Parameters
    ----------
    top : int
    """

    arrays = ("table", "thresholds")

    def __init__(self, top):
        self.top = top
        # A row for each group, in no order, padded with zeros.
        self.table = np.empty((0, top))
        self.thresholds = np.empty(0)

    def add(self, groups, values, n_groups):
        """Take in the positive values of one part."""
        self.table = grown(self.table, n_groups)
        self.thresholds = grown(self.thresholds, n_groups)
        fresh = values > self.thresholds[groups]
        if not fresh.any():
            return
        groups, values = groups[fresh], values[fresh]
        chosen, places = largest_in_groups(groups, values, self.top)
        touched, lines = np.unique(groups[chosen], return_inverse=True)
        width = int(places.max()) + 1
        contenders = np.zeros((len(touched), width + self.top))
        contenders[lines, places] = values[chosen]
        contenders[:, width:] = self.table[touched]
        contenders.partition(width, axis=1)
        self.table[touched] = contenders[:, width:]
        self.thresholds[touched] = contenders[:, width]

    def merge(self, other, groups, n_groups):
        """Take in the values that another, with the same `top`, kept."""
        self.table = grown(self.table, n_groups).copy()
        self.thresholds = grown(self.thresholds, n_groups).copy()
        for batch in gen_batches(len(groups), GROUPS_AT_ONCE):
            contenders = np.concatenate([self.table[groups[batch]], other.table[batch]], axis=1)
            contenders.partition(self.top, axis=1)
            self.table[groups[batch]] = contenders[:, self.top :]
            self.thresholds[groups[batch]] = contenders[:, self.top]

    def means(self):
        """Return the mean of the `top` largest values of each group, missing ones counting as zeros."""
        ordered = np.sort(self.table, axis=1)[:, ::-1]
        groups, places = np.nonzero(ordered)
        return mean_of_largest(groups, ordered[groups, places], len(self.table), self.top)
