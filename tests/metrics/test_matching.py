from itertools import permutations

import numpy as np
import pytest
from scipy import sparse

from skfactors.metrics import factor_match


@pytest.fixture
def random():
    return np.random.default_rng(0)


def mean_cosine_of_best_pairing(components_a, components_b):
    """Try every pairing; `components_a` has no more rows than `components_b`."""
    return max(
        np.mean(
            [
                a @ components_b[j] / np.sqrt((a @ a) * (components_b[j] @ components_b[j]))
                for a, j in zip(components_a, pairing, strict=True)
            ]
        )
        for pairing in permutations(range(len(components_b)), len(components_a))
    )


def test_it_is_the_mean_cosine_of_the_best_of_all_pairings(random):
    components_a, components_b = random.standard_normal((2, 5, 4))
    expected = mean_cosine_of_best_pairing(components_a, components_b)
    assert factor_match(components_a, components_b) == pytest.approx(expected)


def test_the_smaller_dictionary_sets_the_number_of_pairs(random):
    components_a, components_b = random.standard_normal((3, 4)), random.standard_normal((5, 4))
    expected = mean_cosine_of_best_pairing(components_a, components_b)
    assert factor_match(components_a, components_b) == pytest.approx(expected)
    assert factor_match(components_b, components_a) == pytest.approx(expected)


def test_order_and_scale_of_the_factors_do_not_matter(random):
    components = random.standard_normal((20, 6))
    shuffled = components[random.permutation(20)] * random.uniform(0.1, 10, (20, 1))
    assert factor_match(components, shuffled) == pytest.approx(1)


def test_the_matching_says_which_factor_went_with_which(random):
    components = random.standard_normal((20, 6))
    order = random.permutation(20)
    score, indices_a, indices_b, cosines = factor_match(components, components[order], return_matching=True)
    np.testing.assert_array_equal(indices_a, np.arange(20))
    np.testing.assert_array_equal(order[indices_b], indices_a)
    np.testing.assert_allclose(cosines, 1)
    assert score == np.mean(cosines)


def test_opposite_factors_score_minus_one():
    assert factor_match([[1.0, 2.0]], [[-2.0, -4.0]]) == pytest.approx(-1)


def test_rows_of_zeros_have_cosine_zero():
    assert factor_match(np.zeros((2, 3)), np.eye(3)) == 0
    assert factor_match(np.eye(2), [[1.0, 0.0], [0.0, 0.0]]) == 0.5


def test_rounding_never_carries_the_score_past_one(random):
    components = random.standard_normal((300, 3)).astype(np.float32)
    score, _, _, cosines = factor_match(components, components, return_matching=True)
    assert score <= 1 and cosines.max() <= 1


def test_dictionaries_of_different_widths_are_refused():
    with pytest.raises(ValueError, match="4 features but components_b has 3"):
        factor_match(np.ones((2, 4)), np.ones((2, 3)))


def test_factors_that_are_not_finite_are_refused():
    with pytest.raises(ValueError, match="^components_b holds 1 NaN"):
        factor_match(np.ones((1, 2)), [[1.0, np.nan]])


def test_sparse_factors_are_refused():
    with pytest.raises(TypeError, match="[Ss]parse"):
        factor_match(sparse.csr_array(np.eye(2)), np.eye(2))
