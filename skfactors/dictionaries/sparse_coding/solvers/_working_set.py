"""The compiled part of the active-set solver: one row at a time, in scalars and small arrays.

Names follow the objective: for a row x and factors D, a code a minimises ½‖x - aD‖² + alpha·‖a‖₁. With the Gram matrix
G = DDᵀ and b = Dx, the correlations of the residual with the factors are c = b - Ga. A working set W holds the factors
that may be active; arrays of its length hold their codes and their part of b, in double precision, and their part of G.
Nearly all the time goes into reading rows of G, so sums over them take four at a time.
"""

import numpy as np

from skfactors.dictionaries.sparse_coding.solvers._small_problem import (
    compiled,
    copy,
    dot,
    solve,
    subtract_reconstruction,
)

_FIRST_CAPACITY = 64
_MOST_NEW_FACTORS = 64
_FACTORS_AT_A_GLANCE = 16
# Rounds without a smaller gap after which what is left of it is taken for rounding.
_STALLED_ROUNDS = 20

# Far from the optimum sweeps will do: the working set is about to change. Within this gap it is solved exactly.
_GAP_TO_SOLVE_EXACTLY = 0.02


@compiled
def code_rows(X, B, D, G, alpha, positive, tol, max_rounds):
    """
    Code rows.

    Parameters
    ----------
    X : ndarray of shape (n_rows, n_features)
    B : ndarray of shape (n_rows, n_components)
        ``X @ D.T``.
    D : ndarray of shape (n_components, n_features)
    G : ndarray of shape (n_components, n_components)
        ``D @ D.T``.
    alpha : float
    positive : bool
    tol : float
    max_rounds : int

    Returns
    -------
    counts : ndarray of int of shape (n_rows,)
        Active factors of each row.
    indices, values : ndarray of shape (counts.sum(),)
        Factors in ascending order, and their codes, row after row.
    gaps : ndarray of shape (n_rows,)
    """
    n_rows, n_components = len(X), B.shape[1]
    counts = np.zeros(n_rows, np.int64)
    gaps = np.zeros(n_rows)
    indices = np.empty(16 * n_rows, np.int32)
    values = np.empty(16 * n_rows, X.dtype)
    n_filled = 0
    residual = np.empty(X.shape[1], X.dtype)
    correlations = np.empty(n_components, X.dtype)
    in_set = np.zeros(n_components, np.bool_)
    for row in range(n_rows):
        factors, codes, gap = _code_row(
            X[row], B[row], D, G, alpha, positive, tol, max_rounds, residual, correlations, in_set
        )
        order = np.argsort(factors)
        while n_filled + len(order) > len(indices):
            indices = np.concatenate((indices, np.empty_like(indices)))
            values = np.concatenate((values, np.empty_like(values)))
        for place in order:
            indices[n_filled] = factors[place]
            values[n_filled] = codes[place]
            n_filled += 1
        counts[row] = len(order)
        gaps[row] = gap
    return counts, indices[:n_filled].copy(), values[:n_filled].copy(), gaps


@compiled
def _code_row(x, b, D, G, alpha, positive, tol, max_rounds, residual, correlations, in_set):
    """Return the active factors of a row, their codes, and the gap. The last three arguments are scratch space."""
    capacity = _FIRST_CAPACITY
    factors = np.empty(capacity, np.int64)
    codes = np.zeros(capacity)
    data = np.empty(capacity)
    gram = np.zeros((capacity, capacity), x.dtype)
    n = 0
    exactly = False
    smallest_gap, n_stalled = 2.0, 0
    copy(b, correlations, len(b))
    squared_norm = dot(x, x)
    # Correlations are rounded to some units in the last place of |x|, which counts by how small the penalty is.
    rounding = 2 * np.finfo(x.dtype).eps * np.sqrt(squared_norm) / alpha
    in_doubt = rounding > tol / 2
    tol = max(tol - rounding, tol / 2)
    for round in range(max_rounds + 1):
        highest = _largest(correlations, positive)
        squared = along = squared_norm
        for place in range(n):
            along -= codes[place] * data[place]
            squared -= codes[place] * (data[place] + correlations[factors[place]])
        gap = _relative_gap(squared, along, codes[:n], highest, alpha)
        if gap <= tol or round == max_rounds or n_stalled == _STALLED_ROUNDS:
            # Those sums cancel where little of x is left: measure it on what is left.
            copy(x, residual, len(x))
            subtract_reconstruction(residual, codes, D, factors, n)
            if in_doubt:
                for j in range(len(correlations)):
                    correlations[j] = dot(D[j], residual)
                highest = _largest(correlations, positive)
            gap = _relative_gap(dot(residual, residual), dot(residual, x), codes[:n], highest, alpha)
        n_stalled = 0 if gap < smallest_gap else n_stalled + 1
        smallest_gap = min(gap, smallest_gap)
        if gap <= tol or round == max_rounds or n_stalled > _STALLED_ROUNDS:
            break
        n = _drop_inactive(factors, codes, data, gram, n, in_set)
        if capacity < n + _MOST_NEW_FACTORS:
            capacity = 2 * capacity
            factors, codes, data = _longer(factors), _longer(codes), _longer(data)
            larger = np.zeros((capacity, capacity), x.dtype)
            for place in range(n):
                copy(gram[place], larger[place], n)
            gram = larger
        n_before = n
        n = _take_in(factors, codes, data, gram, n, correlations, b, G, in_set, highest, alpha, positive)
        if n == n_before and exactly:
            # No factor is left that could improve the code: rounding alone keeps the gap open.
            break
        exactly = n == n_before or gap < _GAP_TO_SOLVE_EXACTLY
        solve(gram, data, codes, n, alpha, positive, exactly)
        copy(b, correlations, len(b))
        subtract_reconstruction(correlations, codes, G, factors, n)
    n = _drop_inactive(factors, codes, data, gram, n, in_set)
    for place in range(n):
        in_set[factors[place]] = False
    return factors[:n], codes[:n], gap


