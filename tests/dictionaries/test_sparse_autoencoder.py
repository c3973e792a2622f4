"""SparseAutoencoder: what a fit gives, from where it starts, how it goes on, and what it refuses."""

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from sklearn.model_selection import GridSearchCV
from support.processes import finish, fit_autoencoder_to, kill_after_checkpoints, start, start_team

from skfactors import FactorModel, SparseAutoencoder, SparseDictionary
from skfactors.dictionaries import ACTIVATIONS
from skfactors.metrics import amortization_gap, explained_variance

N_FEATURES = 24
N_KILLS = 20


def superposed(n_rows, seed=0, n_factors=60):
    """Rows that are sums of few of more directions than they have features, and these directions."""
    rng = np.random.default_rng(0)
    directions = rng.standard_normal((n_factors, N_FEATURES))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    rng = np.random.default_rng(seed)
    codes = (rng.random((n_rows, n_factors)) < 0.06) * rng.exponential(1, (n_rows, n_factors))
    return (5 * codes @ directions + 0.1 * rng.standard_normal((n_rows, N_FEATURES)) + 3).astype(np.float32), directions


@pytest.fixture(scope="module")
def rows():
    return superposed(4000, 1)[0]


@pytest.fixture(scope="module")
def held_out():
    return superposed(3000, 2)[0]


def plain(**parameters):
    defaults = {"n_components": 64, "n_nonzero_coefs": 4, "batch_size": 256, "random_state": 0, "device": "cpu"}
    return SparseAutoencoder(**defaults | parameters)


def l0_of(model, X):
    return model.transform(X).nnz / len(X)


@pytest.mark.parametrize("dict_init", ["dictionary", "random"])
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_rows_held_out_have_as_many_codes_as_asked_for(activation, dict_init, rows, held_out):
    model = plain(activation=activation, dict_init=dict_init).fit(rows)
    assert l0_of(model, held_out) == pytest.approx(4, rel=0.05)
    assert model.score(held_out) > 0.7
    np.testing.assert_allclose(np.linalg.norm(model.components_, axis=1), 1, atol=1e-5)


@pytest.fixture(scope="module")
def digits():
    # Its last rows are by other hands than the first.
    return np.random.default_rng(0).permutation(load_digits().data.astype(np.float32))


@pytest.mark.parametrize(
    ("asked", "parameters"),
    [
        (8, {"n_components": 100, "max_iter": 30}),
        (32, {"n_components": 100, "max_iter": 10}),
    ],
)
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_so_have_digits_which_are_nothing_like_hidden_states(activation, asked, parameters, digits):
    model = plain(activation=activation, n_nonzero_coefs=asked, **parameters).fit(digits[:1200])
    assert l0_of(model, digits[1200:]) == pytest.approx(asked, rel=0.05)


@pytest.mark.parametrize("activation", ["topk", "batch_topk", "jump_relu"])
def test_factors_that_are_pointed_elsewhere_do_not_overshoot_together(activation, digits):
    model = plain(activation=activation, n_components=256, n_nonzero_coefs=8, batch_size=1024, max_iter=30)
    model.fit(digits[:1600])
    assert sum(record["n_reseeded"] for record in model.history_) > 0
    assert model.score(digits[1600:]) > 0.75


def test_a_start_from_a_dictionary_is_ahead_and_finds_more_of_the_true_directions(rows, held_out):
    directions = superposed(1)[1]
    of_dictionary, of_random = (
        plain(dict_init=dict_init, activation="topk", max_iter=5).fit(rows) for dict_init in ("dictionary", "random")
    )
    assert of_dictionary.history_[0]["explained_variance"] > of_random.history_[0]["explained_variance"] + 0.1
    assert of_dictionary.score(held_out) > of_random.score(held_out)
    one, other = ((directions @ model.components_.T).max(axis=1).mean() for model in (of_dictionary, of_random))
    assert one > other + 0.05


