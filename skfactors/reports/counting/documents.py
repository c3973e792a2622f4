"""Which documents of a corpus gave rows, and whether two selections of its rows have some in common."""

from itertools import islice

import numpy as np

N_NAMED = 5


class DocumentsMet:
    """
    Documents that gave rows.

    Attributes
    ----------
    runs : ndarray of int of shape (n_runs, 2)
        First and last of each run of consecutive numbers, ascending.

    Notes
    -----
    Parts that follow one another without a gap are a stretch. Its first and its last document may have been cut, so
    that others have rows of them too; for these it is kept from where to where their positions go in each layer.
    Hence the size grows by 16 bytes for each gap in the numbers of documents, and by 64 bytes for each
    stretch and layer.
    """

    def __init__(self):
        self.runs = np.empty((0, 2), dtype=np.int64)
        # Lines of document, layer, first and last position.
        self._ends_of_closed = np.empty((0, 4), dtype=np.int64)
        self._ends = np.empty((0, 4), dtype=np.int64)
        # First document of the stretch, and last of the part before.
        self._stretch = np.empty(0, dtype=np.int64)

    def __len__(self):
        return int((self.runs[:, 1] - self.runs[:, 0] + 1).sum())

    def add(self, places, *, follows):
        """Take in the places of one part, at least one; `follows` where no row was left out since the part before."""
        documents = np.unique(places.document)
        opens = np.flatnonzero(np.diff(documents, prepend=documents[0] - 2) > 1)
        runs = np.column_stack([documents[opens], documents[np.append(opens[1:], len(documents)) - 1]])
        self.runs = _joined(np.concatenate([self.runs, runs]))
        if not follows:
            self._close_stretch()
        first = self._stretch[0] if len(self._stretch) else documents[0]
        self._stretch = np.array([first, documents[-1]])
        at_ends = np.isin(places.document, [first, documents[-1]])
        positions = places.position[at_ends]
        ends = np.column_stack([places.document[at_ends], places.layer[at_ends], positions, positions])
        ends = _reach(np.concatenate([self._ends, ends]))
        self._ends = ends[np.isin(ends[:, 0], self._stretch)]

    def merge(self, other):
        """Add the documents of another."""
        self._close_stretch()
        self.runs = _joined(np.concatenate([self.runs, other.runs]))
        self._ends_of_closed = np.concatenate([self._ends_of_closed, other.ends()])

    def ends(self):
        """Return from where to where documents at the ends of stretches go: document, layer, first, last position."""
        return np.concatenate([self._ends_of_closed, self._ends])

    def overlap(self, other) -> list[int]:
        """
        List documents of which both may hold the same rows, a few at most.

        A document that was cut, so that in every layer one has other positions of it than the other, is none of them.
        """
        divided = _divided(self.ends(), other.ends())
        shared = (
            document
            for first, last in _common_runs(self.runs, other.runs)
            for document in range(first, last + 1)
            if document not in divided
        )
        return list(islice(shared, N_NAMED))

    def state(self) -> dict[str, np.ndarray]:
        """Return everything there is to keep, as arrays."""
        return {
            "runs": self.runs,
            "ends_of_closed": self._ends_of_closed,
            "ends": self._ends,
            "stretch": self._stretch,
        }

    def restore(self, state):
        """Take the place of the documents whose :meth:`state` this is."""
        self.runs, self._stretch = state["runs"], state["stretch"]
        self._ends_of_closed, self._ends = state["ends_of_closed"], state["ends"]

    def _close_stretch(self):
        self._ends_of_closed, self._ends = self.ends(), self._ends[:0]
        self._stretch = self._stretch[:0]


def _joined(runs):
    """Join runs that overlap or follow one another."""
    runs = runs[np.argsort(runs[:, 0], kind="stable")]
    furthest = np.maximum.accumulate(runs[:, 1])
    opens = np.flatnonzero(np.append(True, runs[1:, 0] > furthest[:-1] + 1))
    return np.column_stack([runs[opens, 0], furthest[np.append(opens[1:], len(runs)) - 1]])


def _reach(ends):
    """Put lines of the same document and layer into one, from the first position to the last."""
    ends = ends[np.lexsort((ends[:, 1], ends[:, 0]))]
    opens = np.flatnonzero(np.append(True, (ends[1:, :2] != ends[:-1, :2]).any(axis=1)))
    first, last = np.minimum.reduceat(ends[:, 2], opens), np.maximum.reduceat(ends[:, 3], opens)
    return np.column_stack([ends[opens, :2], first, last])


def _divided(ends, others):
    """Return the set of documents that are in both tables of ends without a position in common."""
    both = np.concatenate([ends, others])
    owners = np.repeat([0, 1], [len(ends), len(others)])
    order = np.lexsort((both[:, 2], both[:, 1], both[:, 0]))
    both, owners = both[order], owners[order]
    # One owner's lines do not overlap, so where two owners' do, two neighbours among all lines do.
    meets = (both[1:, :2] == both[:-1, :2]).all(axis=1) & (both[1:, 2] <= both[:-1, 3]) & (owners[1:] != owners[:-1])
    in_both = np.intersect1d(ends[:, 0], others[:, 0])
    return set(np.setdiff1d(in_both, both[1:][meets, 0]).tolist())


def _common_runs(runs, others):
    """Yield the first and last of each run that two tables of runs have in common, ascending."""
    begins = np.searchsorted(others[:, 1], runs[:, 0], side="left")
    ends = np.searchsorted(others[:, 0], runs[:, 1], side="right")
    for number in np.flatnonzero(begins < ends).tolist():
        first, last = runs[number].tolist()
        for other_first, other_last in others[begins[number] : ends[number]].tolist():
            yield max(first, other_first), min(last, other_last)
