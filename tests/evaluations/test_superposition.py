import numpy as np
import pytest

from skfactors.evaluations import make_superposition


@pytest.fixture(scope="module")
def truth():
    return make_superposition(200, 24, n_roots=4, branching=3, depth=2, rank=3, random_state=1)


@pytest.fixture(scope="module")
def sample(truth):
    return truth.sample(3000)


def test_rows_are_sums_of_features_and_the_bias(truth, sample):
    X, activations = sample
    expected = activations.toarray() @ truth.features_ + truth.intercept_
    np.testing.assert_allclose(X, expected, atol=1e-4)


def test_a_row_is_the_same_whenever_it_is_asked_for(truth, sample):
    X, activations = truth.sample(700, first_row=200)
    np.testing.assert_array_equal(X, sample[0][200:900])
    np.testing.assert_array_equal(activations.toarray(), sample[1][200:900].toarray())


def test_parts_are_the_rows_of_one_sample(truth, sample):
    parts = list(truth.iter_rows(600, first_row=100))
    assert len(parts) > 1
    np.testing.assert_array_equal(np.concatenate([X for X, _ in parts]), sample[0][100:700])


def test_another_seed_makes_other_features_and_rows(truth):
    other = make_superposition(200, 24, n_roots=4, branching=3, depth=2, rank=3, random_state=2)
    assert not np.allclose(other.features_, truth.features_)
    assert not np.allclose(other.sample(5)[0], truth.sample(5)[0])


def test_a_child_is_active_only_where_its_parent_is(truth, sample):
    active = sample[1].toarray() > 0
    children = np.flatnonzero(truth.parents_ >= 0)
    assert len(children) == 4 * (3 + 9)
    assert active[:, children].any()
    assert not (active[:, children] & ~active[:, truth.parents_[children]]).any()


def test_of_siblings_one_is_active_at_most(truth, sample):
    active = sample[1].toarray() > 0
    for parent in np.unique(truth.parents_[truth.parents_ >= 0]):
        siblings = active[:, truth.parents_ == parent]
        assert siblings.shape[1] == 3
        assert siblings.sum(axis=1).max() <= 1


def test_a_child_is_as_strong_as_its_parent(sample, truth):
    activations = sample[1].toarray()
    child = int(np.argmax(truth.parents_ >= 0))
    parent = truth.parents_[child]
    active = activations[:, child] > 0
    own = activations[active, child] / (activations[active, parent] / truth.means_[parent])
    assert own.mean() == pytest.approx(truth.means_[child], rel=0.1)


def test_features_in_no_tree_are_as_frequent_as_asked(truth, sample):
    free = np.ones(200, dtype=bool)
    free[: 4 * 13] = False
    shares = (sample[1].toarray() > 0).mean(axis=0)
    assert shares[free].mean() == pytest.approx(truth.probabilities_[free].mean(), rel=0.05)
    assert truth.probabilities_[[0, -1]] == pytest.approx([0.4, 5e-4])


def test_correlation_is_that_of_the_loadings():
    truth = make_superposition(
        2, 4, n_roots=0, rank=1, correlation=1e3, most_frequent=0.4, least_frequent=0.4, random_state=0
    )
    active = truth.sample(2000)[1].toarray() > 0
    # Both share nearly all of what decides them, so that one is active where the other is, or where it is not.
    together = np.mean(active[:, 0] == active[:, 1])
    same_sign = np.prod(np.sign(truth.loadings_)) > 0
    assert together > 0.9 if same_sign else together < 0.3


def test_directions_are_spread_further_than_random_ones():
    features = make_superposition(128, 32, n_roots=0, rank=0).features_
    random = np.random.default_rng(0).standard_normal((128, 32))
    random /= np.linalg.norm(random, axis=1, keepdims=True)
    np.testing.assert_allclose(np.linalg.norm(features, axis=1), 1, rtol=1e-5)
    # 128² / 32 is the least that the sum of squared cosines can be.
    assert np.sum((features @ features.T) ** 2) == pytest.approx(128**2 / 32, rel=0.01)
    assert np.sum((random @ random.T) ** 2) > 1.1 * 128**2 / 32


def test_as_many_features_as_dimensions_become_orthogonal():
    features = make_superposition(16, 16, n_roots=0, rank=0).features_
    np.testing.assert_allclose(features @ features.T, np.eye(16), atol=0.05)


def test_probabilities_out_of_range_are_refused():
    with pytest.raises(ValueError, match="must be probabilities between 0 and 1"):
        make_superposition(8, 4, most_frequent=1.5)


@pytest.mark.parametrize("name", ["correlation", "bias", "exponent"])
def test_what_is_no_number_is_refused(name):
    with pytest.raises(ValueError, match=f"'{name}' parameter .* Got nan"):
        make_superposition(8, 4, **{name: np.nan})


def test_no_rows_are_refused(truth):
    with pytest.raises(ValueError, match="n_rows == 0, must be >= 1"):
        truth.sample(0)
