import tracemalloc

import numpy as np
import pandas as pd
import pytest
from scipy import sparse
from sklearn.metrics import r2_score

from skfactors.metrics import explained_variance


@pytest.fixture
def rows_and_reconstruction():
    random = np.random.default_rng(0)
    X = random.standard_normal((50, 7)) * np.arange(1, 8) + 3
    return X, X + random.standard_normal(X.shape)


def test_it_is_one_ratio_of_sums_over_all_entries(rows_and_reconstruction):
    X, X_reconstructed = rows_and_reconstruction
    unexplained = variation = 0.0
    for i in range(50):
        for f in range(7):
            unexplained += (X[i, f] - X_reconstructed[i, f]) ** 2
            variation += (X[i, f] - X[:, f].sum() / 50) ** 2
    assert explained_variance(X, X_reconstructed) == pytest.approx(1 - unexplained / variation, rel=1e-12)


def test_it_agrees_with_scikit_learns_variance_weighted_r2(rows_and_reconstruction):
    expected = r2_score(*rows_and_reconstruction, multioutput="variance_weighted")
    assert explained_variance(*rows_and_reconstruction) == pytest.approx(expected, rel=1e-12)


def test_a_constant_feature_keeps_its_residual():
    X = np.array([[0.0, 5.0], [2.0, 5.0]])
    assert explained_variance(X, X + [0.0, 1.0]) == pytest.approx(1 - 2 / 2)


def test_many_batches_of_rows_give_what_one_does(rows_and_reconstruction, monkeypatch):
    at_once = explained_variance(*rows_and_reconstruction)
    monkeypatch.setattr("skfactors.metrics._arrays.ENTRIES_A_BATCH", 30)
    assert explained_variance(*rows_and_reconstruction) == pytest.approx(at_once, rel=1e-12)


def test_the_mean_row_explains_nothing(rows_and_reconstruction):
    X, _ = rows_and_reconstruction
    assert explained_variance(X, np.broadcast_to(X.mean(axis=0), X.shape)) == pytest.approx(0, abs=1e-12)


def test_an_exact_reconstruction_explains_everything(rows_and_reconstruction):
    X, _ = rows_and_reconstruction
    assert explained_variance(X, X) == 1


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_equal_rows_are_explained_only_by_an_exact_reconstruction(dtype):
    X = np.full((1001, 3), 0.1, dtype=dtype)
    assert explained_variance(X, X) == 1.0
    assert explained_variance(X, X + dtype(0.001)) == 0.0


def test_float32_sums_keep_float64_digits():
    random = np.random.default_rng(0)
    X = (1000 + random.standard_normal((200_000, 1))).astype(np.float32)
    X_reconstructed = (X + 0.5 * random.standard_normal(X.shape)).astype(np.float32)
    in_float64 = explained_variance(X.astype(np.float64), X_reconstructed.astype(np.float64))
    assert explained_variance(X, X_reconstructed) == pytest.approx(in_float64, rel=1e-10)


def test_no_float64_copy_of_all_rows_is_made():
    X = np.random.default_rng(0).standard_normal((80_000, 128), dtype=np.float32)
    tracemalloc.start()
    try:
        explained_variance(X, X)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < X.size * 8 / 2


def test_data_frames_are_read_as_arrays(rows_and_reconstruction):
    X, X_reconstructed = rows_and_reconstruction
    from_frames = explained_variance(pd.DataFrame(X), pd.DataFrame(X_reconstructed, index=range(100, 150)))
    assert from_frames == explained_variance(X, X_reconstructed)


def test_different_shapes_are_refused(rows_and_reconstruction):
    X, X_reconstructed = rows_and_reconstruction
    with pytest.raises(ValueError, match=r"\(50, 7\).*\(50, 1\)"):
        explained_variance(X, X_reconstructed[:, :1])


@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize("name", ["X", "X_reconstructed"])
def test_values_that_are_not_finite_are_counted_and_refused(rows_and_reconstruction, bad, name):
    arrays = dict(zip(("X", "X_reconstructed"), rows_and_reconstruction, strict=True))
    arrays[name][3, :2] = bad
    with pytest.raises(ValueError, match=f"^{name} holds 2 NaN or infinite values"):
        explained_variance(**arrays)


def test_no_rows_are_refused():
    with pytest.raises(ValueError, match="0 sample"):
        explained_variance(np.empty((0, 3)), np.empty((0, 3)))


def test_sparse_rows_are_refused(rows_and_reconstruction):
    X, X_reconstructed = rows_and_reconstruction
    with pytest.raises(TypeError, match="[Ss]parse"):
        explained_variance(X, sparse.csr_array(X_reconstructed))
