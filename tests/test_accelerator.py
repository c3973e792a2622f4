"""What is learned, coded, extracted and reported on a GPU is what a CPU makes of the same rows. Skips without CUDA."""

import json
import pickle

import numpy as np
import pytest
import torch
from support.problems import random_problem
from support.tiny_kinds import SIZES, save_model
from transformers import LlamaConfig, LlamaForCausalLM

from skfactors import (
    Crosscoder,
    FactorReport,
    SparseAutoencoder,
    SparseDictionary,
    Transcoder,
    TransformerFeatureExtractor,
)
from skfactors.devices import fused
from skfactors.dictionaries.autoencoders import dense_engine
from skfactors.dictionaries.autoencoders.activations import ACTIVATIONS
from skfactors.dictionaries.sparse_coding.objective import relative_duality_gap
from skfactors.dictionaries.sparse_coding.solvers import SOLVERS, batched
from skfactors.evaluations import loss_recovered
from skfactors.interventions import attribute, intervene
from skfactors.metrics import explained_variance

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="torch sees no CUDA device on this machine")


@pytest.fixture(scope="module")
def rows():
    rng = np.random.default_rng(0)
    factors = rng.standard_normal((96, 48))
    codes = rng.exponential(size=(6000, 96)) * (rng.random((6000, 96)) < 0.06)
    return (codes @ factors + 0.05 * rng.standard_normal((6000, 48))).astype(np.float32)


@pytest.fixture
def texts(texts):
    return [text for text in texts if text]


@pytest.fixture
def without_triton(monkeypatch):
    monkeypatch.setattr(batched, "fused", lambda device, load: None)
    monkeypatch.setattr(dense_engine, "fused", lambda device, load: None)


def solved_on_gpu(solver, problem, positive, tol, alpha=0.4):
    """Code rows on the GPU; return codes, their gaps, and these gaps in double precision on the CPU."""
    X, components = (torch.tensor(array) for array in problem)
    coder = SOLVERS[solver](components.cuda(), alpha=alpha, positive=positive, tol=tol, max_iter=5000)
    codes, gaps = (tensor.cpu() for tensor in coder.solve(X.cuda()))
    return codes, gaps, relative_duality_gap(X.double(), codes.double(), components.double(), alpha, positive)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("positive", [True, False])
@pytest.mark.parametrize("solver", ["batched_active_set", "fista"])
def test_codes_close_the_same_gap(solver, positive, dtype):
    problem = random_problem(0, n_rows=700, n_components=120, n_features=40, dtype=np.dtype(dtype))
    codes, told, gaps = solved_on_gpu(solver, problem, positive, tol=1e-5)
    assert gaps.max() <= 1.1e-5
    np.testing.assert_allclose(told, gaps, atol=2e-6)
    assert not positive or (codes >= 0).all()


@pytest.mark.usefixtures("without_triton")
@pytest.mark.parametrize("positive", [True, False])
def test_codes_close_the_same_gap_without_triton(positive):
    problem = random_problem(0, n_rows=700, n_components=120, n_features=40, dtype=np.float32)
    assert solved_on_gpu("batched_active_set", problem, positive, tol=1e-5)[2].max() <= 1.1e-5


def test_codes_of_hundreds_of_active_factors_close_the_gap():
    rng = np.random.default_rng(0)
    components = rng.standard_normal((600, 700)) / 700**0.5
    X = rng.exponential(size=(50, 600)) @ components
    codes, _, gaps = solved_on_gpu("batched_active_set", (X, components), True, tol=1e-4, alpha=0.01)
    assert (codes != 0).sum(1).min() > 300
    assert gaps.max() <= 1.1e-4


def test_the_company_of_rows_changes_no_code():
    X, components = random_problem(0, n_rows=300, n_components=120, n_features=40)
    together = solved_on_gpu("batched_active_set", (X, components), True, tol=1e-6)[0]
    alone = solved_on_gpu("batched_active_set", (X[:7], components), True, tol=1e-6)[0]
    np.testing.assert_allclose(together[:7], alone, atol=1e-9)


def test_kernels_are_what_is_used_where_they_compile():
    pytest.importorskip("triton")
    assert fused("cuda", batched._load_descent) is not None
    assert fused("cuda", dense_engine._load_fused_update) is not None


def test_where_triton_cannot_compile_coding_goes_on_and_says_so(monkeypatch):
    descent = pytest.importorskip("skfactors.dictionaries.sparse_coding.solvers._descent")

    def fails(*args):
        raise RuntimeError("Failed to find C compiler")

    monkeypatch.setattr(descent, "descend", fails)
    fused.cache_clear()
    with pytest.warns(RuntimeWarning, match="slower without: Failed to find C compiler"):
        gaps = solved_on_gpu("batched_active_set", random_problem(0), True, tol=1e-5)[2]
    fused.cache_clear()
    assert gaps.max() <= 1e-5


