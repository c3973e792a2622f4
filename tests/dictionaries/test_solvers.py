"""Codes against the optimality conditions, against scikit-learn, and their gap against the truth."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.decomposition import sparse_encode
from support.problems import random_problem

from skfactors.dictionaries.sparse_coding.objective import objective, relative_duality_gap
from skfactors.dictionaries.sparse_coding.solvers import SOLVERS
from skfactors.dictionaries.sparse_coding.solvers.fista import largest_eigenvalue_bound


def solve(X, components, alpha, positive=True, solver="fista", tol=1e-4, max_iter=5000):
    X, components = torch.tensor(X), torch.tensor(components)
    return SOLVERS[solver](components, alpha=alpha, positive=positive, tol=tol, max_iter=max_iter).solve(X)


@pytest.fixture(scope="module")
def real_problem(demo_rows):
    """Real activations, and a dictionary made of some of them."""
    components = demo_rows[-256:] / np.linalg.norm(demo_rows[-256:], axis=1, keepdims=True)
    return demo_rows[:300], components


@pytest.mark.parametrize("solver", sorted(SOLVERS))
@pytest.mark.parametrize("positive", [True, False])
@pytest.mark.parametrize("alpha", [0.3, 2.0])
def test_the_gap_on_real_activations_is_within_tol(real_problem, solver, positive, alpha):
    X, components = real_problem
    codes, gaps = solve(X, components, alpha, positive, solver)
    exact = [torch.tensor(array, dtype=torch.float64) for array in (X, codes.numpy(), components)]
    measured = relative_duality_gap(*exact, alpha, positive)
    assert measured.max() <= 1e-4
    np.testing.assert_allclose(gaps, measured, atol=1e-5)
    assert not positive or (codes >= 0).all()


@pytest.mark.parametrize("positive", [True, False])
def test_no_factor_is_overlooked_where_factors_are_of_unequal_length(real_problem, positive):
    X, components = real_problem
    components = components * np.linspace(0.5, 3, len(components), dtype=np.float32)[:, None]
    codes, _ = solve(X, components, 2.0, positive, "active_set")
    exact = [torch.tensor(array, dtype=torch.float64) for array in (X, codes.numpy(), components)]
    assert relative_duality_gap(*exact, 2.0, positive).max() <= 1e-4


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize("solver", sorted(SOLVERS))
@pytest.mark.parametrize("alpha", [0.5, 2.0])
def test_codes_of_real_activations_are_as_good_as_scikit_learns(real_problem, solver, alpha):
    X, components = real_problem
    codes, _ = solve(X, components, alpha, solver=solver)
    peer = sparse_encode(
        X.astype(np.float64),
        components.astype(np.float64),
        algorithm="lasso_cd",
        alpha=alpha,
        positive=True,
        max_iter=5000,
    )
    exact_X, exact_components = torch.tensor(X, dtype=torch.float64), torch.tensor(components, dtype=torch.float64)
    ours = objective(exact_X, codes.double(), exact_components, alpha)
    theirs = objective(exact_X, torch.tensor(peer), exact_components, alpha)
    assert ours.mean() <= theirs.mean() * (1 + 1e-4)
    np.testing.assert_allclose(ours, theirs, rtol=1e-4)


@pytest.mark.parametrize("solver", sorted(SOLVERS))
@pytest.mark.parametrize("positive", [True, False])
def test_tight_codes_meet_the_optimality_conditions(positive, solver):
    X, components = random_problem(0)
    codes, gaps = solve(X, components, 0.4, positive, solver, tol=1e-10, max_iter=50_000)
    assert gaps.max() <= 1e-10
    correlations = ((X - codes.numpy() @ components) @ components.T).ravel()
    codes = codes.numpy().ravel()
    active = codes != 0
    np.testing.assert_allclose(correlations[active], 0.4 * np.sign(codes[active]), atol=1e-4)
    assert (correlations if positive else abs(correlations)).max() <= 0.4 + 1e-4


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10_000), alpha=st.floats(0.05, 3), positive=st.booleans(), scale=st.floats(0, 2))
def test_the_gap_is_never_less_than_the_distance_from_the_optimum(seed, alpha, positive, scale):
    X, components = random_problem(seed, n_rows=5)
    best, _ = solve(X, components, alpha, positive, tol=1e-9, max_iter=100_000)
    noise = torch.tensor(np.random.default_rng(seed).standard_normal(best.shape)) * scale
    codes = (best + noise).clamp_min(0) if positive else best + noise
    arguments = torch.tensor(X), torch.tensor(components)
    primal = objective(arguments[0], codes, arguments[1], alpha)
    distance = (primal - objective(arguments[0], best, arguments[1], alpha)) / primal
    gap = relative_duality_gap(arguments[0], codes, arguments[1], alpha, positive)
    assert (gap >= distance - 1e-8).all()
    assert ((gap >= 0) & (gap <= 1)).all()


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    alpha=st.floats(0.01, 3),
    positive=st.booleans(),
    n_components=st.integers(1, 150),
    n_features=st.integers(1, 40),
)
def test_solvers_agree_on_the_objective(seed, alpha, positive, n_components, n_features):
    X, components = random_problem(seed, n_rows=4, n_components=n_components, n_features=n_features)
    X[1] = components[0] * 2  # a row that is a factor
    components[-1] = components[0]  # and a factor that is there twice
    values = []
    for solver in SOLVERS:
        codes, gaps = solve(X, components, alpha, positive, solver, tol=1e-6, max_iter=100_000)
        assert gaps.max() <= 1e-6
        values.append(objective(torch.tensor(X), codes, torch.tensor(components), alpha))
    np.testing.assert_allclose(values[0], values[1], rtol=1e-6)


@pytest.mark.parametrize("solver", sorted(SOLVERS))
def test_sparse_codes_are_the_dense_ones_with_sorted_indices(real_problem, solver):
    X, components = (torch.tensor(array) for array in real_problem)
    prepared = SOLVERS[solver](components, alpha=0.5, positive=True, tol=1e-4, max_iter=5000)
    sparse, dense = prepared.solve_sparse(X)[0], prepared.solve(X)[0]
    np.testing.assert_array_equal(sparse.toarray(), dense)
    assert (sparse.data != 0).all()
    for row in range(len(X)):
        indices = sparse.indices[sparse.indptr[row] : sparse.indptr[row + 1]]
        assert (np.diff(indices) > 0).all()


@pytest.mark.parametrize("solver", sorted(SOLVERS))
def test_rows_of_zeros_and_rows_below_the_penalty_get_empty_codes(solver):
    X, components = random_problem(1)
    X[0] = 0
    X[1] *= 1e-3
    codes, gaps = solve(X, components, 1.0, solver=solver)
    assert (codes[:2] == 0).all()
    assert (gaps[:2] == 0).all()


@pytest.mark.parametrize("solver", sorted(SOLVERS))
def test_a_component_of_zeros_is_never_used(solver):
    X, components = random_problem(2)
    components[3] = 0
    codes, gaps = solve(X, components, 0.2, solver=solver)
    assert (codes[:, 3] == 0).all()
    assert gaps.max() <= 1e-4


def test_a_wide_dictionary_is_coded_without_its_gram_matrix():
    X, components = random_problem(3, n_components=60, n_features=10)
    solver = SOLVERS["fista"](torch.tensor(components), alpha=0.3, positive=True, tol=1e-6, max_iter=20_000)
    assert solver.gram is None
    _, gaps = solver.solve(torch.tensor(X))
    assert gaps.max() <= 1e-6


@pytest.mark.parametrize("solver", sorted(SOLVERS))
def test_the_order_and_company_of_rows_change_no_code(real_problem, solver):
    X, components = real_problem
    together, _ = solve(X, components, 1.0, solver=solver)
    backwards, _ = solve(X[::-1].copy(), components, 1.0, solver=solver)
    alone = torch.cat([solve(row[None], components, 1.0, solver=solver)[0] for row in X[:10]])
    # A product of one row may be rounded otherwise than one of many, and steps end a rounding sooner or later.
    np.testing.assert_allclose(together.flip(0), backwards, atol=1e-4)
    np.testing.assert_allclose(together[:10], alone, atol=1e-4)


@pytest.mark.parametrize(("solver", "max_iter"), [("fista", 5), ("active_set", 1)])
def test_rows_that_run_out_of_steps_keep_the_gap_they_reached(solver, max_iter):
    X, components = random_problem(4)
    codes, gaps = solve(X, components, 0.05, solver=solver, max_iter=max_iter)
    assert gaps.max() > 1e-4
    measured = relative_duality_gap(torch.tensor(X), codes, torch.tensor(components), 0.05, True)
    np.testing.assert_allclose(gaps, measured, rtol=1e-6)


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10_000), n_components=st.integers(1, 40), n_features=st.integers(1, 20))
def test_the_eigenvalue_bound_is_above_and_within_ten_percent(seed, n_components, n_features):
    _, components = random_problem(seed, n_components=n_components, n_features=n_features)
    largest = np.linalg.norm(components, ord=2) ** 2
    bound = largest_eigenvalue_bound(torch.tensor(components))
    assert largest <= bound <= 1.1 * largest


def test_the_eigenvalue_bound_of_nothing_is_positive():
    assert largest_eigenvalue_bound(torch.zeros(3, 4)) > 0
