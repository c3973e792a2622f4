"""Activations: slices, weights, and concatenation."""

import numpy as np
import pandas as pd
import pytest

from skfactors import Activations, TransformerFeatureExtractor


@pytest.fixture(scope="module")
def acts(tiny_model):
    return TransformerFeatureExtractor(tiny_model, layers=[0, 2]).extract(["the bank of the river", "the bank"])


def test_slices_keep_rows_and_provenance_together(acts):
    for rows in (slice(2, 9, 2), np.array([5, 1]), acts.provenance["layer"].to_numpy() == 2):
        part = acts[rows]
        np.testing.assert_array_equal(part.X, acts.X[rows])
        assert part.tokens() == list(np.array(acts.tokens())[rows])
        assert list(part.provenance.index) == list(range(len(part)))
    with pytest.raises(TypeError, match=r"\[3:4\]"):
        acts[3]


def test_rows_cannot_be_written_to(acts):
    with pytest.raises(ValueError, match="read-only"):
        acts.X[0, 0] = 1
    with pytest.raises(AttributeError):
        acts.X = None


def test_they_are_an_array_to_numpy(acts):
    assert np.asarray(acts) is not None
    np.testing.assert_array_equal(np.asarray(acts, dtype=np.float64), acts.X.astype(np.float64))
    assert acts.shape == acts.X.shape == np.asarray(acts).shape


def test_weights_are_the_papers_and_do_not_count_layers(acts):
    # "the" 3 times, "bank" twice, "of" and "river" once, over 7 tokens in 2 layers.
    counts = {"the": 3, "bank": 2, "of": 1, "river": 1}
    raw = np.array([1 / np.sqrt(counts[token]) for token in acts.tokens()])
    np.testing.assert_allclose(acts.sample_weight, raw / raw.mean())
    one_layer = acts[acts.provenance["layer"].to_numpy() == 2]
    np.testing.assert_allclose(one_layer.sample_weight, acts.sample_weight[acts.provenance["layer"].to_numpy() == 2])


def test_corpora_are_numbered_on_and_parts_of_one_are_not(acts, tiny_model):
    other = TransformerFeatureExtractor(tiny_model, layers=[0, 2]).extract(["a river"])
    both = Activations.concat([acts, other])
    assert both.texts == ["the bank of the river", "the bank", "a river"]
    assert both.tokens() == acts.tokens() + other.tokens()
    again = Activations.concat([acts[:5], acts[5:]])
    assert again.provenance.equals(acts.provenance)
    assert again.texts == acts.texts


def test_what_does_not_fit_together_is_refused(acts):
    with pytest.raises(ValueError, match="nothing to concatenate"):
        Activations.concat([])
    narrow = Activations(acts.X[:, :3], acts.provenance, acts.texts)
    with pytest.raises(ValueError, match=r"\[3, 32\]"):
        Activations.concat([acts, narrow])
    with pytest.raises(ValueError, match="provenance 14"):
        Activations(acts.X[:2], acts.provenance, acts.texts)
    with pytest.raises(ValueError, match="lacks the columns"):
        Activations(acts.X, pd.DataFrame(index=range(len(acts))), acts.texts)
    with pytest.raises(ValueError, match="1 dimensions"):
        Activations(acts.X[0], acts.provenance, acts.texts)
    with pytest.raises(IndexError, match="no document 9"):
        acts.texts[9]
