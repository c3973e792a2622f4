"""Sparsify (EleutherAI): cfg.json and sae.safetensors."""

import json

import numpy as np
from safetensors.numpy import save

from skfactors.callers import warn_caller
from skfactors.dictionaries.formats.base import WritableFormat
from skfactors.dictionaries.formats.reading import POSITIVE
from skfactors.dictionaries.formats.weights import WORDS, Weights, parts_of
from skfactors.dictionaries.learned_from import source_in_file

_CONFIG, _TENSORS = "cfg.json", "sae.safetensors"
_SELECTIONS = {"topk": "largest", "groupmax": "largest_of_groups"}


class Sparsify(WritableFormat):
    """Dictionaries of sparsify."""

    def fits(self, files):
        """Say whether both files are there."""
        return _CONFIG in files and _TENSORS in files

    def read(self, files):
        """Read a dictionary."""
        config, tensors = files.json(_CONFIG), files.tensors(_TENSORS)
        selection = _SELECTIONS[config.take("activation", frozenset(_SELECTIONS), "topk")]
        d, k = config.take("d_in", POSITIVE), config.take("k", POSITIVE, 32)
        factor = config.take("expansion_factor", POSITIVE, 32)
        # 0 latents stand for as many as the factor says.
        m = config.take("num_latents", range(2**62), 0) or d * factor
        transcodes, skips = config.take("transcode", bool, False), config.take("skip_connection", bool, False)
        if config.take("signed", bool, False):
            warn_caller(
                f"{files.where!r} asks for signed codes, which sparsify has not any more: codes are as it has them."
            )
        config.drop("normalize_decoder", "multi_topk")
        config.finish()
        if selection == "largest_of_groups" and m % k:
            raise ValueError(f"{config.where} is not read: {m} latents do not make {k} groups of one size.")
        tensors.sizes = {"d": d, "m": m}
        weights = Weights(
            tensors.take("encoder.weight", "m", "d"),
            tensors.take("encoder.bias", "m"),
            tensors.take("W_dec", "m", "d"),
            tensors.take("b_dec", "d"),
        )
        skip = tensors.take("W_skip", "d", "d") if skips else None
        tensors.finish()
        said = source_in_file(
            "sparsify", l0=k, architecture="transcoder" if transcodes else config.content.get("activation", "topk")
        )
        if transcodes:
            return weights.transcoder(selection, said, skip=skip, n_nonzero_coefs=k)
        weights.of_subtracted(weights.intercept)
        return weights.autoencoder(selection, said, skip=skip, n_nonzero_coefs=k)

    def written(self, model):
        """Return the files of a dictionary."""
        weights, settings, transcodes = parts_of(model)
        if weights is None:
            raise ValueError(f"sparsify has no dictionaries such as this {type(model).__name__}.")
        activations = {of: name for name, of in _SELECTIONS.items()}
        if settings["selection"] not in activations:
            raise ValueError(
                "sparsify has only dictionaries that keep the largest codes of a row or of its groups; this one keeps "
                f"{WORDS[settings['selection']]}."
            )
        if settings.get("scaling", "none") != "none":
            raise ValueError(f"sparsify has no scaling of rows ({settings['scaling']}).")
        m, d = model.components_.shape
        if d != model.n_features_in_:
            raise ValueError(f"sparsify has no transcoders from {model.n_features_in_} features to {d}.")
        bias = weights["encoder_intercept"]
        if not transcodes:
            # It subtracts the intercept from rows before it encodes them.
            bias = bias + np.float64(weights["encoder"]) @ model.intercept_
        tensors = {
            "encoder.weight": weights["encoder"],
            "encoder.bias": bias,
            "W_dec": model.components_,
            "b_dec": model.intercept_,
        }
        if "skip" in weights:
            tensors["W_skip"] = weights["skip"]
        content = {
            "activation": activations[settings["selection"]],
            "expansion_factor": max(1, m // d),
            "normalize_decoder": bool(np.allclose(np.linalg.norm(model.components_, axis=1), 1, atol=1e-4)),
            "num_latents": m,
            "k": int(settings["n_nonzero_coefs"]),
            "multi_topk": False,
            "skip_connection": "skip" in weights,
            "transcode": transcodes,
            "d_in": d,
        }
        tensors = {name: np.ascontiguousarray(tensor, np.float32) for name, tensor in tensors.items()}
        return {_TENSORS: save(tensors), _CONFIG: json.dumps(content, indent=2).encode()}