def test_transform_closes_the_gap_sparse_or_dense(rows):
    dictionary = SparseDictionary(96, alpha=0.3, max_iter=1, random_state=0, device="cuda").fit(rows)
    codes = dictionary.transform(rows)
    assert codes.indices.dtype == codes.indptr.dtype == np.int32
    assert codes.has_sorted_indices and (codes.data > 0).all()
    assert dictionary.duality_gap(rows, codes).max() <= 1.1e-4
    np.testing.assert_array_equal(dictionary.set_params(sparse_output=False).transform(rows), codes.toarray())


@pytest.mark.parametrize("update", ["block", "hessian"])
def test_a_gpu_learns_as_good_a_dictionary_as_a_cpu(rows, update):
    settings = {"alpha": 0.3, "tol": 1e-2, "max_iter": 2, "batch_size": 256, "update": update, "random_state": 0}
    settings["solver"] = "batched_active_set"
    gpu, cpu = (SparseDictionary(96, device=device, **settings).fit(rows[:3000]) for device in ("cuda", "cpu"))
    assert isinstance(gpu.components_, np.ndarray)
    assert gpu.score(rows) == pytest.approx(cpu.score(rows), abs=0.01)


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
        dictionary.set_params(device="cpu", solver="batched_active_set")
        np.testing.assert_allclose(dictionary.transform(rows[:200]).toarray(), codes.toarray(), atol=0.05)


class CountsBatches:
    """A callback of scikit-learn that counts minibatches, and may die after so many."""

    def __init__(self, die_after=None):
        self.die_after, self.n_batches = die_after, 0

    def setup(self, estimator, context):
        pass

    def teardown(self, estimator, context):
        pass

    def on_fit_task_begin(self, estimator, context):
        pass

    def on_fit_task_end(self, estimator, context):
        self.n_batches += context.task_name == "minibatch"
        if self.n_batches == self.die_after:
            raise KeyboardInterrupt


def test_a_fit_that_was_killed_goes_on_to_the_same_components(rows, tmp_path):
    pytest.importorskip("sklearn.callback", reason="this version of scikit-learn has no callbacks")
    settings = {"alpha": 0.3, "max_iter": 2, "batch_size": 256, "random_state": 0, "device": "cuda"}
    straight = SparseDictionary(96, **settings).fit(rows)
    settings |= {"checkpoint_dir": tmp_path, "checkpoint_every": 7}
    with pytest.raises(KeyboardInterrupt):
        SparseDictionary(96, **settings).set_callbacks(CountsBatches(die_after=30)).fit(rows)
    rest = CountsBatches()
    resumed = SparseDictionary(96, **settings).set_callbacks(rest).fit(rows)
    assert rest.n_batches == straight.n_steps_ - 28
    np.testing.assert_array_equal(resumed.components_, straight.components_)


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


def test_a_batch_that_does_not_fit_is_halved_and_nothing_is_lost(tiny_model, texts, caplog):
    long_text, n_copies = texts[3], 3000
    extractor = TransformerFeatureExtractor(tiny_model, device="cuda", batch_size=2 * n_copies)
    one = extractor.extract([long_text]).X
    torch.cuda.empty_cache()
    # Room for 64 MB beside what is there: one hidden state of all windows takes about half of that.
    room = torch.cuda.memory_reserved() + 2**26
    torch.cuda.set_per_process_memory_fraction(room / torch.cuda.get_device_properties(0).total_memory)
    try:
        rows = extractor.extract([long_text] * n_copies).X
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    assert "ran out of memory" in caplog.text
    np.testing.assert_allclose(rows, np.tile(one, (n_copies, 1)), atol=1e-4 * np.abs(one).max())


def test_a_report_is_that_of_a_cpu(tiny_model, texts):
    texts = texts * 4
    extractor = TransformerFeatureExtractor(tiny_model, device="cuda")
    dictionary = SparseDictionary(24, alpha=0.3, random_state=0, device="cuda").fit(extractor.extract(texts).X)
    gpu = FactorReport.from_texts(extractor, dictionary, texts)
    cpu = FactorReport.from_texts(
        extractor.set_params(device="cpu"), dictionary.set_params(device="cpu", solver="batched_active_set"), texts
    )
    np.testing.assert_allclose(gpu.importance_by_layer(), cpu.importance_by_layer(), atol=0.02)


def test_refitted_codes_leave_nothing_that_their_factors_could_explain(rows):
    dictionary = SparseDictionary(96, alpha=0.3, max_iter=1, random_state=0, device="cuda", debias=True).fit(rows)
    codes = dictionary.transform(rows[:500]).toarray()
    correlations = (rows[:500] - codes @ dictionary.components_) @ dictionary.components_.T
    assert np.abs(correlations[codes != 0]).max() < 1e-3


