import math
import tracemalloc

import numpy as np
import pytest
from scipy import sparse
from scipy.special import entr
from scipy.stats import norm
from sklearn.decomposition import sparse_encode

from skfactors.metrics import description_length, l0


def slow_description_length(X, codes, components, precision=0.1):
    n_rows, n_features = X.shape
    step = precision * math.sqrt(np.mean((X - X.mean(axis=0)) ** 2))
    bits = 0.0
    for column in codes.T:
        p = sum(code != 0 for code in column) / n_rows
        bits += sum(-q * math.log2(q) for q in (p, 1 - p) if q > 0)
    sizes = [
        abs(codes[i, j]) * math.sqrt(sum(components[j] ** 2))
        for i in range(n_rows)
        for j in range(codes.shape[1])
        if codes[i, j] != 0
    ]
    if sizes:
        bits_a_value = max(0.0, math.log2(math.e * sum(sizes) / len(sizes) / step)) + bool((codes < 0).any())
        bits += len(sizes) / n_rows * bits_a_value
    residual = X - codes @ components
    for f in range(n_features):
        variance = sum(residual[:, f] ** 2) / n_rows
        bits += 0.5 * math.log2(1 + 2 * math.pi * math.e * variance / step**2)
    return bits


@pytest.mark.parametrize("precision", [0.01, 0.1, 0.5, 100.0])
@pytest.mark.parametrize("signs", ["non-negative", "both"])
def test_it_is_the_sum_of_positions_values_and_residual(sparse_model, precision, signs):
    factors, codes, X = sparse_model
    if signs == "both":
        codes = codes * np.where(np.arange(codes.shape[1]) % 2, 1, -1)
    components = factors * np.linspace(0.5, 2, len(factors))[:, np.newaxis]
    bits = description_length(X, codes, components, precision=precision)
    assert bits == pytest.approx(slow_description_length(X, codes, components, precision), rel=1e-10)


def test_it_is_shortest_in_between_and_near_the_sparsity_that_made_the_rows(sparse_model):
    factors, true_codes, X = sparse_model
    bits, sparsity = [], []
    for alpha in np.geomspace(0.01, 8, 12):
        codes = sparse_encode(X, factors, algorithm="lasso_cd", alpha=alpha, positive=True, max_iter=5000)
        bits.append(description_length(X, codes, factors))
        sparsity.append(l0(codes))
    best = int(np.argmin(bits))
    assert bits[0] - bits[best] > 1 and bits[-1] - bits[best] > 1
    assert l0(true_codes) / 2 < sparsity[best] < l0(true_codes) * 2


def test_the_factors_that_made_the_rows_tell_them_in_fewer_bits_than_random_ones(sparse_model):
    factors, _, X = sparse_model
    random_factors = np.random.default_rng(1).standard_normal(factors.shape)
    random_factors /= np.linalg.norm(random_factors, axis=1, keepdims=True)
    true_bits, random_bits = (
        description_length(X, sparse_encode(X, d, algorithm="lasso_cd", alpha=0.3, positive=True), d)
        for d in (factors, random_factors)
    )
    assert true_bits < random_bits


@pytest.mark.parametrize("to_sparse", [sparse.csr_array, sparse.csr_matrix, sparse.csc_array])
def test_sparse_codes_give_what_dense_ones_do(sparse_model, to_sparse):
    factors, codes, X = sparse_model
    dense_bits = description_length(X, codes, factors)
    assert description_length(X, to_sparse(codes), factors) == pytest.approx(dense_bits, rel=1e-12)


def test_stored_zeros_take_no_bits(sparse_model):
    factors, codes, X = sparse_model
    stored = sparse.csr_array(codes + 1)
    stored.data -= 1
    stored.data[codes.ravel() == 0] = 0
    assert stored.nnz == codes.size
    bits = description_length(X, stored, factors)
    assert bits == pytest.approx(description_length(X, codes, factors), rel=1e-12)


def test_duplicate_entries_are_one_code(sparse_model):
    factors, codes, X = sparse_model
    n_rows, n_components = codes.shape
    halves = np.repeat(codes.ravel() / 2, 2)
    columns = np.repeat(np.tile(np.arange(n_components), n_rows), 2)
    starts = np.arange(n_rows + 1) * 2 * n_components
    duplicates = sparse.csr_array((halves, columns, starts), shape=codes.shape)
    bits = description_length(X, duplicates, factors)
    assert bits == pytest.approx(description_length(X, codes, factors), rel=1e-12)


def test_scaling_factors_up_and_codes_down_gains_nothing(sparse_model):
    factors, codes, X = sparse_model
    scale = np.geomspace(1e-3, 1e3, len(factors))
    bits = description_length(X, codes / scale, factors * scale[:, np.newaxis])
    assert bits == pytest.approx(description_length(X, codes, factors), rel=1e-9)


