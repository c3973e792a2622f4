from itertools import permutations

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.metrics import f1_score

from skfactors import SparseDictionary
from skfactors.dictionaries import as_factor_model
from skfactors.evaluations import ground_truth, make_superposition, random_control
from skfactors.evaluations.controls import coded_by_pursuit
from skfactors.metrics import explained_variance, l0

FIRST_ROW = 10_000


@pytest.fixture(scope="module")
def truth():
    return make_superposition(32, 16, n_roots=2, branching=2, depth=1, rank=2, most_frequent=0.2, least_frequent=0.02)


@pytest.fixture(scope="module")
def dictionary(truth):
    return SparseDictionary(24, n_nonzero_coefs=2, max_iter=4, random_state=0).fit(truth.sample(2000)[0])


@pytest.fixture(scope="module")
def table(dictionary, truth):
    return ground_truth(dictionary, truth, n_rows=400, first_row=FIRST_ROW, n_resamples=100)


def figure(table, measure, scored="dictionary"):
    return table.set_index(["measure", "scored"]).loc[(measure, scored)]


def test_explained_variance_and_l0_are_those_of_the_metrics(table, dictionary, truth):
    X = truth.sample(400, first_row=FIRST_ROW)[0]
    assert figure(table, "explained_variance").value == pytest.approx(
        explained_variance(X, dictionary.reconstruct(X)), abs=1e-6
    )
    assert figure(table, "l0").value == pytest.approx(l0(dictionary.transform(X)))


def test_mcc_and_f1_are_those_of_the_best_of_all_pairings(truth):
    small = make_superposition(6, 4, n_roots=0, rank=0, most_frequent=0.5, least_frequent=0.2)
    dictionary = SparseDictionary(5, n_nonzero_coefs=2, random_state=0).fit(small.sample(300)[0])
    table = ground_truth(dictionary, small, n_rows=300, first_row=FIRST_ROW, controls=[], n_resamples=10)
    X, activations = small.sample(300, first_row=FIRST_ROW)
    fires, true = dictionary.transform(X).toarray() != 0, activations.toarray() != 0
    units = dictionary.components_ / np.linalg.norm(dictionary.components_, axis=1, keepdims=True)
    cosines = np.abs(units @ small.features_.T)
    best = max(permutations(range(6), 5), key=lambda pairing: cosines[range(5), pairing].sum())
    assert figure(table, "mcc").value == pytest.approx(cosines[range(5), best].mean(), rel=1e-5)
    expected = np.mean([f1_score(true[:, feature], fires[:, factor]) for factor, feature in enumerate(best)])
    assert figure(table, "f1").value == pytest.approx(expected)


def test_the_true_features_find_themselves(table):
    assert figure(table, "mcc", "true features").value == pytest.approx(1, abs=1e-5)


def test_controls_have_as_many_active_factors(table):
    active = table[table["measure"] == "l0"].set_index("scored")["value"]
    assert set(active.index) == {
        "dictionary",
        "random factors",
        "hidden dimensions",
        "principal components",
        "true features",
    }
    np.testing.assert_allclose(active.drop("true features"), active["dictionary"], atol=0.5)
    # With them, rows of fewer features than that are complete before.
    assert active["true features"] <= active["dictionary"]


def test_what_controls_are_made_equal_in_is_not_marked(table):
    assert figure(table, "l0").inside == ""


def test_a_dictionary_that_learned_finds_more_than_random_factors(table):
    for measure in ("explained_variance", "mcc"):
        learned = figure(table, measure)
        assert learned.low > figure(table, measure, "random factors").high
        assert "random factors" not in learned.inside


def test_random_factors_score_as_their_control_does(dictionary, truth):
    X = truth.sample(400, first_row=FIRST_ROW)[0]
    control = random_control(dictionary, X, random_state=5)
    table = ground_truth(
        control, truth, n_rows=400, first_row=FIRST_ROW, controls=["random factors"], n_resamples=200, random_state=1
    )
    assert figure(table, "mcc").inside == "random factors"


def test_a_control_scores_nothing_by_the_mean_row(truth):
    X = truth.sample(400, first_row=FIRST_ROW)[0]
    nothing = coded_by_pursuit(np.zeros((3, 16)), X.mean(axis=0), 1)
    table = ground_truth(nothing, truth, n_rows=400, first_row=FIRST_ROW, controls=[], n_resamples=50)
    assert figure(table, "explained_variance").value == pytest.approx(0, abs=1e-6)
    assert figure(table, "f1").value == 0


def test_the_same_seed_gives_the_same_table(table, dictionary, truth):
    again = ground_truth(dictionary, truth, n_rows=400, first_row=FIRST_ROW, n_resamples=100)
    assert again.equals(table)


def test_rows_of_another_width_are_refused(dictionary):
    with pytest.raises(ValueError, match="The dictionary has rows 16 wide, and the features 8."):
        ground_truth(dictionary, make_superposition(8, 8, n_roots=0, rank=0))


def test_an_unknown_control_is_refused(dictionary, truth):
    with pytest.raises(ValueError, match="There is no control 'luck'"):
        ground_truth(dictionary, truth, n_rows=10, controls=["luck"])


def test_random_control_is_of_the_same_size_and_lengths(dictionary, truth):
    control = as_factor_model(random_control(dictionary))
    lengths = np.linalg.norm(control.components_, axis=1)
    np.testing.assert_allclose(lengths, np.linalg.norm(dictionary.components_, axis=1), rtol=1e-5)
    X = truth.sample(200)[0]
    assert l0(control.transform(X)) == pytest.approx(2, abs=0.1)


def test_random_control_needs_rows_where_nothing_says_the_l0(truth):
    X = truth.sample(200)[0]
    penalised = SparseDictionary(8, alpha=2.0, random_state=0).fit(X)
    with pytest.raises(ValueError, match="pass rows, X, to count them on"):
        random_control(penalised)
    control = random_control(penalised, X)
    assert l0(control.transform(X)) == pytest.approx(l0(penalised.transform(X)), abs=0.5)


def test_differences_are_feature_by_feature_whatever_the_order_of_factors():
    small = make_superposition(6, 4, n_roots=0, rank=0, most_frequent=0.5, least_frequent=0.2)
    dictionary = SparseDictionary(8, n_nonzero_coefs=2, random_state=0).fit(small.sample(300)[0])
    turned = clone(dictionary).fit(small.sample(300)[0])
    turned.components_ = np.ascontiguousarray(dictionary.components_[::-1])
    controls = {"the same, turned": turned}
    table = ground_truth(dictionary, small, n_rows=300, first_row=FIRST_ROW, controls=controls, n_resamples=20)
    for measure in ("mcc", "f1"):
        control = figure(table, measure, "the same, turned")
        assert control.high > control.low
        np.testing.assert_allclose(control[["difference_low", "difference_high"]].astype(float), 0, atol=1e-6)
