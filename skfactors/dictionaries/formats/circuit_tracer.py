"""circuit-tracer's transcoders: config.yaml and a file or two a layer."""

import re

import numpy as np

from skfactors.dictionaries.formats.base import Format
from skfactors.dictionaries.formats.reading import POSITIVE
from skfactors.dictionaries.formats.weights import Weights
from skfactors.dictionaries.learned_from import source_in_file

_CONFIG = "config.yaml"
_OF_A_LAYER = re.compile(r"layer_(\d+)\.safetensors")
_ENCODER, _DECODER = re.compile(r"W_enc_(\d+)\.safetensors"), re.compile(r"W_dec_(\d+)\.safetensors")
_KINDS = frozenset({"transcoder_set", "cross_layer_transcoder"})


class CircuitTracer(Format):
    """
    Transcoders as circuit-tracer has them, one a layer or from each layer to all later ones.

    Options: ``layer``, of which one is read, and ``k``, where the activation is top-k and no file says how many. What a
    cross-layer transcoder's layer predicts are its own and all later layers side by side; the bias is that of its own,
    so that the sum over all layers' transcoders is the prediction.
    """

    options = frozenset({"k", "layer"})

    def fits(self, files):
        """Say whether there is a configuration of transcoders."""
        return _CONFIG in files and "model_kind" in files.yaml(_CONFIG)

    def read(self, files, k=None, layer=None):
        """Read the transcoder of a layer."""
        config = files.yaml(_CONFIG)
        kind = config.take("model_kind", _KINDS)
        model = config.take("model_name", str, None)
        places = [config.take(name, str, None) for name in ("feature_input_hook", "feature_output_hook")]
        activation = config.take("activation", frozenset({"topk", "relu", "jump_relu", "jumprelu"}), None)
        stated = config.take("k", POSITIVE, None)
        listed = config.take("transcoders", list, None)
        config.drop("scan", "scan_name", "repo_id", "revision", "subfolder")
        config.finish()
        if listed is not None and any("://" in str(name) for name in listed):
            raise ValueError(f"{config.where} names files that lie elsewhere: read those, such as {listed[0]}.")
        said = {"model": model, "place": places[0], "place_out": places[1]}
        if kind == "cross_layer_transcoder":
            return _read_cross_layer(files, layer, said)
        return _read_layer(files, layer, k or stated, activation, said)


def _chosen(found, layer, files):
    if layer is None and len(found) == 1:
        return next(iter(found))
    if layer not in found:
        raise ValueError(f"{files.where!r} holds layers {', '.join(map(str, sorted(found)))}: pass one as layer=.")
    return layer


def _read_layer(files, layer, k, activation, said):
    found = files.matching(_OF_A_LAYER)
    layer = _chosen(found, layer, files)
    tensors = files.tensors(found[layer])
    weights = Weights(
        tensors.take("W_enc", "m", "d"),
        tensors.take("b_enc", "m"),
        tensors.take("W_dec", "m", "d_out"),
        tensors.take("b_dec", "d_out"),
    )
    skip = tensors.take("W_skip", "d_out", "d") if "W_skip" in tensors else None
    settings = {}
    in_file = int(tensors.number("k")) if "k" in tensors else None
    if in_file is not None and k not in (None, in_file):
        raise ValueError(f"{tensors.where} is not read: k is {in_file} there, and {k} elsewhere.")
    has_threshold = "activation_function.threshold" in tensors
    if activation == "topk" or in_file is not None:
        k = k or in_file
        if k is None:
            raise ValueError(f"{tensors.where} is top-k, and no file says how many codes of a row are kept: pass k=.")
        # There is no ReLU.
        selection, settings = "largest_of_any_sign", {"n_nonzero_coefs": int(k)}
    elif has_threshold and activation != "relu":
        weights.threshold = tensors.take("activation_function.threshold", "m")
        # There is no ReLU here, either, so that thresholds below zero let negative codes through.
        selection, settings = "above", {"any_sign": True} if (weights.threshold < 0).any() else {}
    elif activation in (None, "relu"):
        selection = "positive"
    else:
        raise ValueError(f"{tensors.where} is not read: its activation is {activation}, and it has no threshold.")
    tensors.finish()
    l0 = k if selection.startswith("largest") else None
    return weights.transcoder(
        selection, source_in_file("circuit_tracer", layer=layer, l0=l0, **said), skip=skip, **settings
    )


def _read_cross_layer(files, layer, said):
    found, decoders = files.matching(_ENCODER), files.matching(_DECODER)
    layer = _chosen(found, layer, files)
    if layer not in decoders:
        raise FileNotFoundError(f"{files.where!r} holds no W_dec_{layer}.safetensors.")
    tensors, decoder = files.tensors(found[layer]), files.tensors(decoders[layer])
    encoder, bias = tensors.take(f"W_enc_{layer}", "m", "d"), tensors.take(f"b_enc_{layer}", "m")
    own = tensors.take(f"b_dec_{layer}", "d")
    has_threshold = f"threshold_{layer}" in tensors
    threshold = tensors.take(f"threshold_{layer}", "m") if has_threshold else None
    if has_threshold and (threshold < 0).any():
        raise ValueError(f"{tensors.where} is not read: thresholds below zero are not known here.")
    decoder.sizes = dict(tensors.sizes)
    components = decoder.take(f"W_dec_{layer}", "m", "n_written", "d")
    tensors.finish()
    decoder.finish()
    n_written = components.shape[1]
    if len(found) > 1 and n_written != len(found) - layer:
        raise ValueError(
            f"{decoder.where} is not read: it writes to {n_written} layers, and from {layer} on there are "
            f"{len(found) - layer}."
        )
    intercept = np.concatenate([own, np.zeros((n_written - 1) * len(own))])
    weights = Weights(encoder, bias, components.reshape(len(bias), -1), intercept, threshold)
    said = source_in_file("circuit_tracer", layer=layer, **said)
    return weights.transcoder("above" if has_threshold else "positive", said)
