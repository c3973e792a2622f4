"""cache_dir: the model runs over each text once, and what is kept is never taken for something else."""

import numpy as np
import pytest
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from support.processes import count_windows, extract_with_cache, finish, kill_after, start, windows_counted

from skfactors import SparseDictionary, TransformerFeatureExtractor
from skfactors.extraction.forward import HiddenStateRunner

WORDS = ["the", "bank", "of", "river", "was", "muddy", "shares", "fell", "after", "report", "left", "park", "gate"]


@pytest.fixture(scope="module")
def corpus():
    """Sixty texts of which no two are equal, each of one window."""
    generator = np.random.default_rng(0)
    return [" ".join(generator.choice(WORDS, 8)) for _ in range(60)]


@pytest.fixture
def parameters(tiny_model, tmp_path):
    return {"model": tiny_model, "layers": [0, 2], "max_length": 16, "cache_dir": str(tmp_path / "cache")}


@pytest.fixture
def whole(corpus, parameters):
    return TransformerFeatureExtractor(**(parameters | {"cache_dir": None})).extract(corpus)


@pytest.fixture
def counts(tmp_path, monkeypatch):
    """Count the windows that this process runs, until the test is over."""
    monkeypatch.setattr(HiddenStateRunner, "forward", HiddenStateRunner.forward)
    folder = tmp_path / "counts"
    folder.mkdir()
    count_windows(folder)
    return folder


def entries(parameters):
    from pathlib import Path

    return sorted(Path(parameters["cache_dir"]).glob("??/*.safetensors"))


def test_cached_rows_are_those_of_an_extraction_and_nothing_runs_twice(corpus, parameters, whole, counts):
    extractor = TransformerFeatureExtractor(**parameters)
    first, second = extractor.extract(corpus), extractor.extract(corpus)
    assert windows_counted(counts) == len(corpus) == len(entries(parameters))
    for acts in (first, second):
        np.testing.assert_allclose(acts.X, whole.X, rtol=1e-4, atol=1e-5)
        assert acts.provenance.equals(whole.provenance)
    np.testing.assert_array_equal(first.X, second.X)


def test_a_text_among_others_is_known_whatever_the_parts(corpus, parameters, whole, counts):
    extractor = TransformerFeatureExtractor(**parameters)
    extractor.extract(corpus[::2])
    n_before = windows_counted(counts)
    parts = list(extractor.iter_extract(iter(corpus), max_rows=100))
    assert windows_counted(counts) - n_before < 0.6 * len(entries(parameters))
    assert sum(len(part) for part in parts) == len(whole)


def test_a_grid_search_runs_the_model_once_for_each_text(corpus, parameters, counts):
    pipeline = make_pipeline(
        TransformerFeatureExtractor(**parameters), SparseDictionary(8, max_iter=1, random_state=0, device="cpu")
    )
    search = GridSearchCV(pipeline, {"sparsedictionary__alpha": [0.3, 1, 3]}, cv=3, error_score="raise", refit=False)
    search.fit(corpus)
    assert windows_counted(counts) == len(corpus)


def test_processes_share_a_cache_and_run_each_window_once(corpus, parameters, whole, tmp_path):
    counts = tmp_path / "counted"
    counts.mkdir()
    crowd = [start(extract_with_cache, corpus, counts, batch_size=4, **parameters) for _ in range(3)]
    assert [finish(process) for process in crowd] == [0, 0, 0]
    assert windows_counted(counts) == len(entries(parameters))
    acts = TransformerFeatureExtractor(**parameters).extract(corpus)
    np.testing.assert_allclose(acts.X, whole.X, rtol=1e-4, atol=1e-5)


