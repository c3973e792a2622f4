"""ActivationStore: what goes in comes out, whole, in slices and in shuffled order."""

import importlib.util
import pickle
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from skfactors import Activations, ActivationStore, TransformerFeatureExtractor
from skfactors.extraction.store import filling

KEY = ["document", "layer", "position"]


@pytest.fixture(autouse=True)
def many_small_pieces(monkeypatch):
    """Let a few texts make many shards of many chunks."""
    monkeypatch.setattr(filling, "CHARACTERS_IN_A_BLOCK", 150)
    monkeypatch.setattr(filling, "CHUNK_ROWS", 16)


@pytest.fixture(scope="module")
def corpus(texts):
    return [*texts[:2], *texts[3:], "left \ud800 bank <b>", "the river " * 60] * 3


@pytest.fixture(scope="module")
def extractor(tiny_model):
    return TransformerFeatureExtractor(tiny_model, layers=[0, 2], max_length=12, stride=2)


@pytest.fixture
def store(extractor, corpus, tmp_path):
    return extractor.extract_to(corpus, tmp_path / "store", rows_per_shard=100)


def in_order(acts):
    """Return rows and provenance sorted by place, as a corpus that was cut elsewhere has them too."""
    order = acts.provenance.reset_index(drop=True).sort_values(KEY, kind="stable").index
    return acts.X[order], acts.provenance.iloc[order].reset_index(drop=True)


def assert_same_rows(one, other, **tolerance):
    (X, provenance), (other_X, other_provenance) = in_order(one), in_order(other)
    pd.testing.assert_frame_equal(provenance, other_provenance)
    np.testing.assert_allclose(X, other_X, **({"rtol": 1e-4, "atol": 1e-5} | tolerance))


def test_a_store_holds_the_rows_provenance_and_texts_of_an_extraction(store, extractor, corpus):
    whole = extractor.extract(corpus)
    joined = Activations.concat(store)
    assert store.n_shards > 10 and store.n_documents == len(corpus) and store.shape == whole.shape
    assert joined.texts == whole.texts
    assert_same_rows(joined, whole)
    np.testing.assert_array_equal(np.asarray(store), joined.X)


@pytest.mark.skipif(not importlib.util.find_spec("pyarrow"), reason="pyarrow is not installed")
def test_provenance_is_the_same_with_and_without_pyarrow(extractor, corpus, tmp_path, monkeypatch):
    formats = {}
    for name in ("parquet", "safetensors"):
        monkeypatch.setattr(filling, "provenance_format", lambda name=name: name)
        formats[name] = extractor.extract_to(corpus, tmp_path / name)
    assert any((tmp_path / "parquet").rglob("*.parquet")) and not any((tmp_path / "safetensors").rglob("*.parquet"))
    one, other = (Activations.concat(store) for store in formats.values())
    pd.testing.assert_frame_equal(one.provenance, other.provenance)
    weights = [store.sample_weight[:] for store in formats.values()]
    np.testing.assert_array_equal(*weights)


@pytest.mark.skipif(not importlib.util.find_spec("pyarrow"), reason="pyarrow is not installed")
def test_other_tools_can_read_the_files(store):
    from safetensors.numpy import load_file

    name = sorted((store.path / "shards").glob("*/*.safetensors"))[0]
    np.testing.assert_array_equal(load_file(name)["X"], store.read_shard(0).X)
    pd.testing.assert_frame_equal(pd.read_parquet(name.with_suffix(".parquet")), store.read_shard(0).provenance)


@pytest.mark.parametrize(("dtype", "bytes_a_value", "rtol"), [("float16", 2, 1e-3), ("bfloat16", 2, 8e-3)])
def test_half_precision_takes_half_the_room(extractor, store, corpus, tmp_path, dtype, bytes_a_value, rtol):
    half = extractor.extract_to(corpus, tmp_path / dtype, dtype=dtype, rows_per_shard=100)
    assert half.dtype == np.float32
    assert half._shards[0].scratch().itemsize == bytes_a_value
    np.testing.assert_allclose(np.asarray(half), np.asarray(store), rtol=rtol, atol=1e-3)
    (_, first) = next(half.iter_shuffled(8, np.random.RandomState(0)))
    assert first.dtype == np.float32


