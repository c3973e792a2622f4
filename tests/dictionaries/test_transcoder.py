"""Transcoder: what a fit gives of a planted MLP, how it goes on, and what it refuses."""

import numpy as np
import pytest
import torch
from scipy.optimize import linear_sum_assignment
from sklearn.linear_model import Ridge

from skfactors import FactorModel, Transcoder
from skfactors.dictionaries import ACTIVATIONS
from skfactors.metrics import explained_variance

N_FEATURES, N_OUTPUTS, N_NEURONS = 32, 24, 40


def planted(n_rows, seed=0, linear=0.0):
    """Rows, what a sparse MLP makes of them with a linear map beside it, and where its neurons write."""
    rng = np.random.default_rng(0)
    listens, writes = rng.standard_normal((N_NEURONS, N_FEATURES)), rng.standard_normal((N_NEURONS, N_OUTPUTS))
    listens, writes = (rows / np.linalg.norm(rows, axis=1, keepdims=True) for rows in (listens, writes))
    beside = linear * rng.standard_normal((N_FEATURES, N_OUTPUTS))
    rng = np.random.default_rng(seed)
    codes = (rng.random((n_rows, N_NEURONS)) < 0.05) * (1 + rng.exponential(1, (n_rows, N_NEURONS)))
    X = 5 * codes @ listens + 0.1 * rng.standard_normal((n_rows, N_FEATURES))
    Y = 3 * np.maximum(X @ listens.T - 3, 0) @ writes + X @ beside + 1
    return (X + 2).astype(np.float32), Y.astype(np.float32), writes


@pytest.fixture(scope="module")
def learned_from():
    return planted(6000, 1)


def plain(**parameters):
    defaults = {"n_components": N_NEURONS, "n_nonzero_coefs": 3, "batch_size": 256, "random_state": 0, "device": "cpu"}
    return Transcoder(**defaults | parameters)


def test_a_planted_sparse_mlp_is_recovered(learned_from):
    X, Y, writes = learned_from
    model = plain(n_components=60, max_iter=20).fit(X, Y)
    cosines = writes @ model.components_.T
    assert cosines[linear_sum_assignment(-cosines)].mean() > 0.95
    held_out, wanted, _ = planted(2000, 2)
    assert model.score(held_out, wanted) > 0.97 > 0.85 > Ridge().fit(X, Y).score(held_out, wanted)
    np.testing.assert_allclose(np.linalg.norm(model.components_, axis=1), 1, atol=1e-5)


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_a_score_is_of_all_of_y_and_rows_have_as_many_codes_as_asked_for(activation, learned_from):
    X, Y, _ = learned_from
    held_out, wanted, _ = planted(2000, 2)
    model = plain(activation=activation, max_iter=3, skip=True).fit(X, Y)
    assert model.score(held_out, wanted) == pytest.approx(explained_variance(wanted, model.predict(held_out)), abs=1e-6)
    assert model.score(held_out, wanted) > 0.7
    # Of largest codes, those that are not positive are none.
    n_codes = model.transform(held_out).nnz / len(held_out)
    assert n_codes <= 3 if activation == "topk" else n_codes == pytest.approx(3, rel=0.1)


def test_a_skip_takes_over_what_is_linear():
    X, Y, _ = planted(6000, 1, linear=1.0)
    held_out, wanted, _ = planted(2000, 2, linear=1.0)
    with_skip, without = (plain(max_iter=3, skip=skip).fit(X, Y) for skip in (True, False))
    assert with_skip.score(held_out, wanted) > without.score(held_out, wanted) + 0.03
    assert with_skip.skip_.shape == (N_OUTPUTS, N_FEATURES) and without.skip_ is None
    by_hand = with_skip.inverse_transform(with_skip.transform(held_out)) + held_out @ with_skip.skip_.T
    np.testing.assert_allclose(with_skip.predict(held_out), by_hand, rtol=1e-5)
    with pytest.raises(ValueError, match="skip=False is not what was learned"):
        with_skip.set_params(skip=False, max_iter=1).partial_fit(X, Y)
    assert with_skip.fit(X, Y).skip_ is None


def test_a_penalty_on_derivatives_makes_predictions_change_less(learned_from):
    X, Y, _ = learned_from

    def mean_square_of_derivatives(model):
        module, rows = model.to_torch(), torch.tensor(X[:200])
        total = sum(
            torch.autograd.functional.jacobian(lambda x: module(x[None])[0], row).square().sum() for row in rows
        )
        return float(total) / len(rows)

    free, bound = (plain(jacobian_penalty=weight, max_iter=3).fit(X, Y) for weight in (0.0, 0.3))
    assert mean_square_of_derivatives(bound) < 0.8 * mean_square_of_derivatives(free)


