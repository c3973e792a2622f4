"""Releases of which no file is at hand: small files of the same keys, against slow sums in NumPy."""

import json

import numpy as np
import pytest
import torch
import yaml
from safetensors.numpy import save_file
from support.other_tools import assert_close, predicted

from skfactors import SparseAutoencoder, load_dictionary
from skfactors.dictionaries import PretrainedTranscoder, Transcoder

D, M, OUT = 6, 14, 5
X = np.random.default_rng(1).standard_normal((20, D)).astype(np.float32)
X[3] = 0


def random(*shape, seed=0):
    return np.random.default_rng([seed, *shape]).standard_normal(shape).astype(np.float32)


def jumped(Z, threshold):
    """JumpReLU, number by number."""
    return np.array([[z if z > max(t, 0) else 0 for z, t in zip(row, threshold, strict=True)] for row in Z])


def largest(Z, k, rectify=True):
    """The k largest of each row, number by number."""
    kept = np.zeros_like(Z)
    for row, of in zip(kept, Z, strict=True):
        for j in sorted(range(len(of)), key=lambda j: -of[j])[:k]:
            row[j] = max(of[j], 0) if rectify else of[j]
    return kept


def assert_codes(model, codes, rows, kind=SparseAutoencoder):
    assert type(model) is kind
    assert_close(model.transform(X).toarray(), codes)
    assert_close(predicted(model, X), rows)


def gemma(threshold=0.3):
    return {
        "W_enc": random(D, M),
        "W_dec": random(M, D),
        "b_enc": random(M),
        "b_dec": random(D),
        "threshold": np.full(M, threshold, np.float32) + np.abs(random(M, seed=1)),
    }


# Gemma Scope 1


def test_gemma_scope_does_not_subtract_the_decoders_bias(tmp_path):
    tensors = gemma()
    folder = tmp_path / "layer_20" / "width_16k" / "average_l0_71"
    folder.mkdir(parents=True)
    np.savez(folder / "params.npz", **tensors)
    codes = jumped(X @ tensors["W_enc"] + tensors["b_enc"], tensors["threshold"])
    model = load_dictionary(folder)
    assert_codes(model, codes, codes @ tensors["W_dec"] + tensors["b_dec"])
    assert model.source_["l0"] == 71
    assert load_dictionary(tmp_path, subfolder="layer_20/width_16k/average_l0_71").fingerprint() == model.fingerprint()


@pytest.mark.parametrize("told", [True, False])
def test_embedding_autoencoders_of_gemma_scope_are_of_scaled_rows(tmp_path, told):
    tensors = gemma()
    folder = tmp_path / ("a" if told else "embedding")
    folder.mkdir()
    np.savez(folder / "params.npz", **tensors)
    codes = jumped(X @ (tensors["W_enc"] / np.sqrt(D)) + tensors["b_enc"], tensors["threshold"])
    rows = codes @ (tensors["W_dec"] * np.sqrt(D)) + tensors["b_dec"]
    assert_codes(load_dictionary(folder, **({"embedding": True} if told else {})), codes, rows)


def test_transcoders_of_gemma_scope_predict_another_place(tmp_path):
    tensors = gemma()
    tensors |= {"w_dec": random(M, OUT), "w_enc": tensors.pop("W_enc"), "b_dec": random(OUT)}
    del tensors["W_dec"]
    np.savez(tmp_path / "params.npz", **tensors)
    codes = jumped(X @ tensors["w_enc"] + tensors["b_enc"], tensors["threshold"])
    model = load_dictionary(tmp_path, transcoder=True)
    assert_codes(model, codes, codes @ tensors["w_dec"] + tensors["b_dec"], Transcoder)


# Gemma Scope 2


def gemma_2(folder, name="params.safetensors", out=D, skip=False, **said):
    tensors = {
        "w_enc": random(D, M),
        "w_dec": random(M, out),
        "b_enc": random(M),
        "b_dec": random(out),
        "threshold": np.abs(random(M, seed=1)),
    }
    tensors |= {"affine_skip_connection": random(D, out, seed=2)} if skip else {}
    config = {
        "architecture": "jump_relu",
        "model_name": "google/gemma-3-1b-pt",
        "hf_hook_point_in": "model.layers.3.output",
        "hf_hook_point_out": "model.layers.3.output",
        "width": M,
        "l0": 50,
        "affine_connection": skip,
        "type": "sae",
    }
    (folder / "config.json").write_text(json.dumps(config | said))
    save_file(tensors, folder / name)
    return tensors


