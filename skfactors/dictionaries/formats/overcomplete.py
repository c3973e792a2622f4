"""overcomplete: a state dict, and nothing else."""

import re

import numpy as np

from skfactors.dictionaries.formats.base import Format
from skfactors.dictionaries.formats.reading import POSITIVE
from skfactors.dictionaries.formats.weights import Weights
from skfactors.dictionaries.learned_from import source_in_file
from skfactors.dictionaries.pretrained import PretrainedDictionary
from skfactors.records import mismatch

_CLASSES = (
    "BatchTopKSAE",
    "JumpSAE",
    "MpSAE",
    "OMPSAE",
    "QSAE",
    "RAJumpSAE",
    "RATopKSAE",
    "SAE",
    "SemiNMF",
    "TopKSAE",
)
_BLOCK = re.compile(r"encoder\.mlp_blocks\.(\d+)\.0\.weight")
_EPSILON, _EPSILON_OF_NORMS = 1e-8, 1e-5


def _over_each(order):
    return lambda W: W / (np.linalg.norm(W, order, axis=1, keepdims=True) + _EPSILON)


def _over_largest(order):
    return lambda W: W / np.linalg.norm(W, order, axis=1).max()


_NORMALIZATIONS = {
    "l2": _over_each(2),
    "max_l2": _over_largest(2),
    "l1": _over_each(1),
    "max_l1": _over_largest(1),
    "identity": lambda W: W,
}


class Overcomplete(Format):
    """
    Dictionaries of overcomplete, whose class and settings no file says.

    Options, in the tool's own words: ``dict_class`` (or ``class``, in settings that were kept), ``normalization``,
    ``top_k`` (TopK), ``running_threshold`` (BatchTopK), ``delta`` (relaxed archetypes), ``k`` (both pursuits),
    ``max_iter`` (OMPSAE), ``hard`` (QSAE, which must be hard). Encoders are those called linear, tied, mlp_ln and
    mlp_bn; ``encoder`` and ``q``, where they are told, must be what the file has.
    """

    options = frozenset(
        {"class", "dict_class", "normalization", "top_k", "running_threshold", "delta", "k", "max_iter", "hard"}
        | {"encoder", "q"}
    )

    def fits(self, files):
        """Say whether there is one file of tensors that holds a dictionary."""
        name = _tensor_file(files)
        return name is not None and bool({"dictionary._weights", "dictionary.W", "D"} & set(files.content(name)))

    def read(self, files, normalization="l2", delta=1.0, max_iter=10, hard=False, encoder=None, q=None, **options):
        """Read a dictionary."""
        tensors = files.tensors(_tensor_file(files))
        named = options.pop("class", None)
        dict_class = options.pop("dict_class", named)
        if encoder not in (None, _name_of_encoder(tensors)):
            raise ValueError(f"{tensors.where} has the encoder {_name_of_encoder(tensors)!r}, not {encoder!r}.")
        if q is not None:
            tensors.sizes["n_levels"] = q
        if dict_class is None:
            # Only these have such tensors.
            dict_class = "JumpSAE" if "thresholds" in tensors else "QSAE" if "Q" in tensors else None
        if dict_class not in _CLASSES:
            raise ValueError(
                f"{tensors.where} does not say of which class it is, and {dict_class!r} is not known: pass "
                f"dict_class=, one of {', '.join(_CLASSES)}."
            )
        if dict_class == "BatchTopKSAE":
            # It counts for training only.
            options.pop("top_k", None)
        needed = _NEEDED.get(dict_class)
        if set(options) != ({needed[0]} if needed else set()):
            wanted = f"{needed[0]}=, which no file says" if needed else "no top_k, k or running_threshold"
            raise TypeError(f"{dict_class} takes {wanted}; given is {', '.join(options) or 'nothing'}.")
        value = options.get(needed[0]) if needed else None
        if needed and mismatch(value, needed[1]):
            raise ValueError(f"{needed[0]} is {value!r}.")
        said = source_in_file(
            "overcomplete", l0=value if needed and needed[0] != "running_threshold" else None, architecture=dict_class
        )
        if dict_class == "SemiNMF":
            # The tool's own codes start from random numbers; these are what they come close to.
            components = tensors.take("D", "m", "d")
            tensors.finish()
            intercept = np.zeros(components.shape[1])
            return PretrainedDictionary.from_arrays("least_squares", components, intercept, {}, {}, said)
        components = _components(tensors, dict_class, normalization, delta)
        if dict_class in ("MpSAE", "OMPSAE"):
            tensors.finish()
            return _pursuit(dict_class, components, value, max_iter, said)
        if dict_class == "QSAE" and not hard:
            raise ValueError(
                f"{tensors.where} is not read: a QSAE whose levels are soft has no sparse codes; pass hard=True."
            )
        layers = _encoder(tensors, components)
        return _autoencoder(dict_class, tensors, components, layers, value, said)


