"""What a report is made of, gathered from a corpus part by part."""

from itertools import combinations

import numpy as np
import pandas as pd
from sklearn.utils import gen_batches

from skfactors.codes import check_codes
from skfactors.metrics.reconstruction import VarianceSums
from skfactors.records import NATURAL
from skfactors.reports.contexts import context_table
from skfactors.reports.counting.checks import check_state
from skfactors.reports.counting.documents import DocumentsMet
from skfactors.reports.counting.entries import by_number, check_places, positive_entries
from skfactors.reports.counting.groups import LayerGroups
from skfactors.reports.counting.histogram import ActivationHistogram
from skfactors.reports.counting.samples import SampledRows
from skfactors.reports.counting.strongest import TopContexts, TopValues
from skfactors.reports.counting.sums import ActivitySums
from skfactors.reports.counting.surroundings import Surroundings, shade_table
from skfactors.reports.importance import factor_by_layer
from skfactors.reports.patterns import WORDS_AROUND

ROWS_AT_ONCE = 32_768
ROWS_RECONSTRUCTED_AT_ONCE = 4096
SIGNIFICANT_DIGITS = 9
# Schemas of what a tally says of itself.
PARAMETERS = {"k": range(1, 2**62), "top": range(1, 2**62), "window": NATURAL, "unique_documents": bool}
ORIGIN = {"dictionary": (None, str), "corpus": (None, str)}


