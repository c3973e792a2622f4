"""cache_dir: the model runs over each text once, and what is kept is never taken for something else."""

import errno
import logging
import os
import shutil
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from filelock import FileLock
from safetensors.numpy import load_file, save_file
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from support.processes import count_windows, extract_with_cache, finish, kill_after, start, windows_counted

from skfactors import SparseDictionary, TransformerFeatureExtractor, files
from skfactors.extraction import cache
from skfactors.extraction.cache import HiddenStateCache
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


def cut(entry, _):
    entry.write_bytes(entry.read_bytes()[:-20])


def empty(entry, _):
    entry.write_bytes(b"")


def copy_of_another(entry, another):
    shutil.copy(another, entry)


def link_to_another(entry, another):
    entry.unlink()
    entry.symlink_to(another)


def link_out(entry, _):
    elsewhere = entry.parents[2] / "elsewhere"
    entry.rename(elsewhere)
    entry.symlink_to(elsewhere)


def pipe(entry, _):
    entry.unlink()
    os.mkfifo(entry)


def pickle(entry, _):
    entry.write_bytes(b"cos\nabort\n(tR." + bytes(entry.stat().st_size - 15))


def another_file_of_tensors(entry, _):
    save_file({"states": load_file(entry)["states"] + 1}, entry)


def folder(entry, _):
    entry.unlink()
    entry.mkdir()


SPOILS = [cut, empty, copy_of_another, link_to_another, link_out, pipe, pickle, another_file_of_tensors, folder]


@pytest.mark.parametrize("spoil", SPOILS)
def test_what_is_no_longer_the_entry_is_run_again(corpus, parameters, whole, counts, spoil, caplog):
    extractor = TransformerFeatureExtractor(**parameters)
    extractor.extract(corpus[:6])
    n_before = windows_counted(counts)
    _, entry, another, *_ = entries(parameters)
    spoil(entry, another)
    acts = extractor.extract(corpus[:6])
    np.testing.assert_allclose(acts.X, whole.X[: len(acts)], rtol=1e-4, atol=1e-5)
    assert windows_counted(counts) == n_before + 1
    assert str(entry) in caplog.text


def test_an_entry_with_a_bit_flipped_anywhere_counts_as_missing(tmp_path):
    kept, states = HiddenStateCache(tmp_path, "identity", None), np.ones((1, 2, 2), np.float32)
    key = kept.key(np.arange(2))
    kept.put(key, states)
    (entry,) = tmp_path.glob("??/*.safetensors")
    content = entry.read_bytes()
    np.testing.assert_array_equal(kept.get(key, states.shape, states.dtype), states)
    np.testing.assert_array_equal(load_file(entry)["states"], states)
    for place in range(len(content)):
        flipped = bytearray(content)
        flipped[place] ^= 1 << place % 8
        entry.write_bytes(flipped)
        assert kept.get(key, states.shape, states.dtype) is None


def test_an_entry_of_another_shape_or_type_counts_as_missing(tmp_path):
    kept, states = HiddenStateCache(tmp_path, "identity", None), np.ones((2, 2, 2), np.float32)
    for shape, dtype in (((1, 4, 2), "float32"), ((2, 2, 1), "float64")):
        kept.put("0" * 64, states)
        assert kept.get("0" * 64, shape, np.dtype(dtype)) is None


@pytest.mark.parametrize("limit", [None, 50_000])
def test_what_killed_processes_left_is_removed(corpus, parameters, limit):
    leftover = Path(parameters["cache_dir"], "00", f".x.safetensors.0{files.UNFINISHED}")
    leftover.parent.mkdir(parents=True)
    leftover.write_bytes(bytes(100_000))
    os.utime(leftover, (0, 0))
    TransformerFeatureExtractor(**parameters, cache_limit=limit).extract(corpus[:5])
    assert not leftover.exists()
    assert len(entries(parameters)) == 5


def test_files_that_are_being_written_count_to_the_limit(corpus, parameters):
    extractor = TransformerFeatureExtractor(**parameters, cache_limit=50_000)
    extractor.extract(corpus[:5])
    writing = entries(parameters)[0].with_name(f".x.safetensors.0{files.UNFINISHED}")
    writing.write_bytes(bytes(100_000))
    extractor.extract(corpus[5:6])
    assert writing.exists()
    assert not entries(parameters)


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES])
def test_where_nothing_can_be_kept_the_model_goes_on_and_it_is_said_once(
    corpus, parameters, whole, monkeypatch, number, caplog
):
    def refused(*arguments, **keywords):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(cache, "replaced_file", refused)
    monkeypatch.setattr(FileLock, "acquire", refused)
    acts = TransformerFeatureExtractor(**parameters).extract(corpus)
    np.testing.assert_allclose(acts.X, whole.X, rtol=1e-4, atol=1e-5)
    assert [record.levelno for record in caplog.records] == [logging.WARNING]
    assert parameters["cache_dir"] in caplog.text


