"""What dictionaries were learned from: rows say it, dictionaries keep it, and it decides nothing."""

import pickle
import shutil

import numpy as np
import pytest
from sklearn.base import clone

from skfactors import (
    Activations,
    ActivationStore,
    Crosscoder,
    DocumentFactors,
    FactorModel,
    SparseAutoencoder,
    SparseDictionary,
    Transcoder,
    TransformerFeatureExtractor,
)
from skfactors.datasets import demo_model
from skfactors.dictionaries.learned_from import source_in_file

pytestmark = pytest.mark.filterwarnings("ignore:1 of the texts")
FAST = {"n_nonzero_coefs": 2, "max_iter": 1, "dict_init": "random", "random_state": 0, "device": "cpu"}
MODELS = {
    "dictionary": SparseDictionary(6, alpha=0.3, max_iter=1, random_state=0, device="cpu"),
    "autoencoder": SparseAutoencoder(6, **FAST),
    "transcoder": Transcoder(6, **FAST),
    "crosscoder": Crosscoder(6, n_sites=1, **FAST),
}


@pytest.fixture(scope="module")
def acts(tiny_model, texts):
    return TransformerFeatureExtractor(tiny_model, site=["block_input", "block_output"]).extract(texts)


@pytest.fixture(scope="module")
def store(tiny_model, texts, tmp_path_factory):
    extractor = TransformerFeatureExtractor(tiny_model, site=["block_input", "block_output"])
    return extractor.extract_to(texts, tmp_path_factory.mktemp("rows") / "store", rows_per_shard=50)


def fitted(model, rows, **others):
    """Fit a clone to rows of one place, a transcoder to those of another, too."""
    X, Y = rows.at("block_input", 1), rows.at("block_output", 1)
    return clone(model).fit(X, Y, **others) if isinstance(model, Transcoder) else clone(model).fit(X, **others)


def test_rows_say_by_which_model_and_where_they_were_made(acts, store, tiny_model):
    source = acts.at("block_output", 1).source
    assert source["model"] == "bert" and source["places"] == [["block_output", 1]]
    assert source["model_fingerprint"] == TransformerFeatureExtractor(tiny_model).model_fingerprint()
    of_all = acts.source["places"]
    assert of_all == [["block_input", 0], ["block_input", 1], ["block_output", 0], ["block_output", 1]]
    for rows in (store, store[:9], store.read_shard(1), Activations.concat(list(store)), acts[3:50], acts[::-1]):
        assert {**rows.source, "places": of_all} == acts.source
    assert store.at("block_output", 1).source == source


@pytest.mark.parametrize("kind", MODELS)
def test_a_dictionary_keeps_what_its_rows_say_and_a_folder_of_it_too(kind, acts, store, tmp_path):
    model = fitted(MODELS[kind], acts)
    assert model.source_["places"] == [["block_input", 1]]
    assert model.source_.get("places_out") == ([["block_output", 1]] if kind == "transcoder" else None)
    model.save(tmp_path)
    for same in (FactorModel.load(tmp_path), pickle.loads(pickle.dumps(model)), fitted(MODELS[kind], store)):
        assert same.source_ == model.source_
    assert not hasattr(clone(model), "source_")


@pytest.mark.parametrize("kind", MODELS)
def test_it_decides_nothing(kind, acts):
    X, Y = (np.asarray(acts.at(site, 1)) for site in ("block_input", "block_output"))
    plain = clone(MODELS[kind]).fit(X, Y)
    assert not hasattr(plain, "source_")
    assert fitted(MODELS[kind], acts).fingerprint() == plain.fingerprint()


@pytest.mark.parametrize("kind", ["dictionary", "autoencoder"])
def test_what_is_learned_along_joins_and_a_fit_begins_anew(kind, acts):
    model = clone(MODELS[kind]).partial_fit(acts.at("block_input", 1)).partial_fit(acts.at("block_output", 1))
    both = [["block_input", 1], ["block_output", 1]]
    assert model.source_["places"] == both and model.source_["model"] == "bert"
    assert model.partial_fit(acts.at("block_input", 1)).source_["places"] == both
    # Of rows that say nothing, nothing is known any more.
    assert not hasattr(model.partial_fit(acts.X), "source_")
    assert model.fit(acts.at("block_input", 0)).source_["places"] == [["block_input", 0]]
    assert not hasattr(model.fit(acts.X), "source_")


