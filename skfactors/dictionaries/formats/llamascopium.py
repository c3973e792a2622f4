"""Llamascopium: config.json and sae_weights.safetensors, or checkpoints/final.safetensors."""

import math

import numpy as np

from skfactors.dictionaries.formats.base import Format
from skfactors.dictionaries.formats.llama_scope import OF_TRAINING
from skfactors.dictionaries.formats.reading import POSITIVE
from skfactors.dictionaries.formats.weights import Weights
from skfactors.dictionaries.learned_from import source_in_file

_CONFIG = "config.json"
_TENSORS = ("sae_weights.safetensors", "checkpoints/pruned.safetensors", "checkpoints/final.safetensors")
_NORM = "dataset_average_activation_norm."
_THRESHOLD = "activation_function.log_jumprelu_threshold"


class Llamascopium(Format):
    """
    Dictionaries of Llamascopium: a code times the length of its factor is compared.

    Codes are those of rows as they are, not of rows that training had scaled.
    """

    def fits(self, files):
        """Say whether there is a configuration and a file of such tensors."""
        return _CONFIG in files and any("W_E" in files.content(name) for name in _candidates(files))

    def read(self, files):
        """Read a dictionary."""
        config, tensors = files.json(_CONFIG), files.tensors(_candidates(files)[0])
        config.take("sae_type", frozenset({"sae"}), "sae")
        d = config.take("d_model", POSITIVE, None)
        tensors.sizes = {} if d is None else {"d": d}
        place, place_out = config.take("hook_point_in", str, None), config.take("hook_point_out", str, None)
        kinds = frozenset({"relu", "jumprelu", "topk"})
        activation = config.take("act_fn", kinds, "jumprelu" if _THRESHOLD in tensors else "relu")
        k = config.take("top_k", POSITIVE, None)
        by_length = config.take("sparsity_include_decoder_norm", bool, True)
        biased = config.take("use_decoder_bias", bool, "b_D" in tensors)
        kinds = frozenset({"dataset-wise", "inference", "token-wise"})
        scaling = config.take("norm_activation", kinds, "dataset-wise")
        if config.take("use_glu_encoder", bool, False):
            raise ValueError(f"{config.where} is not read: use_glu_encoder is not known here.")
        config.drop(*OF_TRAINING)
        config.finish()

        encoder, bias = tensors.take("W_E", "d", "m").T, tensors.take("b_E", "m")
        components = tensors.take("W_D", "m", "d")
        intercept = tensors.take("b_D", "d") if biased else np.zeros(components.shape[1])
        sites = [name for name in files.content(_candidates(files)[0]) if name.startswith(_NORM)]
        norms = {name.removeprefix(_NORM): float(tensors.take(name, finite=False)) for name in sites}
        if (activation == "jumprelu") != (_THRESHOLD in tensors):
            raise ValueError(
                f"{tensors.where} is not read: act_fn is {activation}, and of thresholds it has "
                f"{'some' if _THRESHOLD in tensors else 'none'}."
            )
        weights = Weights(encoder, bias, components, intercept)
        if by_length:
            lengths = np.linalg.norm(np.float64(components), axis=1)
        if activation == "jumprelu":
            threshold = np.exp(np.float64(tensors.take(_THRESHOLD, "m")))
            weights.threshold = threshold / lengths if by_length else threshold
        tensors.finish()
        if scaling == "dataset-wise":
            scale, scale_out = (
                math.sqrt(components.shape[1]) / _norm_of(norms, site, tensors) for site in (place, place_out or place)
            )
            # Codes as of rows as they are: smaller by what rows were larger.
            weights.bias = weights.bias / scale
            if weights.threshold is not None:
                weights.threshold = weights.threshold / scale
            weights.components = weights.components * scale / scale_out
            weights.intercept = weights.intercept / scale_out
        if activation == "topk":
            if k is None:
                raise ValueError(f"{config.where} is not read: its activation is topk, and it has no top_k.")
            if by_length:
                weights.with_unit_components()
        said = source_in_file("llamascopium", place=place, place_out=place_out, l0=k, architecture=activation)
        selection = {"jumprelu": "above", "relu": "positive", "topk": "largest"}[activation]
        settings = {"n_nonzero_coefs": k} if activation == "topk" else {}
        if scaling == "token-wise":
            settings["scaling"] = "unit_norm"
        if place_out not in (None, place):
            if scaling == "token-wise":
                raise ValueError(
                    f"{config.where} is not read: a transcoder of rows scaled one by one is not known here."
                )
            return weights.transcoder(selection, said, **settings)
        return weights.autoencoder(selection, said, **settings)


def _candidates(files):
    return [files.chosen] if files.chosen else [name for name in _TENSORS if name in files]


def _norm_of(norms, site, tensors):
    """Return the mean length of the rows of a place."""
    if site is None and len(norms) == 1:
        site = next(iter(norms))
    norm = norms.get(site, math.nan)
    if not 0 < norm < math.inf:
        raise ValueError(f"{tensors.where} is not read: it is of scaled rows, and {_NORM}{site} is {norm}.")
    return norm
