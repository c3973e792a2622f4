"""Folders of dictionaries that were altered, cut short, or made by somebody else: the same model or an error."""

import hashlib
import json
import os
import shutil
import threading

import numpy as np
import pandas as pd
import pytest
import safetensors.numpy
import torch
from support.dictionaries import StandInModel

from skfactors import FactorModel, SparseDictionary
from skfactors.dictionaries.persistence import read_dictionary, write_dictionary
from skfactors.records import sealed

X = np.random.default_rng(0).random((40, 5), dtype=np.float32)
NAMES = ("skfactors", "estimator", "module", "parameters", "fitted")


def fitted(alpha=0.3, **parameters):
    settings = {"n_components": 4, "max_iter": 1, "random_state": 0, "device": "cpu"} | parameters
    return SparseDictionary(alpha=alpha, **settings).fit(X)


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    folder = tmp_path_factory.mktemp("saved")
    fitted().save(folder)
    return folder


@pytest.fixture
def folder(saved, tmp_path):
    return shutil.copytree(saved, tmp_path / "dictionary")


def rewritten(folder, change, change_arrays=lambda arrays: None):
    """Write a folder again, sealed, as somebody would who knows the format."""
    config, arrays = read_dictionary(folder)
    config = {name: config[name] for name in NAMES}
    change(config)
    change_arrays(arrays)
    write_dictionary(folder, config, arrays)


def of_format_2(folder):
    """Turn a folder into one of the format before."""
    path = folder / "config.json"
    config = json.loads(path.read_text())
    for name in ("sha256_of_this", "size", "arrays"):
        del config[name]
    config["parameters"] |= {"distributed": "auto"}
    path.write_text(json.dumps(sealed(config | {"format": 2}, "sha256_of_this")))


def told(model):
    return json.dumps([model.get_params(), model.history_, model.n_iter_], default=str), model.fingerprint()