def test_rows_of_two_models_are_of_none_that_is_known(acts, tiny_models, texts):
    other = TransformerFeatureExtractor(tiny_models["gpt2"], site="block_input").extract(texts)
    model = clone(MODELS["dictionary"]).partial_fit(acts.at("block_input", 1)).partial_fit(other.at(layer=1))
    assert model.source_ == {"places": [["block_input", 1]]}
    assert Activations.concat([acts.at("block_input", 1), other.at(layer=1)]).source == {}


def test_an_encoder_regressed_to_a_dictionary_is_of_the_same_rows(acts):
    dictionary, X = fitted(MODELS["dictionary"], acts), acts.at("block_input", 1)
    for rows in (X, np.asarray(X)):
        assert SparseAutoencoder.from_dictionary(dictionary, rows, device="cpu").source_ == dictionary.source_


def test_document_factors_learn_from_rows_that_say_it(tiny_model, texts):
    extractor = TransformerFeatureExtractor(tiny_model, layers=[1])
    factors = DocumentFactors(extractor, MODELS["dictionary"]).fit(texts)
    assert factors.dictionary_.source_["places"] == [["hidden_states", 1]]


def test_a_model_whose_files_are_gone_is_told_by_its_name(tiny_model, texts, tmp_path):
    folder = shutil.copytree(tiny_model, tmp_path / "gone")
    acts = TransformerFeatureExtractor(str(folder), layers=[1]).extract(texts)
    shutil.rmtree(folder)
    assert acts.source == {"model": "gone", "places": [["hidden_states", 1]]}


def test_a_model_that_is_saved_over_is_told_by_its_new_weights(tiny_model, tiny_models, tmp_path):
    folder = shutil.copytree(tiny_model, tmp_path / "model")
    extractor = TransformerFeatureExtractor(str(folder), layers=[1])
    before = extractor.model_fingerprint()
    shutil.copytree(tiny_models["llama"], folder, dirs_exist_ok=True)
    assert (
        extractor.model_fingerprint() == TransformerFeatureExtractor(tiny_models["llama"]).model_fingerprint() != before
    )


def test_the_same_weights_are_the_same_model_wherever_they_lie(tiny_model, tiny_models, tmp_path):
    copied = shutil.copytree(tiny_model, tmp_path / "copy")
    (copied / "config.json").write_text((copied / "config.json").read_text() + "\n")
    one, copy, other = (
        TransformerFeatureExtractor(str(folder)).model_fingerprint()
        for folder in (tiny_model, copied, tiny_models["gpt2"])
    )
    assert one == copy != other


def test_rows_of_a_real_model_say_it(demo_activations, tmp_path):
    source = demo_activations.at(layer=3).source
    assert source["model_fingerprint"] == TransformerFeatureExtractor(demo_model()).model_fingerprint()
    dictionary = SparseDictionary(8, max_iter=1, random_state=0).fit(demo_activations.at(layer=3)[:500])
    dictionary.save_pretrained(tmp_path)
    assert FactorModel.load(tmp_path).source_ == source
    card = (tmp_path / "README.md").read_text(encoding="utf-8")
    assert "| Site | hidden_states |" in card and "| Layer | 3 |" in card


def test_files_of_other_tools_say_it_in_the_same_words():
    said = source_in_file(
        "saelens", model="gpt2-small", place="blocks.3.hook_resid_pre", place_out="blocks.3.hook_mlp_out"
    )
    assert said["places"] == [["block_input", 3]] and said["places_out"] == [["mlp_output", 3]]
    assert "places" not in source_in_file("saelens", place="transformer.h.3")
    assert source_in_file("saelens", model=3, place=4) == {"format": "saelens", "place": 4}


def test_a_folder_with_another_source_is_refused(acts, tmp_path):
    model = fitted(MODELS["dictionary"], acts)
    model.source_["places"] = [["block_input", "1"]]
    with pytest.raises(ValueError, match="cannot be saved: fitted: source_: places"):
        model.save(tmp_path)


def test_a_store_knows_its_model_after_that_is_gone(tiny_model, texts, tmp_path):
    folder = shutil.copytree(tiny_model, tmp_path / "model")
    extractor = TransformerFeatureExtractor(str(folder), layers=[1])
    fingerprint = extractor.model_fingerprint()
    extractor.extract_to(texts, tmp_path / "store")
    shutil.rmtree(folder)
    source = ActivationStore(tmp_path / "store").source
    assert source == {"model": "model", "model_fingerprint": fingerprint, "places": [["hidden_states", 1]]}
