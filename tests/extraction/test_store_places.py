"""One place of a store: read, fitted and weighted as a store of its own; and stores older than sites."""

import json
import pickle
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from skfactors import Activations, ActivationStore, FactorReport, SparseDictionary, TransformerFeatureExtractor
from skfactors.extraction.store import filling

BEFORE = Path(__file__).parents[1] / "data" / "before_factor_model"


@pytest.fixture(autouse=True)
def many_small_pieces(monkeypatch):
    """Let a few texts make many shards of many chunks."""
    monkeypatch.setattr(filling, "CHARACTERS_IN_A_BLOCK", 150)
    monkeypatch.setattr(filling, "CHUNK_ROWS", 16)


@pytest.fixture(scope="module")
def extractor(tiny_model):
    return TransformerFeatureExtractor(tiny_model, layers=[0, 2], max_length=12)


@pytest.fixture(params=["parquet", "safetensors"])
def store(request, extractor, texts, tmp_path, monkeypatch):
    if request.param == "parquet":
        pytest.importorskip("pyarrow")
    monkeypatch.setattr(filling, "provenance_format", lambda: request.param)
    corpus = [*texts[:2], *texts[3:]] * 2
    return extractor.extract_to(corpus, tmp_path / "store", rows_per_shard=60)


@pytest.fixture
def of_layer(store):
    """Return the rows of layer 2, sorted out of all rows."""
    acts = Activations.concat(store)
    return acts[acts.provenance["layer"] == 2]


def test_a_place_of_a_store_has_the_rows_of_that_place(store, of_layer):
    at = store.at(layer=2)
    assert at.n_shards == store.n_shards > 3
    assert at.shape == of_layer.shape and at.layers == [2] and at.places == [("hidden_states", 2)]
    np.testing.assert_array_equal(np.asarray(at), of_layer.X)
    read = Activations.concat(at.read_shard(number) for number in range(at.n_shards))
    np.testing.assert_array_equal(read.X, of_layer.X)
    pd.testing.assert_frame_equal(read.provenance, of_layer.provenance)
    assert at.at() is not at and at.at().shape == at.shape


def test_a_place_of_a_store_is_indexed_by_its_own_rows(store, of_layer):
    at = store.at("hidden_states", 2)
    for rows in (slice(3, 40, 5), [7, -1, 7], np.arange(len(at)) % 9 == 0, slice(0)):
        part = at[rows]
        np.testing.assert_array_equal(part.X, of_layer.X[rows])
        pd.testing.assert_frame_equal(part.provenance, of_layer[rows].provenance)
        assert part.tokens() == of_layer[rows].tokens()


def test_a_place_of_a_store_is_shuffled_whole(store, of_layer):
    seen = []
    for rows, X in store.at(layer=2).iter_shuffled(7, np.random.RandomState(0), buffer_rows=32):
        np.testing.assert_array_equal(X, of_layer.X[rows])
        seen.append(rows)
    np.testing.assert_array_equal(np.sort(np.concatenate(seen)), np.arange(len(of_layer)))


def test_the_weights_of_a_place_are_those_of_its_tokens(store, of_layer):
    np.testing.assert_allclose(store.at(layer=2).sample_weight[:], of_layer.sample_weight, rtol=1e-12)


def test_a_place_of_a_store_is_told_apart_and_pickles(store):
    at = store.at(layer=2)
    assert len({store.fingerprint, at.fingerprint, store.at(layer=0).fingerprint}) == 3
    twin = pickle.loads(pickle.dumps(at))
    assert twin.fingerprint == at.fingerprint and twin.shape == at.shape


def test_a_dictionary_and_a_report_are_made_of_one_place_of_a_store(store, of_layer):
    at = store.at(layer=2)
    settings = {"alpha": 0.1, "random_state": 0, "device": "cpu"}
    dictionary = SparseDictionary(4, **settings).fit(at, sample_weight=at.sample_weight)
    explained = SparseDictionary(4, **settings).fit(of_layer.X).score(of_layer.X)
    assert dictionary.score(of_layer.X) == pytest.approx(explained, abs=0.05)
    assert list(FactorReport.from_store(at, dictionary).importance_by_layer().columns) == [2]


def test_a_place_that_a_store_lacks_is_refused(store):
    with pytest.raises(ValueError, match=r"no rows of layer=1. There are layers \[0, 2\] of 'hidden_states'"):
        store.at(layer=1)
    with pytest.raises(ValueError, match="Name the site and the layer"):
        store.at()


def test_infinite_values_count_in_their_own_place(extractor, texts, tmp_path, monkeypatch):
    read = Activations.padded.fget

    def with_infinity(acts):
        X = read(acts).copy()
        X[(acts.provenance["layer"] == 0).to_numpy() & (acts.provenance["position"] == 1).to_numpy(), 3] = np.inf
        return X

    monkeypatch.setattr(Activations, "padded", property(with_infinity))
    with pytest.warns(UserWarning, match="NaN or infinite"):
        store = extractor.extract_to(texts[:2], tmp_path / "store")
    monkeypatch.undo()
    assert (store.n_nonfinite, store.at(layer=0).n_nonfinite, store.at(layer=2).n_nonfinite) == (2, 2, 0)


@pytest.mark.parametrize("name", ["store", "store_without_parquet"])
def test_a_store_of_before_there_were_sites_opens(name):
    if name == "store":
        pytest.importorskip("pyarrow")
    expected = np.load(BEFORE / "expected.npz")
    store = ActivationStore(BEFORE / name)
    acts = Activations.concat(store)
    # One of them is in half precision.
    np.testing.assert_allclose(acts.X, expected["X"], rtol=1e-3, atol=1e-3)
    np.testing.assert_allclose(store.sample_weight[:], expected["sample_weight"])
    assert set(acts.provenance["site"]) == {"hidden_states"}
    assert store.at(layer=2).shape == acts.at("hidden_states", 2).shape == (26, 32)
    assert store.verify().empty


def test_a_store_of_a_later_version_says_so(tmp_path):
    from skfactors.extraction.store.layout import MANIFEST, read_manifest, write_checked

    folder = shutil.copytree(BEFORE / "store_without_parquet", tmp_path / "store")
    write_checked(folder / MANIFEST, read_manifest(folder) | {"format_version": 4})
    with pytest.raises(ValueError, match=r"version 4; this version of skfactors reads .* up to version 3"):
        ActivationStore(folder)
    assert json.loads((folder / MANIFEST).read_text())["content"]["format_version"] == 4