def test_given_components_are_started_from(rows):
    directions = superposed(1)[1]
    model = plain(n_components=60, dict_init=directions, max_iter=1, learning_rate=1e-6).fit(rows)
    np.testing.assert_allclose(model.components_, directions, atol=1e-3)
    assert model.score(rows) > 0.5


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("normalize", ["rms", None])
def test_a_saved_autoencoder_and_its_torch_module_code_alike(activation, normalize, rows, held_out, tmp_path):
    model = plain(activation=activation, normalize=normalize, max_iter=1).fit(rows)
    codes = model.transform(held_out)
    model.save(tmp_path)
    opened = FactorModel.load(tmp_path)
    assert opened.fingerprint() == model.fingerprint()
    np.testing.assert_array_equal(opened.transform(held_out).toarray(), codes.toarray())
    module = model.to_torch()
    X = torch.tensor(held_out, requires_grad=True)
    np.testing.assert_allclose(module.encode(X).detach(), codes.toarray(), atol=1e-4)
    np.testing.assert_allclose(module(X).detach(), model.reconstruct(held_out), atol=1e-4)
    module(X).square().sum().backward()
    assert X.grad.abs().sum() > 0 and module.weight.grad.abs().sum() > 0


def test_codes_of_the_module_are_those_of_another_device_path(rows, held_out):
    model = plain(max_iter=1).fit(rows)
    # What an accelerator runs, here on the CPU.
    encode = model._encoder()._encoder_elsewhere("cpu", torch.float32)
    np.testing.assert_allclose(encode(held_out).toarray(), model.transform(held_out).toarray(), atol=1e-4)


@pytest.mark.parametrize("group_sizes", [[8, 16, 40], [0.125, 0.25, 0.625]])
@pytest.mark.parametrize("activation", ["batch_topk", "gated"])
def test_the_first_of_nested_groups_explain_more_alone_than_without_nesting(activation, group_sizes, rows, held_out):
    def explained_by_first_group(model):
        codes = model.transform(held_out).toarray()
        codes[:, 8:] = 0
        return explained_variance(held_out, model.inverse_transform(codes))

    nested, flat = (plain(activation=activation, group_sizes=sizes).fit(rows) for sizes in (group_sizes, None))
    assert explained_by_first_group(nested) > explained_by_first_group(flat) + 0.05
    assert l0_of(nested, held_out) == pytest.approx(4, rel=0.05)


@pytest.mark.parametrize("activation", ["relu", "jump_relu", "gated"])
def test_a_fixed_penalty_is_kept_and_a_larger_one_makes_fewer_codes(activation, rows, held_out):
    small, large = (plain(activation=activation, alpha=alpha).fit(rows) for alpha in (0.5, 3.0))
    assert {record["penalty"] for record in small.history_} == {small.history_[0]["penalty"]}
    assert l0_of(large, held_out) < 0.8 * l0_of(small, held_out)


def test_a_penalty_does_not_depend_on_the_unit_that_rows_are_in(rows):
    one = plain(activation="relu", alpha=1.0).fit(rows)
    other = plain(activation="relu", alpha=100.0).fit(rows * 100)
    assert l0_of(other, rows * 100) == pytest.approx(l0_of(one, rows), rel=0.05)


def test_factors_that_never_fire_are_pointed_elsewhere(rows, held_out):
    # Directions that no row has: all rows are far to one side of them.
    away = np.tile(-rows.mean(axis=0), (64, 1)) + 0.01 * np.random.default_rng(0).standard_normal((64, N_FEATURES))
    model = plain(activation="relu", dict_init=away, max_iter=20).fit(rows)
    assert sum(record["n_reseeded"] for record in model.history_) > 0
    assert np.mean(np.bincount(model.transform(held_out).indices, minlength=64) > 0) > 0.9


def test_early_stopping_and_weights_and_dense_output(rows):
    model = plain(early_stopping=True, max_iter=40, sparse_output=False)
    model.fit(rows, sample_weight=np.linspace(0, 1, len(rows)))
    assert model.n_iter_ < 40 and "validation_objective" in model.history_[-1]
    assert isinstance(model.transform(rows[:5]), np.ndarray)


def test_learning_goes_on_by_partial_fit_and_from_a_folder(rows, held_out, tmp_path):
    model = plain(max_iter=1).fit(rows)
    model.save(tmp_path)
    opened = FactorModel.load(tmp_path)
    first = model.score(held_out)
    for _ in range(4):
        model.partial_fit(rows)
        opened.partial_fit(rows)
    assert model.score(held_out) > first
    assert len(model.history_) == 12 + 4 * 16 and model.n_iter_ == 1
    assert opened.n_features_in_ == N_FEATURES
    assert l0_of(model, held_out) == pytest.approx(4, rel=0.05)


