"""How active factors are on the tokens around a context's own, within one part of a corpus."""

from itertools import chain

import numpy as np
from scipy import sparse

# Of each token: where it begins and ends in the context, and the activation.
SHADE_PARTS = 3
# As a table, with the line of the contexts' table that a token is in.
SHADE_COLUMNS = ("line", "start", "end", "activation")
DIGITS = 4


def shade_table(shades) -> dict:
    """Return shades of contexts as columns, by name."""
    flat = np.fromiter(chain.from_iterable(shades), dtype=np.float64).reshape(-1, SHADE_PARTS)
    lines = np.repeat(np.arange(len(shades)), [len(shade) // SHADE_PARTS for shade in shades])
    starts, ends = flat[:, :2].astype(np.int64).T
    return dict(zip(SHADE_COLUMNS, (lines, starts, ends, flat[:, 2]), strict=True))


def shades_in(table, n_contexts):
    """Return the shades of each context that :func:`shade_table` made columns of: an array of tuples."""
    flat = list(chain.from_iterable(zip(*(table[name].tolist() for name in SHADE_COLUMNS[1:]), strict=True)))
    stops = SHADE_PARTS * np.cumsum(np.bincount(table["line"], minlength=n_contexts))
    shades = np.empty(n_contexts, dtype=object)
    start = 0
    for context, stop in enumerate(stops.tolist()):
        shades[context], start = tuple(flat[start:stop]), stop
    return shades


def shades_apart(state) -> dict:
    """Return a state with its array `shades` as columns of its own."""
    columns = shade_table(state["shades"])
    others = {name: array for name, array in state.items() if name != "shades"}
    return others | {f"shades.{name}": column for name, column in columns.items()}


def shades_together(state, n_contexts) -> dict:
    """Return the state that :func:`shades_apart` took apart."""
    columns = {name: state[f"shades.{name}"] for name in SHADE_COLUMNS}
    others = {name: array for name, array in state.items() if not name.startswith("shades.")}
    return others | {"shades": shades_in(columns, n_contexts)}


def are_shades(table, n_contexts) -> bool:
    """Return whether columns, of right types, can be what :func:`shade_table` returns of so many contexts."""
    line, start, end, activation = (table[name] for name in SHADE_COLUMNS)
    return (
        len({len(line), len(start), len(end), len(activation)}) == 1
        and bool((np.diff(line) >= 0).all())
        and bool(((line >= 0) & (line < n_contexts) & (start >= 0) & (start < end) & (activation > 0)).all())
    )


class Surroundings:
    """
    The rows of one part of a corpus, to look up what a factor does beside a row.

    Parameters
    ----------
    codes : csr_array or ndarray of shape (n_rows, n_components)
    places : Places
    """

    def __init__(self, codes, places):
        self.places, self.n_components = places, codes.shape[1]
        self._codes = codes
        if sparse.issparse(codes) and not codes.has_sorted_indices:
            self._codes = codes.sorted_indices()
        self._order = np.lexsort((places.position, places.layer, places.document))
        self._rank = np.empty_like(self._order)
        self._rank[self._order] = np.arange(len(self._order))

    def shades(self, rows, factors, excerpts):
        """
        Return the activations of factors on the tokens of contexts.

        Parameters
        ----------
        rows, factors : ndarray of int of shape (n_contexts,)
            A factor that there is none of is active nowhere.
        excerpts : ndarray of object of shape (n_contexts,)
            Tuples (left, token, right).

        Returns
        -------
        ndarray of object of shape (n_contexts,)
            Of each context a tuple (start, end, activation, start, end, activation, ...): the other tokens on which
            the factor is active, as characters of ``left + token + right``, in order, and its activation to four
            digits. Tokens that are in no row of the part, as those beyond where a document was cut, are left out.
        """
        starts, ends = self.places.start[rows], self.places.end[rows]
        first, last = (
            np.array([(len(left), len(right)) for left, _, right in excerpts], dtype=np.int64).reshape(-1, 2).T
        )
        first, last = starts - first, ends + last
        none = np.empty(0, dtype=np.int64)
        found = [self._on(none, none, none)]
        for step in (-1, 1):
            contexts, places = np.arange(len(rows)), self._rank[rows] + step
            while len(contexts):
                within = (places >= 0) & (places < len(self._order))
                contexts, places = contexts[within], places[within]
                beside, own = self._order[places], rows[contexts]
                near = self._same_text(beside, own) & (
                    self.places.end[beside] > first[contexts]
                    if step < 0
                    else self.places.start[beside] < last[contexts]
                )
                contexts, places, beside = contexts[near], places[near] + step, beside[near]
                found.append(self._on(contexts, beside, factors[contexts]))
        contexts, beside, activations = map(np.concatenate, zip(*found, strict=True))
        digits = DIGITS - 1 - np.floor(np.log10(activations))
        activations = np.round(activations * 10**digits) / 10**digits
        return self._gathered(contexts, beside, activations, first, excerpts, rows)

    def _same_text(self, rows, others):
        return (self.places.document[rows] == self.places.document[others]) & (
            self.places.layer[rows] == self.places.layer[others]
        )

    def _on(self, contexts, rows, factors):
        """Keep those contexts whose factor is active in a row, with the row and the activation."""
        known = factors < self.n_components
        contexts, rows, factors = contexts[known], rows[known], factors[known]
        activations = self._codes_at(rows, factors)
        active = activations > 0
        return contexts[active], rows[active], activations[active]

    def _codes_at(self, rows, factors):
        """Return single codes, without making a sparse array anything else: each row is searched for its factor."""
        if not sparse.issparse(self._codes):
            return self._codes[rows, factors].astype(np.float64)
        indices, data = self._codes.indices, self._codes.data
        first, stop = self._codes.indptr[rows], self._codes.indptr[rows + 1]
        ends = stop.copy()
        while (first < stop).any():
            middle = (first + stop) // 2
            below = (first < stop) & (indices[np.minimum(middle, len(indices) - 1)] < factors)
            first, stop = np.where(below, middle + 1, first), np.where(below, stop, np.minimum(middle, stop))
        held = np.flatnonzero(first < ends)
        held = held[indices[first[held]] == factors[held]]
        activations = np.zeros(len(rows))
        activations[held] = data[first[held]]
        return activations

    def _gathered(self, contexts, beside, activations, first, excerpts, rows):
        lengths = np.array([sum(map(len, excerpt)) for excerpt in excerpts], dtype=np.int64)
        # A long token is shown without its middle, and what comes after it stands so much nearer.
        tokens = np.array([len(token) for _, token, _ in excerpts], dtype=np.int64)
        left_out = np.maximum(0, self.places.end[rows] - self.places.start[rows] - tokens)[contexts]
        own_end = self.places.end[rows][contexts]
        sides = []
        for offsets in (self.places.start[beside], self.places.end[beside]):
            offsets = offsets - first[contexts] - left_out * (offsets >= own_end)
            sides.append(np.clip(offsets, 0, lengths[contexts]))
        starts, ends = sides
        order = np.lexsort((ends, starts, contexts))
        order = order[starts[order] < ends[order]]
        columns = starts[order].tolist(), ends[order].tolist(), activations[order].tolist()
        shades = [[] for _ in excerpts]
        for context, *shade in zip(contexts[order].tolist(), *columns, strict=True):
            shades[context].extend(shade)
        gathered = np.empty(len(excerpts), dtype=object)
        for context, shade in enumerate(shades):
            gathered[context] = tuple(shade)
        return gathered