@compiled
def _longer(values):
    longer = np.zeros(2 * len(values), values.dtype)
    copy(values, longer, len(values))
    return longer


@compiled
def _largest(correlations, positive):
    # Four at a time, so that none waits for the comparison before it.
    zero = correlations.dtype.type(0)
    a = b = c = d = zero
    n_in_fours = len(correlations) - len(correlations) % 4
    for j in range(0, n_in_fours, 4):
        p, q, r, s = correlations[j], correlations[j + 1], correlations[j + 2], correlations[j + 3]
        if not positive:
            p, q, r, s = abs(p), abs(q), abs(r), abs(s)
        a = p if p > a else a
        b = q if q > b else b
        c = r if r > c else c
        d = s if s > d else d
    for j in range(n_in_fours, len(correlations)):
        p = correlations[j] if positive else abs(correlations[j])
        a = p if p > a else a
    return float(max(max(a, b), max(c, d)))


@compiled
def _relative_gap(squared, along, codes, highest, alpha):
    """
    Return (primal - dual) / primal, the dual at the best feasible multiple of the residual.

    `squared` is the squared norm of the residual, `along` its product with the row.
    """
    squared = max(squared, 0.0)
    l1_norm = 0.0
    for code in codes:
        l1_norm += abs(code)
    primal = squared / 2 + alpha * l1_norm
    if primal <= 0:
        return 0.0
    scale = along / squared if squared > 0 else 0.0
    if scale * highest > alpha:
        scale = alpha / highest
    scale = max(scale, 0.0)
    return max(1 - (scale * along - scale * scale * squared / 2) / primal, 0.0)


@compiled
def _drop_inactive(factors, codes, data, gram, n, in_set):
    """Close the ranks of the working set over factors whose code is zero; return how many are left."""
    kept = np.empty(n, np.int64)
    n_kept = 0
    for place in range(n):
        if codes[place] == 0:
            in_set[factors[place]] = False
        else:
            kept[n_kept] = place
            n_kept += 1
    if n_kept == n:
        return n
    for i in range(n_kept):
        place = kept[i]
        factors[i], codes[i], data[i] = factors[place], codes[place], data[place]
        for j in range(n_kept):
            gram[i, j] = gram[place, kept[j]]
    return n_kept


@compiled
def _take_in(factors, codes, data, gram, n, correlations, b, G, in_set, highest, alpha, positive):
    """Let factors into the working set whose correlation most exceeds the penalty; return its size."""
    # At first half of the excess will do: most of the others are explained once the strongest are in.
    share = 0.5 if n == 0 else 0.2
    limit = alpha + share * (highest - alpha)
    limit = correlations.dtype.type(limit)
    most = n + _MOST_NEW_FACTORS
    n_before = n
    if highest <= alpha:
        return n
    for start in range(0, len(correlations), _FACTORS_AT_A_GLANCE):
        stretch = correlations[start : start + _FACTORS_AT_A_GLANCE]
        n_over = 0
        for value in stretch:
            n_over += value >= limit
        if not positive:
            for value in stretch:
                n_over += -value >= limit
        if not n_over:
            continue
        for j in range(start, start + len(stretch)):
            value = correlations[j] if positive else abs(correlations[j])
            if value >= limit and not in_set[j] and n < most:
                factors[n], codes[n], data[n] = j, 0.0, b[j]
                in_set[j] = True
                n += 1
    # Rows of factors that were there before have just been read and are close at hand.
    for other in range(n):
        row = G[factors[other]]
        for place in range(max(other, n_before), n):
            gram[other, place] = row[factors[place]]
            gram[place, other] = gram[other, place]
    return n