def test_warm_start_goes_on_and_a_fit_without_it_does_not(rows):
    model = plain(max_iter=1, warm_start=True).fit(rows).fit(rows)
    assert [record["step"] for record in model.history_] == list(range(1, 25))
    assert len(model.set_params(warm_start=False).fit(rows).history_) == 12


def test_a_search_tries_activations_and_numbers_of_codes(rows):
    grid = {"activation": ["topk", "batch_topk"], "n_nonzero_coefs": [2, 6]}
    search = GridSearchCV(plain(max_iter=1, dict_init="random"), grid, cv=2, error_score="raise").fit(rows)
    assert search.best_params_["n_nonzero_coefs"] == 6


def test_half_precision_rows_are_widened(rows):
    one, other = (plain(max_iter=1, dict_init="random").fit(X) for X in (rows.astype(np.float16), rows))
    assert one.components_.dtype == np.float32
    np.testing.assert_allclose(one.score(rows), other.score(rows), atol=0.02)


class TestRefuses:
    """One clear error each."""

    def refused(self, message, X=None, **parameters):
        with pytest.raises(ValueError, match=message):
            plain(**parameters).fit(np.ones((100, 5)) if X is None else X)

    def test_more_codes_than_components(self):
        self.refused("n_nonzero_coefs=9 is more than n_components=4", n_components=4, n_nonzero_coefs=9)

    @pytest.mark.parametrize("activation", ["topk", "batch_topk", "abs_topk"])
    def test_a_penalty_where_there_is_none(self, activation):
        self.refused("alpha has no effect", activation=activation, alpha=0.1)

    @pytest.mark.parametrize(
        "sizes", [[8, 8], [0.5, 0.4], [64, 0], [-1, 65], [[64]], ["a"], [], [0.001, 0.999]], ids=str
    )
    def test_groups_that_do_not_add_up(self, sizes):
        self.refused("group", group_sizes=sizes)

    def test_components_of_another_shape_or_without_a_direction(self):
        self.refused("dict_init has shape", dict_init=np.ones((3, 5)))
        self.refused("zero", dict_init=np.zeros((64, 5)))

    def test_rows_that_are_not_finite_or_too_few(self):
        self.refused("NaN or infinity", X=np.full((100, 5), np.nan))
        self.refused("more than the 10 rows", X=np.ones((10, 5)))

    def test_another_number_of_components_on_the_way(self, rows):
        model = plain(max_iter=1, warm_start=True, dict_init="random").fit(rows)
        with pytest.raises(ValueError, match="n_components=32"):
            model.set_params(n_components=32).fit(rows)


def test_rows_that_are_all_alike_are_reconstructed():
    X = np.ones((300, 5), np.float32)
    for activation in ACTIVATIONS:
        model = plain(activation=activation, n_components=8).fit(X)
        np.testing.assert_allclose(model.reconstruct(X), X, atol=1e-3)


def test_a_dictionary_is_given_an_encoder(rows, held_out):
    dictionary = SparseDictionary(64, alpha=1.0, max_iter=3, random_state=0, device="cpu").fit(rows)
    model = SparseAutoencoder.from_dictionary(dictionary, rows, random_state=0, device="cpu", batch_size=256)
    l0 = np.diff(dictionary.transform(held_out).indptr).mean()
    assert l0_of(model, held_out) == pytest.approx(l0, rel=0.15)
    lengths = np.linalg.norm(dictionary.components_, axis=1, keepdims=True)
    np.testing.assert_allclose(model.components_, dictionary.components_ / lengths, atol=1e-5)
    np.testing.assert_allclose(model.intercept_, 0, atol=1e-5)
    assert model.score(held_out) > 0.3
    learned = model.score(held_out)
    for _ in range(5):
        model.partial_fit(rows)
    assert model.score(held_out) > learned