@pytest.mark.parametrize("activation", ["batch_topk", "gated"])
@pytest.mark.parametrize(("normalize", "skip"), [("rms", True), (None, True), ("rms", False)])
def test_a_saved_transcoder_and_its_torch_module_predict_alike(activation, normalize, skip, learned_from, tmp_path):
    X, Y, _ = learned_from
    model = plain(activation=activation, normalize=normalize, skip=skip, max_iter=1).fit(X, Y)
    model.save(tmp_path)
    opened = FactorModel.load(tmp_path)
    assert type(opened) is Transcoder and opened.fingerprint() == model.fingerprint()
    np.testing.assert_array_equal(opened.predict(X[:100]), model.predict(X[:100]))
    rows = torch.tensor(X[:100], requires_grad=True)
    predicted = model.to_torch()(rows)
    np.testing.assert_allclose(predicted.detach(), model.predict(X[:100]), atol=1e-3)
    predicted.square().sum().backward()
    assert rows.grad.abs().sum() > 0
    assert opened.partial_fit(X, Y).score(X, Y) > 0.5


def test_weights_early_stopping_and_a_warm_start(learned_from):
    X, Y, _ = learned_from
    weight = np.where(np.arange(len(X)) % 2, 1.0, 0.0)
    model = plain(early_stopping=True, warm_start=True, max_iter=40, dict_init="random")
    model.fit(X, Y, sample_weight=weight)
    n_steps = len(model.history_)
    assert model.n_iter_ < 40 and "validation_objective" in model.history_[-1]
    assert len(model.fit(X, Y).history_) > n_steps


def test_a_fit_that_was_stopped_goes_on_to_the_same_bits(learned_from, tmp_path, monkeypatch):
    from skfactors.dictionaries.autoencoders.step import AutoencoderStep

    X, Y, _ = learned_from
    parameters = {"max_iter": 2, "skip": True, "dict_init": "random"}
    undisturbed = plain(**parameters).fit(X, Y)
    learn_from = AutoencoderStep.learn_from

    def stopped(self, *of):
        if self.n_steps == 31:
            raise KeyboardInterrupt
        return learn_from(self, *of)

    model = plain(**parameters, checkpoint_dir=tmp_path, checkpoint_every=10)
    with monkeypatch.context() as patched:
        patched.setattr(AutoencoderStep, "learn_from", stopped)
        with pytest.raises(KeyboardInterrupt):
            model.fit(X, Y)
    assert model.fit(X, Y).fingerprint() == undisturbed.fingerprint()
    assert len(model.history_) == len(undisturbed.history_)


def test_silent_factors_are_pointed_elsewhere(learned_from):
    X, Y, _ = learned_from
    away = np.tile(-(Y - Y.min(axis=0)).mean(axis=0), (N_NEURONS, 1)) + 0.01 * np.random.default_rng(0).random(
        (N_NEURONS, N_OUTPUTS)
    )
    model = plain(activation="relu", dict_init=away, max_iter=10).fit(X, Y)
    assert sum(record["n_reseeded"] for record in model.history_) > 0
    assert np.mean(np.bincount(model.transform(X).indices, minlength=N_NEURONS) > 0) > 0.9


def test_mapped_arrays_give_what_arrays_give(learned_from, tmp_path):
    X, Y, _ = learned_from
    for name, rows in (("X", X), ("Y", Y)):
        np.save(tmp_path / f"{name}.npy", rows)
    mapped = (np.load(tmp_path / f"{name}.npy", mmap_mode="r") for name in ("X", "Y"))
    one, other = (plain(max_iter=1, dict_init="random").fit(*of) for of in (mapped, (X, Y)))
    assert one.fingerprint() == other.fingerprint()


@pytest.mark.parametrize("format", ["saelens", "sparsify"])
def test_another_tool_reads_what_is_exported(format, tmp_path):
    from skfactors import load_dictionary

    X = np.random.default_rng(0).standard_normal((300, 6)).astype(np.float32)
    activation = {"saelens": "batch_topk", "sparsify": "topk"}[format]
    model = plain(n_components=8, skip=True, max_iter=1, activation=activation).fit(X, np.maximum(X, 0))
    model.export(tmp_path, format=format)
    opened = load_dictionary(tmp_path)
    assert type(opened) is Transcoder
    np.testing.assert_allclose(opened.predict(X), model.predict(X), atol=1e-5)


class TestRefuses:
    """One clear error each."""

    def test_no_rows_to_predict_or_other_ones_than_read(self, learned_from):
        X, Y, _ = learned_from
        with pytest.raises(ValueError, match="target y is None"):
            plain().fit(X, None)
        with pytest.raises(ValueError, match="X has 6000 rows and Y has 5999"):
            plain().fit(X, Y[1:])
        with pytest.raises(ValueError, match="Input Y contains NaN"):
            plain().fit(X, np.where(np.arange(N_OUTPUTS) == 3, np.nan, Y))

    def test_rows_of_another_width_on_the_way(self, learned_from):
        X, Y, _ = learned_from
        model = plain(max_iter=1, dict_init="random").fit(X, Y)
        with pytest.raises(ValueError, match="Y has 5 features, and 24"):
            model.partial_fit(X, Y[:, :5])
        with pytest.raises(ValueError, match="Y has 5 features, and 24"):
            model.score(X, Y[:, :5])

    def test_what_would_need_the_rows_that_are_predicted(self, learned_from):
        X, Y, _ = learned_from
        model = plain(max_iter=1, dict_init="random").fit(X, Y)
        for call in (model.reconstruct, model.exact_codes, model.score):
            with pytest.raises(TypeError, match="transcoder|predicted"):
                call(X)
