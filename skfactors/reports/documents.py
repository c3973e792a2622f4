"""Which documents of a corpus gave rows, and whether two parts of it have rows in common."""

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
    edges : ndarray of int of shape (n_edges, 4)
        Of the documents at the ends of runs that were also the first or last of a part, which are those that may
        have been cut: document, layer, first and last position, one line a layer.

    Notes
    -----
    Documents that are read in order are one run, but for gaps where some gave no row: the size grows by 16 bytes a gap.
    """

    def __init__(self):
        self.runs = np.empty((0, 2), dtype=np.int64)
        self.edges = np.empty((0, 4), dtype=np.int64)

    def __len__(self):
        return int((self.runs[:, 1] - self.runs[:, 0] + 1).sum())

    def add(self, places):
        """
        Take in one part.

        Parameters
        ----------
        places : Places
            At least one.
        """
        documents = np.unique(places.document)
        opens = np.flatnonzero(np.diff(documents, prepend=documents[0] - 2) > 1)
        runs = np.column_stack([documents[opens], documents[np.append(opens[1:], len(documents)) - 1]])
        self.runs = _joined(np.concatenate([self.runs, runs]))
        at_end = np.isin(places.document, documents[[0, -1]])
        positions = places.position[at_end]
        edges = np.column_stack([places.document[at_end], places.layer[at_end], positions, positions])
        edges = _reach(np.concatenate([self.edges, edges]))
        self.edges = edges[np.isin(edges[:, 0], self.runs)]

    def merge(self, other):
        """Add the documents of another."""
        self.runs = _joined(np.concatenate([self.runs, other.runs]))
        self.edges = _reach(np.concatenate([self.edges, other.edges]))

    def overlap(self, other) -> list[int]:
        """
        List documents of which both may hold the same rows, a few at most.

        A document that was cut, so that one has its first rows and the other its last, is none of them.
        """
        cut = set(self.edges[:, 0].tolist()) & set(other.edges[:, 0].tolist())
        divided = {document for document in cut if not self._reaches_into(other, document)}
        shared = (
            document
            for first, last in _common_runs(self.runs, other.runs)
            for document in range(first, last + 1)
            if document not in divided
        )
        return list(islice(shared, N_NAMED))

    def _reaches_into(self, other, document):
        mine, others = (edges[edges[:, 0] == document, 1:] for edges in (self.edges, other.edges))
        reach = {layer: (first, last) for layer, first, last in mine.tolist()}
        return any(
            layer in reach and reach[layer][0] <= last and first <= reach[layer][1]
            for layer, first, last in others.tolist()
        )

    def state(self) -> dict[str, np.ndarray]:
        """Return everything there is to keep, as arrays."""
        return {"runs": self.runs, "edges": self.edges}

    def restore(self, state):
        """Take the place of the documents whose :meth:`state` this is."""
        self.runs, self.edges = state["runs"], state["edges"]


def _joined(runs):
    """Join runs that overlap or follow one another."""
    runs = runs[np.argsort(runs[:, 0], kind="stable")]
    furthest = np.maximum.accumulate(runs[:, 1])
    opens = np.flatnonzero(np.append(True, runs[1:, 0] > furthest[:-1] + 1))
    return np.column_stack([runs[opens, 0], furthest[np.append(opens[1:], len(runs)) - 1]])


def _reach(edges):
    """Put lines of the same document and layer together."""
    edges = edges[np.lexsort((edges[:, 1], edges[:, 0]))]
    opens = np.flatnonzero(np.append(True, (edges[1:, :2] != edges[:-1, :2]).any(axis=1)))
    first, last = np.minimum.reduceat(edges[:, 2], opens), np.maximum.reduceat(edges[:, 3], opens)
    return np.column_stack([edges[opens, :2], first, last])


def _common_runs(runs, others):
    """Yield the first and last of each run that two tables of runs have in common, ascending."""
    begins = np.searchsorted(others[:, 1], runs[:, 0], side="left")
    ends = np.searchsorted(others[:, 0], runs[:, 1], side="right")
    for number in np.flatnonzero(begins < ends).tolist():
        first, last = runs[number].tolist()
        for other_first, other_last in others[begins[number] : ends[number]].tolist():
            yield max(first, other_first), min(last, other_last)
