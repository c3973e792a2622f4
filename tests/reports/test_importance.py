import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import sparse

from skfactors.reports import importance_by_layer


def slow_importance(codes, layers, top):
    scores = {}
    for factor in range(codes.shape[1]):
        for layer in sorted(set(layers)):
            values = [codes[row, factor] for row in range(len(layers)) if layers[row] == layer]
            largest = sorted((value for value in values if value > 0), reverse=True)[:top]
            scores[factor, layer] = sum(largest) / top
    return scores


@given(st.integers(0, 1000), st.integers(1, 40), st.integers(1, 6))
def test_importance_is_what_sorting_each_factor_in_each_layer_gives(seed, n_rows, top):
    rng = np.random.default_rng(seed)
    codes = rng.choice([-1.0, 0.0, 0.0, 0.5, 1.5, 2.25], size=(n_rows, 3))
    layers = rng.choice([12, 4, 0], size=n_rows).tolist()

    importance = importance_by_layer(sparse.csr_array(codes), layers, top=top)

    assert importance.columns.tolist() == sorted(set(layers))
    assert importance.index.tolist() == [0, 1, 2]
    for (factor, layer), score in slow_importance(codes, layers, top).items():
        assert importance.loc[factor, layer] == pytest.approx(score, abs=1e-12)


def test_missing_activations_count_as_zeros():
    assert importance_by_layer(np.array([[6.0]]), [3], top=200).loc[0, 3] == 6 / 200


def test_a_factor_that_never_fires_scores_zero():
    assert importance_by_layer(np.array([[1.0, 0.0], [2.0, 0.0]]), [0, 1]).loc[1].tolist() == [0.0, 0.0]


def test_layers_of_another_length_are_refused():
    with pytest.raises(ValueError, match="2 rows and layers has shape"):
        importance_by_layer(np.ones((2, 2)), [0, 0, 0])


def test_top_must_be_positive():
    with pytest.raises(ValueError, match="top == 0"):
        importance_by_layer(np.ones((2, 2)), [0, 0], top=0)
