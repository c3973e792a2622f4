"""Codes and their places, checked and as flat arrays, and the largest entries of every group without a loop."""

from dataclasses import dataclass

import numpy as np
from scipy import sparse

PLACE_COLUMNS = ("document", "layer", "position", "start", "end")


@dataclass(frozen=True)
class Places:
    """Where each row of some codes came from, each column as an array."""

    document: np.ndarray
    layer: np.ndarray
    position: np.ndarray
    start: np.ndarray
    end: np.ndarray

    def __len__(self):
        return len(self.document)

    def __getitem__(self, rows):
        return Places(*(getattr(self, name)[rows] for name in PLACE_COLUMNS))


def check_places(provenance, n_rows):
    """
    Return the columns of provenance that reports read, as Places.

    Raises
    ------
    ValueError
        If a column is missing or holds anything but integers, there are more or fewer than `n_rows` rows, or they are
        of several sites, which tables by layer would mix.
    """
    missing = [name for name in PLACE_COLUMNS if name not in provenance]
    if missing:
        raise ValueError(f"provenance lacks the columns {missing}.")
    if len(provenance) != n_rows:
        raise ValueError(
            f"codes have {n_rows} rows and provenance has {len(provenance)}; pass those of one extraction."
        )
    sites = provenance["site"].unique().tolist() if "site" in provenance else []
    if len(sites) > 1:
        raise ValueError(
            f"the rows are of the sites {', '.join(map(repr, sites))}, and reports tell rows apart by layer only: take "
            "those of one site, as with at(site=..., layer=...)."
        )
    columns = {name: provenance[name].to_numpy() for name in PLACE_COLUMNS}
    for name, column in columns.items():
        if column.dtype.kind not in "iu":
            raise ValueError(f"provenance column {name!r} holds {column.dtype}; it must hold integers.")
    return Places(**{name: column.astype(np.int64, copy=False) for name, column in columns.items()})


def by_number(texts):
    """
    Return texts so that brackets take the number of a document: a pandas Series would go by its index there.

    Raises
    ------
    TypeError
        If it is a bare string, whose characters would pass for documents.
    """
    if isinstance(texts, (str, bytes)):
        raise TypeError("texts is one string; pass a list of documents, even for a single one.")
    return getattr(texts, "iloc", texts)


def positive_entries(codes):
    """
    List the entries of checked codes that are above zero.

    Parameters
    ----------
    codes : csr_array or ndarray of shape (n_rows, n_components)

    Returns
    -------
    rows, factors : ndarray of int of shape (n_entries,)
        Rows ascending.
    activations : ndarray of float64 of shape (n_entries,)
    """
    if sparse.issparse(codes):
        positive = codes.data > 0
        rows = np.repeat(np.arange(codes.shape[0]), np.diff(codes.indptr))[positive]
        factors, activations = codes.indices[positive], codes.data[positive]
    else:
        rows, factors = np.nonzero(codes > 0)
        activations = codes[rows, factors]
    return rows, factors.astype(np.int64), activations.astype(np.float64)


def largest_in_groups(groups, values, k):
    """
    Choose the `k` largest values of every group.

    Parameters
    ----------
    groups : ndarray of int of shape (n_entries,)
        Group of each entry, in any order.
    values : ndarray of float of shape (n_entries,)
        Without NaN.
    k : int
        Entries to keep in each group, at most.

    Returns
    -------
    chosen : ndarray of int
        Indices of the kept entries, by ascending group and in it from the largest value down; of equal values the
        earlier entry comes first.
    ranks : ndarray of int
        Place of each kept entry in its group, from 0.
    """
    order = np.lexsort((-values, groups))
    ranks = _places_in_runs(groups[order])
    kept = ranks < k
    return order[kept], ranks[kept]


def largest_of_each_member(groups, members, values):
    """
    Choose the largest value of every (group, member) pair, the earliest where several are equal.

    Parameters
    ----------
    groups, members : ndarray of int of shape (n_entries,)
    values : ndarray of float of shape (n_entries,)
        Without NaN.

    Returns
    -------
    ndarray of int
        Indices of the kept entries, ascending.
    """
    order = np.lexsort((-values, members, groups))
    return np.sort(order[_opens_run(groups[order]) | _opens_run(members[order])])


def _opens_run(values):
    opens = np.ones(len(values), dtype=bool)
    opens[1:] = values[1:] != values[:-1]
    return opens


def _places_in_runs(values):
    starts = np.flatnonzero(_opens_run(values))
    lengths = np.diff(starts, append=len(values))
    return np.arange(len(values)) - np.repeat(starts, lengths)
