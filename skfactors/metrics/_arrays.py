"""What the metrics share: a check of dense arrays, and rows in batches."""

from sklearn.utils import check_array, gen_batches

from skfactors.codes import require_finite

ENTRIES_A_BATCH = 2**20


def check_dense(values, name):
    """Return `values` as a finite two-dimensional array of unchanged floating type."""
    values = check_array(values, dtype="numeric", ensure_all_finite=False, input_name=name)
    require_finite(values, name)
    return values


def row_batches(values):
    """Yield slices of rows that hold about a million entries each, so that float64 copies stay small."""
    n_rows, n_columns = values.shape
    # Codes that are all zero have no stored entries, and no batches.
    if n_rows:
        yield from gen_batches(n_rows, max(1, ENTRIES_A_BATCH // max(1, n_columns)))
