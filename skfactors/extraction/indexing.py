"""Rows by whatever NumPy takes as an index."""

import numpy as np


def row_numbers(index, n_rows: int) -> np.ndarray:
    """
    Return the numbers, from 0, of the rows that an index stands for.

    Parameters
    ----------
    index : int, slice, mask, array of int or anything else that indexes an array of one dimension
    n_rows : int

    Returns
    -------
    ndarray of int64
        Of the shape that the indexed array would have.

    Raises
    ------
    IndexError
        If rows are out of range, or a mask is of another length.
    """
    if isinstance(index, slice):
        return np.arange(*index.indices(n_rows))
    numbers = None if isinstance(index, tuple) or index is None else np.asarray(index)
    if numbers is None or numbers.dtype.kind not in "iu":
        # Masks, empty lists, `...` and the like, as NumPy reads them.
        return np.arange(n_rows)[index]
    numbers = numbers.astype(np.int64)
    outside = numbers[(numbers < -n_rows) | (numbers >= n_rows)]
    if outside.size:
        raise IndexError(f"row {outside.flat[0]} is out of range: there are {n_rows} rows.")
    return np.where(numbers < 0, numbers + n_rows, numbers)


def selected_rows(index, n_rows: int) -> np.ndarray | slice:
    """
    Return the rows of a table that an index stands for; a slice stays one.

    Raises
    ------
    IndexError
        As :func:`row_numbers`, and if the index has more than one dimension.
    TypeError
        If it is a single number.
    """
    if isinstance(index, tuple) and len(index) == 2 and is_all(index[1]):
        index = index[0]
    if isinstance(index, slice):
        return index
    numbers = row_numbers(index, n_rows)
    if numbers.ndim == 0:
        raise TypeError(f"rows are indexed several at a time: use [{numbers}:{numbers + 1}] for this one.")
    if numbers.ndim > 1:
        raise IndexError(f"rows are indexed by one dimension, and this index has {numbers.ndim}.")
    return numbers


def is_all(index) -> bool:
    """Say whether an index takes all there is: ``:`` or ``...``."""
    return index is Ellipsis or (isinstance(index, slice) and index == slice(None))