def test_a_model_in_half_precision_is_kept_to_the_bit(tiny_model, corpus, tmp_path):
    extractor = TransformerFeatureExtractor(tiny_model, layers=1, dtype="bfloat16")
    store = extractor.extract_to(corpus, tmp_path / "store")
    assert store._manifest["dtype"] == "bfloat16"
    assert_same_rows(Activations.concat(store), extractor.extract(corpus), rtol=2e-2, atol=2e-2)


@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_slices_are_those_of_the_whole(store_of_all, data):
    store, whole = store_of_all
    n = len(store)
    rows = data.draw(
        st.one_of(
            st.slices(n),
            st.lists(st.integers(-n, n - 1), max_size=12).map(lambda rows: np.array(rows, dtype=int)),
            st.integers(0, 2**32).map(lambda seed: np.random.default_rng(seed).random(n) < 0.02),
        )
    )
    part, expected = store[rows], whole[rows]
    np.testing.assert_array_equal(part.X, expected.X)
    pd.testing.assert_frame_equal(part.provenance, expected.provenance)
    assert part.tokens() == expected.tokens()


@pytest.fixture(scope="module")
def store_of_all(extractor, corpus, tmp_path_factory):
    store = extractor.extract_to(corpus, tmp_path_factory.mktemp("store") / "all", rows_per_shard=100)
    return store, Activations.concat(store)


def test_a_single_row_number_is_refused(store):
    with pytest.raises(TypeError, match=r"\[3:4\]"):
        store[3]


@pytest.mark.parametrize("batch_size", [1, 7, 64, 10_000])
def test_shuffled_batches_hold_every_row_once(store, batch_size):
    X = np.asarray(store)
    seen = []
    for rows, batch in store.iter_shuffled(batch_size, np.random.RandomState(0), buffer_rows=64):
        assert (np.diff(rows) > 0).all()
        np.testing.assert_array_equal(batch, X[rows])
        seen.append(rows)
    assert all(len(rows) == min(batch_size, len(X)) for rows in seen[:-1])
    np.testing.assert_array_equal(np.sort(np.concatenate(seen)), np.arange(len(X)))


def test_the_order_goes_by_the_random_state_and_one_draw_of_it(store):
    states = [np.random.RandomState(seed) for seed in (0, 0, 1)]
    orders = [np.concatenate([rows for rows, _ in store.iter_shuffled(50, state)]) for state in states]
    np.testing.assert_array_equal(orders[0], orders[1])
    assert (orders[0] != orders[2]).any()
    expected = np.random.RandomState(0)
    expected.randint(np.iinfo(np.int32).max)
    assert states[0].randint(1000) == expected.randint(1000)