def test_gemma_scope_2_has_names_in_lower_case(tmp_path):
    tensors = gemma_2(tmp_path)
    codes = jumped(X @ tensors["w_enc"] + tensors["b_enc"], tensors["threshold"])
    model = load_dictionary(tmp_path)
    assert_codes(model, codes, codes @ tensors["w_dec"] + tensors["b_dec"])
    assert (model.source_["model"], model.source_["l0"]) == ("google/gemma-3-1b-pt", 50)


def test_the_skip_of_gemma_scope_2_is_the_other_way_round(tmp_path):
    tensors = gemma_2(tmp_path, out=OUT, skip=True, hf_hook_point_out="elsewhere", type="transcoder")
    codes = jumped(X @ tensors["w_enc"] + tensors["b_enc"], tensors["threshold"])
    rows = codes @ tensors["w_dec"] + tensors["b_dec"] + X @ tensors["affine_skip_connection"]
    model = load_dictionary(tmp_path)
    assert_codes(model, codes, rows, Transcoder)
    np.testing.assert_array_equal(model.skip_, tensors["affine_skip_connection"].T)


def test_a_skip_that_the_configuration_denies_is_refused(tmp_path):
    gemma_2(tmp_path, skip=True, affine_connection=False)
    with pytest.raises(ValueError, match="affine_connection is False"):
        load_dictionary(tmp_path)


def test_cross_layer_transcoders_of_gemma_scope_2_write_to_layers_side_by_side(tmp_path):
    for layer in range(3):
        tensors = gemma_2(tmp_path, f"params_layer_{layer}.safetensors", skip=True, type="clt")
        tensors["w_dec"] = random(M, 3, D, seed=layer)
        save_file(tensors, tmp_path / f"params_layer_{layer}.safetensors")
    codes = jumped(X @ tensors["w_enc"] + tensors["b_enc"], tensors["threshold"])
    written = np.einsum("nm,mld->nld", codes, random(M, 3, D, seed=1))
    written[:, 1] += tensors["b_dec"] + X @ tensors["affine_skip_connection"]
    model = load_dictionary(tmp_path, layer=1)
    assert_codes(model, codes, written.reshape(len(X), -1), Transcoder)
    assert load_dictionary(tmp_path / "params_layer_1.safetensors").fingerprint() == model.fingerprint()
    with pytest.raises(ValueError, match="layers 0, 1, 2: pass layer="):
        load_dictionary(tmp_path)


# Llama Scope


def llama(folder, **said):
    tensors = {
        "encoder.weight": random(M, D),
        "decoder.weight": random(D, M),
        "encoder.bias": random(M),
        "decoder.bias": random(D),
    }
    config = {
        "hook_point_in": "blocks.3.hook_resid_post",
        "hook_point_out": "blocks.3.hook_resid_post",
        "d_model": D,
        "d_sae": M,
        "act_fn": "jumprelu",
        "jump_relu_threshold": 0.4,
        "dataset_average_activation_norm": {"in": 5.0, "out": 5.0},
        "norm_activation": "dataset-wise",
        "top_k": 4,
        "sparsity_include_decoder_norm": False,
    }
    (folder / "checkpoints").mkdir(exist_ok=True)
    (folder / "hyperparams.json").write_text(json.dumps(config | said))
    save_file(tensors, folder / "checkpoints" / "final.safetensors")
    return tensors


def test_llama_scope_scales_rows_and_its_threshold(tmp_path):
    tensors, scale = llama(tmp_path), np.sqrt(D) / 5
    codes = jumped(scale * X @ tensors["encoder.weight"].T + tensors["encoder.bias"], [0.4 * scale] * M)
    model = load_dictionary(tmp_path)
    assert_codes(model, codes, (codes @ tensors["decoder.weight"].T + tensors["decoder.bias"]) / scale)
    assert model.source_["l0"] == 4
    named = load_dictionary(tmp_path / "checkpoints" / "final.safetensors")
    assert named.fingerprint() == model.fingerprint()


