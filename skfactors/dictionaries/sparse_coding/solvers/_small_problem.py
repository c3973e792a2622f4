"""The small problem of the few factors of a row, solved in compiled code; and the sums that it is made of.

The names are those of `_working_set`: `gram` and `data` are
the parts of G = DDᵀ and b = Dx of these factors, `codes` theirs, in double precision, and `n` their number.
"""

import numpy as np

from skfactors.compiled import compile_with

_SWEEPS = 50
# Short sums are filled up to a multiple of this many terms: what is left over would be taken one at a time.
_STRIDE = 32

# Everything is compiled into the function that is called from Python. A function with code of its own would have it
# twice, optimised apart and so rounded apart: the process that compiles runs the one, those that load the other.
compiled = compile_with(forceinline=True)


@compiled
def copy(source, target, n):
    """Copy n values; an assignment of slices would be checked for shape, in much code."""
    for i in range(n):
        target[i] = source[i]


@compiled
def dot(left, right):
    total = 0.0
    for j in range(len(left)):
        total += float(left[j]) * float(right[j])
    return total


@compiled
def _filled_up(n):
    return (n + _STRIDE - 1) // _STRIDE * _STRIDE


@compiled
def subtract_reconstruction(target, codes, rows, factors, n):
    """Subtract the sum over i < n of codes[i] * rows[factors[i]] from target."""
    active = np.empty(n, np.int64)
    amounts = np.empty(n, target.dtype)
    n_active = 0
    for i in range(n):
        if codes[i] != 0:
            active[n_active], amounts[n_active] = factors[i], codes[i]
            n_active += 1
    _subtract_sum_of_rows(target, amounts, rows, active, n_active, 0)


@compiled
def _subtract_sum_of_rows(target, amounts, rows, places, n, first):
    """Subtract the sum over i < n of amounts[i] * rows[places[i], first:] from target."""
    n_in_fours = n - n % 4
    for i in range(0, n_in_fours, 4):
        a, b, c, d = amounts[i], amounts[i + 1], amounts[i + 2], amounts[i + 3]
        row_a, row_b = rows[places[i], first:], rows[places[i + 1], first:]
        row_c, row_d = rows[places[i + 2], first:], rows[places[i + 3], first:]
        for j in range(len(target)):
            target[j] -= (a * row_a[j] + b * row_b[j]) + (c * row_c[j] + d * row_d[j])
    for i in range(n_in_fours, n):
        a, row_a = amounts[i], rows[places[i], first:]
        for j in range(len(target)):
            target[j] -= a * row_a[j]


@compiled
def solve(gram, data, codes, n, alpha, positive, exactly):
    """
    Minimise over the codes of the working set, in place: until no code sets in or out, or exactly.

    Returns the correlations of the residual with the factors of the set, and a bound of its squared way.
    """
    before = codes[:n].copy()
    places = np.arange(n)
    inverse_curvature = np.zeros(n)
    for place in range(n):
        if gram[place, place] > 0:
            inverse_curvature[place] = 1 / gram[place, place]
    gradient = np.zeros(_filled_up(n))
    active = np.empty(n, np.int64)
    target = np.empty(n)
    cholesky = np.empty((n, n))
    copy(data, gradient, n)
    _subtract_sum_of_rows(gradient, codes, gram, places, n, 0)
    gradient_before = gradient[:n].copy()
    for _ in range(_SWEEPS):
        n_quiet = 0
        for _ in range(_SWEEPS):
            n_quiet = n_quiet + 1 if _sweep(gram, inverse_curvature, codes, gradient, n, alpha, positive) == 0 else 0
            if n_quiet == 2:
                break
        if not exactly:
            break
        while _step_to_exact(gram, data, codes, n, alpha, active, target, cholesky):
            pass
        copy(data, gradient, n)
        _subtract_sum_of_rows(gradient, codes, gram, places, n, 0)
        settled = True
        for place in range(n):
            value = gradient[place] if positive else abs(gradient[place])
            if codes[place] == 0 and value > alpha * (1 + 1e-10):
                settled = False
        if settled:
            break
    squared_way = total = 0.0
    for place in range(n):
        change = codes[place] - before[place]
        squared_way += change * (gradient_before[place] - gradient[place])
        total += abs(change)
    # What the rounding of the Gram matrix may hide.
    squared_way = max(squared_way, 0.0) + 4 * np.finfo(gram.dtype).eps * total * total
    return gradient, squared_way


@compiled
def _sweep(gram, inverse_curvature, codes, gradient, n, alpha, positive):
    """Minimise over each code in turn; return how many became active or inactive."""
    n_switched = 0
    for place in range(n):
        old = codes[place]
        pull = gradient[place] + gram[place, place] * old
        new = 0.0
        if pull > alpha:
            new = (pull - alpha) * inverse_curvature[place]
        elif pull < -alpha and not positive:
            new = (pull + alpha) * inverse_curvature[place]
        if new != old:
            codes[place] = new
            for other in range(len(gradient)):
                gradient[other] -= (new - old) * gram[place, other]
            if (new == 0) != (old == 0):
                n_switched += 1
    return n_switched


@compiled
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


@compiled
def _factorize(gram, active, n, cholesky):
    """Factorize gram[active, active] = LLᵀ; return the first factor that depends on those before it, or -1."""
    for i in range(n):
        for j in range(i + 1):
            cholesky[i, j] = gram[active[i], active[j]]
    for j in range(n):
        above = cholesky[j]
        diagonal = above[j]
        for k in range(j):
            diagonal -= above[k] * above[k]
        if diagonal <= 1e-9 * above[j]:
            return j
        above[j] = np.sqrt(diagonal)
        n_in_fours = n - (n - j - 1) % 4
        for i in range(j + 1, n_in_fours, 4):
            row_a, row_b, row_c, row_d = cholesky[i], cholesky[i + 1], cholesky[i + 2], cholesky[i + 3]
            a, b, c, d = row_a[j], row_b[j], row_c[j], row_d[j]
            for k in range(j):
                a -= above[k] * row_a[k]
                b -= above[k] * row_b[k]
                c -= above[k] * row_c[k]
                d -= above[k] * row_d[k]
            row_a[j], row_b[j], row_c[j], row_d[j] = a / above[j], b / above[j], c / above[j], d / above[j]
        for i in range(n_in_fours, n):
            a, row_a = cholesky[i, j], cholesky[i]
            for k in range(j):
                a -= above[k] * row_a[k]
            row_a[j] = a / above[j]
    return -1


@compiled
def _solve_factorized(cholesky, n, target):
    """Solve the system of the first n factors in place."""
    for i in range(n):
        value = target[i]
        for k in range(i):
            value -= cholesky[i, k] * target[k]
        target[i] = value / cholesky[i, i]
    for i in range(n - 1, -1, -1):
        value = target[i] / cholesky[i, i]
        target[i] = value
        for k in range(i):
            target[k] -= cholesky[i, k] * value
