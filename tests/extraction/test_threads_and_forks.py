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
from skfactors.extraction import stream


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


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
@pytest.mark.skipif(sys.platform != "linux", reason="processes are forked on Linux")
def test_a_forked_process_extracts_after_its_parent_has(tmp_path):
    wide = {**SIZES, "hidden_size": 256, "intermediate_size": 1024}
    extractor = TransformerFeatureExtractor(save(tmp_path, "Bert", **wide), layers=[1])
    texts = ["the left bank of the muddy river " * 10] * 32
    n_threads = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        expected = extractor.extract(texts).shape
        context = multiprocessing.get_context("fork")
        receiver, sender = context.Pipe(duplex=False)
        child = context.Process(target=lambda: sender.send(extractor.extract(texts).shape))
        child.start()
        assert receiver.poll(60)
        assert receiver.recv() == expected
    finally:
        child.kill()
        torch.set_num_threads(n_threads)


def test_weights_are_read_for_their_checksums_only_where_rows_are_kept(tiny_model, tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr(stream, "model_content", lambda source: asked.append(source) or {})
    extractor = TransformerFeatureExtractor(tiny_model, layers=1)
    extractor.fit(["a bank"]).transform(["a bank"])
    assert not asked
    extractor.extract_to(["a bank"], tmp_path / "store")
    clone(extractor).set_params(cache_dir=str(tmp_path / "cache")).extract(["a bank"])
    assert len(asked) == 2
