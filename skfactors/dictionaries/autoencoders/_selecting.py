"""Which pre-activations of a row are kept, in compiled code: one row after the other, factors in ascending order."""

import numpy as np

from skfactors.compiled import compile_with

compiled = compile_with(forceinline=True, error_model="numpy")
# A row is first looked at in sets: at most so many values in each, and so many sets for each value that is kept.
_IN_A_SET, _SETS_FOR_EACH = 16, 4
_HALVINGS = 30
# Halving may stop at a bound that a few more are above than are kept, as a share of these.
_NEAR_ENOUGH = 0.25


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
    counts = np.empty(n_rows, np.int64)
    for row in range(n_rows):
        counts[row] = _count_above(Z[row], floor)
    total = counts.sum()
    # Room for one more, since what is not kept is written too, and then written over: a branch could not be foretold.
    factors = np.empty(total + 1, np.int32)
    values = np.empty(total + 1, Z.dtype)
    n = 0
    for row in range(n_rows):
        z = Z[row]
        for j in range(width):
            factors[n], values[n] = j, z[j]
            n += z[j] > floor[j]
    return counts, factors[:total], values[:total]


@compiled
def _count_above(values, floor):
    """Count values above a floor, in their own type, of which many are added up at a time."""
    zero, one = values.dtype.type(0), values.dtype.type(1)
    total = zero
    for j in range(len(values)):
        total += one if values[j] > floor[j] else zero
    return int(total)


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
    # Room for one more, as in `rows_above`.
    factors = np.empty(n_rows * most + 1, np.int32)
    values = np.empty(n_rows * most + 1, Z.dtype)
    sizes = np.empty(width, Z.dtype)
    candidates, sets = np.empty((2, width + 1), np.uint32)
    work = np.empty(width, Z.dtype)
    any_sign = not positive
    n = 0
    for row in range(n_rows):
        z = Z[row]
        if magnitudes:
            for j in range(width):
                sizes[j] = abs(z[j])
        else:
            sizes = z
        n_candidates = _find_candidates(sizes, most, work, sets, candidates)
        for i in range(n_candidates):
            work[i] = sizes[candidates[i]]
        cutoff, n_kept = _cut(work, n_candidates, most, most)
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
            is_equal = sizes[j] == cutoff
            is_kept = (sizes[j] > cutoff) | (is_equal & (n_equal > 0))
            n_equal -= is_equal
            factors[n], values[n] = j, z[j]
            # A zero is no code, whatever it is the largest of.
            n += is_kept & ((z[j] > 0) | ((z[j] < 0) & any_sign))
        counts[row] = n - first
    return counts, factors[:n].copy(), values[:n].copy()


@compiled
def _find_candidates(sizes, most, work, sets, candidates):
    """
    Fill in where values are among the largest, or not much smaller, and return how many.

    Sets of values, each of which is so far from the next in its set, are looked at by their largest: that at least
    `most` of these are above a bound means the same of the values, and no other sets need to be searched.
    """
    width = len(sizes)
    n_sets = max(width // _IN_A_SET, min(width, _SETS_FOR_EACH * most))
    tops = work[:n_sets]
    tops[:] = sizes[:n_sets]
    for first in range(n_sets, width, n_sets):
        part = sizes[first : first + n_sets]
        for j in range(len(part)):
            tops[j] = part[j] if part[j] > tops[j] else tops[j]
    bound = _cut(tops, n_sets, most, most + int(_NEAR_ENOUGH * most))[0]
    n_found = 0
    for j in range(n_sets):
        # Without a branch, which nothing could foretell.
        sets[n_found] = j
        n_found += tops[j] >= bound
    n = 0
    for first in range(0, width, n_sets):
        part = sizes[first : first + n_sets]
        for i in range(n_found):
            j = sets[i]
            if j >= len(part):
                break
            candidates[n] = first + j
            n += part[j] >= bound
    return n


@compiled
def _cut(values, n, least, most):
    """Return a value that `least` to `most` of n are no smaller than, found by halving, and how many; may be more."""
    low, high = values[0], values[0]
    for i in range(1, n):
        low = values[i] if values[i] < low else low
        high = values[i] if values[i] > high else high
    n_above_low = n
    for _ in range(_HALVINGS):
        if n_above_low <= most:
            break
        middle = low + (high - low) / 2
        n_above = _count(values, n, middle)
        if n_above >= least:
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
