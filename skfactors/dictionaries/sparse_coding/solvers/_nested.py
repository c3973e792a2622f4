"""The compiled part of nested codes, in the names of the pursuit."""

import numpy as np

from skfactors.dictionaries.sparse_coding.solvers._pursuit import ROUNDING, refit_chosen
from skfactors.dictionaries.sparse_coding.solvers._small_problem import compiled, copy

_FIRST_CAPACITY = 64


@compiled
def code_groups(B, G, ends, threshold, positive):
    """
    Code rows group by group.

    Parameters
    ----------
    B : ndarray of shape (n_rows, n_components)
        ``X @ D.T``.
    G : ndarray of shape (n_components, n_components)
        ``D @ D.T``.
    ends : ndarray of int of shape (n_groups,)
        Where the groups end.
    threshold : ndarray of shape (n_components,)
        What its correlation must exceed for a factor to be let in.
    positive : bool

    Returns
    -------
    counts : ndarray of int of shape (n_rows,)
        Active factors of each row.
    indices, values : ndarray of shape (counts.sum(),)
        Factors in ascending order, and their codes, row after row.
    gaps : ndarray of shape (n_rows,)
        NaN.
    """
    n_rows, n_components = B.shape
    counts = np.zeros(n_rows, np.int64)
    indices = np.empty(16 * n_rows, np.int32)
    values = np.empty(16 * n_rows, B.dtype)
    correlations = np.empty(n_components, B.dtype)
    capacity = _FIRST_CAPACITY
    factors, codes, data = np.empty(capacity, np.int64), np.empty(capacity), np.empty(capacity)
    # As wide as the solver wants its rows filled up.
    gram = np.zeros((capacity, capacity + 32), B.dtype)
    n_filled = 0
    for row in range(n_rows):
        b = B[row]
        copy(b, correlations, n_components)
        floor = ROUNDING * np.finfo(B.dtype).eps * np.max(np.abs(b))
        n, start = 0, 0
        for group in range(len(ends)):
            n_before = n
            if n + ends[group] - start > capacity:
                capacity = 2 * (n + ends[group] - start)
                factors, codes, data = _grown(factors, capacity), _grown(codes, capacity), _grown(data, capacity)
                gram = np.zeros((capacity, capacity + 32), B.dtype)
                for place in range(n):
                    for other in range(n):
                        gram[place, other] = G[factors[place], factors[other]]
            for factor in range(start, ends[group]):
                strength = correlations[factor] if positive else abs(correlations[factor])
                if strength > threshold[factor] and strength > floor:
                    factors[n], codes[n], data[n] = factor, 0.0, b[factor]
                    for place in range(n + 1):
                        gram[n, place] = gram[place, n] = G[factor, factors[place]]
                    n += 1
            if n > n_before:
                n = refit_chosen(b, G, positive, correlations, factors, codes, data, gram, n)
            start = ends[group]
        while n_filled + n > len(indices):
            indices = _grown(indices, 2 * len(indices))
            values = _grown(values, 2 * len(values))
        for place in np.argsort(factors[:n]):
            indices[n_filled], values[n_filled] = factors[place], codes[place]
            n_filled += 1
        counts[row] = n
    return counts, indices[:n_filled].copy(), values[:n_filled].copy(), np.full(n_rows, np.nan)


@compiled
def _grown(array, size):
    grown = np.empty(size, array.dtype)
    grown[: len(array)] = array
    return grown