def test_exact_codes_are_better_than_those_of_the_encoder(rows, held_out):
    model = plain(activation="relu").fit(rows)
    codes, exact = model.transform(held_out), model.exact_codes(held_out, alpha=1.0)
    gaps = [
        amortization_gap(held_out, found, model.components_, 1.0, intercept=model.intercept_)
        for found in (codes, exact)
    ]
    assert gaps[0] > 0.01 and gaps[1] == pytest.approx(0, abs=1e-3)
    pursued = model.exact_codes(held_out, n_nonzero_coefs=4)
    assert np.diff(pursued.indptr).max() == 4
    assert explained_variance(held_out, model.inverse_transform(pursued)) > model.score(held_out)
    with pytest.raises(ValueError, match="not both"):
        model.exact_codes(held_out, alpha=1.0, n_nonzero_coefs=4)


PARAMETERS = {"n_components": 40, "n_nonzero_coefs": 4, "random_state": 0, "batch_size": 200, "max_iter": 4}


def assert_same_fit(one, other):
    assert one.fingerprint() == other.fingerprint() and one.history_ == other.history_
    for name, array in one._learner_state.items():
        np.testing.assert_array_equal(array, other._learner_state[name])


@pytest.mark.parametrize("activation", ["batch_topk", "jump_relu"])
def test_a_fit_killed_at_any_moment_ends_at_the_same_bits(activation, rows, tmp_path):
    np.save(tmp_path / "rows.npy", rows[:1200])
    parameters = PARAMETERS | {"activation": activation, "early_stopping": True, "dict_init": "random", "max_iter": 20}
    fit_autoencoder_to(tmp_path / "undisturbed", tmp_path / "rows.npy", **parameters)
    undisturbed = FactorModel.load(tmp_path / "undisturbed")
    generator = np.random.default_rng(0)
    kills = n_fits = 0
    while kills < N_KILLS // 2 or not n_fits:
        fit, checkpoints = (tmp_path / f"fit-{n_fits}", tmp_path / "rows.npy"), tmp_path / f"checkpoints-{n_fits}"
        process = start(
            fit_autoencoder_to, *fit, pause=0.002, checkpoint_dir=checkpoints, checkpoint_every=3, **parameters
        )
        n_checkpoints = generator.integers(3) if kills < N_KILLS // 2 else np.inf
        if kill_after_checkpoints(process, checkpoints, n_checkpoints, generator.uniform(0, 0.03)):
            kills += 1
            continue
        assert finish(process) == 0
        assert_same_fit(FactorModel.load(fit[0]), undisturbed)
        n_fits += 1


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_a_fit_that_was_stopped_goes_on_to_the_same_bits(activation, rows, tmp_path, monkeypatch):
    from skfactors.dictionaries.autoencoders.step import AutoencoderStep

    parameters = PARAMETERS | {"activation": activation, "device": "cpu", "dict_init": "random"}
    undisturbed = SparseAutoencoder(**parameters).fit(rows)
    learn_from = AutoencoderStep.learn_from

    def stopped(self, *of):
        if self.n_steps == 31:
            raise KeyboardInterrupt
        return learn_from(self, *of)

    model = SparseAutoencoder(**parameters, checkpoint_dir=tmp_path, checkpoint_every=10)
    with monkeypatch.context() as patched:
        patched.setattr(AutoencoderStep, "learn_from", stopped)
        with pytest.raises(KeyboardInterrupt):
            model.fit(rows)
    assert_same_fit(model.fit(rows), undisturbed)


@pytest.mark.parametrize("activation", ["topk", "batch_topk", "gated"])
def test_two_processes_learn_what_one_learns(activation, rows, tmp_path):
    np.save(tmp_path / "rows.npy", rows)
    parameters = PARAMETERS | {"activation": activation, "dtype": "float64", "max_iter": 1, "batch_size": 300}
    team = start_team(2, fit_autoencoder_to, tmp_path / "together", tmp_path / "rows.npy", **parameters)
    fit_autoencoder_to(tmp_path / "alone", tmp_path / "rows.npy", **parameters)
    assert [finish(process) for process in team] == [0, 0]
    together, alone = (FactorModel.load(tmp_path / name) for name in ("together", "alone"))
    for name in ("components_", "encoder_", "intercept_"):
        np.testing.assert_allclose(getattr(together, name), getattr(alone, name), atol=1e-6)
    for one, other in zip(together.history_, alone.history_, strict=True):
        assert one == pytest.approx(other, rel=1e-5)
