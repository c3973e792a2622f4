import numpy as np
import pytest
from scipy import sparse

from skfactors.metrics import dead_fraction, density, l0

METRICS = [l0, density, dead_fraction]


@pytest.fixture
def codes():
    random = np.random.default_rng(0)
    codes = (random.random((30, 8)) < 0.3) * random.standard_normal((30, 8))
    codes[:, 5] = 0
    return codes


def test_l0_is_the_mean_number_of_nonzero_codes_a_row(codes):
    assert l0(codes) == sum(sum(code != 0 for code in row) for row in codes) / 30


def test_l0_is_exact_for_whole_numbers():
    assert l0(np.tile(np.eye(10), (7, 1))) == 1.0


def test_density_is_the_share_of_rows_in_which_a_factor_is_active(codes):
    expected = [sum(code != 0 for code in column) / 30 for column in codes.T]
    np.testing.assert_array_equal(density(codes), expected)


def test_dead_fraction_counts_factors_never_active(codes):
    codes[:, 2] = 0
    assert dead_fraction(codes) == sum(not any(column) for column in codes.T) / 8 == 2 / 8


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize(
    "to_sparse", [sparse.csr_array, sparse.csr_matrix, sparse.csc_array, sparse.coo_array, sparse.coo_matrix]
)
def test_sparse_codes_give_what_dense_ones_do(codes, metric, to_sparse):
    np.testing.assert_array_equal(metric(to_sparse(codes)), metric(codes))


@pytest.mark.parametrize("metric", METRICS)
def test_stored_zeros_do_not_count(codes, metric):
    stored = sparse.csr_array(codes)
    stored.data[::3] = 0
    np.testing.assert_array_equal(metric(stored), metric(stored.toarray()))


@pytest.mark.parametrize("metric", METRICS)
def test_duplicate_entries_count_once_and_cancelling_ones_not_at_all(metric):
    duplicates = sparse.csr_array(
        (np.array([1.0, 1.0, 2.0, -2.0]), np.array([0, 0, 1, 1]), np.array([0, 2, 4])), shape=(2, 3)
    )
    np.testing.assert_array_equal(metric(duplicates), metric(duplicates.toarray()))


@pytest.mark.parametrize("metric", METRICS)
def test_the_callers_codes_are_left_as_they_were(metric):
    duplicates = sparse.csr_array((np.array([1.0, 1.0]), np.array([0, 0]), np.array([0, 2])), shape=(1, 2))
    metric(duplicates)
    assert duplicates.nnz == 2


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("container", [np.asarray, sparse.csr_array])
def test_codes_that_are_not_finite_are_refused(codes, metric, container):
    codes[0, 0] = np.nan
    with pytest.raises(ValueError, match="^codes holds 1 NaN or infinite value;"):
        metric(container(codes))


@pytest.mark.parametrize("metric", METRICS)
def test_no_rows_are_refused(metric):
    with pytest.raises(ValueError, match=r"codes of shape \(0, 4\) are empty"):
        metric(np.empty((0, 4)))


@pytest.mark.parametrize("metric", METRICS)
def test_a_single_row_must_be_two_dimensional(metric):
    with pytest.raises(ValueError, match="must be a 2D array of real numbers"):
        metric(np.ones(4))


def test_codes_without_any_entry_are_counted_as_zeros():
    empty = sparse.csr_array((5, 3))
    assert (l0(empty), dead_fraction(empty), density(empty).tolist()) == (0, 1, [0, 0, 0])
