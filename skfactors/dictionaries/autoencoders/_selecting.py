"""Which pre-activations of a row are kept, in compiled code: one row after the other, factors in ascending order."""

import numpy as np

from skfactors.compiled import compile_with

compiled = compile_with(forceinline=True, error_model="numpy")
# How many values stand for themselves by the largest of them when a row is first looked at.
_TOGETHER = 16
_HALVINGS = 30


@compiled
def rows_above(Z, floor):
    """
    Keep what is above a floor.

    Parameters
    ----------
    Z : ndarray of shape (n_rows, n_components)
    floor : ndarray of shape (n_components,)

    Returns
    -------
    counts : ndarray of int of shape (n_rows,)
    factors : ndarray of int32 of shape (counts.sum(),)
    values : ndarray of shape (counts.sum(),)
    """
    n_rows, width = Z.shape
    counts = np.zeros(n_rows, np.int64)
    for row in range(n_rows):
        n = 0
        for j in range(width):
            n += Z[row, j] > floor[j]
        counts[row] = n
    factors = np.empty(counts.sum(), np.int32)
    values = np.empty(len(factors), Z.dtype)
    n = 0
    for row in range(n_rows):
        for j in range(width):
            if Z[row, j] > floor[j]:
                factors[n], values[n] = j, Z[row, j]
                n += 1
    return counts, factors, values


@compiled
def rows_largest(Z, most, magnitudes, positive):
    """
    Keep the largest values of each row, of equal ones the first.

    Parameters
    ----------
    Z : ndarray of shape (n_rows, n_components)
    most : int
        How many.
    magnitudes : bool
        Whether values are compared without their signs.
    positive : bool
        Whether only positive values are kept.

    Returns
    -------
    counts, factors, values
        As of :func:`rows_above`.
    """
    n_rows, width = Z.shape
    most = min(most, width)
    counts = np.zeros(n_rows, np.int64)
    factors = np.empty(n_rows * most, np.int32)
    values = np.empty(n_rows * most, Z.dtype)
    sizes = np.empty(width, Z.dtype)
    candidates = np.empty(width + 1, np.int32)
    work = np.empty(width, Z.dtype)
    n = 0
    for row in range(n_rows):
        z = Z[row]
        if magnitudes:
            for j in range(width):
                sizes[j] = abs(z[j])
        else:
            sizes = z
        n_candidates = _find(sizes, _bound_of(sizes, most, work), candidates)
        for i in range(n_candidates):
            work[i] = sizes[candidates[i]]
        cutoff, n_kept = _cut(work, n_candidates, most)
        n_equal = n_candidates
        if n_kept > most:
            # Values that are equal, or almost.
            cutoff = _largest_but(work, n_candidates, most)
            n_equal = most
            for i in range(n_candidates):
                n_equal -= sizes[candidates[i]] > cutoff
        first = n
        for i in range(n_candidates):
            j = candidates[i]
            if sizes[j] < cutoff:
                continue
            if sizes[j] == cutoff:
                if n_equal == 0:
                    continue
                n_equal -= 1
            # A zero is no code, whatever it is the largest of.
            if z[j] != 0 and (z[j] > 0 or not positive):
                factors[n], values[n] = j, z[j]
                n += 1
        counts[row] = n - first
    return counts, factors[:n].copy(), values[:n].copy()


@compiled
def _bound_of(sizes, most, work):
    """Return a value that at least `most` others are no smaller than, and not many more."""
    n_sets = len(sizes) // _TOGETHER
    if n_sets < most:
        return sizes.dtype.type(-np.inf)
    for j in range(n_sets):
        work[j] = sizes[j]
    for first in range(n_sets, n_sets * _TOGETHER, n_sets):
        for j in range(n_sets):
            value = sizes[first + j]
            work[j] = value if value > work[j] else work[j]
    return _cut(work, n_sets, most)[0]


@compiled
def _cut(values, n, most):
    """Return a value that `most` of n are no smaller than, found by halving, and how many are, which may be more."""
    low, high = values[0], values[0]
    for i in range(1, n):
        low = values[i] if values[i] < low else low
        high = values[i] if values[i] > high else high
    n_above_low = n
    for _ in range(_HALVINGS):
        if n_above_low == most:
            break
        middle = low + (high - low) / 2
        n_above = _count(values, n, middle)
        if n_above >= most:
            low, n_above_low = middle, n_above
        else:
            high = middle
    return low, n_above_low


@compiled
def _count(values, n, bound):
    """Count values that are no smaller than a bound, in their own type, of which many are added up at a time."""
    zero, one = values.dtype.type(0), values.dtype.type(1)
    total = zero
    for i in range(n):
        total += one if values[i] >= bound else zero
    return int(total)


@compiled
def _find(sizes, bound, places):
    """Fill in where values are no smaller than a bound, and return how many are."""
    n = 0
    for j in range(len(sizes)):
        # Without a branch, which nothing could foretell.
        places[n] = j
        n += sizes[j] >= bound
    return n


@compiled
def _largest_but(values, n, rank):
    """Return the value that comes at a rank, the largest first, of n values that are moved about."""
    low, high, wanted = 0, n - 1, rank - 1
    while low < high:
        pivot = values[(low + high) // 2]
        i, j = low, high
        while i <= j:
            while values[i] > pivot:
                i += 1
            while values[j] < pivot:
                j -= 1
            if i <= j:
                values[i], values[j] = values[j], values[i]
                i += 1
                j -= 1
        if wanted <= j:
            high = j
        elif wanted >= i:
            low = i
        else:
            break
    return values[wanted]


@compiled
def rows_largest_of_groups(Z, n_groups):
    """Keep the largest value of each group of neighbours, if it is positive; else as :func:`rows_above`."""
    n_rows, width = Z.shape
    size = width // n_groups
    counts = np.zeros(n_rows, np.int64)
    factors = np.empty(n_rows * n_groups, np.int32)
    values = np.empty(n_rows * n_groups, Z.dtype)
    n = 0
    for row in range(n_rows):
        first = n
        for group in range(n_groups):
            best = group * size
            for j in range(best + 1, (group + 1) * size):
                if Z[row, j] > Z[row, best]:
                    best = j
            if Z[row, best] > 0:
                factors[n], values[n] = best, Z[row, best]
                n += 1
        counts[row] = n - first
    return counts, factors[:n].copy(), values[:n].copy()