def test_pursued_codes_are_those_of_a_cpu(rows):
    gpu = SparseDictionary(96, n_nonzero_coefs=5, max_iter=1, random_state=0, device="cuda").fit(rows)
    codes = gpu.transform(rows[:500]).toarray()
    np.testing.assert_allclose(
        codes, gpu.set_params(device="cpu").transform(rows[:500]).toarray(), rtol=1e-3, atol=1e-4
    )


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_an_autoencoder_learns_as_well_as_on_a_cpu(rows, name):
    settings = {"activation": name, "n_nonzero_coefs": 6, "max_iter": 4, "batch_size": 256, "random_state": 0}
    gpu, cpu = (SparseAutoencoder(96, device=device, **settings).fit(rows) for device in ("cuda", "cpu"))
    assert gpu.score(rows) == pytest.approx(cpu.score(rows), abs=0.02)
    assert gpu.transform(rows).nnz / len(rows) == pytest.approx(6, rel=0.05)
    assert gpu.device_ == "cuda" and isinstance(gpu.encoder_, np.ndarray)


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_an_autoencoder_codes_rows_as_on_a_cpu(rows, name):
    model = SparseAutoencoder(96, activation=name, n_nonzero_coefs=6, max_iter=2, random_state=0, device="cuda")
    codes = model.fit(rows).transform(rows)
    on_cpu = model.set_params(device="cpu").transform(rows)
    # Rounding may decide which of two equals is a code.
    assert abs((codes != 0) - (on_cpu != 0)).sum() <= 1e-4 * codes.nnz
    np.testing.assert_allclose(model.inverse_transform(codes), model.inverse_transform(on_cpu), atol=1e-2)


@pytest.mark.parametrize("groups", [None, [8, 24, 64]])
@pytest.mark.parametrize("auxk", [0, 1 / 32])
@pytest.mark.usefixtures("without_triton")
def test_without_triton_an_autoencoder_learns_the_same(rows, groups, auxk):
    settings = {"n_nonzero_coefs": 6, "max_iter": 1, "batch_size": 256, "random_state": 0, "device": "cuda"}
    settings |= {"group_sizes": groups, "auxk": auxk, "dtype": "float64"}
    plain = SparseAutoencoder(96, **settings).fit(rows)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(dense_engine, "fused", fused)
        kernel = SparseAutoencoder(96, **settings).fit(rows)
    for name in ("components_", "encoder_", "encoder_intercept_", "intercept_", "threshold_"):
        np.testing.assert_allclose(getattr(kernel, name), getattr(plain, name), atol=1e-6)


def test_bfloat16_learns_nearly_as_well(rows):
    settings = {"n_nonzero_coefs": 6, "max_iter": 4, "batch_size": 256, "random_state": 0, "device": "cuda"}
    half, whole = (SparseAutoencoder(96, dtype=dtype, **settings).fit(rows) for dtype in ("bfloat16", "float32"))
    assert half.score(rows) == pytest.approx(whole.score(rows), abs=0.03)
    assert half.transform(rows).dtype == np.float32


def test_an_autoencoder_that_was_killed_goes_on_to_the_same_weights(rows, tmp_path):
    pytest.importorskip("sklearn.callback", reason="this version of scikit-learn has no callbacks")
    settings = {"n_nonzero_coefs": 6, "max_iter": 2, "batch_size": 256, "random_state": 0, "device": "cuda"}
    straight = SparseAutoencoder(96, **settings).fit(rows)
    settings |= {"checkpoint_dir": tmp_path, "checkpoint_every": 7}
    with pytest.raises(KeyboardInterrupt):
        SparseAutoencoder(96, **settings).set_callbacks(CountsBatches(die_after=30)).fit(rows)
    resumed = SparseAutoencoder(96, **settings).fit(rows)
    for name in ("components_", "encoder_", "threshold_"):
        np.testing.assert_array_equal(getattr(resumed, name), getattr(straight, name))


def test_an_autoencoder_goes_on_learning_on_a_gpu_and_is_opened_without_one(rows, tmp_path, monkeypatch):
    model = SparseAutoencoder(96, n_nonzero_coefs=6, random_state=0, device="cuda", batch_size=256)
    for part in np.array_split(rows, 5):
        model.partial_fit(part)
    model.save(tmp_path / "model")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    opened = SparseAutoencoder.load(tmp_path / "model").set_params(device="cpu")
    assert opened.score(rows) == pytest.approx(model.set_params(device="cpu").score(rows))
    before = opened.score(rows)
    for part in np.array_split(rows, 5):
        opened.partial_fit(part)
    assert opened.score(rows) > before


