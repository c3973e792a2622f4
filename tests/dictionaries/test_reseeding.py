"""Where silent factors are pointed, against the same choice made step by step."""

import numpy as np
import pytest

from skfactors.dictionaries.autoencoders.reseeding import spread


def slowly_spread(left, rows, n_directions, own_residual):
    heard, directions, lengths = [], [], []
    for _ in range(n_directions):
        heard_of = left if own_residual else rows
        norms = np.where((heard_of * rows).sum(1) > 0, np.linalg.norm(left, axis=1), 0)
        worst = norms.argmax()
        if norms[worst] < 1e-6:
            break
        heard.append(heard_of[worst] / np.linalg.norm(heard_of[worst]))
        directions.append(left[worst] / norms[worst])
        lengths.append(norms[worst] / (rows[worst] @ heard[-1]))
        left = left - np.maximum(left @ directions[-1], 0)[:, None] * directions[-1]
    return heard, directions, lengths


@pytest.mark.parametrize("own_residual", [True, False])
@pytest.mark.parametrize("shape", [(40, 60), (64, 8)], ids=["few rows", "few features"])
def test_directions_are_those_chosen_one_by_one(shape, own_residual):
    rng = np.random.default_rng(0)
    rows = rng.standard_normal(shape)
    left = 0.3 * rows + 0.5 * rng.standard_normal(shape)
    found = spread(left, rows, 30, 1e-6, own_residual=own_residual)
    for values, expected in zip(found, slowly_spread(left, rows, 30, own_residual), strict=True):
        np.testing.assert_allclose(values, expected, atol=1e-10)


def test_residuals_alike_give_one_direction():
    left = np.outer([3.0, 2.0, 1.0], [0.6, 0.8])
    heard, directions, lengths = spread(left, 2 * left, 3, 1e-6)
    np.testing.assert_allclose(directions, [[0.6, 0.8]])
    np.testing.assert_allclose(heard, directions)
    np.testing.assert_allclose(lengths, [0.5])


def test_residuals_away_from_their_rows_are_passed_over():
    left = np.eye(2)
    _, directions, _ = spread(left, left * [-1, 1], 2, 1e-6)
    np.testing.assert_array_equal(directions, [[0, 1]])
