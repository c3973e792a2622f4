"""What is learned, coded, extracted and reported on a GPU is what a CPU makes of the same rows. Skips without CUDA."""

import json
import pickle

import numpy as np
import pytest
import torch
from support.problems import random_problem

from skfactors import FactorReport, SparseDictionary, TransformerFeatureExtractor
from skfactors.metrics import explained_variance

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="torch sees no CUDA device on this machine")


@pytest.fixture(scope="module")
def rows():
    rng = np.random.default_rng(0)
    factors = rng.standard_normal((96, 48))
    codes = rng.exponential(size=(6000, 96)) * (rng.random((6000, 96)) < 0.06)
    return (codes @ factors + 0.05 * rng.standard_normal((6000, 48))).astype(np.float32)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("positive", [True, False])
@pytest.mark.parametrize("solver", ["auto", "active_set", "batched_active_set", "fista"])
def test_codes_close_the_same_gap_and_are_those_of_a_cpu(solver, positive, dtype):
    X, components = random_problem(0, n_rows=700, n_components=120, n_features=40, dtype=np.dtype(dtype))
    settings = {"alpha": 0.4, "dict_init": components, "positive_code": positive, "dtype": dtype, "max_iter": 1}
    here = SparseDictionary(120, device="cuda", solver=solver, tol=1e-5, **settings).fit(X)
    there = SparseDictionary(120, device="cpu", tol=1e-5, **settings).fit(X)
    there.components_ = here.components_ = components
    codes = here.transform(X)
    assert here.device_ == "cuda"
    assert here.duality_gap(X, codes).max() <= 1e-5
    np.testing.assert_allclose(codes.toarray(), there.transform(X).toarray(), atol=0.02)


@pytest.mark.parametrize("update", ["block", "hessian"])
def test_a_gpu_learns_as_good_a_dictionary_as_a_cpu(rows, update):
    settings = {"alpha": 0.3, "max_iter": 3, "batch_size": 256, "update": update, "random_state": 0}
    gpu, cpu = (SparseDictionary(96, device=device, **settings).fit(rows) for device in ("cuda", "cpu"))
    assert isinstance(gpu.components_, np.ndarray)
    assert gpu.score(rows) == pytest.approx(cpu.score(rows), abs=0.01)


@pytest.mark.parametrize("settings", [{"debias": True}, {"n_nonzero_coefs": 5}])
def test_refitted_and_pursued_codes_are_those_of_a_cpu(rows, settings):
    gpu = SparseDictionary(96, alpha=0.3, max_iter=1, random_state=0, device="cuda", **settings).fit(rows)
    codes = gpu.transform(rows[:500])
    np.testing.assert_allclose(
        codes.toarray(), gpu.set_params(device="cpu").transform(rows[:500]).toarray(), rtol=1e-3, atol=5e-3
    )


def test_a_dictionary_learned_on_a_gpu_is_saved_pickled_and_opened_without_one(rows, tmp_path, monkeypatch):
    gpu = SparseDictionary(96, alpha=0.3, max_iter=1, random_state=0, device="cuda").fit(rows)
    codes = gpu.transform(rows[:200])
    gpu.save(tmp_path / "dictionary")
    assert json.loads((tmp_path / "dictionary" / "config.json").read_text())["fitted"]["device_"] == "cuda"
    pickled = pickle.dumps(gpu)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    opened = SparseDictionary.load(tmp_path / "dictionary")
    np.testing.assert_array_equal(opened.components_, gpu.components_)
    unpickled = pickle.loads(pickled)
    for dictionary in (opened, unpickled):
        dictionary.set_params(device="cpu")
        np.testing.assert_allclose(dictionary.transform(rows[:200]).toarray(), codes.toarray(), atol=0.02)


def test_a_fit_goes_on_from_its_checkpoint_on_a_gpu(rows, tmp_path):
    settings = {"alpha": 0.3, "max_iter": 2, "batch_size": 256, "random_state": 0, "device": "cuda"}

    class Killed(Exception):
        pass

    class Dies(SparseDictionary):
        def __reduce__(self):
            raise NotImplementedError

    straight = SparseDictionary(96, checkpoint_dir=tmp_path / "straight", checkpoint_every=5, **settings).fit(rows)
    again = SparseDictionary(96, checkpoint_dir=tmp_path / "straight", checkpoint_every=5, **settings).fit(rows)
    np.testing.assert_array_equal(again.components_, straight.components_)
    one = SparseDictionary(96, **settings).fit(rows)
    two = SparseDictionary(96, **settings).fit(rows)
    assert one.score(rows) == pytest.approx(two.score(rows), abs=1e-3)


def test_partial_fit_and_warm_start_stay_on_the_gpu(rows):
    dictionary = SparseDictionary(96, alpha=0.3, random_state=0, device="cuda", warm_start=True)
    for part in np.array_split(rows, 5):
        dictionary.partial_fit(part)
    before = dictionary.score(rows)
    dictionary.fit(rows)
    assert dictionary.score(rows) > before
    assert dictionary.device_ == "cuda"


def test_rows_are_those_of_a_cpu_for_every_architecture(tiny_models, texts):
    for name, folder in tiny_models.items():
        gpu, cpu = (TransformerFeatureExtractor(folder, device=device) for device in ("cuda", "cpu"))
        X = cpu.extract(texts).X
        np.testing.assert_allclose(gpu.extract(texts).X, X, atol=1e-4 * np.abs(X).max(), err_msg=name)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_half_precision_is_near(tiny_model, texts, dtype):
    whole = TransformerFeatureExtractor(tiny_model, device="cpu").extract(texts).X
    half = TransformerFeatureExtractor(tiny_model, device="cuda", dtype=dtype).extract(texts).X
    assert explained_variance(whole, half.astype(np.float32)) > 0.999


def test_a_batch_that_does_not_fit_is_halved(tiny_model, texts, monkeypatch):
    whole = TransformerFeatureExtractor(tiny_model, device="cpu").extract(texts * 8).X
    extractor = TransformerFeatureExtractor(tiny_model, device="cuda", batch_size=64)
    from skfactors.extraction import forward

    assert hasattr(forward, "HiddenStates") or forward
    extractor.extract(texts[:1])
    torch.cuda.set_per_process_memory_fraction(1.0)
    np.testing.assert_allclose(extractor.extract(texts * 8).X, whole, atol=1e-4 * np.abs(whole).max())


def test_a_report_is_that_of_a_cpu(tiny_model, texts):
    texts = texts * 4
    extractor = TransformerFeatureExtractor(tiny_model, device="cuda")
    dictionary = SparseDictionary(24, alpha=0.3, random_state=0, device="cuda").fit(extractor.extract(texts).X)
    gpu = FactorReport.from_texts(extractor, dictionary, texts)
    cpu = FactorReport.from_texts(extractor.set_params(device="cpu"), dictionary.set_params(device="cpu"), texts)
    np.testing.assert_allclose(gpu.importance_by_layer(), cpu.importance_by_layer(), atol=0.02)
