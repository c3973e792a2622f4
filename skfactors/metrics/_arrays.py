"""Checks and sums over rows that the metrics share."""

import numpy as np
from scipy import sparse
from sklearn.utils import check_array, gen_batches

ENTRIES_A_BATCH = 2**20


def check_dense(values, name):
    """Return `values` as a finite two-dimensional array of unchanged floating type."""
    values = check_array(values, dtype="numeric", ensure_all_finite=False, input_name=name)
    _require_finite(values, name)
    return values


def check_codes(codes):
    """Return `codes` as a finite array or CSR matrix without duplicate entries, never altering the caller's."""
    codes = check_array(codes, accept_sparse="csr", dtype="numeric", ensure_all_finite=False, input_name="codes")
    if not sparse.issparse(codes):
        _require_finite(codes, "codes")
        return codes
    _require_finite(codes.data.reshape(-1, 1), "codes")
    if not codes.has_canonical_format:
        codes = codes.copy()
        codes.sum_duplicates()
    return codes


def row_batches(values):
    """Yield slices of rows that hold about a million entries each, so that float64 copies stay small."""
    n_rows, n_columns = values.shape
    # Codes that are all zero have no stored entries, and no batches.
    if n_rows:
        yield from gen_batches(n_rows, max(1, ENTRIES_A_BATCH // max(1, n_columns)))


def squared_deviations(X):
    """Return Σ‖x - μ‖² over the rows of `X`, μ being their mean; exactly 0 where all rows are equal."""
    # Means are taken of differences from the first row: equal rows then differ from their mean by exactly
    # nothing, and a large common offset costs no digits.
    origin = X[0].astype(np.float64)
    mean = origin + sum((X[rows] - origin).sum(axis=0) for rows in row_batches(X)) / len(X)
    return float(sum(np.square(X[rows] - mean).sum() for rows in row_batches(X)))


def _require_finite(values, name):
    n_bad = sum(values[rows].size - np.count_nonzero(np.isfinite(values[rows])) for rows in row_batches(values))
    if n_bad:
        raise ValueError(
            f"{name} holds {n_bad} NaN or infinite value{'s' if n_bad > 1 else ''}; "
            "remove or repair the rows concerned first."
        )
