"""Nested codes against a slow and obvious version, and what learning with them finds."""

import numpy as np
import pytest
import scipy.optimize
import torch
from support.problems import random_problem

from skfactors import FactorModel, SparseDictionary
from skfactors.dictionaries.sparse_coding.solvers.nested import Nested
from skfactors.evaluations import make_superposition
from skfactors.evaluations.truth import matched

SETTINGS = {"n_components": 24, "group_sizes": [4, 8, 12], "random_state": 0}


def least_squares(x, atoms, positive):
    if not len(atoms):
        return np.zeros(0)
    return scipy.optimize.nnls(atoms.T, x)[0] if positive else np.linalg.lstsq(atoms.T, x, rcond=None)[0]


def plain_nested(x, components, ends, threshold, positive):
    """Let in, group by group, what correlates enough with what is left; refit all, drop those at zero."""
    chosen, residual, start = [], x, 0
    for end in ends:
        correlations = components @ residual if positive else np.abs(components @ residual)
        chosen += [factor for factor in range(start, end) if correlations[factor] > threshold[factor]]
        codes = least_squares(x, components[chosen], positive)
        chosen = [factor for factor, code in zip(chosen, codes, strict=True) if code != 0]
        residual = x - codes[codes != 0] @ components[chosen]
        start = end
    code = np.zeros(len(components))
    code[chosen] = codes[codes != 0]
    return code