# What each class must be told, and what that may be.
_NEEDED = {
    "BatchTopKSAE": ("running_threshold", float),
    "MpSAE": ("k", POSITIVE),
    "OMPSAE": ("k", POSITIVE),
    "RATopKSAE": ("top_k", POSITIVE),
    "TopKSAE": ("top_k", POSITIVE),
}


def _tensor_file(files):
    found = [name for name in files.names if name.endswith(".pt")]
    return found[0] if len(found) == 1 else None


def _components(tensors, dict_class, normalization, delta):
    """Return the dictionary as it is used: what training leaves is not normalised yet."""
    factor = np.exp(np.float64(tensors.number("dictionary.multiplier")))
    if dict_class.startswith("RA"):
        shares = np.maximum(np.float64(tensors.take("dictionary.W", "m", "n_points")), 0)
        shares = shares / (shares.sum(1, keepdims=True) + _EPSILON)
        rest = np.float64(tensors.take("dictionary.Relax", "m", "d"))
        lengths = np.linalg.norm(rest, axis=1, keepdims=True)
        rest = rest * np.minimum(delta / np.maximum(lengths, np.finfo(np.float64).tiny), 1)
        return (shares @ tensors.take("dictionary.C", "n_points", "d") + rest) * factor
    if normalization not in _NORMALIZATIONS:
        raise ValueError(f"normalization is {normalization!r}; known are {', '.join(_NORMALIZATIONS)}.")
    return _NORMALIZATIONS[normalization](np.float64(tensors.take("dictionary._weights", "m", "d"))) * factor


def _name_of_encoder(tensors) -> str:
    """Name an encoder as the tool does."""
    if "encoder.tied_to._weights" in tensors:
        return "tied"
    if "encoder.final_block.1.weight" not in tensors:
        return "linear" if "encoder.final_block.0.weight" in tensors else "identity"
    norm = "bn" if "encoder.final_block.1.running_mean" in tensors else "ln"
    return f"mlp_{norm}_{1 + sum(_BLOCK.fullmatch(name) is not None for name in tensors.names)}"


def _encoder(tensors, components):
    """Return the layers of the encoder: weights, biases, and for a layer norm its weights and biases."""
    m, d = components.shape
    if "encoder.tied_to._weights" in tensors:
        for name, shape in (("_weights", ("m", "d")), ("multiplier", ())):
            if (tensors.take(f"encoder.tied_to.{name}", *shape) != tensors.take(f"dictionary.{name}", *shape)).any():
                raise ValueError(
                    f"{tensors.where} is not read: its encoder is tied to another dictionary than its own."
                )
        return [[components, _optional(tensors, "encoder.bias", m)]]
    if "encoder.weight" in tensors:
        return [[tensors.take("encoder.weight", "m", "d"), _optional(tensors, "encoder.bias", m)]]
    blocks = sorted(int(match[1]) for match in map(_BLOCK.fullmatch, tensors.names) if match)
    hidden = [
        _block(tensors, f"encoder.mlp_blocks.{number}", "hidden", "hidden" if number else "d") for number in blocks
    ]
    return [*hidden, _block(tensors, "encoder.final_block", "m", "hidden" if blocks else "d")]


