"""What a report is made of, gathered from a corpus part by part."""

import numpy as np
from sklearn.utils import gen_batches

from skfactors.reports.contexts import context_table
from skfactors.reports.documents import DocumentsMet
from skfactors.reports.entries import check_codes, check_places, check_texts, positive_entries
from skfactors.reports.histogram import ActivationHistogram
from skfactors.reports.importance import factor_by_layer
from skfactors.reports.streaming import LayerGroups, TopContexts, TopValues
from skfactors.reports.sums import ActivitySums, ReconstructionSums

ROWS_AT_ONCE = 32_768


class ReportAccumulator:
    """
    Gather contexts, importance, histograms and sums over a corpus in one pass; its size does not grow with the corpus.

    What was gathered from other parts can be added, and everything can be had as arrays to go on from later.

    Parameters
    ----------
    n_components : int
    k : int
        Contexts for each (factor, layer), at most.
    top : int
        Activations that an importance score is the mean of.
    window : int
        Words of context on either side, at most.
    unique_documents : bool
        Whether a document appears in a list of contexts at most once.
    dictionary : str, default=None
        What identifies the dictionary of the codes.

    Notes
    -----
    Parts are runs of rows of one corpus, in its order and with its document numbers; a document may be continued in the
    next part. However the corpus is divided, and in whatever order pieces of it are merged, the tables are the same to
    the last bit.
    """

    def __init__(self, n_components, *, k, top, window, unique_documents, dictionary=None):
        self.n_components = n_components
        self.parameters = {"k": k, "top": top, "window": window, "unique_documents": unique_documents}
        self.dictionary = dictionary
        self._groups = LayerGroups(n_components)
        self._contexts = TopContexts(k, window, unique_documents)
        self._values = TopValues(top)
        self._histogram = ActivationHistogram()
        self._activity = ActivitySums(n_components)
        self._reconstruction = ReconstructionSums()
        self._documents = DocumentsMet()

    def add(self, codes, provenance, texts, *, X=None, reconstruct=None, follows=False):
        """
        Take in one part.

        Parameters
        ----------
        codes : sparse array or ndarray of shape (n_rows, n_components)
        provenance : DataFrame of length n_rows
        texts : indexable by document number
            Needs to hold the documents of this part only.
        X : ndarray of shape (n_rows, n_features), default=None
            The rows that were coded; with `reconstruct`, for the explained variance.
        reconstruct : callable, default=None
            From some rows of codes to a dense array of the same rows of X.
        follows : bool, default=False
            Whether the part is known to follow the one before, no row of the corpus between them being left out. It
            then costs no memory to know which documents may have rows elsewhere.

        Raises
        ------
        TypeError, ValueError
            If the parts do not fit together, or codes are not finite.
        """
        codes = check_codes(codes)
        if codes.shape[1] != self.n_components:
            raise ValueError(f"codes have {codes.shape[1]} factors; those before had {self.n_components}.")
        places = check_places(provenance, codes.shape[0])
        check_texts(texts)
        if len(places) == 0:
            return
        self._documents.add(places, follows=follows)
        for batch in gen_batches(len(places), ROWS_AT_ONCE):
            self._add_batch(codes[batch], places[batch], texts)
        if reconstruct is not None:
            self._reconstruction.add(X, codes, reconstruct)

    def overlap(self, other) -> list[int]:
        """List documents of which another may hold the same rows, a few at most."""
        return self._documents.overlap(other._documents)

    def merge(self, other):
        """
        Add what was gathered from other rows of the same corpus.

        Parameters
        ----------
        other : ReportAccumulator
            Of the same parameters and dictionary, and of other rows.
        """
        slots, groups = self._groups.places_of(other._groups)
        n_groups = len(self._groups)
        for mine, others in (
            (self._contexts, other._contexts),
            (self._values, other._values),
            (self._histogram, other._histogram),
        ):
            mine.merge(others, groups, n_groups)
        self._activity.merge(other._activity, slots, groups, n_groups)
        self._reconstruction.merge(other._reconstruction)
        self._documents.merge(other._documents)

    def state(self) -> tuple[dict, dict[str, np.ndarray]]:
        """Return everything there is to keep: what it is of, in plain values, and arrays by name."""
        description = {
            "n_components": self.n_components,
            "parameters": self.parameters,
            "dictionary": self.dictionary,
        }
        arrays = {f"{name}.{key}": array for name, part in self._parts().items() for key, array in part.state().items()}
        return description, arrays

    @classmethod
    def from_state(cls, description, arrays) -> "ReportAccumulator":
        """Return the accumulator whose :meth:`state` this is."""
        accumulator = cls(
            description["n_components"], dictionary=description["dictionary"], **description["parameters"]
        )
        for name, part in accumulator._parts().items():
            part.restore({key: arrays[f"{name}.{key}"] for key in part.state()})
        return accumulator

    def _parts(self):
        return {
            "groups": self._groups,
            "contexts": self._contexts,
            "values": self._values,
            "histogram": self._histogram,
            "activity": self._activity,
            "reconstruction": self._reconstruction,
            "documents": self._documents,
        }

    def _add_batch(self, codes, places, texts):
        slots = self._groups.slots(places.layer)
        rows, factors, activations = positive_entries(codes)
        groups = self._groups.number(factors, slots[rows])
        n_groups = len(self._groups)
        self._contexts.add(groups, activations, rows, places, texts, n_groups)
        self._values.add(groups, activations, n_groups)
        self._histogram.add(groups, activations, n_groups)
        self._activity.add(codes, slots, groups, activations, n_groups)

    def contexts(self):
        """Return the table of contexts, by factor, layer and rank."""
        held = self._contexts
        factors, layers = self._groups.factors_and_layers(held.groups)
        order = np.lexsort((held.ranks, layers, factors))
        columns = (factors, layers, held.ranks, held.activations, held.excerpts, held.documents, held.positions)
        return context_table(*(column[order] for column in columns))

    def importance(self):
        """Return importance scores, factors by layers."""
        return self._by_layer(self._values.means())

    def histogram(self):
        """Return how many activations of each factor and layer are how large, bin by bin."""
        return self._histogram.table(self._groups)

    def active_rows(self):
        """Return in how many rows of each layer each factor is active."""
        return self._by_layer(self._activity.active_rows)

    def activation_sums(self):
        """Return the sum of each factor's activations in each layer."""
        return self._by_layer(self._activity.activations.rounded())

    def totals(self):
        """Return what describes the corpus and its codes as a whole, by name."""
        rows_by_slot = self._activity.rows_by_slot
        n_rows = int(rows_by_slot.sum())
        return {
            "n_documents": len(self._documents),
            "n_tokens": int(rows_by_slot.max(initial=0)),
            "n_rows": n_rows,
            "layers": self._groups.layers,
            "n_components": self.n_components,
            "explained_variance": self._reconstruction.explained_variance(),
            "l0": self._activity.n_nonzero / n_rows if n_rows else 0.0,
            "dead_fraction": 1 - np.count_nonzero(self._activity.used) / self.n_components,
        }

    def _by_layer(self, values):
        return factor_by_layer(self._groups.by_layer(values), self._groups.layers)