@pytest.mark.parametrize("positive", [True, False])
@pytest.mark.parametrize("scale", [0.3, 1.0, 3.0])
def test_nested_codes_are_those_of_a_slow_version(positive, scale):
    X, components = random_problem(0, n_rows=40)
    n_components = len(components)
    threshold = scale * np.linspace(0.5, 1.5, n_components)
    ends = (n_components // 4, n_components // 2, n_components)
    solver = Nested(torch.tensor(components), group_ends=ends, threshold=threshold, positive=positive)
    codes = solver.solve_sparse(torch.tensor(X))[0]
    expected = np.array([plain_nested(x, components, ends, threshold, positive) for x in X])
    assert codes.nnz > 0
    # Of more factors than dimensions, codes are not unique, and what they stand for is.
    np.testing.assert_allclose(codes @ components, expected @ components, atol=1e-7)
    if np.count_nonzero(expected, axis=1).max() < X.shape[1]:
        np.testing.assert_allclose(codes.toarray(), expected, atol=1e-7)


@pytest.mark.parametrize("settings", [{"alpha": 2.0}, {"n_nonzero_coefs": 4}])
def test_codes_of_real_rows_are_optimal_on_their_factors_and_leave_no_factor_out(demo_rows, settings):
    model = SparseDictionary(**SETTINGS, **settings, dtype="float64").fit(demo_rows[:2000])
    X = demo_rows[-50:].astype(np.float64)
    codes = model.transform(X).toarray()
    correlations = (X - codes @ model.components_) @ model.components_.T
    # Least squares on the active factors: nothing correlates with them any more.
    assert abs(correlations[codes > 0]).max() < 1e-8
    # Of the last group, which sees what the others leave, those left out are below their threshold.
    for x, code in zip(X, codes, strict=True):
        before = plain_nested(x, model.components_[:12], (4, 12), model.threshold_, True)
        left = model.components_[12:] @ (x - before @ model.components_[:12])
        let_in = left > model.threshold_[12:]
        assert not (code[12:] > 0)[~let_in].any()


def test_rows_have_as_many_factors_in_the_mean_as_asked_for(demo_rows):
    model = SparseDictionary(64, group_sizes=[0.25] * 4, n_nonzero_coefs=6, max_iter=8, random_state=0)
    model.fit(demo_rows[:6000])
    assert model.transform(demo_rows[-2000:]).nnz / 2000 == pytest.approx(6, rel=0.1)


def test_no_group_starves_on_real_rows(demo_rows):
    model = SparseDictionary(256, group_sizes=[0.125] * 8, n_nonzero_coefs=12, max_iter=4, random_state=0)
    model.fit(demo_rows[:-2000])
    frequency = (model.transform(demo_rows[-2000:]) != 0).mean(axis=0)
    # A quarter of what an eighth of the factors would have, less what 2,000 rows differ in.
    assert frequency.reshape(8, -1).sum(axis=1).min() > 0.8 * 0.25 * 12 / 8
    assert (frequency == 0).mean() < 0.05


def test_a_rare_factor_must_correlate_more_than_a_frequent_one(demo_rows):
    model = SparseDictionary(**SETTINGS, alpha=2.0).fit(demo_rows[:3000])
    frequency = (model.transform(demo_rows[:3000]) != 0).mean(axis=0)
    often, seldom = frequency > np.quantile(frequency, 0.75), frequency < np.quantile(frequency, 0.25)
    assert model.threshold_[often].mean() < model.threshold_[seldom].mean()


def test_nested_factors_are_more_of_the_features_that_rows_are_made_of():
    truth = make_superposition(256, 48, n_roots=4, depth=2, rank=4)
    X, _ = truth.sample(16_000)
    held_out, active = truth.sample(2000, first_row=2**40)
    found = {}
    for name, sizes in (("plain", None), ("nested", [0.125] * 8)):
        model = SparseDictionary(64, n_nonzero_coefs=6, group_sizes=sizes, max_iter=4, random_state=0).fit(X)
        _, cosines, f1 = matched(model.components_, model.transform(held_out), truth.features_, active)
        found[name] = cosines.mean(), f1.mean()
    assert found["nested"][0] > found["plain"][0] + 0.05
    assert found["nested"][1] > found["plain"][1] + 0.1


@pytest.mark.parametrize("settings", [{"alpha": 2.0}, {"n_nonzero_coefs": 4}])
def test_a_saved_nested_dictionary_codes_as_before_and_goes_on_learning(demo_rows, tmp_path, settings):
    model = SparseDictionary(**SETTINGS, **settings).fit(demo_rows[:2000])
    model.save(tmp_path)
    opened = FactorModel.load(tmp_path)
    assert opened.fingerprint() == model.fingerprint()
    assert (opened.transform(demo_rows[-50:]) != model.transform(demo_rows[-50:])).nnz == 0
    for each in (model, opened):
        each.partial_fit(demo_rows[2000:3000])
    np.testing.assert_allclose(opened.components_, model.components_, atol=1e-5)
    np.testing.assert_allclose(opened.threshold_, model.threshold_, rtol=1e-5)


class Stopped(Exception):
    pass


def test_a_nested_fit_that_was_stopped_ends_as_one_that_was_not(demo_rows, tmp_path, monkeypatch):
    from skfactors.dictionaries.sparse_coding.step import SparseCodingStep

    settings = {**SETTINGS, "n_nonzero_coefs": 4, "batch_size": 256}
    whole = SparseDictionary(**settings).fit(demo_rows[:2000])
    learn_from = SparseCodingStep.learn_from

    def stops(self, *batch):
        if self.n_steps == 9:
            raise Stopped
        return learn_from(self, *batch)

    kept = SparseDictionary(**settings, checkpoint_dir=tmp_path, checkpoint_every=1)
    monkeypatch.setattr(SparseCodingStep, "learn_from", stops)
    with pytest.raises(Stopped):
        kept.fit(demo_rows[:2000])
    monkeypatch.setattr(SparseCodingStep, "learn_from", learn_from)
    kept.fit(demo_rows[:2000])
    np.testing.assert_array_equal(kept.components_, whole.components_)
    np.testing.assert_array_equal(kept.threshold_, whole.threshold_)


def test_a_weight_of_two_is_a_row_given_twice(demo_rows):
    X = demo_rows[:600]
    weight = np.where(np.arange(600) < 200, 2.0, 1.0)
    settings = {**SETTINGS, "n_nonzero_coefs": 4, "batch_size": 4096, "dict_init": demo_rows[-24:]}
    weighted = SparseDictionary(**settings).fit(X, sample_weight=weight)
    repeated = SparseDictionary(**settings).fit(np.concatenate([X, X[:200]]))
    np.testing.assert_allclose(weighted.threshold_, repeated.threshold_, rtol=1e-4)


def test_groups_that_do_not_add_up_are_refused(demo_rows):
    with pytest.raises(ValueError, match="group_sizes add up to 23"):
        SparseDictionary(24, group_sizes=[4, 8, 11]).fit(demo_rows[:100])


def test_groups_set_after_the_fit_are_refused(demo_rows):
    model = SparseDictionary(24, random_state=0).fit(demo_rows[:100]).set_params(group_sizes=[4, 8, 12])
    with pytest.raises(ValueError, match="fit again"):
        model.transform(demo_rows[:10])