def test_processes_killed_over_a_cache_leave_nothing_wrong_in_it(corpus, parameters, whole, tmp_path):
    counts = tmp_path / "counted"
    counts.mkdir()
    generator = np.random.default_rng(0)
    n_killed = 0
    for _ in range(8):
        crowd = [start(extract_with_cache, corpus, counts, batch_size=1, **parameters) for _ in range(2)]
        n_killed += sum(kill_after(process, generator.uniform(0.05, 0.3)) for process in crowd)
    assert n_killed > 0
    acts = TransformerFeatureExtractor(**parameters).extract(corpus)
    np.testing.assert_allclose(acts.X, whole.X, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("spoil", ["cut", "flip", "empty"])
def test_a_damaged_entry_is_run_again(corpus, parameters, whole, counts, spoil):
    extractor = TransformerFeatureExtractor(**parameters)
    extractor.extract(corpus)
    n_before = windows_counted(counts)
    entry = entries(parameters)[3]
    content = bytearray(entry.read_bytes())
    content[-10] ^= 1
    entry.write_bytes({"cut": content[:-20], "flip": content, "empty": b""}[spoil])
    np.testing.assert_allclose(extractor.extract(corpus).X, whole.X, rtol=1e-4, atol=1e-5)
    assert windows_counted(counts) == n_before + 1


@pytest.mark.parametrize("changed", [{"layers": [0, 1]}, {"dtype": "float64"}, {"model": "other"}])
def test_other_models_layers_and_precisions_do_not_meet(corpus, parameters, counts, changed, tmp_path):
    if "model" in changed:
        import shutil

        import torch
        from transformers import AutoModel

        model = AutoModel.from_pretrained(parameters["model"])
        with torch.no_grad():
            model.encoder.layer[0].output.dense.bias[0] += 1
        folder = shutil.copytree(parameters["model"], tmp_path / "model")
        model.save_pretrained(folder)
        changed = {"model": str(folder)}
    TransformerFeatureExtractor(**parameters).extract(corpus)
    n_before = windows_counted(counts)
    other = parameters | changed
    acts = TransformerFeatureExtractor(**other).extract(corpus)
    assert windows_counted(counts) == 2 * n_before
    plain = TransformerFeatureExtractor(**(other | {"cache_dir": None})).extract(corpus)
    np.testing.assert_allclose(acts.X, plain.X, rtol=1e-4, atol=1e-5)


def test_other_windows_of_the_same_tokens_are_shared(corpus, parameters, counts):
    TransformerFeatureExtractor(**parameters).extract(corpus[:2])
    n_before = windows_counted(counts)
    TransformerFeatureExtractor(**(parameters | {"max_length": 30})).extract(corpus[:2])
    assert windows_counted(counts) == n_before


def test_a_limit_lets_go_of_what_was_used_least_recently(corpus, parameters, counts):
    extractor = TransformerFeatureExtractor(**parameters)
    extractor.extract(corpus[:40])
    size = sum(entry.stat().st_size for entry in entries(parameters))
    extractor.extract(corpus[:5])
    limit = size // 2
    extractor.set_params(cache_limit=limit).extract(corpus[40:41])
    assert sum(entry.stat().st_size for entry in entries(parameters)) <= limit
    n_before = windows_counted(counts)
    extractor.extract(corpus[:5])
    extractor.extract(corpus[40:41])
    assert windows_counted(counts) == n_before
    for start_of in range(0, 60, 10):
        extractor.extract(corpus[start_of : start_of + 10])
        assert sum(entry.stat().st_size for entry in entries(parameters)) <= 1.1 * limit + 5_000


def test_a_path_goes_for_a_folder_too_and_clones_share_it(corpus, parameters, counts, tmp_path):
    from sklearn.base import clone

    extractor = TransformerFeatureExtractor(**(parameters | {"cache_dir": tmp_path / "path"}))
    extractor.extract(corpus[:2])
    n_before = windows_counted(counts)
    clone(extractor).fit(corpus[:2]).transform(corpus[:2])
    assert windows_counted(counts) == n_before


def test_a_limit_of_nothing_is_refused(parameters):
    with pytest.raises(ValueError, match="cache_limit"):
        TransformerFeatureExtractor(**parameters, cache_limit=0).fit(["a"])
