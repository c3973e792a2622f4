"""Rows and weights at the ends of what a float holds: right, or refused by name; nothing is NaN, and no gap closes."""

import numpy as np
import pandas as pd
import pytest
import torch

from skfactors import SparseDictionary
from skfactors.dictionaries.sparse_coding.objective import relative_duality_gap
from skfactors.dictionaries.sparse_coding.solvers import SOLVERS
from skfactors.metrics import explained_variance, factor_match, l0

X = np.random.default_rng(0).random((120, 10), dtype=np.float32)
WEIGHT = np.random.default_rng(1).random(120)


def dictionary(**parameters):
    return SparseDictionary(6, **({"alpha": 0.2, "random_state": 0, "device": "cpu", "max_iter": 1} | parameters))


def with_value(value, dtype=np.float32):
    rows = X.astype(dtype)
    rows[3, 4] = value
    return rows


@pytest.mark.parametrize("learn", ["fit", "partial_fit"])
@pytest.mark.parametrize("value", [1e20, -1e30, 3e38])
def test_rows_whose_squares_overflow_are_not_learned_from(value, learn):
    with pytest.raises(ValueError, match=r"X holds values above 1e\+15, the first in row 3 .*dtype='float64'"):
        getattr(dictionary(), learn)(with_value(value))


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize("value", [1e20, 1e60])
def test_double_precision_learns_from_them(value):
    fitted = dictionary(dtype="float64").fit(with_value(value, np.float64))
    assert np.isfinite(fitted.components_).all()


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize(
    "settings", [*({"solver": name} for name in SOLVERS), {"debias": True}, {"n_nonzero_coefs": 3}]
)
@pytest.mark.parametrize("sparse", [True, False])
def test_a_row_whose_squares_overflow_is_coded_as_the_others_are_beside_it(settings, sparse):
    fitted = dictionary(**settings, sparse_output=sparse).fit(X)
    rows = X.copy()
    rows[1] *= np.float32(1e30)
    codes, alone = (np.asarray(of.todense()) if sparse else of for of in map(fitted.transform, (rows, X)))
    np.testing.assert_array_equal(np.delete(codes, 1, axis=0), np.delete(alone, 1, axis=0))
    residual = rows[1] - codes[1].astype(np.float64) @ fitted.components_
    assert np.linalg.norm(residual / 1e30) <= np.linalg.norm(X[1])
    assert np.isfinite(codes).all() and np.isfinite(fitted.score(rows))


def test_a_row_that_no_code_of_single_precision_could_stand_for_is_refused():
    with pytest.raises(ValueError, match=r"above 1e\+35, the first in row 3"):
        dictionary().fit(X).transform(with_value(1e40, np.float64))


def test_torch_codes_of_rows_that_overflow_are_refused():
    module = dictionary().fit(X).to_torch()
    for value in (1e20, float("nan")):
        with pytest.raises(ValueError, match="X holds values that are NaN, infinite or above"):
            module.encode(torch.from_numpy(with_value(value)))


def test_a_code_that_is_not_finite_has_a_gap_of_one():
    fitted = dictionary().fit(X)
    codes = fitted.transform(X).toarray()
    codes[0, 0], codes[1, 1] = np.nan, np.inf
    gaps = fitted.duality_gap(X, codes)
    assert (gaps[:2] == 1).all() and gaps[2:].max() <= 1e-4


def test_a_gap_that_cannot_be_told_is_open():
    rows = torch.full((1, 3), 1e30)
    assert relative_duality_gap(rows, torch.zeros(1, 3), torch.eye(3), 0.1, True).item() == 1


@pytest.mark.parametrize("weight", [np.where(np.arange(120) == 0, 1e40, 1), np.full(120, 1e-308), np.full(120, 1e308)])
def test_weights_whose_sums_overflow_or_vanish_are_refused(weight):
    with pytest.raises(ValueError, match="largest sample_weight is .* divide them by the largest"):
        dictionary().fit(X, sample_weight=weight)