@pytest.mark.parametrize("name", ["config.json", "dictionary.safetensors"])
def test_a_flipped_bit_gives_the_same_model_or_an_error_that_names_the_folder(folder, name):
    path, expected = folder / name, told(FactorModel.load(folder))
    good, n_refused = path.read_bytes(), 0
    for bit in range(0, 8 * len(good), 31):
        bad = bytearray(good)
        bad[bit // 8] ^= 1 << bit % 8
        path.write_bytes(bad)
        try:
            assert told(FactorModel.load(folder)) == expected
        except ValueError as error:
            n_refused += 1
            assert str(folder) in str(error)
    assert n_refused > len(good) / 8


@pytest.mark.parametrize("n_before", range(6))
@pytest.mark.parametrize("other", [fitted(0.6), StandInModel().fit(X)], ids=["parameters", "class"])
def test_a_save_that_is_stopped_anywhere_leaves_the_old_or_the_new_one(folder, monkeypatch, n_before, other):
    calls, old = iter(range(n_before)), FactorModel.load(folder).fingerprint()

    def stopped_after(function):
        def call(*of, **others):
            if next(calls, None) is None:
                raise KeyboardInterrupt
            return function(*of, **others)

        return call

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", stopped_after(os.replace))
        patch.setattr(os, "fsync", stopped_after(os.fsync))
        with pytest.raises(KeyboardInterrupt):
            other.save(folder)
    assert FactorModel.load(folder).fingerprint() in (old, other.fingerprint())
    other.save(folder)
    assert FactorModel.load(folder).fingerprint() == other.fingerprint()
    assert sorted(path.name for path in folder.iterdir()) == ["config.json", "dictionary.safetensors"]


def test_loading_while_another_saves_gives_one_or_the_other(folder):
    models, over = [fitted(0.3), fitted(0.6)], threading.Event()

    def save_by_turns():
        while not over.is_set():
            for model in models:
                model.save(folder)

    writer = threading.Thread(target=save_by_turns)
    writer.start()
    try:
        found = {FactorModel.load(folder).fingerprint() for _ in range(60)}
    finally:
        over.set()
        writer.join()
    assert found <= {model.fingerprint() for model in models}


@pytest.mark.parametrize(
    "change",
    [
        lambda config: config["parameters"].update(alpha="x"),
        lambda config: config["parameters"].update(alpha=-1),
        lambda config: config["parameters"].update(alpha=[0.3]),
        lambda config: config["parameters"].update(checkpoint_dir="/tmp"),
        lambda config: config["parameters"].update(device="cuda"),
        lambda config: config["parameters"].update(distributed=True),
        lambda config: config["parameters"].pop("alpha"),
        lambda config: config.update(parameters=[]),
        lambda config: config.update(fitted=[1]),
        lambda config: config.update(estimator=3),
        lambda config: config.update(spare=1),
        lambda config: config["fitted"].pop("history_"),
        lambda config: config["fitted"].update(history_=[{"step": "1", "n_rows": 3}]),
        lambda config: config["fitted"].update(history_={}),
        lambda config: config["fitted"].update(n_iter_=-1),
        lambda config: config["fitted"].update(n_features_in_=6),
        lambda config: config["fitted"].update(feature_names_in_=["a", "a", "b", "c", "d"]),
        lambda config: config["fitted"].update(device_=None),
        lambda config: config["fitted"].update(transform=1),
        lambda config: config["fitted"].update(n_steps_=1),
    ],
)
def test_a_folder_sets_nothing_that_its_class_does_not_list(folder, change):
    rewritten(folder, change)
    with pytest.raises(ValueError, match=r"dictionary"):
        FactorModel.load(folder)


@pytest.mark.parametrize(
    "change",
    [
        lambda arrays: arrays.pop("components_"),
        lambda arrays: arrays.pop("state.n_steps"),
        lambda arrays: arrays.pop("state.update.codes_data"),
        lambda arrays: arrays.update(spare_=np.ones(3)),
        lambda arrays: arrays.update(alpha=np.ones(3)),
        lambda arrays: arrays.update(checkpoint_dir=np.ones(3)),
        lambda arrays: arrays.update(components_=arrays["components_"][0]),
        lambda arrays: arrays.update(components_=arrays["components_"].astype(np.int64)),
        lambda arrays: arrays.update(components_=arrays["components_"] * np.float32(np.nan)),
        lambda arrays: arrays.update({"state.idle_weight": np.zeros(3)}),
        lambda arrays: arrays.update({"state.n_steps": np.array(-1)}),
        lambda arrays: arrays.update({"state.update.codes_codes": np.zeros((4, 5))}),
    ],
)
def test_arrays_that_do_not_fit_the_model_are_refused(folder, change):
    rewritten(folder, lambda config: None, change)
    with pytest.raises(ValueError, match=r"dictionary"):
        FactorModel.load(folder)


def test_tensors_with_their_checksum_are_still_those_that_the_record_names(folder):
    path = folder / "config.json"
    config = json.loads(path.read_text())
    config["arrays"]["components_"]["shape"] = [5, 4]
    del config["sha256_of_this"]
    path.write_text(json.dumps(sealed(config, "sha256_of_this")))
    with pytest.raises(ValueError, match=r"dictionary\.safetensors.*arrays"):
        FactorModel.load(folder)


@pytest.mark.parametrize("name", ["config.json", "dictionary.safetensors"])
@pytest.mark.parametrize("made", ["a pipe", "a link out", "a folder", "nothing", "a pickle"])
def test_what_is_no_file_of_the_folder_is_not_read(folder, tmp_path, name, made):
    path = folder / name
    content = path.read_bytes()
    path.unlink()
    if made == "a pipe":
        os.mkfifo(path)
    elif made == "a link out":
        (tmp_path / "elsewhere").write_bytes(content)
        path.symlink_to(tmp_path / "elsewhere")
    elif made == "a folder":
        path.mkdir()
    elif made == "a pickle":
        path.write_bytes(b"\x80\x04K\x01.")
    with pytest.raises((ValueError, FileNotFoundError), match="dictionary"):
        FactorModel.load(folder)


def test_a_folder_of_the_format_before_opens_and_chooses_no_way_to_run(folder):
    expected = FactorModel.load(folder).fingerprint()
    of_format_2(folder)
    opened = FactorModel.load(folder)
    assert opened.fingerprint() == expected and opened.n_steps_ == 1


def test_a_folder_from_before_a_parameter_was_added_opens_with_its_default(folder):
    expected = FactorModel.load(folder)
    path = folder / "config.json"
    config = json.loads(path.read_text())
    del config["sha256_of_this"], config["parameters"]["group_sizes"], config["fitted"]["alpha_"]
    path.write_text(json.dumps(sealed(config | {"format": 3}, "sha256_of_this")))
    opened = FactorModel.load(folder)
    assert (opened.group_sizes, opened.alpha_) == (None, expected.alpha)
    assert opened.fingerprint() == expected.fingerprint()
    path.write_text(json.dumps(sealed(config, "sha256_of_this")))
    with pytest.raises(ValueError, match="lacks the parameter group_sizes"):
        FactorModel.load(folder)


def test_an_older_format_with_what_only_a_newer_one_has_is_refused(folder):
    path = folder / "config.json"
    config = json.loads(path.read_text())
    for version in (1, 2):
        older = {name: value for name, value in config.items() if name != "sha256_of_this"} | {"format": version}
        path.write_text(json.dumps(sealed(older, "sha256_of_this") if version == 2 else older))
        with pytest.raises(ValueError, match=r"config\.json.*not known here"):
            FactorModel.load(folder)


def test_arrays_that_are_no_safetensors_are_refused(folder):
    of_format_2(folder)
    path = folder / "config.json"
    config = json.loads(path.read_text())
    content = safetensors.numpy.save({"a": np.ones(2)})[:-3]
    (folder / "dictionary.safetensors").write_bytes(content)
    del config["sha256_of_this"]
    config["sha256"] = hashlib.sha256(content).hexdigest()
    path.write_text(json.dumps(sealed(config, "sha256_of_this")))
    with pytest.raises(ValueError, match=r"dictionary\.safetensors.*damaged"):
        FactorModel.load(folder)


@pytest.mark.parametrize(
    "given",
    [
        torch.eye(5, dtype=torch.bfloat16)[:4],
        torch.eye(5, requires_grad=True)[:4],
        pd.DataFrame(np.eye(5)[:4]),
        np.eye(5)[:4].tolist(),
        [np.float32(row) for row in np.eye(5)[:4]],
    ],
    ids=["bfloat16", "with gradient", "DataFrame", "list", "list of arrays"],
)
def test_components_to_start_from_of_any_type_are_saved(tmp_path, given):
    fitted(dict_init=given).save(tmp_path)
    np.testing.assert_array_equal(np.asarray(FactorModel.load(tmp_path).dict_init), np.eye(5)[:4])


def test_a_fitted_attribute_that_is_not_listed_is_refused_when_it_is_saved(tmp_path):
    model = StandInModel().fit(X)
    model.limit_ = 1.0
    with pytest.raises(ValueError, match="limit_ and does not list it: name it in the class attribute"):
        model.save(tmp_path)
    assert not list(tmp_path.iterdir())


def test_what_a_subclass_lists_is_saved_beside_what_its_base_lists(tmp_path):
    class WithLimit(StandInModel):
        _fitted_facts = {"limit_": float}

    model = WithLimit().fit(X)
    model.limit_ = 0.5
    model.save(tmp_path)
    opened = WithLimit.load(tmp_path)
    assert opened.limit_ == 0.5
    np.testing.assert_array_equal(opened.encoder_, model.encoder_)


def test_a_model_that_could_not_be_opened_is_not_saved(tmp_path):
    model = fitted()
    model.components_ = model.components_ * np.nan
    with pytest.raises(ValueError, match="cannot be saved: its array components_ holds values that are NaN"):
        model.save(tmp_path)
