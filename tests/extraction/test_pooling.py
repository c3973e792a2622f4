"""GroupPool: rows of a group that come in parts make one row, as if they had come together."""

import numpy as np
import pytest
from scipy.sparse import csr_array

from skfactors.extraction.pooling import POOLINGS, GroupPool

HOW = {
    "mean": lambda rows: rows.mean(axis=0),
    "sum": lambda rows: rows.sum(axis=0),
    "max": lambda rows: rows.max(axis=0),
    "first": lambda rows: rows[0],
    "last": lambda rows: rows[-1],
}


def test_every_way_of_pooling_is_tested():
    assert set(HOW) == set(POOLINGS)


@pytest.mark.parametrize("pooling", HOW)
@pytest.mark.parametrize("cuts", [(), (3,), (1, 2, 7, 8)])
def test_rows_that_come_in_parts_are_pooled_like_the_whole(pooling, cuts):
    values = -np.random.default_rng(0).random((9, 2))
    groups = np.array([0, 0, 0, 0, 2, 2, 3, 3, 3])
    pool = GroupPool(5, 2, pooling)
    for part in np.split(np.arange(9), cuts):
        pool.add(values[part], groups[part])
    pool.add(values[:0], groups[:0])
    expected = [HOW[pooling](values[groups == group]) if group in groups else [0, 0] for group in range(5)]
    np.testing.assert_allclose(pool.result(), expected)


@pytest.mark.parametrize("pooling", ["mean", "sum", "max"])
def test_sparse_rows_are_pooled_like_dense_ones(pooling):
    values = np.random.default_rng(0).standard_normal((9, 4)) * (np.arange(4) != 2)
    groups = np.array([0, 0, 0, 1, 3, 3, 3, 3, 4])
    dense, sparse = GroupPool(5, 4, pooling), GroupPool(5, 4, pooling)
    dense.add(values, groups)
    for rows in (slice(0, 5), slice(5, 9)):
        sparse.add(csr_array(values[rows]), groups[rows])
    np.testing.assert_allclose(sparse.result(), dense.result())