def test_the_unit_of_the_activations_does_not_matter(sparse_model):
    factors, codes, X = sparse_model
    bits = description_length(1000 * X, 1000 * codes, factors)
    assert bits == pytest.approx(description_length(X, codes, factors), rel=1e-9)


def test_many_batches_of_rows_give_what_one_does(sparse_model, monkeypatch):
    factors, codes, X = sparse_model
    at_once = description_length(X, sparse.csr_array(codes), factors)
    monkeypatch.setattr("skfactors.metrics._arrays.ENTRIES_A_BATCH", 100)
    in_batches = description_length(X, sparse.csr_array(codes), factors)
    assert in_batches == pytest.approx(at_once, rel=1e-12)


def test_a_residual_of_nothing_takes_no_bits():
    X = np.kron(np.eye(2), np.ones((4, 4)))
    positions = 2 * 1.0
    values = math.log2(math.e * 2 / (0.1 * 0.5))
    assert description_length(X, X[:, ::4], X[::4]) == pytest.approx(positions + values)


def test_the_residual_takes_more_bits_the_larger_it_is():
    X = np.random.default_rng(0).standard_normal((30, 2))
    lengths = []
    # Every row has a factor of its own, turned away from it: only the residual changes with the angle.
    for angle in np.linspace(0, np.pi, 8):
        turn = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
        lengths.append(description_length(X, np.eye(30), X @ turn))
    assert np.all(np.diff(lengths) > 0)


@pytest.mark.parametrize("deviation", np.geomspace(0.01, 20, 12))
def test_the_residuals_bits_are_close_to_the_entropy_of_a_gaussian_on_the_grid(deviation):
    X = np.array([[1.0], [-1.0]])
    codes, components = np.zeros((2, 1)), np.ones((1, 1))
    bits = description_length(X, codes, components, precision=1 / deviation)
    edges = np.arange(-int(10 * deviation) - 3, int(10 * deviation) + 4) + 0.5
    exact = entr(np.diff(norm.cdf(edges / deviation))).sum() / math.log(2)
    assert -0.05 < bits - exact < 0.3


def test_a_negative_code_takes_a_bit_more_for_every_value(sparse_model):
    factors, codes, X = sparse_model
    mirrored = factors.copy()
    mirrored[0] *= -1
    flipped = codes.copy()
    flipped[:, 0] *= -1
    more = description_length(X, flipped, mirrored) - description_length(X, codes, factors)
    assert more == pytest.approx(l0(codes))


def test_a_coarse_grid_never_makes_it_negative(sparse_model):
    factors, codes, X = sparse_model
    assert description_length(X, 1e-6 * codes, factors, precision=1e6) >= 0


@pytest.mark.parametrize("value", [0.0, 0.1, 7.0])
def test_equal_rows_take_no_bits_once_told_by_an_ever_active_factor_of_that_size(value):
    X = np.full((9, 4), value)
    untold = description_length(X, np.zeros((9, 1)), np.ones((1, 4)))
    told = description_length(X, np.ones((9, 1)), X[:1])
    only_the_value = math.log2(math.e * 2 / 0.1) if value else 0
    assert told == pytest.approx(only_the_value)
    assert untold == pytest.approx(4 * 0.5 * math.log2(1 + 2 * math.pi * math.e * 100) if value else 0)


def test_no_float64_copy_of_all_rows_is_made():
    random = np.random.default_rng(0)
    X = random.standard_normal((80_000, 128), dtype=np.float32)
    codes = sparse.csr_array(np.maximum(random.standard_normal((80_000, 16)) - 2, 0))
    tracemalloc.start()
    try:
        description_length(X, codes, np.eye(16, 128))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < X.size * 8 / 2


@pytest.mark.parametrize(
    ("codes_shape", "components_shape", "message"),
    [
        ((5, 2), (2, 3), "X has 4 rows but codes has 5"),
        ((4, 2), (3, 3), "codes has 2 columns but components has 3 rows"),
        ((4, 2), (2, 5), "X has 3 features but components has 5"),
    ],
)
def test_shapes_that_do_not_fit_are_refused(codes_shape, components_shape, message):
    with pytest.raises(ValueError, match=message):
        description_length(np.eye(4, 3), np.ones(codes_shape), np.ones(components_shape))


@pytest.mark.parametrize("name", ["X", "codes", "components"])
def test_values_that_are_not_finite_are_refused(name):
    arrays = {"X": np.eye(4, 3), "codes": np.ones((4, 2)), "components": np.ones((2, 3))}
    arrays[name][1, 1] = np.inf
    with pytest.raises(ValueError, match=f"^{name} holds 1 NaN or infinite value;"):
        description_length(**arrays)


@pytest.mark.parametrize("precision", [0, -0.1, np.nan, np.inf])
def test_a_precision_that_is_not_positive_is_refused(precision):
    with pytest.raises(ValueError, match="precision must be a positive number"):
        description_length(np.eye(4, 3), np.ones((4, 2)), np.ones((2, 3)), precision=precision)
