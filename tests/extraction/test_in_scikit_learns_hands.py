"""Rows and weights where scikit-learn and NumPy take them: searches, splits and every kind of index."""

import pickle

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from sklearn.model_selection import GridSearchCV, GroupKFold, KFold, cross_val_score, train_test_split
from sklearn.utils import resample, shuffle

from skfactors import SparseDictionary, TransformerFeatureExtractor
from skfactors.extraction.indexing import row_numbers

# Rows of the texts below.
N = 28


@pytest.fixture(scope="module")
def extractor(tiny_model):
    return TransformerFeatureExtractor(tiny_model, layers=[0, 2])


@pytest.fixture(scope="module")
def acts(extractor):
    return extractor.extract(["the bank of the river", "the bank was quiet", "a muddy river", "the gate"])


@pytest.fixture(scope="module")
def store(extractor, acts, tmp_path_factory):
    return extractor.extract_to(list(acts.texts), tmp_path_factory.mktemp("store") / "store", rows_per_shard=8)


@pytest.fixture(params=["activations", "store"])
def rows(request, acts, store):
    return {"activations": acts, "store": store}[request.param]


def test_splits_shuffles_and_samples_have_the_rows_of_the_array(rows):
    X = np.asarray(rows)
    for draw in (shuffle, resample):
        drawn = draw(rows, random_state=0)
        np.testing.assert_array_equal(drawn.X, draw(X, random_state=0))
        assert len(drawn.tokens()) == len(X)
    for part, of_array in zip(train_test_split(rows, random_state=0), train_test_split(X, random_state=0), strict=True):
        np.testing.assert_array_equal(part.X, of_array)
    for (train, test), fold in zip(KFold(3).split(rows), KFold(3).split(X), strict=True):
        np.testing.assert_array_equal(rows[train].X, X[fold[0]])
        np.testing.assert_array_equal(rows[test].X, X[fold[1]])


def test_searches_find_what_they_find_in_the_array(rows, acts):
    groups = acts.provenance["document"]
    dictionary = SparseDictionary(4, random_state=0, device="cpu")
    search = GridSearchCV(dictionary, {"alpha": [0.05, 0.1]}, cv=GroupKFold(2), error_score="raise", refit=False)
    weight = rows.sample_weight
    scores = search.fit(rows, groups=groups, sample_weight=weight).cv_results_["mean_test_score"]
    expected = search.fit(np.asarray(rows), groups=groups, sample_weight=weight[:]).cv_results_["mean_test_score"]
    np.testing.assert_allclose(scores, expected, rtol=1e-6)
    scores = cross_val_score(dictionary.set_params(alpha=0.1), rows, cv=3, error_score="raise")
    np.testing.assert_allclose(scores, cross_val_score(dictionary, np.asarray(rows), cv=3), rtol=1e-6)


INDICES = {
    "Series of bool": pd.Series(np.arange(N) % 3 == 0, index=np.arange(N)[::-1]),
    "list of bool": (np.arange(N) % 3 == 0).tolist(),
    "numbers from the end": [-1, 3, -N],
    "small unsigned numbers": np.array([5, 1], dtype=np.uint8),
    "nothing": [],
    "all": ...,
    "slice of a table": (slice(2, 9), ...),
    "numbers of a table": ([4, 2], slice(None)),
}


@pytest.mark.parametrize("index", INDICES.values(), ids=INDICES)
def test_rows_go_by_every_index_that_numpy_takes(rows, index):
    part = rows[index]
    np.testing.assert_array_equal(part.X, np.asarray(rows)[index])
    assert list(part.provenance.index) == list(range(len(part)))


@pytest.mark.parametrize("index", [[N], [0, -N - 1], np.zeros(3, dtype=bool), [0.5]], ids=str)
def test_rows_that_are_not_there_are_an_index_error(rows, index):
    with pytest.raises(IndexError):
        rows[index]
    with pytest.raises(IndexError):
        rows.sample_weight[index]


def test_columns_of_activations_are_those_of_the_array(acts):
    np.testing.assert_array_equal(acts[:, [3, 1]], acts.X[:, [3, 1]])


@settings(max_examples=100, deadline=None)
@given(index=st.one_of(arrays.basic_indices((N,)), arrays.integer_array_indices((N,)), arrays.arrays(bool, N)))
def test_weights_of_a_store_go_by_every_index_that_numpy_takes(index):
    numbers = np.arange(N)[index]
    np.testing.assert_array_equal(row_numbers(index, N), numbers)


def test_weights_of_a_store_are_an_array_to_numpy(store, acts):
    weight = store.sample_weight
    np.testing.assert_allclose(np.asarray(weight), acts.sample_weight, rtol=1e-12)
    layer = acts.provenance["layer"] == 2
    np.testing.assert_allclose(weight[layer], acts.sample_weight[layer], rtol=1e-12)
    np.testing.assert_allclose(weight[[-1, 0]], acts.sample_weight[[-1, 0]], rtol=1e-12)
    for row in (N, -N - 1):
        with pytest.raises(IndexError, match=f"row {row} is out of range: there are {N} rows"):
            weight[row]
    assert weight[-1] == pytest.approx(acts.sample_weight[-1]) and np.ndim(weight[-1]) == 0
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(weight))[:], weight[:])


@pytest.mark.parametrize("batch_size", [0, -3])
def test_batches_of_no_rows_are_refused(store, batch_size):
    with pytest.raises(ValueError, match="batch_size == "):
        store.iter_shuffled(batch_size, np.random.RandomState(0))
