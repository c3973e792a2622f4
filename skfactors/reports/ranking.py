"""The largest values of every group, chosen without a loop over the groups."""

import numpy as np


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
