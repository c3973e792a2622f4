"""Extractors that share a model, in threads and in forked processes."""

import multiprocessing
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from sklearn.base import clone
from support.tiny_kinds import SIZES, save

from skfactors import TransformerFeatureExtractor
from skfactors.devices import resolve_device
from skfactors.extraction import stream, windows


def test_clones_in_threads_cut_their_own_windows(tiny_model, texts):
    texts = [text for text in texts if text] * 10
    extractor = TransformerFeatureExtractor(tiny_model, layers=[1])
    settings = [{"max_length": length, "stride": length // 4} for length in (8, 16, 24, 60)]
    expected = [clone(extractor).set_params(**setting).extract(texts) for setting in settings]
    with ThreadPoolExecutor(4) as threads:
        clones = [clone(extractor).set_params(**setting) for setting in settings * 4]
        found = list(threads.map(lambda twin: twin.extract(texts), clones))
    for acts, alone in zip(found, expected * 4, strict=True):
        assert acts.provenance.equals(alone.provenance)
        np.testing.assert_allclose(acts.X, alone.X, rtol=1e-4, atol=1e-5)


def test_threads_share_a_model_that_changes_as_it_reads(tmp_path):
    folder = save(tmp_path, "BigBird", **SIZES, block_size=4, num_random_blocks=1)
    texts = ["the left bank", "the muddy river of the city " * 12]
    extractor = TransformerFeatureExtractor(folder, layers=[-1], max_length=96)
    expected = [extractor.extract([text]).X for text in texts]
    with ThreadPoolExecutor(4) as threads:
        found = list(threads.map(lambda text: clone(extractor).extract([text]).X, texts * 10))
    for rows, alone in zip(found, expected * 10, strict=True):
        np.testing.assert_allclose(rows, alone, rtol=1e-4, atol=1e-5)


def extract(extractor, texts):
    return extractor.extract(texts)


def extract_by_another(extractor, texts):
    """Load the model anew, as a parent's clone that has none open would."""
    return TransformerFeatureExtractor(**extractor.get_params()).extract(texts)


def transform(extractor, texts):
    return extractor.fit_transform(texts)


def probe(extractor, texts):
    asked = extractor.probe()
    ids = [asked.windows(text)[0].input_ids for text in texts]
    return asked.states_at(ids, np.array([[number, 1, 1] for number in range(len(ids))]))


def gradients(extractor, texts):
    asked = extractor.probe()
    ids = [asked.windows(text)[0].input_ids for text in texts]
    return np.stack(asked.gradients_times_embeddings(ids, np.array([[1, 1]] * len(ids)), np.ones((len(ids), 256))))


@pytest.fixture
def on_two_threads():
    n_threads = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(n_threads)


@pytest.fixture(scope="module")
def wide_model(tmp_path_factory):
    """A model whose passes torch divides among threads."""
    return save(tmp_path_factory.mktemp("wide"), "Bert", **SIZES | {"hidden_size": 256, "intermediate_size": 1024})


def in_a_fork(work):
    """Do work in a forked process; return what comes of it, and fail where nothing does."""
    context = multiprocessing.get_context("fork")
    receiver, sender = context.Pipe(duplex=False)
    child = context.Process(target=lambda: sender.send(work()))
    child.start()
    try:
        assert receiver.poll(60), "the forked process has not ended"
        return receiver.recv()
    finally:
        child.kill()


forks = pytest.mark.skipif(sys.platform != "linux", reason="processes are forked on Linux")


@forks
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
@pytest.mark.parametrize("work", [extract, extract_by_another, transform, probe, gradients])
def test_a_forked_process_works_after_its_parent_has(wide_model, on_two_threads, work):
    extractor = TransformerFeatureExtractor(wide_model, layers=[1])
    texts = ["the left bank of the muddy river " * 10] * 32
    expected = np.shape(work(extractor, texts))
    assert in_a_fork(lambda: np.shape(work(extractor, texts))) == expected


@forks
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_process_forked_while_a_thread_uses_model_and_cache_waits_for_neither(tiny_model, tmp_path):
    extractor = TransformerFeatureExtractor(tiny_model, layers=[1], cache_dir=tmp_path)
    expected = extractor.extract(["the bank"]).shape
    opened = extractor._slot().get(extractor._source())
    with extractor._slot()._turns, opened.facts.turns, windows._tokenizing:
        assert in_a_fork(lambda: extractor.extract(["the bank"]).shape) == expected


@forks
def test_cuda_in_a_process_forked_from_one_that_uses_it_is_refused_by_name(monkeypatch):
    monkeypatch.setattr(torch.cuda, "_is_in_bad_fork", lambda: True)
    with pytest.raises(RuntimeError, match="forked from one that uses it.*spawn"):
        resolve_device("cuda:0")
    assert resolve_device("auto") != "cuda"


@pytest.mark.parametrize(
    ("number", "n_cards", "device"),
    [(None, 8, "cuda"), ("0", 1, "cuda"), ("0", 8, "cuda:0"), ("3", 8, "cuda:3"), ("9", 8, "cuda:1")],
)
def test_each_process_of_torchrun_takes_a_card_of_its_own(monkeypatch, number, n_cards, device):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: n_cards)
    monkeypatch.delenv("LOCAL_RANK", raising=False)
    if number is not None:
        monkeypatch.setenv("LOCAL_RANK", number)
    assert resolve_device("auto") == device


def test_weights_are_read_for_their_checksums_only_where_rows_are_kept(tiny_model, tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr(stream, "model_content", lambda files: asked.append(files) or {})
    extractor = TransformerFeatureExtractor(tiny_model, layers=1)
    extractor.fit(["a bank"]).transform(["a bank"])
    assert not asked
    extractor.extract_to(["a bank"], tmp_path / "store")
    clone(extractor).set_params(cache_dir=str(tmp_path / "cache")).extract(["a bank"])
    assert len(asked) == 2
