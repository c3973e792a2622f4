"""Factors near a factor: by the direction of their atoms, and by the places where they fire."""

import numpy as np
import pandas as pd
from scipy import sparse
from sklearn.preprocessing import normalize
from sklearn.utils import gen_batches

from skfactors.reports.counting.entries import largest_in_groups

N_NEIGHBOURS = 10
NEIGHBOUR_COLUMNS = ("factor", "neighbour", "similarity")
FACTORS_AT_ONCE = 512


def nearest_directions(components, k=N_NEIGHBOURS) -> pd.DataFrame:
    """
    List for each factor those whose atoms point in the most similar directions.

    Parameters
    ----------
    components : ndarray of shape (n_components, n_features)
    k : int, default=10
        Neighbours of a factor, at most.

    Returns
    -------
    DataFrame
        Columns `factor`, `neighbour` and `similarity`, the cosine, where it is above zero; by factor, nearest first.
    """
    return _nearest(normalize(np.asarray(components, dtype=np.float64)), k)


def nearest_by_contexts(contexts, n_components, k=N_NEIGHBOURS) -> pd.DataFrame:
    """
    List for each factor those that fire in the same places.

    Parameters
    ----------
    contexts : DataFrame
        Top contexts, with columns `factor`, `document` and `position`.
    n_components : int
    k : int, default=10
        Neighbours of a factor, at most.

    Returns
    -------
    DataFrame
        Columns `factor`, `neighbour` and `similarity`; by factor, nearest first. The similarity of two factors is the
        number of places, tokens in whatever layer, that are in the top contexts of both, divided by the geometric mean
        of the numbers that each has. Factors that share no place are not neighbours.
    """
    places = contexts.groupby(["document", "position"]).ngroup().to_numpy()
    factors = contexts["factor"].to_numpy()
    shape = n_components, int(places.max(initial=-1)) + 1
    fires = sparse.csr_array((np.ones(len(places)), (factors, places)), shape=shape)
    fires.sum_duplicates()
    fires.data[:] = 1
    return _nearest(normalize(fires) if fires.nnz else fires, k)


def _nearest(unit_rows, k):
    tables = [_nearest_of(batch, unit_rows, k) for batch in gen_batches(unit_rows.shape[0], FACTORS_AT_ONCE)]
    return pd.concat(tables, ignore_index=True)


def _nearest_of(batch, unit_rows, k):
    similarities = sparse.coo_array(unit_rows[batch] @ unit_rows.T)
    others = (similarities.row + batch.start != similarities.col) & (similarities.data > 0)
    factors = similarities.row[others].astype(np.int64) + batch.start
    neighbours, values = similarities.col[others].astype(np.int64), similarities.data[others]
    chosen, _ = largest_in_groups(factors, values, k)
    columns = factors[chosen], neighbours[chosen], np.minimum(values[chosen], 1.0)
    return pd.DataFrame(dict(zip(NEIGHBOUR_COLUMNS, columns, strict=True)))