@pytest.mark.parametrize("skip", [False, True])
@pytest.mark.parametrize("jacobian_penalty", [0.0, 1e-3])
@pytest.mark.parametrize("name", ["topk", "batch_topk", "jump_relu"])
def test_a_transcoder_learns_as_well_as_on_a_cpu(rows, name, skip, jacobian_penalty):
    mixed = np.tanh(rows @ np.random.default_rng(1).standard_normal((48, 32))).astype(np.float32)
    settings = {"activation": name, "n_nonzero_coefs": 6, "max_iter": 3, "batch_size": 256, "random_state": 0}
    settings |= {"skip": skip, "jacobian_penalty": jacobian_penalty}
    gpu, cpu = (Transcoder(96, device=device, **settings).fit(rows, mixed) for device in ("cuda", "cpu"))
    assert gpu.score(rows, mixed) == pytest.approx(cpu.score(rows, mixed), abs=0.02)
    predicted = gpu.predict(rows)
    np.testing.assert_allclose(predicted, gpu.set_params(device="cpu").predict(rows), atol=1e-2 * abs(predicted).max())


@pytest.mark.parametrize("name", ["topk", "batch_topk", "jump_relu", "gated"])
def test_a_crosscoder_learns_as_well_as_on_a_cpu(rows, name):
    pair = np.hstack([rows, 3 * rows[:, ::-1]])
    settings = {"activation": name, "n_nonzero_coefs": 6, "max_iter": 3, "batch_size": 256, "random_state": 0}
    gpu, cpu = (Crosscoder(96, n_sites=2, device=device, **settings).fit(pair) for device in ("cuda", "cpu"))
    assert gpu.score(pair) == pytest.approx(cpu.score(pair), abs=0.02)
    on_gpu = gpu.latent_scaling(pair)
    np.testing.assert_allclose(on_gpu, gpu.set_params(device="cpu").latent_scaling(pair), atol=1e-2)


@pytest.fixture(scope="module")
def small_llama(tmp_path_factory):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = LlamaForCausalLM(LlamaConfig(**SIZES, bos_token_id=2, eos_token_id=3, pad_token_id=0))
    return save_model(tmp_path_factory.mktemp("heads") / "llama", model)


WORDS_OF_LLAMA = ["the left bank of muddy river", "report on shares", "the bank of the river fell"] * 4


def test_rows_of_sites_are_those_of_a_cpu(small_llama):
    sites = ["block_output", "attention_output", "attention_heads", "mlp_input", "mlp_output"]
    gpu, cpu = (
        TransformerFeatureExtractor(small_llama, site=sites, layers=[0, 1], device=device).extract(WORDS_OF_LLAMA)
        for device in ("cuda", "cpu")
    )
    for site in sites:
        np.testing.assert_allclose(gpu.at(site, 1), cpu.at(site, 1), atol=1e-4)


def test_a_language_model_is_changed_as_on_a_cpu(small_llama):
    def of(device):
        extractor = TransformerFeatureExtractor(small_llama, site="mlp_output", layers=[1], device=device)
        reads = extractor.set_params(site="mlp_input").extract(WORDS_OF_LLAMA).X
        writes = extractor.set_params(site="mlp_output").extract(WORDS_OF_LLAMA).X
        return extractor, reads, writes

    on_cpu, reads, writes = of("cpu")
    transcoder = Transcoder(24, n_nonzero_coefs=4, random_state=0, max_iter=3, device="cpu").fit(reads, writes)
    dictionary = SparseDictionary(24, alpha=0.01, random_state=0, device="cpu").fit(writes)
    on_gpu = of("cuda")[0]
    ids = torch.tensor([[2, 5, 6, 7, 8]])
    logits = {}
    for device, extractor in (("cpu", on_cpu), ("cuda", on_gpu)):
        with (
            torch.inference_mode(),
            intervene(extractor, dictionary, layer=1, site="mlp_output", steer={0: 2.0}, ablate=[1]) as model,
        ):
            logits[device] = model(ids.to(model.device)).logits.cpu()
            written = model.generate(ids.to(model.device), max_new_tokens=5, do_sample=False)
            assert written.device.type == device
    np.testing.assert_allclose(logits["cuda"], logits["cpu"], atol=1e-4)
    recovered = [loss_recovered(extractor, dictionary, WORDS_OF_LLAMA) for extractor in (on_cpu, on_gpu)]
    np.testing.assert_allclose(*(table.loc[table["measure"] == "kl", "value"] for table in recovered), atol=1e-4)
    tables = [
        attribute(extractor, {1: transcoder}, WORDS_OF_LLAMA[0], target=7, freeze=["attention"])
        for extractor in (on_cpu, on_gpu)
    ]
    np.testing.assert_allclose(*(table["contribution"].sum() for table in tables), atol=1e-4)
