import pickle

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline

from skfactors.metrics import (
    best_below_l0,
    description_length_scorer,
    explained_variance_scorer,
    l0_scorer,
    sparsest_within,
)

SCORING = {"explained_variance": explained_variance_scorer, "l0": l0_scorer}
RULES = [sparsest_within(), best_below_l0(5)]
EVERY_RULE = pytest.mark.parametrize("rule", RULES, ids=repr)


def results(losses, l0s, loss="explained_variance"):
    """Look like `cv_results_`, where L0 is negated."""
    return {f"mean_test_{loss}": np.array(losses), "mean_test_l0": -np.array(l0s)}


def slow_sparsest_within(losses, l0s, tolerance):
    best = max(losses)
    winner = None
    for i in range(len(losses)):
        if losses[i] >= best - tolerance and (winner is None or l0s[i] < l0s[winner]):
            winner = i
    return winner


def slow_best_below_l0(losses, l0s, k):
    winner = None
    for i in range(len(losses)):
        if l0s[i] <= k and (winner is None or losses[i] > losses[winner]):
            winner = i
    return winner


@pytest.mark.parametrize("seed", range(20))
def test_the_rules_choose_as_a_plain_loop_does(seed):
    random = np.random.default_rng(seed)
    losses, l0s = random.integers(0, 10, 12) / 16, random.integers(3, 10, 12).astype(float)
    for tolerance in (0.0, 0.125, 0.25, 1.0):
        chosen = sparsest_within(tolerance=tolerance)(results(losses, l0s))
        assert chosen == slow_sparsest_within(losses, l0s, tolerance)
    for k in (l0s.min(), 6, 100):
        assert best_below_l0(k)(results(losses, l0s)) == slow_best_below_l0(losses, l0s, k)


def test_candidates_just_outside_the_tolerance_do_not_win():
    assert sparsest_within(tolerance=0.25)(results([1.0, 0.75, 0.749], [30.0, 20.0, 10.0])) == 1


def test_a_candidate_at_k_itself_may_win():
    assert best_below_l0(20)(results([1.0, 0.75, 0.5], [20.1, 20.0, 10.0])) == 1


def test_of_equal_candidates_the_first_wins():
    equals = results([0.5, 0.9, 0.9, 0.9], [9.0, 4.0, 4.0, 4.0])
    assert sparsest_within()(equals) == 1
    assert best_below_l0(5)(equals) == 1


def test_losses_in_other_units_keep_their_own_tolerance():
    bits = results([-900.0, -905.0, -950.0], [20.0, 10.0, 5.0], loss="description_length")
    assert sparsest_within("description_length", tolerance=10)(bits) == 1
    assert best_below_l0(10, "description_length")(bits) == 1


def test_the_sparsity_itself_may_be_the_loss():
    only_l0 = {"mean_test_l0": np.array([-9.0, -4.0, -5.0])}
    assert sparsest_within("l0", tolerance=1)(only_l0) == 1


@EVERY_RULE
@pytest.mark.parametrize(
    ("losses", "l0s"), [([np.nan, 0.9, 0.5], [1.0, 4.0, 5.0]), ([0.95, 0.9, 0.5], [np.nan, 4.0, 5.0])]
)
def test_failed_candidates_never_win(rule, losses, l0s):
    assert rule(results(losses, l0s)) == 1


def test_a_failed_candidate_does_not_set_the_standard():
    assert sparsest_within(tolerance=0.1)(results([5.0, 0.9, 0.85], [np.nan, 4.0, 3.0])) == 2


@EVERY_RULE
def test_only_failed_candidates_are_an_error(rule):
    with pytest.raises(ValueError, match="Every candidate has a NaN"):
        rule(results([np.nan, 0.9], [1.0, np.nan]))


def test_too_small_a_k_names_the_smallest_l0_reached():
    with pytest.raises(ValueError, match="mean L0 of 2 or less; the smallest reached is 4.25"):
        best_below_l0(2)(results([0.9, 0.8, np.nan], [9.0, 4.25, 1.0]))


