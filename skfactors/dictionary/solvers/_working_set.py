"""The compiled part of the active-set solver: one row at a time, in scalars and small arrays.

Names follow the objective: for a row x and factors D, a code a minimises ½‖x - aD‖² + alpha·‖a‖₁. With the Gram matrix
G = DDᵀ and b = Dx, the correlations of the residual with the factors are c = b - Ga. A working set W holds the factors
that may be active; arrays of its length hold their codes, their part of b, and their part of G, in double precision.
"""

import numpy as np
from numba import njit

_FIRST_CAPACITY = 64
_MOST_NEW_FACTORS = 64
_SWEEPS = 50
# Rounds without a smaller gap after which what is left of it is taken for rounding.
_STALLED_ROUNDS = 20

_compiled = njit(cache=True, nogil=True, fastmath={"reassoc", "contract", "nsz", "arcp"})


@_compiled
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


@_compiled
def _code_row(x, b, D, G, alpha, positive, tol, max_rounds, residual, correlations, in_set):
    """Return the active factors of a row, their codes, and the gap. The last three arguments are scratch space."""
    capacity = _FIRST_CAPACITY
    factors = np.empty(capacity, np.int64)
    codes = np.zeros(capacity)
    data = np.empty(capacity)
    gram = np.empty((capacity, capacity))
    n = 0
    gap = 1.0
    smallest_gap, n_stalled = 2.0, 0
    correlations[:] = b
    residual[:] = x
    # Correlations are rounded to some units in the last place of |x|, which counts by how small the penalty is.
    norm = np.sqrt(np.sum(x * x))
    tol = max(tol - 2 * np.finfo(x.dtype).eps * norm / alpha, tol / 2)
    for round in range(max_rounds + 1):
        highest = _largest(correlations, positive)
        gap = _relative_gap(x, residual, codes[:n], highest, alpha)
        n_stalled = 0 if gap < smallest_gap else n_stalled + 1
        smallest_gap = min(gap, smallest_gap)
        if gap <= tol or round == max_rounds or n_stalled == _STALLED_ROUNDS:
            break
        n = _drop_inactive(factors, codes, data, gram, n, in_set)
        if capacity < n + _MOST_NEW_FACTORS:
            capacity = 2 * capacity
            factors, codes, data = _longer(factors), _longer(codes), _longer(data)
            larger = np.empty((capacity, capacity))
            larger[:n, :n] = gram[:n, :n]
            gram = larger
        n_before = n
        n = _take_in(factors, codes, data, gram, n, correlations, b, G, in_set, highest, alpha, positive)
        if n == n_before:
            # No factor is left that could improve the code: rounding alone keeps the gap open.
            break
        _solve(gram, data, codes, n, alpha, positive)
        correlations[:] = b
        residual[:] = x
        for place in range(n):
            if codes[place] != 0:
                _subtract(correlations, codes[place], G[factors[place]])
                _subtract(residual, codes[place], D[factors[place]])
    in_set[factors[:n]] = False
    n = _drop_inactive(factors, codes, data, gram, n, in_set)
    in_set[factors[:n]] = False
    return factors[:n], codes[:n], gap


@_compiled
def _longer(values):
    longer = np.zeros(2 * len(values), values.dtype)
    longer[: len(values)] = values
    return longer


@_compiled
def _subtract(target, factor, row):
    factor = target.dtype.type(factor)
    for j in range(len(target)):
        target[j] -= factor * row[j]


@_compiled
def _largest(correlations, positive):
    largest = correlations.dtype.type(0)
    for j in range(len(correlations)):
        value = correlations[j] if positive else abs(correlations[j])
        largest = max(largest, value)
    return float(largest)


@_compiled
def _relative_gap(x, residual, codes, highest, alpha):
    """Return (primal - dual) / primal, the dual at the best feasible multiple of the residual."""
    squared = along = 0.0
    for j in range(len(x)):
        squared += float(residual[j]) * float(residual[j])
        along += float(residual[j]) * float(x[j])
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


@_compiled
def _drop_inactive(factors, codes, data, gram, n, in_set):
    """Close the ranks of the working set over factors whose code is zero; return how many are left."""
    kept = 0
    for place in range(n):
        if codes[place] == 0:
            in_set[factors[place]] = False
            continue
        if kept != place:
            factors[kept], codes[kept], data[kept] = factors[place], codes[place], data[place]
            for other in range(n):
                gram[kept, other] = gram[place, other]
            for other in range(n):
                gram[other, kept] = gram[other, place]
        kept += 1
    return kept


@_compiled
def _take_in(factors, codes, data, gram, n, correlations, b, G, in_set, highest, alpha, positive):
    """Let factors into the working set whose correlation most exceeds the penalty; return its size."""
    # At first half of the excess will do: most of the others are explained once the strongest are in.
    share = 0.5 if n == 0 else 0.2
    limit = alpha + share * (highest - alpha)
    most = n + _MOST_NEW_FACTORS
    n_before = n
    for j in range(len(correlations)):
        value = correlations[j] if positive else abs(correlations[j])
        if value > alpha and value >= limit and not in_set[j] and n < most:
            factors[n], codes[n], data[n] = j, 0.0, b[j]
            in_set[j] = True
            n += 1
    for place in range(n_before, n):
        row = G[factors[place]]
        for other in range(place + 1):
            gram[place, other] = row[factors[other]]
            gram[other, place] = gram[place, other]
    return n


