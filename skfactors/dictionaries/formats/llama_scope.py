"""Llama Scope: hyperparams.json and checkpoints/final.safetensors; its R1 distillation: config.json."""

import math

import numpy as np

from skfactors.dictionaries.formats.base import Format
from skfactors.dictionaries.formats.reading import POSITIVE
from skfactors.dictionaries.formats.weights import Weights
from skfactors.dictionaries.learned_from import source_in_file

_CONFIG, _TENSORS = "hyperparams.json", "checkpoints/final.safetensors"
_NEW_CONFIG, _NEW_TENSORS = "config.json", "sae_weights.safetensors"
# What decides no code of what is read here.
OF_TRAINING = {
    *("aux_coefficient", "bias_init_method", "ckpt_interval", "decoder_exactly_fixed_norm", "device", "dtype"),
    *("expansion_factor", "force_unit_decoder_norm", "ignore_token_ids", "init_decoder_norm", "init_encoder_norm"),
    *("init_encoder_with_decoder_transpose", "jumprelu_threshold_window", "l1_coefficient", "lp"),
    *("sae_pretrained_name_or_path", "sae_type", "seed", "sparsity_threshold_for_triton_spmm_kernel", "strict_loading"),
    *("use_ghost_grads", "use_triton_kernel", "d_sae"),
}


class LlamaScope(Format):
    """
    Dictionaries of Llama Scope: one threshold for all latents, of rows that were scaled.

    Options: ``average_norm``, the mean length of the rows that the dictionary was learned on, where no file says it.
    """

    options = frozenset({"average_norm"})

    def fits(self, files):
        """Say whether files of the first release or of the R1 distillation are there."""
        if _CONFIG in files:
            return any(name.endswith(".safetensors") for name in files.names)
        return all(name in files for name in (_NEW_CONFIG, _NEW_TENSORS)) and "encoder.weight" in files.content(
            _NEW_TENSORS
        )

    def read(self, files, average_norm=None):
        """Read a dictionary."""
        first = _CONFIG in files
        config = files.json(_CONFIG if first else _NEW_CONFIG)
        tensors = files.tensors(files.chosen or (_TENSORS if first else _NEW_TENSORS))
        place, place_out = config.take("hook_point_in", str, None), config.take("hook_point_out", str, None)
        tensors.sizes = {"d": config.take("d_model", POSITIVE)}
        if "d_sae" in config:
            tensors.sizes["m"] = config.content["d_sae"]
        activation = config.take("act_fn", frozenset({"jumprelu", "relu", "topk"}), "jumprelu")
        stated, k = config.take("jump_relu_threshold", float, 0.0), config.take("top_k", POSITIVE, None)
        norms = config.take("dataset_average_activation_norm", dict, {})
        by_length = config.take("sparsity_include_decoder_norm", bool, False)
        biased = config.take("use_decoder_bias", bool, True)
        for name in ("use_glu_encoder", "apply_decoder_bias_to_pre_encoder"):
            if config.take(name, bool, False):
                raise ValueError(f"{config.where} is not read: {name} is not known here.")
        kinds = frozenset({"dataset-wise", "inference"})
        scaled = config.take("norm_activation", kinds, "dataset-wise" if norms else "inference") == "dataset-wise"
        config.drop(*OF_TRAINING)
        config.finish()

        encoder, bias = tensors.take("encoder.weight", "m", "d"), tensors.take("encoder.bias", "m")
        components = tensors.take("decoder.weight", "d", "m").T
        intercept = tensors.take("decoder.bias", "d") if biased else np.zeros(tensors.sizes["d"])
        weights = Weights(encoder, bias, components, intercept)
        scales = _scales(norms, average_norm, tensors) if scaled else (1.0, 1.0)
        if activation == "jumprelu":
            if "log_jumprelu_threshold" in tensors:
                threshold = np.exp(np.float64(tensors.take("log_jumprelu_threshold", "m")))
            elif first and stated > 0:
                threshold = stated * scales[0]
            else:
                raise ValueError(f"{files.where!r} is not read: its activation is jumprelu, and it has no threshold.")
            # They compare a code times the length of its factor.
            lengths = np.linalg.norm(components, axis=1) if by_length else 1.0
            weights.threshold = np.broadcast_to(threshold / lengths, bias.shape)
        elif activation == "topk" and k is None:
            raise ValueError(f"{config.where} is not read: its activation is topk, and it has no top_k.")
        tensors.finish()
        weights.of_scaled_rows(*scales)
        if activation == "topk" and by_length:
            weights.with_unit_components()
        said = source_in_file("llama_scope", place=place, place_out=place_out, l0=k, architecture=activation)
        selection = {"jumprelu": "above", "relu": "positive", "topk": "largest"}[activation]
        settings = {"n_nonzero_coefs": k} if activation == "topk" else {}
        if place_out not in (None, place):
            return weights.transcoder(selection, said, **settings)
        return weights.autoencoder(selection, said, **settings)


def _scales(norms, average_norm, tensors):
    """Return by what rows were multiplied that the dictionary read, and that it was to give."""
    width = math.sqrt(tensors.sizes["d"])
    if not norms and average_norm is None:
        raise ValueError(
            f"{tensors.where} is of rows that were scaled to a mean length of {width:g}, and does not say what that "
            "was before: pass average_norm=."
        )
    into = average_norm if average_norm is not None else norms.get("in")
    out = average_norm if average_norm is not None else norms.get("out", into)
    for norm in (into, out):
        if not isinstance(norm, (int, float)) or not 0 < norm < math.inf:
            raise ValueError(f"{tensors.where} is not read: dataset_average_activation_norm is {norms}.")
    return width / into, width / out