def test_a_transcoder_of_llama_scope_gives_rows_of_another_scale(tmp_path):
    norms = {"in": 5.0, "out": 0.5}
    tensors = llama(tmp_path, hook_point_out="blocks.3.hook_mlp_out", dataset_average_activation_norm=norms)
    scale, scale_out = np.sqrt(D) / 5, np.sqrt(D) / 0.5
    codes = jumped(scale * X @ tensors["encoder.weight"].T + tensors["encoder.bias"], [0.4 * scale] * M)
    rows = (codes @ tensors["decoder.weight"].T + tensors["decoder.bias"]) / scale_out
    assert_codes(load_dictionary(tmp_path), codes, rows, Transcoder)


def test_llama_scope_without_its_threshold_is_refused(tmp_path):
    llama(tmp_path, jump_relu_threshold=0.0)
    with pytest.raises(ValueError, match="no threshold"):
        load_dictionary(tmp_path)


def test_the_distillation_of_llama_scope_has_a_threshold_for_each_latent(tmp_path):
    tensors = llama(tmp_path)
    (tmp_path / "hyperparams.json").unlink()
    tensors["log_jumprelu_threshold"] = random(M, seed=3)
    save_file(tensors, tmp_path / "sae_weights.safetensors")
    config = {
        "sae_type": "sae",
        "d_model": D,
        "expansion_factor": 2,
        "act_fn": "jumprelu",
        "norm_activation": "dataset-wise",
    }
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match="average_norm="):
        load_dictionary(tmp_path)
    scale = np.sqrt(D) / 5
    Z = scale * X @ tensors["encoder.weight"].T + tensors["encoder.bias"]
    codes = jumped(Z, np.exp(tensors["log_jumprelu_threshold"]))
    rows = (codes @ tensors["decoder.weight"].T + tensors["decoder.bias"]) / scale
    assert_codes(load_dictionary(tmp_path, average_norm=5.0), codes, rows)


# Llamascopium


def llamascopium(folder, places=("in",), **said):
    tensors = {"W_E": random(D, M), "b_E": random(M), "W_D": random(M, D), "b_D": random(D)}
    tensors |= {"activation_function.log_jumprelu_threshold": random(M, seed=4)}
    for place, norm in zip(places, (5.0, 0.5), strict=False):
        tensors[f"dataset_average_activation_norm.{place}"] = np.array(norm, np.float32)
    config = {
        "sae_type": "sae",
        "d_model": D,
        "expansion_factor": M / D,
        "act_fn": "jumprelu",
        "hook_point_in": places[0],
        "hook_point_out": places[-1],
        "norm_activation": "dataset-wise",
        "sparsity_include_decoder_norm": True,
    }
    (folder / "config.json").write_text(json.dumps(config | said))
    save_file(tensors, folder / "sae_weights.safetensors")
    return tensors


@pytest.mark.parametrize("places", [("in",), ("in", "out")])
def test_llamascopium_compares_codes_times_the_length_of_their_factor(tmp_path, places):
    tensors = llamascopium(tmp_path, places)
    scale, scale_out = np.sqrt(D) / 5, np.sqrt(D) / (5 if len(places) == 1 else 0.5)
    lengths = np.linalg.norm(tensors["W_D"], axis=1)
    Z = scale * X @ tensors["W_E"] + tensors["b_E"]
    trained = jumped(Z * lengths, np.exp(tensors["activation_function.log_jumprelu_threshold"])) / lengths
    # As its own folding has them: of rows as they are.
    codes = trained / scale
    rows = codes @ (tensors["W_D"] * scale / scale_out) + tensors["b_D"] / scale_out
    kind = SparseAutoencoder if len(places) == 1 else Transcoder
    assert_codes(load_dictionary(tmp_path), codes, rows, kind)


def test_llamascopium_that_was_folded_is_not_folded_again(tmp_path):
    tensors = llamascopium(tmp_path, norm_activation="inference", sparsity_include_decoder_norm=False)
    codes = jumped(X @ tensors["W_E"] + tensors["b_E"], np.exp(tensors["activation_function.log_jumprelu_threshold"]))
    assert_codes(load_dictionary(tmp_path), codes, codes @ tensors["W_D"] + tensors["b_D"])


def test_llamascopium_whose_threshold_is_missing_is_not_read_as_relu(tmp_path):
    tensors = llamascopium(tmp_path)
    del tensors["activation_function.log_jumprelu_threshold"]
    save_file(tensors, tmp_path / "sae_weights.safetensors")
    with pytest.raises(ValueError, match="of thresholds it has none"):
        load_dictionary(tmp_path)