def _block(tensors, name, into, out_of):
    weight, bias = (
        np.float64(tensors.take(f"{name}.0.weight", into, out_of)),
        np.float64(tensors.take(f"{name}.0.bias", into)),
    )
    if f"{name}.1.weight" not in tensors:
        return [weight, bias]
    growth, shift = tensors.take(f"{name}.1.weight", into), tensors.take(f"{name}.1.bias", into)
    if f"{name}.1.running_mean" not in tensors:
        return [weight, bias, growth, shift]
    # A batch norm is fixed once training has ended.
    mean, variance = tensors.take(f"{name}.1.running_mean", into), tensors.take(f"{name}.1.running_var", into)
    tensors.number(f"{name}.1.num_batches_tracked")
    growth = growth / np.sqrt(variance + _EPSILON_OF_NORMS)
    return [weight * growth[:, None], (bias - mean) * growth + shift]


def _optional(tensors, name, size):
    return tensors.take(name, "m") if name in tensors else np.zeros(size)


def _pursuit(dict_class, components, k, max_iter, said):
    intercept = np.zeros(components.shape[1])
    if dict_class == "OMPSAE":
        settings = {"n_nonzero_coefs": k, "n_fit_steps": max_iter}
        return PretrainedDictionary.from_arrays(
            "orthogonal_matching_pursuit", components, intercept, {}, settings, said
        )
    settings = {"n_steps": k, "rectified": False, "stop_on_same_factors": False, "residual": 0.0}
    return PretrainedDictionary.from_arrays("matching_pursuit", components, intercept, {}, settings, said)


def _autoencoder(dict_class, tensors, components, layers, value, said):
    intercept = np.zeros(components.shape[1])
    if len(layers) > 1 or len(layers[0]) > 2:
        tensors.finish()
        if dict_class not in ("SAE", "TopKSAE", "RATopKSAE"):
            raise ValueError(
                f"{tensors.where} is not read: a {dict_class} with an encoder of layers is not known here."
            )
        named = [(("layer", 0, 1), ("norm", 2, 3))[: len(layer) // 2] for layer in layers]
        weights = {
            f"{kind}.{number}.{part}": layer[index]
            for number, (layer, names) in enumerate(zip(layers, named, strict=True))
            for kind, *indices in names
            for part, index in zip(("weight", "bias"), indices, strict=True)
        }
        settings = {"n_layers": len(layers), "n_nonzero_coefs": value}
        return PretrainedDictionary.from_arrays("perceptron", components, intercept, weights, settings, said)
    encoder, bias = layers[0]
    if dict_class == "QSAE":
        arrays = {"encoder": encoder, "encoder_intercept": bias, "levels": tensors.take("Q", "n_levels")}
        tensors.finish()
        return PretrainedDictionary.from_arrays("quantized", components, intercept, arrays, {}, said)
    weights = Weights(encoder, bias, components, intercept)
    if dict_class.endswith("JumpSAE"):
        weights.threshold = _just_below(np.exp(tensors.take("thresholds", "m")))
    elif dict_class == "BatchTopKSAE":
        weights.threshold = np.broadcast_to(_just_below(value), weights.bias.shape)
    tensors.finish()
    selection = "above" if weights.threshold is not None else "positive" if value is None else "largest"
    settings = {"n_nonzero_coefs": value} if selection == "largest" else {}
    settings |= {"activation": "batch_topk"} if dict_class == "BatchTopKSAE" else {}
    return weights.autoencoder(selection, said, **settings)


def _just_below(threshold):
    """Return the next smaller number: here a code is above its threshold, there at least as large."""
    return np.float64(np.nextafter(np.float32(threshold), np.float32(-np.inf)))
