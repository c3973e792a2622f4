import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import r2_score

from skfactors.metrics.reconstruction import VarianceSums
from skfactors.reports.counting.sums import DIGIT_BITS, ExactSums

anything = st.floats(0, 1e300, allow_subnormal=True)


def sums_of(values, *, by=1):
    sums = ExactSums()
    for start in range(0, max(1, len(values)), by):
        part = np.array(values[start : start + by])
        sums.add(np.zeros(len(part), dtype=np.int64), part, 1)
    return sums


def exact(sums):
    unit = Fraction(2) ** (DIGIT_BITS * sums.lowest)
    digits = sums.digits.T.tolist()
    return [unit * sum(digit << (DIGIT_BITS * place) for place, digit in enumerate(column)) for column in digits]


@given(st.lists(anything, max_size=20), st.integers(1, 5))
def test_sums_of_numbers_of_any_size_are_exact(values, by):
    assert exact(sums_of(values, by=by)) == [sum(map(Fraction, values))]


@given(st.lists(anything, max_size=20), st.randoms(use_true_random=False))
def test_the_rounded_sum_does_not_depend_on_the_order(values, random):
    shuffled = random.sample(values, len(values))
    assert sums_of(values).rounded().tolist() == sums_of(shuffled, by=7).rounded().tolist()


@given(st.lists(st.floats(1e-30, 1e30), max_size=20))
def test_the_rounded_sum_is_the_true_one_but_for_the_last_bit(values):
    expected = math.fsum(values)
    assert abs(sums_of(values).rounded()[0] - expected) <= math.ulp(expected)


def test_numbers_too_small_to_matter_beside_others_are_not_lost():
    sums = sums_of([1.0] + [2.0**-80] * 2**10)
    assert exact(sums) == [1 + Fraction(2) ** -70]


@given(st.lists(st.lists(st.tuples(st.integers(0, 3), anything), max_size=8), max_size=5))
def test_merged_sums_are_those_of_all_parts(parts):
    merged = ExactSums()
    expected = [Fraction(0)] * 4
    for part in parts:
        sums = ExactSums()
        sums.add(np.array([group for group, _ in part], dtype=np.int64), np.array([value for _, value in part]), 4)
        # Where it is merged, its groups stand the other way round.
        merged.merge(sums, np.array([3, 2, 1, 0]), 4)
        for group, value in part:
            expected[3 - group] += Fraction(value)
    assert (exact(merged) or [0] * 4) == expected


def test_digits_are_carried_before_they_overflow(monkeypatch):
    monkeypatch.setattr("skfactors.reports.counting.sums.ADDITIONS_BEFORE_CARRYING", 3)
    sums = sums_of([2.0**32 - 1] * 50, by=2)
    assert (sums.digits < 2**34).all()
    assert exact(sums) == [50 * (2**32 - 1)]


@pytest.mark.parametrize("offset", [0.0, 3.0, 1e6])
def test_explained_variance_does_not_depend_on_how_rows_are_divided(offset):
    rng = np.random.default_rng(0)
    X = rng.normal(size=(300, 4)) * [1, 10, 0.1, 3] + offset
    reconstruction = X + rng.normal(size=X.shape) * 0.1

    def divided(bounds, order):
        total = VarianceSums()
        for number in order:
            rows = slice(bounds[number], bounds[number + 1])
            part = VarianceSums()
            part.add(X[rows], reconstruction[rows])
            total.merge(part)
        return float(f"{1 - total.explained_variance():.9g}")

    whole = divided([0, 300], [0])
    assert whole == divided([0, 7, 150, 151, 300], [2, 0, 3, 1]) == divided([0, 100, 200, 300], [1, 2, 0])
    assert 1 - whole == pytest.approx(r2_score(X, reconstruction, multioutput="variance_weighted"), rel=1e-8)


@pytest.mark.parametrize("value", [np.nan, np.inf, 1e200])
def test_rows_whose_squares_are_no_numbers_are_refused(value):
    X = np.array([[0.0], [value]])
    with pytest.raises(ValueError, match="NaN, infinite or too large"), np.errstate(all="ignore"):
        VarianceSums().add(X, np.zeros(X.shape))


def test_sums_of_variance_go_on_from_their_state():
    X = np.random.default_rng(0).normal(1e7, 1, size=(200, 3))
    whole, first, resumed = VarianceSums(), VarianceSums(), VarianceSums()
    first.add(X[:70], X[:70] + 0.1)
    resumed.restore(first.state())
    for sums, rows in ((whole, slice(0, 70)), (whole, slice(70, None)), (resumed, slice(70, None))):
        sums.add(X[rows], X[rows] + 0.1)
    assert resumed.explained_variance() == whole.explained_variance()
    expected = r2_score(X - 1e7, X - 1e7 + 0.1, multioutput="variance_weighted")
    assert whole.explained_variance() == pytest.approx(expected, abs=1e-7)
