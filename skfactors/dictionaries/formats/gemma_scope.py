"""Gemma Scope 1 (params.npz) and 2 (config.json and params.safetensors)."""

import math
import re

import numpy as np

from skfactors.dictionaries.formats.base import Format
from skfactors.dictionaries.formats.reading import POSITIVE
from skfactors.dictionaries.formats.weights import Weights
from skfactors.dictionaries.learned_from import source_in_file

_FIRST = "params.npz"
_L0_IN_PATH = re.compile(r"average_l0_(\d+)")
_LAYER_IN_NAME = re.compile(r"(?:.*\D)?(\d+)\.safetensors")


class GemmaScope(Format):
    """
    Gemma Scope 1: JumpReLU, the decoder's bias not subtracted.

    Options: ``embedding``, whether it is one of the embedding autoencoders, and ``transcoder``; by default, what the
    path says. Rows of attention are the heads side by side, before the output projection.
    """

    options = frozenset({"embedding", "transcoder"})

    def fits(self, files):
        """Say whether the file is there."""
        return _FIRST in files

    def read(self, files, embedding=None, transcoder=None):
        """Read a dictionary."""
        transcoder = "transcoder" in files.where if transcoder is None else transcoder
        tensors = files.tensors(_FIRST)
        # Transcoders have some names in lower case.
        names = {name.lower(): name for name in files.content(_FIRST)}
        encoder = tensors.take(names.get("w_enc", "W_enc"), "d", "m").T
        components = tensors.take(names.get("w_dec", "W_dec"), "m", "d_out" if transcoder else "d")
        intercept = tensors.take("b_dec", "d_out" if transcoder else "d")
        weights = Weights(encoder, tensors.take("b_enc", "m"), components, intercept, tensors.take("threshold", "m"))
        tensors.finish()
        if embedding if embedding is not None else "embedding" in files.where:
            # They were learned on rows that the model multiplies by this.
            width = math.sqrt(encoder.shape[1])
            weights.encoder, weights.components = weights.encoder / width, weights.components * width
        l0 = _L0_IN_PATH.search(files.where)
        said = source_in_file("gemma_scope", l0=int(l0[1]) if l0 else None, architecture="jump_relu")
        return (weights.transcoder if transcoder else weights.autoencoder)("above", said)


class GemmaScope2(Format):
    """
    Gemma Scope 2: names in lower case, skips the other way round.

    Options: ``layer``, of a cross-layer transcoder, by default the number that its file's name ends with. It predicts
    all layers side by side: its bias and its skip go to its own layer, so that the sum over all layers' transcoders is
    the prediction.
    """

    options = frozenset({"layer"})

    def fits(self, files):
        """Say whether there is a configuration with the model's places, or one file of such tensors."""
        return "config.json" in files and "hf_hook_point_in" in files.json("config.json")

    def read(self, files, layer=None):
        """Read a dictionary."""
        config, name = files.json("config.json"), _tensor_file(files, layer)
        config.take("architecture", frozenset({"jump_relu"}))
        place, place_out = config.take("hf_hook_point_in", str), config.take("hf_hook_point_out", str, None)
        affine, l0 = config.take("affine_connection", bool, None), config.take("l0", float, None)
        kind, width = config.take("type", str, None), config.take("width", POSITIVE, None)
        model = config.take("model_name", str, None)
        config.finish()
        tensors = files.tensors(name)
        tensors.sizes = {} if width is None else {"m": width}
        encoder, bias = tensors.take("w_enc", "d", "m").T, tensors.take("b_enc", "m")
        cross_layer = files.content(name)["w_dec"].ndim == 3 if "w_dec" in tensors else False
        components = tensors.take("w_dec", *(("m", "n_layers", "d_out") if cross_layer else ("m", "d_out")))
        intercept, threshold = tensors.take("b_dec", "d_out"), tensors.take("threshold", "m")
        has_skip = "affine_skip_connection" in tensors
        if affine is not None and affine != has_skip:
            raise ValueError(
                f"{tensors.where} is not read: affine_connection is {affine}, and there is "
                f"{'a' if has_skip else 'no'} affine_skip_connection."
            )
        skip = tensors.take("affine_skip_connection", "d", "d_out").T if has_skip else None
        tensors.finish()
        if cross_layer:
            components, intercept, skip = _side_by_side(components, intercept, skip, _layer_of(name, layer))
        weights = Weights(encoder, bias, components, intercept, threshold)
        said = source_in_file(
            "gemma_scope_2", model=model, place=place, place_out=place_out, l0=l0, architecture="jump_relu"
        )
        if cross_layer or kind not in (None, "sae") or place_out not in (None, place):
            return weights.transcoder("above", said, skip=skip)
        return weights.autoencoder("above", said, skip=skip)


def _tensor_file(files, layer):
    if "params.safetensors" in files:
        return "params.safetensors"
    found = files.matching(_LAYER_IN_NAME)
    if layer is None and len(found) == 1:
        return next(iter(found.values()))
    if layer not in found:
        raise ValueError(
            f"{files.where!r} holds files of layers {', '.join(map(str, sorted(found))) or 'that are not there'}: pass "
            f"layer=, which is {layer}."
        )
    return found[layer]


def _layer_of(name, layer):
    found = _LAYER_IN_NAME.fullmatch(name)
    if layer is None and found is None:
        raise ValueError(f"the name {name!r} does not say which layer its transcoder reads: pass layer=.")
    return int(found[1]) if layer is None else layer


def _side_by_side(components, intercept, skip, layer):
    """Put what is written to each layer side by side; the bias and the skip are the own layer's."""
    m, n_layers, d = components.shape
    if not 0 <= layer < n_layers:
        raise ValueError(f"layer {layer} is none of the {n_layers} layers that the transcoder writes to.")
    own = slice(layer * d, (layer + 1) * d)
    wide = np.zeros(n_layers * d)
    wide[own] = intercept
    if skip is not None:
        tall = np.zeros((n_layers * d, skip.shape[1]))
        tall[own] = skip
        skip = tall
    return components.reshape(m, n_layers * d), wide, skip
