"""Saved autoencoders and dictionaries of other tools: a folder sets nothing that they cannot code with."""

import json

import numpy as np
import pytest
from support.other_tools import opened, opened_anew

from skfactors import FactorModel, SparseAutoencoder
from skfactors.dictionaries.persistence import read_dictionary, write_dictionary

X = np.random.default_rng(0).random((60, 6), dtype=np.float32)
NAMES = ("skfactors", "estimator", "module", "parameters", "fitted")


def fitted(activation="jump_relu", **parameters):
    settings = {"n_nonzero_coefs": 2, "dict_init": "random", "max_iter": 1, "batch_size": 20, "random_state": 0}
    return SparseAutoencoder(8, activation=activation, device="cpu", **settings | parameters).fit(X)


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    folder = tmp_path_factory.mktemp("saved")
    fitted().save(folder)
    return folder


def edited(folder, to, change):
    """Write a folder again, sealed, as somebody would who knows the format."""
    config, arrays = read_dictionary(folder)
    config = json.loads(json.dumps({name: config[name] for name in NAMES}))
    change(config, arrays)
    write_dictionary(to, config, arrays)
    return to


@pytest.mark.parametrize(
    "change",
    [
        lambda config, arrays: arrays.pop("threshold_"),
        lambda config, arrays: config["fitted"].update(selection_="positive"),
        lambda config, arrays: config["fitted"].update(selection_="all"),
        lambda config, arrays: config["fitted"].update(scaling_="twice"),
        lambda config, arrays: config["fitted"].update(device_=0),
        lambda config, arrays: config["fitted"].update(history_=[{"step": -1}]),
        lambda config, arrays: config["parameters"].update(n_nonzero_coefs=0),
        lambda config, arrays: arrays.update(encoder_=arrays["encoder_"][:, :5]),
        lambda config, arrays: arrays.update(encoder_=arrays["encoder_"].astype(np.float64)),
        lambda config, arrays: arrays.update(encoder_intercept_=arrays["encoder_intercept_"] * np.nan),
        lambda config, arrays: arrays.pop("state.n_updates"),
        lambda config, arrays: arrays.update({"state.n_updates": arrays["state.n_updates"] - 100}),
        lambda config, arrays: arrays.update({"state.n_steps": np.array([1.5])}),
        lambda config, arrays: arrays.update({"state.scale": np.array(0.0)}),
        lambda config, arrays: arrays.update({"state.factor_moments": arrays["state.factor_moments"] - 1}),
        lambda config, arrays: arrays.update({"state.parameters": arrays["state.parameters"][:, :3]}),
        lambda config, arrays: arrays.update({"state.more": np.ones(3)}),
    ],
)
def test_a_folder_that_no_autoencoder_can_code_with_is_refused(saved, tmp_path, change):
    with pytest.raises(ValueError, match="is damaged"):
        FactorModel.load(edited(saved, tmp_path, change))


def test_an_autoencoder_of_any_selection_comes_back_whole(tmp_path):
    for activation in ("relu", "topk", "batch_topk", "jump_relu", "gated", "abs_topk"):
        model = fitted(activation)
        model.save(tmp_path)
        again = FactorModel.load(tmp_path)
        assert (again.fingerprint(), again.history_) == (model.fingerprint(), model.history_)
        # Rows come in another order, since where the random state was is not saved.
        np.testing.assert_allclose(again.partial_fit(X).encoder_, model.partial_fit(X).encoder_, atol=0.01)


def test_groups_that_do_not_divide_the_components_are_refused():
    model = opened_anew("sparsify/groupmax")
    model.set_params(n_nonzero_coefs=len(model.components_) - 1)
    with pytest.raises(ValueError, match="n_nonzero_coefs="):
        model.transform(np.ones((2, model.n_features_in_)))


@pytest.mark.parametrize(
    ("name", "value"), [("n_nonzero_coefs", 0), ("dtype", "float8"), ("sparse_output", "yes"), ("activation", "tanh")]
)
def test_a_parameter_set_wrongly_after_the_fit_is_named(name, value):
    with pytest.raises(ValueError, match=name):
        fitted().set_params(**{name: value}).transform(X)


def test_learning_goes_on_in_another_precision_but_not_with_other_parameters():
    model = fitted().set_params(dtype="float64").partial_fit(X)
    assert model.encoder_.dtype == np.float64
    with pytest.raises(ValueError, match="'topk'.*fit anew"):
        model.set_params(activation="topk").partial_fit(X)


@pytest.mark.parametrize("call", ["fit", "partial_fit", "transform"])
def test_a_value_that_is_too_large_to_be_squared_is_refused_with_its_row(call):
    rows = X.copy()
    rows[7, 3] = 1e16
    with pytest.raises(ValueError, match="row 7"):
        getattr(fitted(), call)(rows)


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("saelens/matching_pursuit-bdec1-nostop6", lambda config, arrays: config["parameters"].update(settings={})),
        ("saelens/matching_pursuit-bdec1-nostop6", lambda config, arrays: config["parameters"].update(architecture="")),
        ("saelens/matching_pursuit-bdec1-nostop6", lambda config, arrays: arrays.update({"weights_.x": np.ones(3)})),
        ("saelens/temporal-topk-tied", lambda config, arrays: config["parameters"]["settings"].update(n_heads=3)),
        ("saelens/temporal-topk-tied", lambda config, arrays: config["parameters"]["settings"].update(n_layers=2)),
        ("saelens/transcoder-out24-none", lambda config, arrays: arrays.update(encoder_=arrays["encoder_"][:, :5])),
        ("saelens/transcoder-out24-none", lambda config, arrays: arrays.pop("encoder_")),
        ("saelens/jumprelu_skip_transcoder-out24-none", lambda config, arrays: arrays.pop("threshold_")),
        (
            "saelens/jumprelu_skip_transcoder-out24-none",
            lambda config, arrays: arrays.update({"skip_": arrays["skip_"][:2]}),
        ),
        ("overcomplete/QSAE", lambda config, arrays: arrays.update({"weights_.levels": np.zeros(0, np.float32)})),
        ("overcomplete/OMPSAE", lambda config, arrays: config["fitted"].pop("source_")),
        ("overcomplete/OMPSAE", lambda config, arrays: config["fitted"].update(source_={"l0": "many"})),
    ],
)
def test_a_folder_that_no_encoder_of_another_tool_can_code_with_is_refused(tmp_path, name, change):
    model = opened(name)
    model.save(tmp_path / "saved")
    assert FactorModel.load(tmp_path / "saved").fingerprint() == model.fingerprint()
    with pytest.raises(ValueError, match="is damaged"):
        FactorModel.load(edited(tmp_path / "saved", tmp_path / "edited", change))
