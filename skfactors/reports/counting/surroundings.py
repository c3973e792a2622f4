"""How active factors are on the tokens around a context's own, within one part of a corpus."""

from itertools import chain

import numpy as np

from skfactors.reports.counting.entries import positive_entries
from skfactors.reports.naming import whole_letters

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
    shades = np.empty(n_contexts, dtype=object)
    shades[:] = [()] * n_contexts
    shaded, counts = np.unique(table["line"], return_counts=True)
    start = 0
    for context, stop in zip(shaded.tolist(), (SHADE_PARTS * np.cumsum(counts)).tolist(), strict=True):
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
        line = np.lexsort((places.position, places.layer, places.document))
        self._place_in_line = np.empty_like(line)
        self._place_in_line[line] = np.arange(len(line))
        # Where factors are active: one factor after the other, the rows of each in line, as one rising number.
        rows, factors, activations = positive_entries(codes)
        numbers = self._numbers(rows, factors)
        order = np.argsort(numbers)
        self._active = numbers[order], factors[order], rows[order], activations[order]

    def shades(self, rows, factors, excerpts, texts):
        """
        Return the activations of factors on the tokens of contexts.

        Parameters
        ----------
        rows, factors : ndarray of int of shape (n_contexts,)
            A factor that there is none of is active nowhere.
        excerpts : ndarray of object of shape (n_contexts,)
            Tuples (left, token, right).
        texts : indexable by document number
            What the excerpts were cut out of.

        Returns
        -------
        ndarray of object of shape (n_contexts,)
            Of each context a tuple (start, end, activation, start, end, activation, ...): the other tokens on which
            the factor is active, as characters of ``left + token + right``, in order, and its activation to four
            digits. Tokens that are in no row of the part, as those beyond where a document was cut, are left out.
        """
        starts, ends = self._shown_spans(rows, texts)
        left, token, right = np.fromiter(map(len, chain.from_iterable(excerpts)), dtype=np.int64).reshape(-1, 3).T
        first, length = starts - left, left + token + right
        contexts, beside, activations = self._active_beside(rows, factors, first, ends + right)
        # A long token is shown without its middle, and what comes after it stands so much nearer.
        left_out = np.maximum(0, ends - starts - token)[contexts]
        sides = []
        for offsets in (self.places.start[beside], self.places.end[beside]):
            offsets = offsets - first[contexts] - left_out * (offsets >= ends[contexts])
            sides.append(np.clip(offsets, 0, length[contexts]))
        order = np.lexsort((*reversed(sides), contexts))
        order = order[sides[0][order] < sides[1][order]]
        digits = DIGITS - 1 - np.floor(np.log10(activations))
        activations = np.round(activations * 10**digits) / 10**digits
        columns = (column[order] for column in (contexts, *sides, activations))
        return shades_in(dict(zip(SHADE_COLUMNS, columns, strict=True)), len(excerpts))

    def _shown_spans(self, rows, texts):
        """Return where tokens start and end as excerpts show them, with whole letters."""
        wanted, returning = np.unique(rows, return_inverse=True)
        columns = (column[wanted].tolist() for column in (self.places.document, self.places.start, self.places.end))
        spans = [whole_letters(texts[document], *span) for document, *span in zip(*columns, strict=True)]
        return np.array(spans, dtype=np.int64).reshape(-1, 2)[returning].T

    def _active_beside(self, rows, factors, first, last):
        """Find other rows within contexts in which their factor is active: contexts, these rows, and activations."""
        numbers, of_factors, of_rows, activations = self._active
        asked = self._numbers(rows, factors)
        below, above = np.searchsorted(numbers, asked, side="left") - 1, np.searchsorted(numbers, asked, side="right")
        found = [(np.empty(0, dtype=np.int64),) * 2]
        for step, places in ((-1, below), (1, above)):
            contexts = np.arange(len(rows))
            while len(contexts):
                within = (places >= 0) & (places < len(numbers))
                contexts, places = contexts[within], places[within]
                beside, own = of_rows[places], rows[contexts]
                near = (of_factors[places] == factors[contexts]) & self._same_text(beside, own)
                near &= (
                    self.places.end[beside] > first[contexts]
                    if step < 0
                    else self.places.start[beside] < last[contexts]
                )
                contexts, places = contexts[near], places[near]
                found.append((contexts, places))
                places = places + step
        contexts, places = map(np.concatenate, zip(*found, strict=True))
        return contexts, of_rows[places], activations[places]

    def _numbers(self, rows, factors):
        return factors * len(self._place_in_line) + self._place_in_line[rows]

    def _same_text(self, rows, others):
        return (self.places.document[rows] == self.places.document[others]) & (
            self.places.layer[rows] == self.places.layer[others]
        )
