"""Checks of codes and provenance, and the positive entries of codes as flat arrays."""

from dataclasses import dataclass

import numpy as np
from scipy import sparse

PROVENANCE_COLUMNS = ("document", "layer", "position", "start", "end")


@dataclass(frozen=True)
class Places:
    """Where each row of some codes came from, a column an array."""

    document: np.ndarray
    layer: np.ndarray
    position: np.ndarray
    start: np.ndarray
    end: np.ndarray

    def __len__(self):
        return len(self.document)

    def __getitem__(self, rows):
        return Places(*(getattr(self, name)[rows] for name in PROVENANCE_COLUMNS))


def check_codes(codes):
    """
    Return codes as a finite CSR or dense array without duplicate entries, leaving the caller's as it is.

    Parameters
    ----------
    codes : sparse array or array-like of shape (n_rows, n_components)

    Returns
    -------
    csr_array or ndarray of shape (n_rows, n_components)

    Raises
    ------
    ValueError
        If `codes` is not a table of numbers, or holds NaN or infinite values.
    """
    if sparse.issparse(codes):
        codes = sparse.csr_array(codes)
        if not codes.has_canonical_format:
            codes = codes.copy()
            codes.sum_duplicates()
        numbers = codes.data
    else:
        codes = numbers = np.asarray(codes)
    if codes.ndim != 2 or numbers.dtype.kind not in "buif":
        raise ValueError(
            f"codes must be a table of real numbers, a row per token and a column per factor; got "
            f"{codes.ndim} dimensions of {numbers.dtype}."
        )
    n_bad = numbers.size - np.count_nonzero(np.isfinite(numbers))
    if n_bad:
        raise ValueError(f"codes hold {n_bad} NaN or infinite values; remove or repair those rows first.")
    return codes


def check_places(provenance, n_rows):
    """
    Return the columns of provenance that reports read.

    Parameters
    ----------
    provenance : DataFrame of length n_rows
    n_rows : int
        Rows of the codes that it belongs to.

    Returns
    -------
    Places

    Raises
    ------
    ValueError
        If a column is missing or holds anything but integers, or there are more or fewer than `n_rows` rows.
    """
    missing = [name for name in PROVENANCE_COLUMNS if name not in provenance]
    if missing:
        raise ValueError(f"provenance lacks the columns {missing}.")
    if len(provenance) != n_rows:
        raise ValueError(
            f"codes have {n_rows} rows and provenance has {len(provenance)}; pass those of one extraction."
        )
    columns = {name: provenance[name].to_numpy() for name in PROVENANCE_COLUMNS}
    for name, column in columns.items():
        if column.dtype.kind not in "iu":
            raise ValueError(f"provenance column {name!r} holds {column.dtype}; it must hold integers.")
    return Places(**{name: column.astype(np.int64, copy=False) for name, column in columns.items()})


def check_texts(texts):
    """Refuse a bare string, whose characters would pass for documents."""
    if isinstance(texts, (str, bytes)):
        raise TypeError("texts is one string; pass a list of documents, even for a single one.")
    return texts


def positive_entries(codes):
    """
    List the entries of checked codes that are above zero.

    Parameters
    ----------
    codes : csr_array or ndarray of shape (n_rows, n_components)

    Returns
    -------
    rows, factors : ndarray of int of shape (n_entries,)
        Rows ascending.
    activations : ndarray of float64 of shape (n_entries,)
    """
    if sparse.issparse(codes):
        positive = codes.data > 0
        rows = np.repeat(np.arange(codes.shape[0]), np.diff(codes.indptr))[positive]
        factors, activations = codes.indices[positive], codes.data[positive]
    else:
        rows, factors = np.nonzero(codes > 0)
        activations = codes[rows, factors]
    return rows, factors.astype(np.int64), activations.astype(np.float64)