# Qwen Scope


def test_qwen_scope_has_both_matrices_the_other_way_round(tmp_path):
    tensors = {"W_enc": random(M, D), "W_dec": random(D, M), "b_enc": random(M), "b_dec": random(D)}
    for layer in (0, 7):
        state = {name: torch.tensor(tensor + layer) for name, tensor in tensors.items()}
        torch.save(state, tmp_path / f"layer{layer}.sae.pt")
    codes = largest(X @ tensors["W_enc"].T + tensors["b_enc"], 4)
    model = load_dictionary(tmp_path, layer=0, k=4)
    assert_codes(model, codes, codes @ tensors["W_dec"].T + tensors["b_dec"])
    with pytest.raises(ValueError, match="layers 0, 7"):
        load_dictionary(tmp_path, k=4)
    with pytest.raises(ValueError, match="pass k="):
        load_dictionary(tmp_path / "layer0.sae.pt")


# circuit-tracer


def circuit(folder, skip=False, threshold=None, k=None, **said):
    tensors = {"W_enc": random(M, D), "W_dec": random(M, OUT), "b_enc": random(M), "b_dec": random(OUT)}
    tensors |= {"W_skip": random(OUT, D)} if skip else {}
    tensors |= {} if threshold is None else {"activation_function.threshold": threshold}
    tensors |= {} if k is None else {"k": np.array(k)}
    config = {
        "model_name": "google/gemma-2-2b",
        "model_kind": "transcoder_set",
        "feature_input_hook": "ln2.hook_normalized",
        "feature_output_hook": "hook_mlp_out",
    }
    (folder / "config.yaml").write_text(yaml.safe_dump(config | said))
    for layer in range(2):
        save_file(tensors, folder / f"layer_{layer}.safetensors")
    return tensors


def test_circuit_tracers_encoder_is_the_other_way_round_and_its_skip_is_added(tmp_path):
    tensors = circuit(tmp_path, skip=True)
    codes = np.maximum(X @ tensors["W_enc"].T + tensors["b_enc"], 0)
    rows = codes @ tensors["W_dec"] + tensors["b_dec"] + X @ tensors["W_skip"].T
    model = load_dictionary(tmp_path, layer=1)
    assert_codes(model, codes, rows, Transcoder)
    assert (model.source_["layer"], model.source_["place_out"]) == (1, "hook_mlp_out")
    with pytest.raises(ValueError, match="layers 0, 1: pass one"):
        load_dictionary(tmp_path)


def test_circuit_tracers_top_k_has_no_relu(tmp_path):
    tensors = circuit(tmp_path, activation="topk", k=12)
    codes = largest(X @ tensors["W_enc"].T + tensors["b_enc"], 12, rectify=False)
    assert (codes < 0).any()
    model = load_dictionary(tmp_path, layer=0)
    assert_codes(model, codes, codes @ tensors["W_dec"] + tensors["b_dec"], Transcoder)


def test_circuit_tracers_top_k_without_its_k_is_not_read_as_relu(tmp_path):
    circuit(tmp_path, activation="topk")
    with pytest.raises(ValueError, match="pass k="):
        load_dictionary(tmp_path, layer=0)
    assert load_dictionary(tmp_path, layer=0, k=3).transform(X).nnz == 3 * len(X)


@pytest.mark.parametrize("lowest", [0.1, -0.5])
def test_circuit_tracers_threshold_lets_negative_codes_through_where_it_is_negative(tmp_path, lowest):
    threshold = np.abs(random(M, seed=5)) + np.float32(lowest)
    tensors = circuit(tmp_path, threshold=threshold)
    Z = X @ tensors["W_enc"].T + tensors["b_enc"]
    codes = np.where(Z > threshold, Z, 0)
    assert (codes < 0).any() == (lowest < 0)
    rows = codes @ tensors["W_dec"] + tensors["b_dec"]
    kind = PretrainedTranscoder if lowest < 0 else Transcoder
    assert_codes(load_dictionary(tmp_path, layer=0), codes, rows, kind)


def test_transcoders_that_lie_elsewhere_are_named(tmp_path):
    circuit(tmp_path, transcoders=["hf://google/gemma-scope-2b-pt-transcoders/layer_0/params.npz"])
    with pytest.raises(ValueError, match="lie elsewhere: read those, such as hf://google"):
        load_dictionary(tmp_path, layer=0)