def test_rows_and_weights_that_overflow_together_are_refused():
    with pytest.raises(ValueError, match="sums of rows and their weights overflow"):
        dictionary().fit(X * np.float32(1e14), sample_weight=WEIGHT * 1e20)


def test_a_weight_of_next_to_nothing_counts_as_none():
    weight = WEIGHT.copy()
    weight[:40] = 1e-308
    none = np.where(np.arange(120) < 40, 0, WEIGHT)
    one, other = (dictionary(batch_size=8).fit(X, sample_weight=of).components_ for of in (weight, none))
    np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("factor", [1e-20, 1e-38, 1e-44])
def test_rows_below_the_penalty_have_no_code_however_small_they_are(factor):
    fitted = dictionary().fit(X)
    rows = X * np.float32(factor)
    assert fitted.transform(rows).nnz == 0
    assert (fitted.duality_gap(rows, fitted.transform(rows)) == 0).all()


def test_a_pursuit_refuses_to_learn_from_rows_whose_squares_vanish():
    with pytest.raises(ValueError, match="too short to learn from: scale them up"):
        dictionary(n_nonzero_coefs=2).fit(X * np.float32(1e-30))


@pytest.mark.parametrize("alpha", [1e-80, 1e300])
def test_a_penalty_out_of_range_is_refused(alpha):
    with pytest.raises(ValueError, match="alpha"):
        dictionary(alpha=alpha).fit(X)


@pytest.mark.parametrize("name", ["batch_size", "max_solver_iter", "n_components", "n_nonzero_coefs", "alpha"])
def test_parameters_that_are_set_to_zero_after_fitting_are_refused(name):
    fitted = dictionary().fit(X).set_params(**{name: 0})
    with pytest.raises(ValueError, match=name):
        fitted.transform(X)


def test_components_to_start_from_that_are_huge_are_refused():
    with pytest.raises(ValueError, match="dict_init holds values above"):
        dictionary(dict_init=np.full((6, 10), 1e200)).fit(X)


@pytest.mark.parametrize("bad", [-WEIGHT, WEIGHT * np.nan, WEIGHT + np.inf, WEIGHT * 0, WEIGHT[:-1]])
@pytest.mark.parametrize("made", [pd.Series, torch.tensor, list])
def test_bad_weights_are_refused_for_a_store_as_for_an_array(demo_store_of_rows, bad, made):
    with pytest.raises(ValueError, match="sample_weight|weights"):
        dictionary().fit(demo_store_of_rows, sample_weight=made(bad))


def test_weights_of_a_store_are_taken_by_place(demo_store_of_rows):
    shuffled = pd.Series(WEIGHT, index=np.arange(120)[::-1])
    by_place = dictionary().fit(demo_store_of_rows, sample_weight=WEIGHT).components_
    for weight in (shuffled, torch.tensor(WEIGHT), WEIGHT.tolist()):
        np.testing.assert_array_equal(dictionary().fit(demo_store_of_rows, sample_weight=weight).components_, by_place)


@pytest.fixture
def demo_store_of_rows():
    """Stands in for an ActivationStore of the rows."""
    return StoreOfRows()


class StoreOfRows:
    shape, fingerprint, n_nonfinite, n_shards = X.shape, "rows", 0, 1

    def __len__(self):
        return len(X)

    def iter_shuffled(self, batch_size, random_state):
        order = random_state.permutation(len(X))
        for start in range(0, len(X), batch_size):
            rows = order[start : start + batch_size]
            yield rows, X[rows]


def test_metrics_of_numbers_that_cannot_be_squared_are_refused():
    small = np.array([[1e-200, 0], [0, 1e-200]])
    with pytest.raises(ValueError, match="vary too little"):
        explained_variance(small, 0 * small)
    with pytest.raises(ValueError, match="holds values above"):
        explained_variance(small * 1e300 * 1e100, small)
    with pytest.raises(ValueError, match="NaN"):
        l0([[np.nan, 1.0]])


@pytest.mark.parametrize("scale", [1e-200, 1e60])
def test_factors_of_any_length_are_matched(scale):
    assert factor_match(X[:5].astype(np.float64) * scale, X[:5]) == pytest.approx(1)
