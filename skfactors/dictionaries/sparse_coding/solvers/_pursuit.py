"""The compiled part of the pursuit and of refitting: least squares codes on few factors, in the names of the solver."""

import numpy as np

from skfactors.dictionaries.sparse_coding.solvers._small_problem import (
    compiled,
    copy,
    dot,
    solve,
    subtract_reconstruction,
)

# Correlations within this many units in the last place of the largest are rounding.
ROUNDING = 16


@compiled
def pursue_rows(B, G, most, positive):
    """
    Code rows with at most so many factors each.

    Parameters
    ----------
    B : ndarray of shape (n_rows, n_components)
        ``X @ D.T``.
    G : ndarray of shape (n_components, n_components)
        ``D @ D.T``.
    most : int
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
    n_rows = len(B)
    counts = np.zeros(n_rows, np.int64)
    indices = np.empty(n_rows * most, np.int32)
    values = np.empty(n_rows * most, B.dtype)
    factors = np.empty(most, np.int64)
    codes = np.empty(most)
    data = np.empty(most)
    # As wide as the solver wants its rows filled up.
    gram = np.zeros((most, most + 32), B.dtype)
    correlations = np.empty(B.shape[1], B.dtype)
    n_filled = 0
    for row in range(n_rows):
        n = _pursue_row(B[row], G, positive, correlations, factors, codes, data, gram)
        for place in np.argsort(factors[:n]):
            indices[n_filled], values[n_filled] = factors[place], codes[place]
            n_filled += 1
        counts[row] = n
    return counts, indices[:n_filled].copy(), values[:n_filled].copy(), np.full(n_rows, np.nan)


@compiled
def _pursue_row(b, G, positive, correlations, factors, codes, data, gram):
    """Fill in the factors of a row and their codes, and return how many there are. The arrays' length is the most."""
    most = len(factors)
    copy(b, correlations, len(b))
    floor = ROUNDING * np.finfo(b.dtype).eps * np.max(np.abs(b))
    n = 0
    explained = -1.0
    while n < most and dot(codes[:n], data[:n]) > explained:
        explained = dot(codes[:n], data[:n])
        n = _take_in_best(b, G, positive, floor, correlations, factors, codes, data, gram, n)
    return n


@compiled
def _take_in_best(b, G, positive, floor, correlations, factors, codes, data, gram, n):
    """Let in the factor that correlates most with the residual, refit, and return how many there are."""
    best, highest = -1, floor
    for j in range(len(correlations)):
        value = correlations[j] if positive else abs(correlations[j])
        if value > highest:
            best, highest = j, value
    if best < 0:
        return n
    factors[n], codes[n], data[n] = best, 0.0, b[best]
    for place in range(n + 1):
        gram[n, place] = gram[place, n] = G[best, factors[place]]
    return refit_chosen(b, G, positive, correlations, factors, codes, data, gram, n + 1)


@compiled
def refit_chosen(b, G, positive, correlations, factors, codes, data, gram, n):
    """Solve for the codes, let the last factor take the place of any whose code is zero, return how many are left."""
    solve(gram, data, codes, n, 0.0, positive, True)
    for place in range(n - 1, -1, -1):
        if codes[place] == 0:
            n -= 1
            factors[place], codes[place], data[place] = factors[n], codes[n], data[n]
            for other in range(n):
                gram[place, other] = gram[other, place] = gram[n, other]
            gram[place, place] = gram[n, n]
    copy(b, correlations, len(b))
    subtract_reconstruction(correlations, codes, G, factors, n)
    return n


@compiled
def refit_rows(row_ends, factors, values, X, D, positive):
    """
    Replace the codes of each row by the least squares codes on the same factors, or fewer if they may not be negative.

    Parameters
    ----------
    row_ends, factors, values : ndarray
        The codes: ``indptr``, ``indices`` and ``data`` of a CSR array. Values are changed in place.
    X : ndarray of shape (n_rows, n_features)
    D : ndarray of shape (n_components, n_features)
    positive : bool
    """
    for row in range(len(X)):
        active = factors[row_ends[row] : row_ends[row + 1]]
        n = len(active)
        codes, data, gram = np.empty(n), np.empty(n), np.zeros((n, n + 32))
        for i in range(n):
            codes[i] = values[row_ends[row] + i]
            data[i] = dot(D[active[i]], X[row])
            for j in range(i + 1):
                gram[i, j] = gram[j, i] = dot(D[active[i]], D[active[j]])
        solve(gram, data, codes, n, 0.0, positive, True)
        for i in range(n):
            values[row_ends[row] + i] = codes[i]