@EVERY_RULE
def test_a_search_without_l0_is_told_which_scoring_to_pass(rule):
    with pytest.raises(
        ValueError,
        match=r"no mean_test_l0; .*\{'explained_variance': explained_variance_scorer, 'l0': l0_scorer\}",
    ):
        rule({"mean_test_explained_variance": np.array([0.5])})


@EVERY_RULE
def test_a_search_by_a_single_score_is_told_which_scoring_to_pass(rule):
    with pytest.raises(ValueError, match="no mean_test_explained_variance and no mean_test_l0; search with"):
        rule({"mean_test_score": np.array([0.5])})


def test_a_search_without_the_loss_is_told_its_name():
    with pytest.raises(ValueError, match="no mean_test_description_length; search with"):
        sparsest_within("description_length")(results([0.5], [1.0]))


@pytest.mark.parametrize("bad", [-0.1, np.nan])
def test_bounds_that_nothing_can_meet_are_refused(bad):
    with pytest.raises(ValueError, match="tolerance must be at least 0"):
        sparsest_within(tolerance=bad)
    with pytest.raises(ValueError, match="k must be at least 0"):
        best_below_l0(bad)


@EVERY_RULE
def test_rules_survive_pickling(rule):
    assert pickle.loads(pickle.dumps(rule)) == rule


def test_rules_show_their_parameters():
    assert repr(sparsest_within(tolerance=0.1)) == "SparsestWithin(loss='explained_variance', tolerance=0.1)"
    assert repr(best_below_l0(7)) == "BestBelowL0(k=7, loss='explained_variance')"


@pytest.fixture
def alphas():
    return [0.03, 0.1, 0.3, 1.0, 3.0]


@pytest.mark.parametrize("rule", [sparsest_within(tolerance=0.05), best_below_l0(4)], ids=repr)
def test_a_grid_search_refits_the_candidate_the_rule_chooses(sparse_model, dictionary_class, alphas, rule):
    factors, _, rows = sparse_model
    search = clone(GridSearchCV(dictionary_class(factors), {"alpha": alphas}, scoring=SCORING, refit=rule, cv=3)).fit(
        rows
    )
    losses = search.cv_results_["mean_test_explained_variance"]
    l0s = -search.cv_results_["mean_test_l0"]
    expected = {
        "SparsestWithin": lambda: slow_sparsest_within(losses, l0s, 0.05),
        "BestBelowL0": lambda: slow_best_below_l0(losses, l0s, 4),
    }[type(rule).__name__]()
    assert search.best_index_ == expected
    assert search.best_estimator_.alpha == alphas[expected]
    assert 0 < expected < len(alphas) - 1


@pytest.mark.parametrize("rule", [sparsest_within(tolerance=0.05), best_below_l0(4)], ids=repr)
def test_a_grid_search_over_a_pipeline_from_texts_refits_too(
    sparse_model, dictionary_class, word_vectors_class, alphas, rule
):
    factors, _, rows = sparse_model
    texts = [f"{i} {i + 1} {i + 2}" for i in range(0, 300, 3)]
    pipeline = make_pipeline(word_vectors_class(rows), dictionary_class(factors))
    search = GridSearchCV(
        pipeline,
        {f"{pipeline.steps[-1][0]}__alpha": alphas},
        scoring={**SCORING, "description_length": description_length_scorer},
        refit=rule,
        cv=3,
    ).fit(texts)
    assert search.best_index_ == rule(search.cv_results_)
    assert search.best_estimator_[-1].alpha == alphas[search.best_index_]
    assert 0 < search.best_index_ < len(alphas) - 1


def test_a_grid_search_without_l0_stops_with_the_advice(sparse_model, dictionary_class):
    factors, _, rows = sparse_model
    search = GridSearchCV(
        dictionary_class(factors),
        {"alpha": [0.3, 1.0]},
        scoring=explained_variance_scorer,
        refit=sparsest_within(),
        cv=3,
    )
    with pytest.raises(ValueError, match="'l0': l0_scorer"):
        search.fit(rows)
