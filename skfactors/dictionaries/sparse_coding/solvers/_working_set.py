"""The compiled part of the active-set solver: one row at a time, in scalars and small arrays.

Names follow the objective: for a row x and factors D, a code a minimises ½‖x - aD‖² + alpha·‖a‖₁. With the Gram matrix
G = DDᵀ and b = Dx, the correlations of the residual with the factors are c = b - Ga. A working set W holds the factors
that may be active; arrays of its length hold their codes and their part of b, in double precision, and their part of G.
Nearly all the time goes into reading rows of G, so sums over them take four at a time, and are made for all factors
only after long moves: where the residual moves by Δr, no correlation changes by more than ‖d‖·‖Δr‖, with d the longest
factor, so after a short move only those few are measured that may have come above the penalty. What is kept of a
correlation is its strength (for signed codes its absolute value) less the way that the residual had come when it was
measured: plus the whole way, it is an upper bound. That of factors in W is -inf, as theirs comes out of the small
problem. Every 16 or so have a peak, which is at least the highest of them, so that few need to be looked at.
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
_FACTORS_A_PEAK = 16
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
    peaks = np.empty((n_components + _FACTORS_A_PEAK - 1) // _FACTORS_A_PEAK, X.dtype)
    longest = 0.0
    for j in range(n_components):
        longest = max(longest, np.sqrt(G[j, j]))
    for row in range(n_rows):
        factors, codes, gap = _code_row(
            X[row], B[row], D, G, alpha, positive, tol, max_rounds, longest, residual, correlations, peaks
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
def _code_row(x, b, D, G, alpha, positive, tol, max_rounds, longest, residual, correlations, peaks):
    """Return the active factors of a row, their codes, and the gap. The last three arguments are scratch space."""
    capacity = _FIRST_CAPACITY
    factors = np.empty(capacity, np.int64)
    codes = np.zeros(capacity)
    data = np.empty(capacity)
    gradient = np.zeros(capacity)
    gram = np.zeros((capacity, capacity), x.dtype)
    n = 0
    exactly = False
    smallest_gap, n_stalled = 2.0, 0
    squared_norm = dot(x, x)
    # Correlations are rounded to some units in the last place of |x|, which counts by how small the penalty is.
    rounding = 2 * np.finfo(x.dtype).eps * np.sqrt(squared_norm) / alpha
    in_doubt = rounding > tol / 2
    tol = max(tol - rounding, tol / 2)
    copy(b, correlations, len(b))
    way = 0.0
    highest = _survey(correlations, peaks, gradient, factors, n, positive)
    for round in range(max_rounds + 1):
        squared = along = squared_norm
        for place in range(n):
            along -= codes[place] * data[place]
            squared -= codes[place] * (data[place] + gradient[place])
        gap, primal = _relative_gap(squared, along, codes[:n], highest, alpha)
        # Those sums cancel: where little of x is left, measure it on what is left.
        cancels = in_doubt or (tol - gap) * primal < 16 * np.finfo(x.dtype).eps * squared_norm
        measured = (gap <= tol and cancels) or round == max_rounds or n_stalled == _STALLED_ROUNDS
        if measured:
            copy(x, residual, len(x))
            subtract_reconstruction(residual, codes, D, factors, n)
            if in_doubt:
                for j in range(len(correlations)):
                    correlations[j] = dot(D[j], residual)
                for place in range(n):
                    gradient[place] = correlations[factors[place]]
                way = 0.0
                highest = _survey(correlations, peaks, gradient, factors, n, positive)
            gap, _ = _relative_gap(dot(residual, residual), dot(residual, x), codes[:n], highest, alpha)
        n_stalled = 0 if gap < smallest_gap else n_stalled + 1
        smallest_gap = min(gap, smallest_gap)
        if gap <= tol or round == max_rounds or n_stalled > _STALLED_ROUNDS:
            break
        n = _drop_inactive(factors, codes, data, gram, n, gradient, correlations, peaks, way, positive)
        if capacity < n + _MOST_NEW_FACTORS:
            capacity = 2 * capacity
            factors, codes, data = _longer(factors), _longer(codes), _longer(data)
            larger = np.zeros((capacity, capacity), x.dtype)
            for place in range(n):
                copy(gram[place], larger[place], n)
            gram = larger
        n_before = n
        n = _take_in(factors, codes, data, gram, n, correlations, peaks, way, b, G, highest, alpha)
        if n == n_before and exactly:
            # No factor is left that could improve the code: rounding alone keeps the gap open.
            break
        exactly = n == n_before or gap < _GAP_TO_SOLVE_EXACTLY
        gradient, squared_way = solve(gram, data, codes, n, alpha, positive, exactly)
        way += longest * np.sqrt(squared_way)
        highest, way = _measure(b, G, factors, codes, gradient, n, correlations, peaks, way, alpha, positive)
    if n > 0 and not measured:
        # Rounding hides about as much of the gap; the tolerance has left it room.
        gap += rounding / 2
    n = _drop_inactive(factors, codes, data, gram, n, gradient, correlations, peaks, way, positive)
    return factors[:n], codes[:n], gap


@compiled
def _longer(values):
    longer = np.zeros(2 * len(values), values.dtype)
    copy(values, longer, len(values))
    return longer


@compiled
def _survey(correlations, peaks, gradient, factors, n, positive):
    """Find the peaks of correlations that have all been measured, and return the highest of all."""
    if not positive:
        for j in range(len(correlations)):
            correlations[j] = abs(correlations[j])
    for place in range(n):
        correlations[factors[place]] = -np.inf
    copy(correlations, peaks, len(peaks))
    for start in range(len(peaks), len(correlations), len(peaks)):
        stretch = correlations[start : start + len(peaks)]
        for j in range(len(stretch)):
            peaks[j] = stretch[j] if stretch[j] > peaks[j] else peaks[j]
    highest = 0.0
    for peak in peaks:
        highest = max(highest, peak)
    for place in range(n):
        highest = max(highest, gradient[place] if positive else abs(gradient[place]))
    return highest


@compiled
def _measure(b, G, factors, codes, gradient, n, correlations, peaks, way, alpha, positive):
    """
    Measure the correlations that may be above the penalty, or all where these are many.

    Returns the highest, or the penalty if none is above it, and the way since all were measured.
    """
    limit = correlations.dtype.type(alpha - way)
    n_over = 0
    for k in range(len(peaks)):
        n_over += peaks[k] > limit
    if n_over > len(peaks) // 4:
        copy(b, correlations, len(b))
        subtract_reconstruction(correlations, codes, G, factors, n)
        return _survey(correlations, peaks, gradient, factors, n, positive), 0.0
    highest = alpha
    for place in range(n):
        highest = max(highest, gradient[place] if positive else abs(gradient[place]))
    for k in range(len(peaks)):
        if peaks[k] <= limit:
            continue
        peak = -np.inf
        for j in range(k, len(correlations), len(peaks)):
            if correlations[j] > limit:
                row = G[j]
                value = float(b[j])
                for place in range(n):
                    value -= codes[place] * row[factors[place]]
                value = value if positive else abs(value)
                highest = max(highest, value)
                correlations[j] = value - way
            peak = max(peak, correlations[j])
        peaks[k] = peak
    return highest, way


@compiled
def _relative_gap(squared, along, codes, highest, alpha):
    """
    Return (primal - dual) / primal, the dual at the best feasible multiple of the residual, and the primal.

    `squared` is the squared norm of the residual, `along` its product with the row.
    """
    squared = max(squared, 0.0)
    l1_norm = 0.0
    for code in codes:
        l1_norm += abs(code)
    primal = squared / 2 + alpha * l1_norm
    if primal <= 0:
        return 0.0, 0.0
    scale = along / squared if squared > 0 else 0.0
    if scale * highest > alpha:
        scale = alpha / highest
    scale = max(scale, 0.0)
    return max(1 - (scale * along - scale * scale * squared / 2) / primal, 0.0), primal


@compiled
def _drop_inactive(factors, codes, data, gram, n, gradient, correlations, peaks, way, positive):
    """Close the ranks of the working set over factors whose code is zero; return how many are left."""
    for place in range(n - 1, -1, -1):
        if codes[place] == 0:
            j = factors[place]
            correlations[j] = (gradient[place] if positive else abs(gradient[place])) - way
            peaks[j % len(peaks)] = max(peaks[j % len(peaks)], correlations[j])
            n -= 1
            factors[place], codes[place], data[place], gradient[place] = factors[n], codes[n], data[n], gradient[n]
            for other in range(n):
                gram[place, other] = gram[other, place] = gram[n, other]
            gram[place, place] = gram[n, n]
    return n


@compiled
def _take_in(factors, codes, data, gram, n, correlations, peaks, way, b, G, highest, alpha):
    """Let factors into the working set whose correlation most exceeds the penalty; return its size."""
    # At first half of the excess will do: most of the others are explained once the strongest are in.
    share = 0.5 if n == 0 else 0.2
    limit = correlations.dtype.type(alpha + share * (highest - alpha) - way)
    most = n + _MOST_NEW_FACTORS
    n_before = n
    if highest <= alpha:
        return n
    for k in range(len(peaks)):
        if peaks[k] < limit:
            continue
        for j in range(k, len(correlations), len(peaks)):
            if correlations[j] >= limit and n < most:
                factors[n], codes[n], data[n] = j, 0.0, b[j]
                correlations[j] = -np.inf
                n += 1
    for place in range(n_before, n):
        row = G[factors[place]]
        for other in range(place + 1):
            gram[place, other] = row[factors[other]]
        for other in range(place):
            gram[other, place] = gram[place, other]
    return n