def test_a_folder_that_is_read_only_gives_what_it_holds(corpus, parameters, whole, counts, monkeypatch):
    TransformerFeatureExtractor(**parameters).extract(corpus[:3])
    n_before = windows_counted(counts)

    def read_only(*arguments, **keywords):
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    for place, name in ((cache, "replaced_file"), (FileLock, "acquire"), (os, "utime"), (Path, "mkdir")):
        monkeypatch.setattr(place, name, read_only)
    acts = TransformerFeatureExtractor(**parameters).extract(corpus[:6])
    np.testing.assert_allclose(acts.X, whole.X[: len(acts)], rtol=1e-4, atol=1e-5)
    assert windows_counted(counts) == n_before + 3


def test_a_folder_that_cannot_be_made_is_named(parameters, tmp_path):
    (tmp_path / "file").write_text("")
    extractor = TransformerFeatureExtractor(**(parameters | {"cache_dir": tmp_path / "file"}))
    with pytest.raises(OSError, match="choose another cache_dir.*file"):
        extractor.extract(["the bank"])


def test_who_waits_for_another_process_says_so(parameters, tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(files, "_SECONDS_OF_SILENCE", 0.1)
    kept = HiddenStateCache(tmp_path, "identity", None)
    with FileLock(tmp_path / "locks" / "00.lock"):
        waiting = threading.Thread(target=kept.wait, args=["0" * 64])
        waiting.start()
        for _ in range(100):
            if "waiting for another process" in caplog.text:
                break
            time.sleep(0.05)
    waiting.join(20)
    assert "waiting for another process" in caplog.text
    assert not waiting.is_alive()


def test_rows_are_of_the_precision_asked_for_whatever_the_caller_has_set(corpus, parameters, whole):
    with torch.autocast("cpu", dtype=torch.bfloat16):
        acts = TransformerFeatureExtractor(**parameters).extract(corpus[:3])
    np.testing.assert_allclose(acts.X, whole.X[: len(acts)], rtol=1e-4, atol=1e-5)


def test_a_model_that_was_replaced_in_place_is_another(corpus, parameters, counts, tmp_path):
    from transformers import AutoModel

    model = AutoModel.from_pretrained(parameters["model"])
    parameters["model"] = str(shutil.copytree(parameters["model"], tmp_path / "model"))
    weights = tmp_path / "model" / "model.safetensors"
    extractor = TransformerFeatureExtractor(**parameters)
    before = extractor.extract(corpus[:3]).X
    found = weights.stat()
    with torch.no_grad():
        model.encoder.layer[0].output.dense.bias[0] += 1
    model.save_pretrained(weights.parent)
    assert weights.stat().st_size == found.st_size
    os.utime(weights, ns=(found.st_atime_ns, found.st_mtime_ns))
    after = extractor.extract(corpus[:3]).X
    assert windows_counted(counts) == 6
    assert abs(after - before).max() > 0.1


def test_a_model_that_changes_while_it_is_open_is_not_taken_for_what_was_loaded(corpus, parameters, tmp_path):
    parameters["model"] = str(shutil.copytree(parameters["model"], tmp_path / "model"))
    parts = TransformerFeatureExtractor(**parameters)._open()
    (tmp_path / "model" / "config.json").touch()
    with pytest.raises(OSError, match="config.json.*changed after the model had been loaded"):
        parts.content  # noqa: B018


@pytest.mark.parametrize("changed", [{"layers": [0, 1]}, {"dtype": "float64"}, {"model": "other"}])
def test_other_models_layers_and_precisions_do_not_meet(corpus, parameters, counts, changed, tmp_path):
    if "model" in changed:
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


@pytest.mark.parametrize("limit", [0, -1])
def test_a_limit_of_nothing_is_refused(parameters, limit):
    with pytest.raises(ValueError, match="cache_limit"):
        TransformerFeatureExtractor(**parameters, cache_limit=limit).fit(["a"])