class Tally:
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
    dictionary, corpus : str, default=None
        Fingerprints of what the codes and the rows are of, where they are known.

    Notes
    -----
    Parts are runs of rows of one corpus, in its order and with its document numbers; a document may be continued in the
    next part. However the corpus is divided, and in whatever order pieces of it are merged, the tables are the same to
    the last bit.
    """

    def __init__(self, n_components, *, k, top, window, unique_documents, dictionary=None, corpus=None):
        self.n_components = n_components
        self.parameters = {"k": k, "top": top, "window": window, "unique_documents": unique_documents}
        self.dictionary, self.corpus = dictionary, corpus
        self._groups = LayerGroups(n_components)
        self._contexts = TopContexts(k, window, unique_documents)
        self._values = TopValues(top)
        self._histogram = ActivationHistogram()
        # Patterns are told from these, whatever the window of what is shown.
        self._samples = SampledRows(n_components, max(window, WORDS_AROUND))
        self._activity = ActivitySums(n_components)
        self._variance = VarianceSums()
        self._documents = DocumentsMet()

    @property
    def origin(self) -> dict[str, str | None]:
        """Fingerprints of what the codes and the rows are of, None where they are not known."""
        return {name: getattr(self, name) for name in ORIGIN}

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
            From some rows of X and their codes to a dense array of what the rows are reconstructed as.
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
        texts = by_number(texts)
        if len(places) == 0:
            return
        self._documents.add(places, follows=follows)
        surroundings = Surroundings(codes, places)
        for batch in gen_batches(len(places), ROWS_AT_ONCE):
            self._add_batch(codes, batch, surroundings, texts)
        if reconstruct is not None:
            for batch in gen_batches(len(places), ROWS_RECONSTRUCTED_AT_ONCE):
                self._variance.add(X[batch], reconstruct(X[batch], codes[batch]))

    @property
    def n_features(self) -> int | None:
        """Width of the rows that were coded, where they are known."""
        return self._variance.n_features

    def overlap(self, other) -> list[int]:
        """List documents of which another may hold the same rows, a few at most."""
        return self._documents.overlap(other._documents)

    def merge(self, other):
        """Add what another, of the same parameters and dictionary, gathered from other rows of the same corpus."""
        slots, groups = self._groups.places_of(other._groups)
        n_groups = len(self._groups)
        for mine, others in (
            (self._contexts, other._contexts),
            (self._values, other._values),
            (self._histogram, other._histogram),
        ):
            mine.merge(others, groups, n_groups)
        self._samples.merge(other._samples)
        self._activity.merge(other._activity, slots, groups, n_groups)
        self._variance.merge(other._variance)
        self._documents.merge(other._documents)

    def state(self) -> tuple[dict, dict[str, np.ndarray]]:
        """Return everything there is to keep: what it is of, in plain values, and arrays by name."""
        description = {"n_components": self.n_components, "parameters": self.parameters, **self.origin}
        arrays = {f"{name}.{key}": array for name, part in self._parts().items() for key, array in part.state().items()}
        return description, arrays

    @classmethod
    def from_state(cls, description, arrays) -> "Tally":
        """
        Return the tally whose :meth:`state` this is.

        Raises
        ------
        ValueError
            If arrays are missing, or contradict each other or the description.
        """
        check_state(description, arrays)
        tally = cls(
            description["n_components"],
            dictionary=description["dictionary"],
            corpus=description["corpus"],
            **description["parameters"],
        )
        for name, part in tally._parts().items():
            part.restore({key: arrays[f"{name}.{key}"] for key in part.state()})
        return tally

    def _parts(self):
        return {
            "groups": self._groups,
            "contexts": self._contexts,
            "values": self._values,
            "histogram": self._histogram,
            "samples": self._samples,
            "activity": self._activity,
            "variance": self._variance,
            "documents": self._documents,
        }

    def _add_batch(self, codes, batch, surroundings, texts):
        slots = self._groups.slots(surroundings.places.layer[batch])
        codes = codes[batch]
        rows, factors, activations = positive_entries(codes)
        groups = self._groups.number(factors, slots[rows])
        n_groups = len(self._groups)
        self._contexts.add(groups, activations, batch.start + rows, surroundings, texts, n_groups)
        self._values.add(groups, activations, n_groups)
        self._histogram.add(groups, activations, n_groups)
        self._samples.add(factors, activations, batch.start + rows, batch, surroundings, texts)
        self._activity.add(codes, slots, groups, activations, n_groups)

    def contexts(self):
        """Return the table of contexts, by factor, layer and rank."""
        held, order = self._contexts, self._order_of_contexts()
        factors, layers = self._groups.factors_and_layers(held.groups)
        columns = (factors, layers, held.ranks, held.activations, held.excerpts, held.documents, held.positions)
        return context_table(*(column[order] for column in columns))

    def shades(self):
        """Return what is known of the other tokens in the lines of the table of contexts."""
        return pd.DataFrame(shade_table(self._contexts.shades[self._order_of_contexts()]))

    def sample_shades(self):
        """Return what is known of the other tokens in the lines of :meth:`samples`; nothing where that is None."""
        return pd.DataFrame(shade_table(self._samples.shades if self._samples.is_whole[0] else []))

    def _order_of_contexts(self):
        factors, layers = self._groups.factors_and_layers(self._contexts.groups)
        return np.lexsort((self._contexts.ranks, layers, factors))

    def importance(self):
        """Return importance scores, factors by layers."""
        return self._by_layer(self._values.means())

    def histogram(self):
        """Return how many activations of each factor and layer are how large, bin by bin."""
        return self._histogram.table(self._groups)

    def samples(self):
        """Return rows drawn at random, by factor; None where what was counted before has none."""
        return self._samples.table()

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
            "explained_variance": self._explained_variance(),
            "l0": self._activity.n_nonzero / n_rows if n_rows else 0.0,
            "dead_fraction": 1 - np.count_nonzero(self._activity.used) / self.n_components,
        }

    def _by_layer(self, values):
        return factor_by_layer(self._groups.by_layer(values), self._groups.layers)

    def _explained_variance(self):
        """Round the share that is not explained: beyond nine digits it would show how the rows were divided."""
        explained = self._variance.explained_variance()
        return None if explained is None else 1 - float(f"{1 - explained:.{SIGNIFICANT_DIGITS}g}")


def merged(tallies) -> Tally:
    """
    Put partial tallies of one corpus, at least one, together; they stay as they are.

    Raises
    ------
    ValueError
        If parameters, dictionaries or corpora differ, or two tallies have rows in common.
    """
    first = tallies[0]
    for number, tally in enumerate(tallies[1:], start=1):
        _check_same_kind(first, tally, number)
    corpora = {tally.corpus: number for number, tally in enumerate(tallies)}
    known = [number for corpus, number in corpora.items() if corpus is not None]
    if len(known) > 1:
        raise ValueError(
            f"reports {known[0]} and {known[1]} are of different corpora: they were made from different stores."
        )
    for (number, tally), (other_number, other) in combinations(enumerate(tallies), 2):
        documents = tally.overlap(other)
        if documents:
            raise ValueError(
                f"reports {number} and {other_number} both have rows of documents {', '.join(map(str, documents))}"
                "; merge reports on disjoint parts of one corpus, with the corpus's document numbers."
            )
    corpus = first.corpus if len(corpora) == 1 else None
    total = Tally(first.n_components, dictionary=first.dictionary, corpus=corpus, **first.parameters)
    for tally in tallies:
        total.merge(tally)
    return total


def _check_same_kind(first, other, number):
    for name, value in first.parameters.items():
        if other.parameters[name] != value:
            raise ValueError(
                f"reports 0 and {number} were made with different parameters: {name}={value!r} and "
                f"{name}={other.parameters[name]!r}."
            )
    if first.n_components != other.n_components:
        raise ValueError(
            f"reports 0 and {number} are of different dictionaries: one has {first.n_components} factors, the other "
            f"{other.n_components}."
        )
    if len({first.n_features, other.n_features} - {None}) > 1:
        raise ValueError(
            f"reports 0 and {number} are of rows of different widths: {first.n_features} and {other.n_features}."
        )
    if first.dictionary != other.dictionary:
        raise ValueError(
            f"reports 0 and {number} are of different dictionaries: their fingerprints differ, or only one report was "
            "made with a dictionary."
        )
