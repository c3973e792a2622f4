"""What a report is made of, gathered from a corpus part by part."""

import numpy as np
from sklearn.utils import gen_batches

from skfactors.reports.contexts import context_table
from skfactors.reports.entries import check_codes, check_places, check_texts, positive_entries
from skfactors.reports.histogram import ActivationHistogram
from skfactors.reports.importance import factor_by_layer
from skfactors.reports.streaming import LayerGroups, TopContexts, TopValues
from skfactors.reports.sums import ActivitySums, ReconstructionSums

ROWS_AT_ONCE = 32_768


class ReportAccumulator:
    """
    Gather contexts, importance, histograms and sums over a corpus in one pass; its size does not grow with the corpus.

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

    Notes
    -----
    Parts are runs of rows of one corpus, in its order and with its document numbers; a document may be continued in the
    next part. However the corpus is divided, the tables are the same to the last bit.
    """

    def __init__(self, n_components, *, k, top, window, unique_documents):
        self._n_components = n_components
        self._groups = LayerGroups(n_components)
        self._contexts = TopContexts(k, window, unique_documents)
        self._values = TopValues(top)
        self._histogram = ActivationHistogram()
        self._activity = ActivitySums(n_components)
        self._reconstruction = ReconstructionSums()
        self._n_documents = 0
        self._latest_documents = np.empty(0, dtype=np.int64)

    def add(self, codes, provenance, texts, *, X=None, reconstruct=None):
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

        Raises
        ------
        TypeError, ValueError
            If the parts do not fit together, or codes are not finite.
        """
        codes = check_codes(codes)
        if codes.shape[1] != self._n_components:
            raise ValueError(f"codes have {codes.shape[1]} factors; those before had {self._n_components}.")
        places = check_places(provenance, codes.shape[0])
        check_texts(texts)
        if len(places) == 0:
            return
        self._count_documents(places.document)
        for batch in gen_batches(len(places), ROWS_AT_ONCE):
            self._add_batch(codes[batch], places[batch], texts)
        if reconstruct is not None:
            self._reconstruction.add(X, codes, reconstruct)

    def _count_documents(self, documents):
        documents = np.unique(documents)
        self._n_documents += len(np.setdiff1d(documents, self._latest_documents, assume_unique=True))
        self._latest_documents = documents

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
        return self._by_layer(self._activity.activation_sums)

    def totals(self):
        """Return what describes the corpus and its codes as a whole, by name."""
        rows_by_slot = self._activity.rows_by_slot
        n_rows = int(rows_by_slot.sum())
        return {
            "n_documents": self._n_documents,
            "n_tokens": int(rows_by_slot.max(initial=0)),
            "n_rows": n_rows,
            "layers": self._groups.layers,
            "n_components": self._n_components,
            "explained_variance": self._reconstruction.explained_variance(),
            "l0": self._activity.n_nonzero / n_rows if n_rows else 0.0,
            "dead_fraction": 1 - np.count_nonzero(self._activity.used) / self._n_components,
        }

    def _by_layer(self, values):
        return factor_by_layer(self._groups.by_layer(values), self._groups.layers)