def test_a_buffer_as_large_as_the_store_shuffles_uniformly(store):
    places = np.zeros(len(store))
    n_orders = 300
    for seed in range(n_orders):
        shuffled = store.iter_shuffled(len(store) // 2, np.random.RandomState(seed), buffer_rows=len(store))
        places[next(shuffled)[0]] += 1
    share = places / n_orders
    assert abs(share.mean() - 0.5) < 0.01
    assert share.std() < 1.3 * np.sqrt(0.25 / n_orders)


def test_weights_are_those_of_the_activations(store):
    acts = Activations.concat(store)
    np.testing.assert_allclose(store.sample_weight[:], acts.sample_weight, rtol=1e-12)
    rows = np.array([5, 300, 7, 5])
    np.testing.assert_allclose(store.sample_weight[rows], acts.sample_weight[rows], rtol=1e-12)
    assert store.sample_weight.shape == (len(acts),)


def test_texts_come_from_lists_generators_files_and_datasets(extractor, tmp_path):
    datasets = pytest.importorskip("datasets")
    lines = ["The bank of the river.", "", "Shares of the bank fell.", "left park"]
    (tmp_path / "lines.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    dataset = datasets.Dataset.from_dict({"body": lines})
    sources = {
        "list": lines,
        "generator": (line for line in lines),
        "file": tmp_path / "lines.txt",
        "dataset": dataset,
        "stream": dataset.to_iterable_dataset(),
        "column": dataset["body"],
    }
    fingerprints = set()
    for name, source in sources.items():
        with pytest.warns(UserWarning, match="1 of the texts"):
            store = extractor.extract_to(source, tmp_path / name, column="body")
        assert Activations.concat(store).texts == lines
        fingerprints.add(store.fingerprint)
    assert len(fingerprints) == 1


def test_what_is_no_corpus_is_refused(extractor, tmp_path):
    datasets = pytest.importorskip("datasets")
    with pytest.raises(ValueError, match="no column 'text': its columns are"):
        extractor.extract_to(datasets.Dataset.from_dict({"body": ["a"]}), tmp_path / "a")
    with pytest.raises(FileNotFoundError, match="no text file"):
        extractor.extract_to(Path("absent.txt"), tmp_path / "b")
    with pytest.raises(TypeError, match="single str"):
        extractor.extract_to("absent.txt", tmp_path / "c")
    with pytest.raises(ValueError, match="texts is empty"):
        extractor.extract_to([], tmp_path / "d")
    (tmp_path / "latin.txt").write_bytes(b"caf\xe9\n")
    with pytest.raises(ValueError, match="not UTF-8"):
        extractor.extract_to(tmp_path / "latin.txt", tmp_path / "e")


def test_a_second_extraction_runs_nothing(store, extractor, corpus, monkeypatch):
    from skfactors.extraction.forward import HiddenStateRunner

    monkeypatch.setattr(HiddenStateRunner, "forward", lambda *_: pytest.fail("the model was run"))
    again = extractor.extract_to(corpus, store.path, rows_per_shard=100)
    assert again.fingerprint == store.fingerprint


def test_a_store_pickles_as_its_path(store):
    twin = pickle.loads(pickle.dumps(store))
    assert twin.fingerprint == store.fingerprint and len(pickle.dumps(store)) < 1000


def test_a_store_of_the_demo_model_holds_its_rows(tmp_path):
    from skfactors.datasets import demo_model, load_wikipedia

    articles = [article[:1500] for article in load_wikipedia(4)]
    extractor = TransformerFeatureExtractor(demo_model(), layers=[1, 6])
    store = extractor.extract_to(articles, tmp_path / "store")
    assert_same_rows(Activations.concat(store), extractor.extract(articles))


@pytest.mark.parametrize(
    ("changed", "named"),
    [
        ({"layers": [0, 1]}, "layers is"),
        ({"stride": 3}, "stride is 2 there and 3 here"),
        ({"max_length": 11}, "max_length"),
        ({"add_special_tokens": False}, "add_special_tokens"),
        ({"dtype": "float64"}, "dtype"),
    ],
)
def test_a_store_of_other_settings_is_refused_by_name(store, extractor, corpus, changed, named):
    other = TransformerFeatureExtractor(**(extractor.get_params() | changed))
    with pytest.raises(ValueError, match="holds other rows") as error:
        other.extract_to(corpus, store.path, rows_per_shard=100)
    assert named in str(error.value)


def test_a_store_of_another_model_is_refused_though_it_has_the_same_name(
    store, extractor, corpus, tiny_models, tmp_path
):
    import shutil

    import torch
    from transformers import AutoModel

    folder = shutil.copytree(tiny_models["bert"], tmp_path / "model")
    model = AutoModel.from_pretrained(folder)
    with torch.no_grad():
        model.embeddings.word_embeddings.weight[7, 0] += 1e-3
    model.save_pretrained(folder)
    other = TransformerFeatureExtractor(**(extractor.get_params() | {"model": str(folder)}))
    with pytest.raises(ValueError, match=r"files: model\.safetensors is"):
        other.extract_to(corpus, store.path, rows_per_shard=100)


def test_other_texts_are_refused(store, extractor, corpus):
    with pytest.raises(ValueError, match="made from other texts"):
        extractor.extract_to([*corpus[:5], "another", *corpus[6:]], store.path, rows_per_shard=100)
    with pytest.raises(ValueError, match="other texts|made from 21 texts"):
        extractor.extract_to(corpus[:-1], store.path, rows_per_shard=100)
    assert store.verify().empty


def test_a_folder_of_something_else_is_left_alone(extractor, corpus, tmp_path):
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(ValueError, match="holds other files"):
        extractor.extract_to(corpus, tmp_path)
    with pytest.raises(FileNotFoundError, match=r"not an activation store: it has no manifest\.json"):
        ActivationStore(tmp_path)
