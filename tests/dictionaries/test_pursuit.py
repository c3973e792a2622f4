"""Codes of at most so many factors, and codes refitted on their factors, against slow and obvious versions."""

import numpy as np
import pytest
import scipy.optimize
import torch
from support.problems import random_problem

from skfactors import SparseDictionary
from skfactors.dictionaries.sparse_coding.solvers.pursuit import Pursuit


def least_squares(x, atoms, positive):
    # SciPy 1.17 crashes on a matrix without columns.
    if positive and len(atoms):
        return scipy.optimize.nnls(atoms.T, x, maxiter=1000)[0]
    return np.linalg.lstsq(atoms.T, x, rcond=None)[0]


def plain_pursuit(x, components, most, positive):
    """Take in the factor that correlates most with the residual, refit all, drop those at zero."""
    chosen, residual = [], x
    while len(chosen) < most:
        correlations = components @ residual
        best = np.argmax(correlations if positive else np.abs(correlations))
        if best in chosen or (positive and correlations[best] <= 1e-9):
            break
        chosen.append(best)
        codes = least_squares(x, components[chosen], positive)
        chosen = [factor for factor, code in zip(chosen, codes, strict=True) if abs(code) > 1e-12]
        residual = x - least_squares(x, components[chosen], positive) @ components[chosen]
    return residual @ residual


def pursue(X, components, most, positive):
    solver = Pursuit(torch.tensor(components), n_nonzero_coefs=most, positive=positive)
    return solver.solve_sparse(torch.tensor(X))[0]


@pytest.mark.parametrize("positive", [True, False])
@pytest.mark.parametrize("most", [1, 2, 5, 40])
def test_pursuit_explains_what_a_slow_one_does(most, positive):
    X, components = random_problem(0, n_rows=40)
    codes = pursue(X, components, most, positive)
    squared = ((X - codes @ components) ** 2).sum(axis=1)
    plain = np.array([plain_pursuit(x, components, most, positive) for x in X])
    np.testing.assert_allclose(squared, plain, atol=1e-8)
    assert np.diff(codes.indptr).max() <= most


@pytest.mark.parametrize("positive", [True, False])
def test_pursued_codes_are_the_least_squares_codes_on_their_factors(positive):
    X, components = random_problem(1, n_rows=30)
    codes = pursue(X, components, 4, positive)
    for i, x in enumerate(X):
        active = codes.indices[codes.indptr[i] : codes.indptr[i + 1]]
        values = codes.data[codes.indptr[i] : codes.indptr[i + 1]]
        np.testing.assert_allclose(values, least_squares(x, components[active], positive), atol=1e-8)
        assert (np.diff(active) > 0).all()


def test_a_row_that_is_a_sum_of_two_orthogonal_factors_gets_just_these():
    codes = pursue(np.array([[3.0, 0.0, 2.0], [0.0, 0.0, 0.0]]), np.eye(3), 3, True)
    np.testing.assert_allclose(codes.toarray(), [[3, 0, 2], [0, 0, 0]])
    assert codes.nnz == 2


def test_pursuit_does_not_depend_on_the_order_or_number_of_rows(demo_rows):
    components = demo_rows[-200:] / np.linalg.norm(demo_rows[-200:], axis=1, keepdims=True)
    X = demo_rows[:300]
    codes = pursue(X, components, 8, True)
    order = np.random.default_rng(0).permutation(300)
    assert abs(pursue(X[order], components, 8, True) - codes[order]).max() < 1e-5
    assert abs(pursue(X[:7], components, 8, True) - codes[:7]).max() < 1e-5


@pytest.mark.parametrize("sparse_output", [True, False])
@pytest.mark.parametrize("positive_code", [True, False])
def test_debias_refits_codes_on_their_factors(demo_rows, positive_code, sparse_output):
    settings = {"alpha": 2.0, "positive_code": positive_code, "sparse_output": sparse_output, "random_state": 0}
    dictionary = SparseDictionary(48, max_iter=1, dtype="float64", **settings).fit(demo_rows[:2000])
    X = demo_rows[:60].astype(np.float64)
    plain, refitted = (dictionary.set_params(debias=debias).transform(X) for debias in (False, True))
    if sparse_output:
        plain, refitted = plain.toarray(), refitted.toarray()
    for x, before, after in zip(X, plain, refitted, strict=True):
        active = np.flatnonzero(before)
        expected = np.zeros_like(before)
        expected[active] = least_squares(x, dictionary.components_[active], positive_code)
        np.testing.assert_allclose(after, expected, atol=1e-8)


def test_debias_explains_more_of_real_activations_on_the_same_factors(demo_rows):
    dictionary = SparseDictionary(128, alpha=1.5, random_state=0).fit(demo_rows[:4000])
    plain = dictionary.score(demo_rows[-500:])
    assert dictionary.set_params(debias=True).score(demo_rows[-500:]) > plain + 0.04


def test_learning_by_pursuit_keeps_to_the_number_of_factors_and_explains_more_than_the_penalty(demo_rows):
    train, held_out = demo_rows[:4000], demo_rows[-500:]
    penalised = SparseDictionary(128, alpha=0.8, random_state=0).fit(train)
    n_active = penalised.transform(held_out).nnz // len(held_out)
    pursued = SparseDictionary(128, n_nonzero_coefs=n_active, random_state=0).fit(train)
    assert np.diff(pursued.transform(held_out).indptr).max() == n_active
    assert pursued.score(held_out) > penalised.score(held_out)


def test_with_a_number_of_factors_the_penalty_has_no_effect(demo_rows):
    X = demo_rows[:500]
    one, other = (
        SparseDictionary(32, n_nonzero_coefs=3, alpha=alpha, random_state=0).fit(X).components_ for alpha in (0.1, 9)
    )
    np.testing.assert_array_equal(one, other)