def test_circuit_tracers_cross_layer_transcoders_add_up_over_layers(tmp_path):
    config = {
        "model_name": "a",
        "model_kind": "cross_layer_transcoder",
        "feature_input_hook": "b",
        "feature_output_hook": "c",
    }
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(config))
    whole = np.zeros((len(X), 3, D))
    for layer in range(3):
        encoder = {
            f"W_enc_{layer}": random(M, D, seed=layer),
            f"b_enc_{layer}": random(M, seed=layer),
            f"b_dec_{layer}": random(D, seed=layer),
            f"threshold_{layer}": np.abs(random(M, seed=layer + 9)),
        }
        decoder = random(M, 3 - layer, D, seed=layer)
        save_file(encoder, tmp_path / f"W_enc_{layer}.safetensors")
        save_file({f"W_dec_{layer}": decoder}, tmp_path / f"W_dec_{layer}.safetensors")
        Z = X @ encoder[f"W_enc_{layer}"].T + encoder[f"b_enc_{layer}"]
        codes = jumped(Z, encoder[f"threshold_{layer}"])
        whole[:, layer] += encoder[f"b_dec_{layer}"]
        for to in range(layer, 3):
            whole[:, to] += codes @ decoder[:, to - layer]
    found = np.zeros_like(whole)
    for layer in range(3):
        model = load_dictionary(tmp_path, layer=layer)
        found[:, layer:] += model.predict(X).reshape(len(X), 3 - layer, D)
    assert_close(model.transform(X).toarray(), codes)
    assert_close(found, whole)


# SAELens before version 6


def before_6(folder, tensors=(), **said):
    content = {"W_enc": random(D, M), "W_dec": random(M, D), "b_enc": random(M), "b_dec": random(D)} | dict(tensors)
    config = {
        "d_in": D,
        "d_sae": M,
        "model_name": "gpt2-small",
        "hook_point": "blocks.3.hook_resid_pre",
        "hook_point_layer": 3,
        "hook_point_head_index": None,
        "prepend_bos": True,
        "context_size": 128,
        "dtype": "torch.float32",
        "device": "cpu",
        "activation_fn_str": "relu",
        "apply_b_dec_to_input": True,
        "finetuning_scaling_factor": False,
    }
    (folder / "cfg.json").write_text(json.dumps(config | said))
    save_file(content, folder / "sae_weights.safetensors")
    return content


def test_saelens_before_6_says_relu_or_top_k_in_other_words(tmp_path):
    tensors = before_6(tmp_path, activation_fn_str="topk", activation_fn_kwargs={"k": 4})
    codes = largest((X - tensors["b_dec"]) @ tensors["W_enc"] + tensors["b_enc"], 4)
    model = load_dictionary(tmp_path)
    assert_codes(model, codes, codes @ tensors["W_dec"] + tensors["b_dec"])
    assert model.source_["place"] == "blocks.3.hook_resid_pre"
    before_6(tmp_path)
    codes = np.maximum((X - tensors["b_dec"]) @ tensors["W_enc"] + tensors["b_enc"], 0)
    assert_codes(load_dictionary(tmp_path), codes, codes @ tensors["W_dec"] + tensors["b_dec"])


def test_saelens_before_6_has_a_scale_for_what_was_finetuned(tmp_path):
    scale = np.abs(random(M, seed=6))
    tensors = before_6(tmp_path, {"scaling_factor": scale}, finetuning_scaling_factor=True)
    codes = np.maximum((X - tensors["b_dec"]) @ tensors["W_enc"] + tensors["b_enc"], 0)
    assert_codes(load_dictionary(tmp_path), codes, (codes * scale) @ tensors["W_dec"] + tensors["b_dec"])


@pytest.mark.parametrize(
    "said",
    [
        {"activation_fn_str": "tanh-relu"},
        {"activation_fn_str": "topk"},
        {"activation_fn_str": "topk", "activation_fn_kwargs": {"k": 4, "signed": True}},
    ],
)
def test_saelens_before_6_with_another_activation_is_not_read_as_relu(tmp_path, said):
    before_6(tmp_path, **said)
    with pytest.raises(ValueError, match="its activation function is"):
        load_dictionary(tmp_path)