@_compiled
def _solve(gram, data, codes, n, alpha, positive):
    """Minimise over the codes of the working set, in place."""
    gradient = np.empty(n)
    active = np.empty(n, np.int64)
    target = np.empty(n)
    cholesky = np.empty((n, n))
    for _ in range(_SWEEPS):
        _correlate(gram, data, codes, n, gradient)
        n_quiet = 0
        for _ in range(_SWEEPS):
            n_quiet = n_quiet + 1 if _sweep(gram, codes, gradient, n, alpha, positive) == 0 else 0
            if n_quiet == 2:
                break
        while _step_to_exact(gram, data, codes, n, alpha, active, target, cholesky):
            pass
        _correlate(gram, data, codes, n, gradient)
        settled = True
        for place in range(n):
            value = gradient[place] if positive else abs(gradient[place])
            if codes[place] == 0 and value > alpha * (1 + 1e-10):
                settled = False
        if settled:
            break


@_compiled
def _correlate(gram, data, codes, n, gradient):
    gradient[:] = data[:n]
    for place in range(n):
        if codes[place] != 0:
            for other in range(n):
                gradient[other] -= codes[place] * gram[place, other]


@_compiled
def _sweep(gram, codes, gradient, n, alpha, positive):
    """Minimise over each code in turn; return how many became active or inactive."""
    n_switched = 0
    for place in range(n):
        curvature = gram[place, place]
        if curvature <= 0:
            continue
        old = codes[place]
        pull = gradient[place] + curvature * old
        new = 0.0
        if pull > alpha:
            new = (pull - alpha) / curvature
        elif pull < -alpha and not positive:
            new = (pull + alpha) / curvature
        if new != old:
            codes[place] = new
            for other in range(n):
                gradient[other] -= (new - old) * gram[place, other]
            if (new == 0) != (old == 0):
                n_switched += 1
    return n_switched


@_compiled
def _step_to_exact(gram, data, codes, n, alpha, active, target, cholesky):
    """
    Move the active codes to the minimum that their signs allow, or up to where the first of them reaches zero.

    Returns whether one reached zero, and the others have a way to go.
    """
    n_active = 0
    for place in range(n):
        if codes[place] != 0:
            active[n_active] = place
            n_active += 1
    dependent = _factorize(gram, active, n_active, cholesky)
    if dependent >= 0:
        # One factor is a combination of those before it: trade it for them, or them for it, at no loss of fit, in the
        # direction that lowers the L1 norm.
        for i in range(dependent):
            target[i] = gram[active[i], active[dependent]]
        _solve_factorized(cholesky, dependent, target)
        slope = np.sign(codes[active[dependent]])
        for i in range(dependent):
            slope -= np.sign(codes[active[i]]) * target[i]
        direction = 1.0 if slope < 0 else -1.0
        for i in range(dependent):
            target[i] *= -direction
        target[dependent] = direction
        n_active = dependent + 1
        longest = np.inf
    else:
        for i in range(n_active):
            target[i] = data[active[i]] - (alpha if codes[active[i]] > 0 else -alpha)
        _solve_factorized(cholesky, n_active, target)
        for i in range(n_active):
            target[i] -= codes[active[i]]
        longest = 1.0
    step, first = longest, -1
    for i in range(n_active):
        code = codes[active[i]]
        if code * target[i] < 0 and -code / target[i] <= step:
            step, first = -code / target[i], i
    if step == np.inf:
        return False
    for i in range(n_active):
        codes[active[i]] += step * target[i]
    if first >= 0:
        codes[active[first]] = 0.0
    return first >= 0


@_compiled
def _factorize(gram, active, n, cholesky):
    """Factorize gram[active, active]; return the first factor that depends on those before it, or -1."""
    for i in range(n):
        for j in range(i + 1):
            value = gram[active[i], active[j]]
            for k in range(j):
                value -= cholesky[i, k] * cholesky[j, k]
            if i > j:
                cholesky[i, j] = value / cholesky[j, j]
            elif value > 1e-9 * gram[active[i], active[i]]:
                cholesky[i, i] = np.sqrt(value)
            else:
                return i
    return -1


@_compiled
def _solve_factorized(cholesky, n, target):
    """Solve the system of the first n factors in place."""
    for i in range(n):
        for k in range(i):
            target[i] -= cholesky[i, k] * target[k]
        target[i] /= cholesky[i, i]
    for i in range(n - 1, -1, -1):
        for k in range(i + 1, n):
            target[i] -= cholesky[k, i] * target[k]
        target[i] /= cholesky[i, i]
