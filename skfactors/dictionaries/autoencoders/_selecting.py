"""Which pre-activations of a row are kept, in compiled code: one row after the other, factors in ascending order."""

import numpy as np

from skfactors.compiled import compile_with

compiled = compile_with(forceinline=True)
# Values of which only the largest is looked at first: rows are searched where these maxima are large.
_CHUNK = 16


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
    work = np.empty(width, Z.dtype)
    n = 0
    for row in range(n_rows):
        z = Z[row]
        if magnitudes:
            for j in range(width):
                sizes[j] = abs(z[j])
        else:
            for j in range(width):
                sizes[j] = z[j]
        cutoff = cutoff_of(sizes, most, work)
        n_equal = most
        for j in range(width):
            n_equal -= sizes[j] > cutoff
        first = n
        for j in range(width):
            if sizes[j] >= cutoff:
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
def cutoff_of(sizes, most, work):
    """Return the value of which `most` others, itself included, are as large."""
    width = len(sizes)
    n_chunks = width // _CHUNK
    bound = -np.inf
    if n_chunks >= most:
        for chunk in range(n_chunks):
            largest = sizes[chunk * _CHUNK]
            for j in range(chunk * _CHUNK + 1, (chunk + 1) * _CHUNK):
                largest = max(largest, sizes[j])
            work[chunk] = largest
        # As many chunks have a value as large as this.
        bound = _largest_but(work, n_chunks, most)
    n = 0
    for j in range(width):
        # Without a branch, which nothing could foretell.
        work[n] = sizes[j]
        n += sizes[j] >= bound
    return _largest_but(work, n, most)


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
