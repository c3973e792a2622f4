import numpy as np
import pytest
from scipy import sparse
from scipy.optimize import minimize

from skfactors import SparseDictionary
from skfactors.metrics import amortization_gap


@pytest.fixture
def problem():
    rng = np.random.default_rng(0)
    components = rng.standard_normal((8, 5))
    components /= np.linalg.norm(components, axis=1, keepdims=True)
    return rng.standard_normal((6, 5)), rng.random((6, 8)), components


def best_objective(x, components, alpha, positive):
    """Minimise over the positive and the negative part of a code, by a general method."""

    def value(parts):
        code = parts[: len(components)] - parts[len(components) :]
        return ((x - code @ components) ** 2).sum() / 2 + alpha * parts.sum()

    bounds = [(0, None)] * len(components) + [(0, 0 if positive else None)] * len(components)
    options = {"maxiter": 10_000, "maxfun": 10**6, "ftol": 1e-15, "gtol": 1e-10}
    return minimize(value, np.zeros(2 * len(components)), bounds=bounds, method="L-BFGS-B", options=options).fun


@pytest.mark.parametrize("positive", [True, False])
def test_the_gap_is_the_excess_over_what_a_general_minimiser_finds(problem, positive):
    X, codes, components = problem
    reached = ((X - codes @ components) ** 2).sum() / 2 + 0.2 * np.abs(codes).sum()
    best = sum(best_objective(x, components, 0.2, positive) for x in X)
    assert amortization_gap(X, codes, components, 0.2, positive=positive) == pytest.approx(reached / best - 1, rel=1e-5)


def test_exact_codes_have_no_gap(demo_rows):
    dictionary = SparseDictionary(64, alpha=1.0, max_iter=1, tol=1e-5, random_state=0).fit(demo_rows[:2000])
    codes = dictionary.transform(demo_rows[:200])
    assert 0 <= amortization_gap(demo_rows[:200], codes, dictionary.components_, 1.0) < 1e-5


def test_sparse_codes_give_the_gap_of_dense_ones(problem):
    X, codes, components = problem
    codes[codes < 0.5] = 0
    as_sparse = sparse.csr_array(codes)
    assert amortization_gap(X, as_sparse, components, 0.2) == amortization_gap(X, codes, components, 0.2)


def test_rows_and_codes_of_zeros_have_no_gap():
    assert amortization_gap(np.zeros((2, 3)), np.zeros((2, 4)), np.eye(4, 3), 1.0) == 0


@pytest.mark.parametrize("shapes", [((6, 5), (5, 8), (8, 5)), ((6, 5), (6, 7), (8, 5)), ((6, 4), (6, 8), (8, 5))])
def test_shapes_that_do_not_fit_are_refused_by_name(shapes):
    with pytest.raises(ValueError, match="do not fit"):
        amortization_gap(*(np.ones(shape) for shape in shapes), 1.0)


def test_a_penalty_of_zero_is_refused(problem):
    with pytest.raises(ValueError, match="alpha"):
        amortization_gap(*problem, 0)
