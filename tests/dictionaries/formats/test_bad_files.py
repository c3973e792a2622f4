"""Files that are not what they should be: one clear error each, never a wrong dictionary."""

import json
import os
import pickle
import shutil

import numpy as np
import pytest
import torch
import yaml
from safetensors.numpy import load_file, save_file
from support.other_tools import FOLDER, assert_close, opened, opened_anew, reference

from skfactors import FactorModel, SparseAutoencoder, SparseDictionary, load_dictionary
from skfactors.dictionaries import PretrainedDictionary


@pytest.fixture
def copied(tmp_path):
    """Return a function that copies the files of a tool, changes them, and says where they are."""

    def copy(name, *, config=None, tensors=None, without=()):
        folder = tmp_path / name.replace("/", "-")
        shutil.copytree(FOLDER / name, folder)
        for path in folder.glob("c*g.json"):
            said = json.loads(path.read_text())
            # In dictionary_learning it is all about the trainer.
            said |= {"trainer": said["trainer"] | (config or {})} if "trainer" in said else config or {}
            path.write_text(json.dumps(said))
        for path in folder.glob("*.safetensors"):
            content = {name: of for name, of in load_file(path).items() if name not in without}
            save_file(content | (tensors or {}), path)
        for path in folder.glob("*.pt"):
            content = {name: of for name, of in torch.load(path, weights_only=True).items() if name not in without}
            torch.save(content | {name: torch.tensor(of) for name, of in (tensors or {}).items()}, path)
        return folder

    return copy


SAELENS, TOPK, JUMP = "saelens/standard-bdec1-none", "saelens/topk-bdec1-none", "saelens/jumprelu-bdec1-none"
LEARNED, SPARSIFY = "dictionary_learning/BatchTopKSAE", "sparsify/topk"


@pytest.mark.parametrize("name", [SAELENS, LEARNED, SPARSIFY])
def test_an_unknown_key_is_named_and_can_be_ignored(copied, name):
    folder = copied(name, config={"twist": 3})
    with pytest.raises(ValueError, match=r"twist is not known here and may change codes.*ignore=\['twist'\]"):
        load_dictionary(folder)
    assert load_dictionary(folder, ignore="twist").fingerprint() == opened(name).fingerprint()


@pytest.mark.parametrize("name", [SAELENS, LEARNED, SPARSIFY])
def test_an_unknown_tensor_is_named_and_can_be_ignored(copied, name):
    folder = copied(name, tensors={"W_twist": np.ones(3, np.float32)})
    with pytest.raises(ValueError, match=r"W_twist is not known here"):
        load_dictionary(folder)
    assert load_dictionary(folder, ignore=["W_twist"]).fingerprint() == opened(name).fingerprint()


@pytest.mark.parametrize(
    ("name", "config", "named"),
    [
        (SAELENS, {"architecture": "crosscoder"}, "architecture is 'crosscoder'; known are abstopk"),
        (SAELENS, {"normalize_activations": "twist"}, "normalize_activations is 'twist'; known are"),
        (TOPK, {"k": 0}, "k is 0"),
        (LEARNED, {"dict_class": "IdentityDict"}, "dict_class is 'IdentityDict'; known are AutoEncoder"),
        (SPARSIFY, {"activation": "relu"}, "activation is 'relu'; known are groupmax, topk"),
        ("sparsify/groupmax", {"k": 7}, "64 latents do not make 7 groups"),
    ],
)
def test_an_unknown_architecture_or_setting_is_named(copied, name, config, named):
    with pytest.raises(ValueError, match=named):
        load_dictionary(copied(name, config=config))


@pytest.mark.parametrize(
    ("name", "missing"),
    [
        (SAELENS, "b_enc"),
        (JUMP, "threshold"),
        (LEARNED, "threshold"),
        (SPARSIFY, "W_dec"),
        ("saelens/skip_transcoder-out24-none", "W_skip"),
        ("saelens/gated-bdec1-none", "r_mag"),
    ],
)
def test_a_missing_tensor_is_named(copied, name, missing):
    with pytest.raises(ValueError, match=f"has no tensor '{missing}'"):
        load_dictionary(copied(name, without=[missing]))


@pytest.mark.parametrize(
    ("name", "tensor", "shape"),
    [
        (SAELENS, "W_dec", (16, 64)),
        (SAELENS, "W_enc", (64, 16)),
        (LEARNED, "decoder.weight", (64, 16)),
        (SPARSIFY, "W_dec", (16, 64)),
        (JUMP, "threshold", (16,)),
        (JUMP, "threshold", ()),
    ],
)
def test_a_shape_that_does_not_fit_is_named(copied, name, tensor, shape):
    folder = copied(name, tensors={tensor: np.zeros(shape, np.float32)})
    with pytest.raises(ValueError, match=rf"{tensor} has shape {tuple(shape)}".replace("(", r"\(").replace(")", r"\)")):
        load_dictionary(folder)


def test_numbers_that_are_none_are_counted(copied):
    folder = copied(SAELENS, tensors={"b_enc": np.full(64, np.nan, np.float32)})
    with pytest.raises(ValueError, match="b_enc holds 64 NaN"):
        load_dictionary(folder)


def test_half_precision_is_widened(copied):
    weights = load_file(FOLDER / SAELENS / "sae_weights.safetensors")
    folder = copied(SAELENS, tensors={name: of.astype(np.float16) for name, of in weights.items()})
    model = load_dictionary(folder)
    assert model.components_.dtype == np.float32
    np.testing.assert_array_equal(model.components_, weights["W_dec"].astype(np.float16))


class Malicious:
    """Makes a folder when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("name", [LEARNED, "overcomplete/TopKSAE"])
def test_a_pickle_that_runs_code_is_refused_and_runs_none(copied, tmp_path, name):
    folder = copied(name)
    path = next(folder.glob("*.pt"))
    torch.save({"W": Malicious(tmp_path / "made")}, path)
    with pytest.raises(ValueError, match="it would run code"):
        load_dictionary(folder)
    path.write_bytes(pickle.dumps(Malicious(tmp_path / "made")))
    with pytest.raises(ValueError, match="it would run code|cut short"):
        load_dictionary(folder)
    np.savez(folder / "params.npz", W_enc=np.array([Malicious(tmp_path / "made")], dtype=object))
    with pytest.raises(ValueError, match="it would run code"):
        load_dictionary(folder, format="gemma_scope")
    assert not (tmp_path / "made").exists()


def test_yaml_that_makes_objects_is_refused(tmp_path):
    (tmp_path / "config.yaml").write_text("model_kind: !!python/object/apply:os.mkdir ['/tmp/made']")
    save_file({"W_enc": np.ones((2, 2), np.float32)}, tmp_path / "layer_0.safetensors")
    with pytest.raises(ValueError, match="is damaged"):
        load_dictionary(tmp_path, format="circuit_tracer")
    assert yaml.safe_load("a: 1") == {"a": 1}


@pytest.mark.parametrize("name", [SAELENS, LEARNED])
def test_a_file_that_was_cut_short_is_told(copied, name):
    folder = copied(name)
    path = next(iter([*folder.glob("*.safetensors"), *folder.glob("*.pt")]))
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(ValueError, match=rf"'{path.name}' of .* is not read: it was cut short or altered"):
        load_dictionary(folder)


def test_a_configuration_that_is_no_json_is_told(copied):
    folder = copied(SAELENS)
    for content in ("{", "[1]", '{"d_in": NaN}', "\N{PILCROW SIGN}"):
        (folder / "cfg.json").write_text(content)
        with pytest.raises(ValueError, match="'cfg.json' of .* is damaged"):
            load_dictionary(folder)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
def test_a_pipe_is_not_waited_for(copied):
    folder = copied(SAELENS)
    (folder / "cfg.json").unlink()
    os.mkfifo(folder / "cfg.json")
    with pytest.raises(ValueError, match="not a plain file"):
        load_dictionary(folder)


def test_top_k_is_not_read_as_relu(copied):
    for name in (TOPK, SPARSIFY, "dictionary_learning/AutoEncoderTopK"):
        X, model = reference(name)["x"], opened(name)
        assert model.selection_ == "largest"
        assert np.diff(model.transform(X).indptr).max() == 8
    # k belongs to the file: without it nothing is read.
    folder = copied(TOPK)
    said = json.loads((folder / "cfg.json").read_text())
    del said["k"]
    (folder / "cfg.json").write_text(json.dumps(said))
    with pytest.raises(ValueError, match="has no 'k'"):
        load_dictionary(folder)


def test_two_files_that_say_another_k_are_refused(copied):
    with pytest.raises(ValueError, match="k is 9 in config.json and 8 in ae.pt"):
        load_dictionary(copied(LEARNED, config={"k": 9}))


def test_a_threshold_is_not_dropped(copied):
    X = reference(JUMP)["x"]
    higher = copied(JUMP, tensors={"threshold": np.full(64, 3, np.float32)})
    codes = load_dictionary(higher).transform(X)
    assert 0 < codes.nnz < opened(JUMP).transform(X).nnz
    assert codes.data.min() > 3


def test_no_latents_stand_for_as_many_as_the_factor_says(copied):
    folder = copied(SPARSIFY, config={"num_latents": 0, "expansion_factor": 4})
    assert load_dictionary(folder).fingerprint() == opened(SPARSIFY).fingerprint()
    folder = copied("sparsify/transcode", config={"num_latents": 0, "expansion_factor": 8})
    with pytest.raises(ValueError, match=r"has shape \(64, 16\) instead of \(128, 16\)"):
        load_dictionary(folder)


def test_the_decoders_bias_is_subtracted_only_where_the_file_says_so(copied):
    X = reference(SAELENS)["x"]
    subtracted, not_subtracted = (
        opened(SAELENS),
        load_dictionary(copied(SAELENS, config={"apply_b_dec_to_input": False})),
    )
    bias = subtracted.intercept_
    assert_close(subtracted.transform(X + bias).toarray(), not_subtracted.transform(X).toarray())
    assert abs(subtracted.transform(X) - not_subtracted.transform(X)).max() > 0.01


def test_the_norm_of_rows_is_not_forgotten():
    X = reference("saelens/standard-bdec0-const")["x"][5:]
    model = opened("saelens/standard-bdec0-const")
    assert_close(model.transform(7 * X).toarray(), model.transform(X).toarray())
    assert_close(model.reconstruct(7 * X), 7 * model.reconstruct(X))


def test_a_checkpoint_of_scaled_rows_without_its_scale_is_refused(copied):
    folder = copied("saelens/midrun-batchtopk-avg")
    (folder / "activation_scaler.json").unlink()
    with pytest.raises(ValueError, match="activation_scaler.json, which says how, is not beside it"):
        load_dictionary(folder)


def test_a_checkpoint_of_whitened_rows_has_that_folded_in(copied, tmp_path):
    generator = np.random.default_rng(0)
    matrix, mean = generator.standard_normal((16, 16)), generator.standard_normal(16)
    X = reference(SAELENS)["x"]
    for name, subtracted in (
        (SAELENS, True),
        ("saelens/topk-bdec1-none-rescale", True),
        ("saelens/standard-bdec0-none", False),
    ):
        folder = copied(name, config={"normalize_activations": "covariance_whitening", "decoder_init_norm": 0.1})
        whitening = {"mean": mean, "matrix": matrix, "inverse_matrix": np.linalg.inv(matrix)}
        save_file(whitening, folder / "activation_whitening.safetensors")
        (folder / "activation_scaler.json").write_text('{"scaling_factor": null, "has_whitening": true}')
        model, white = load_dictionary(folder), ((X - mean) @ matrix).astype(np.float32)
        np.testing.assert_allclose(
            model.transform(X).toarray(), opened(name).transform(white).toarray(), rtol=1e-3, atol=1e-2
        )
        wanted = opened(name).reconstruct(white) @ np.linalg.inv(matrix) + mean
        np.testing.assert_allclose(model.reconstruct(X), wanted, rtol=1e-3, atol=1e-2)


def test_checkpoints_of_a_run_that_has_not_ended_are_not_taken_for_its_end(copied):
    folder = copied(LEARNED)
    (folder / "checkpoints").mkdir()
    (folder / "ae.pt").rename(folder / "checkpoints" / "ae_40.pt")
    with pytest.raises(FileNotFoundError, match=r"only checkpoints of one that has not ended.*ae_40\.pt"):
        load_dictionary(folder)
    named = load_dictionary(folder / "checkpoints" / "ae_40.pt")
    assert named.fingerprint() == opened(LEARNED).fingerprint()


def test_what_no_file_says_must_be_told():
    with pytest.raises(ValueError, match="does not say of which class it is"):
        load_dictionary(FOLDER / "overcomplete" / "TopKSAE")
    with pytest.raises(TypeError, match="TopKSAE takes top_k=, which no file says"):
        load_dictionary(FOLDER / "overcomplete" / "TopKSAE", dict_class="TopKSAE")
    with pytest.raises(TypeError, match="BatchTopKSAE takes running_threshold="):
        load_dictionary(FOLDER / "overcomplete" / "BatchTopKSAE", dict_class="BatchTopKSAE")
    with pytest.raises(ValueError, match="pass hard=True"):
        load_dictionary(FOLDER / "overcomplete" / "QSAE")


def test_settings_that_were_kept_of_overcomplete_are_taken_as_they_are_and_compared_with_the_file():
    for name in ("QSAE", "TopKSAE-max_l2-mlp_ln_1", "TopKSAE-tied", "BatchTopKSAE"):
        said = json.loads((FOLDER / "overcomplete" / name / "fixture.json").read_text())
        names = ("class", "top_k", "running_threshold", "normalization", "encoder", "q", "hard")
        settings = {name: said[name] for name in names if name in said}
        model = load_dictionary(FOLDER / "overcomplete" / name, **settings)
        assert model.fingerprint() == opened(f"overcomplete/{name}").fingerprint()
    with pytest.raises(ValueError, match="has the encoder 'tied', not 'linear'"):
        load_dictionary(FOLDER / "overcomplete" / "TopKSAE-tied", dict_class="TopKSAE", top_k=8, encoder="linear")
    with pytest.raises(ValueError, match=r"Q has shape \(5,\) instead of \(6\)"):
        load_dictionary(FOLDER / "overcomplete" / "QSAE", hard=True, q=6)


def test_a_keyword_that_the_format_does_not_take_is_named():
    with pytest.raises(TypeError, match="the format 'sparsify' takes no top_k; it takes nothing"):
        load_dictionary(FOLDER / SPARSIFY, top_k=3)
    with pytest.raises(TypeError, match="takes no batch="):
        load_dictionary(FOLDER / SAELENS, batch=True)
    with pytest.raises(ValueError, match="format is 'pickle'; known are 'auto', 'skfactors', 'saelens'"):
        load_dictionary(FOLDER / SAELENS, format="pickle")


def test_a_folder_of_no_format_says_what_it_holds(tmp_path):
    (tmp_path / "model.bin").write_bytes(b"")
    with pytest.raises(ValueError, match="holds model.bin, which are those of no format that is known here"):
        load_dictionary(tmp_path)
    with pytest.raises(FileNotFoundError, match="there is no"):
        load_dictionary(tmp_path / "nothing")
    with pytest.raises(FileNotFoundError, match="holds no sae.safetensors"):
        (tmp_path / "cfg.json").write_text("{}")
        load_dictionary(tmp_path, format="sparsify")


def test_what_a_tool_has_not_is_not_written(tmp_path):
    rows = np.eye(6)
    group_max = SparseAutoencoder._from_arrays(rows, rows, activation="topk", selection="largest_of_groups")
    for format, message in {
        "saelens": "SAELens has no autoencoder that keeps the largest code of each group",
        "dictionary_learning": "dictionary_learning has no autoencoder that keeps the largest code of each group",
    }.items():
        with pytest.raises(ValueError, match=message):
            group_max.export(tmp_path, format=format)
    for format in ("saelens", "dictionary_learning", "sparsify"):
        with pytest.raises(ValueError, match="such as this SparseDictionary"):
            SparseDictionary(3, random_state=0).fit(rows).export(tmp_path, format=format)
    with pytest.raises(ValueError, match="written are 'saelens', 'dictionary_learning', 'sparsify'"):
        group_max.export(tmp_path, format="gemma_scope")
    assert not list(tmp_path.iterdir())


def test_a_folder_of_this_package_opens_as_what_it_is(tmp_path):
    dictionary = SparseDictionary(3, random_state=0).fit(np.tile(np.eye(4), (9, 1)))
    dictionary.save(tmp_path)
    opened_again = load_dictionary(tmp_path)
    assert isinstance(opened_again, FactorModel)
    assert opened_again.fingerprint() == dictionary.fingerprint()


def test_rows_that_a_run_scaled_by_what_no_file_says_are_told():
    with pytest.warns(UserWarning, match=r"says that its run scaled rows \(expected_average_only_in\).*check_l0"):
        opened_anew("saelens/standard-bdec1-avg")


def test_a_top_k_of_dictionary_learning_needs_no_threshold_unless_it_is_asked_for(copied):
    folder = copied("dictionary_learning/AutoEncoderTopK", without=["threshold"])
    assert load_dictionary(folder).fingerprint() == opened("dictionary_learning/AutoEncoderTopK").fingerprint()
    with pytest.raises(ValueError, match="no threshold to code by"):
        load_dictionary(folder, use_threshold=True)


def test_a_pursuit_of_scaled_rows_is_refused_before_its_run_has_ended(copied):
    said = {"normalize_activations": "expected_average_only_in", "decoder_init_norm": 1.0}
    folder = copied("saelens/trained-matching_pursuit", config=said)
    (folder / "activation_scaler.json").write_text('{"scaling_factor": 0.5, "has_whitening": false}')
    with pytest.raises(ValueError, match="which no matching pursuit of rows as they are equals"):
        load_dictionary(folder)
    (folder / "activation_scaler.json").write_text('{"scaling_factor": null, "has_whitening": false}')
    assert load_dictionary(folder).fingerprint() == opened("saelens/trained-matching_pursuit").fingerprint()


def test_an_encoder_that_is_not_known_is_named():
    model = PretrainedDictionary.from_arrays("oracle", np.eye(3), np.zeros(3), {}, {}, {})
    with pytest.raises(ValueError, match="architecture is 'oracle'; known here are"):
        model.transform(np.eye(3))
