"""dictionary_learning: config.json and ae.pt."""

import io
import json
import re

import numpy as np

from skfactors.callers import warn_caller
from skfactors.dictionaries.autoencoders.sparse_autoencoder import SparseAutoencoder
from skfactors.dictionaries.formats.base import WritableFormat
from skfactors.dictionaries.formats.reading import POSITIVE, Tensors
from skfactors.dictionaries.formats.weights import WORDS, Weights
from skfactors.dictionaries.learned_from import source_in_file

_CONFIG, _TENSORS = "config.json", "ae.pt"
_CHECKPOINT = re.compile(r"(?:checkpoints/)?ae_(\d+)\.pt")
# What trainers of 0.1.0 and of the repository since say of a run.
_OF_TRAINING = {
    *(
        "auxk_alpha",
        "bandwidth",
        "decay_start",
        "device",
        "group_fractions",
        "group_sizes",
        "group_weights",
        "l1_penalty",
    ),
    *("layer", "lm_name", "lr", "resample_steps", "seed", "sparsity_function", "sparsity_penalty"),
    *("sparsity_warmup_steps", "steps", "submodule_name", "target_l0", "threshold_beta", "threshold_start_step"),
    *("top_k_aux", "trainer_class", "wandb_name", "warmup_steps", "initial_sparsity_penalty", "p_start", "p_end"),
    *("anneal_start", "anneal_end", "n_sparsity_updates", "sparsity_queue_length", "aux_weight", "use_april_update"),
}


class DictionaryLearning(WritableFormat):
    """
    Dictionaries of dictionary_learning.

    Options: ``normalize_decoder=False`` leaves an AutoEncoder's decoder as the file has it, where the tool's loader
    makes its columns unit; ``use_threshold=True`` codes an AutoEncoderTopK by its threshold, as the tool does on
    request.
    """

    options = frozenset({"normalize_decoder", "use_threshold"})

    def fits(self, files):
        """Say whether there is a configuration of a trainer and a file of tensors."""
        return (
            _CONFIG in files and "trainer" in files.json(_CONFIG) and any(name.endswith(".pt") for name in files.names)
        )

    def read(self, files, normalize_decoder=True, use_threshold=False):
        """Read a dictionary."""
        name = _tensor_file(files)
        config = files.json(_CONFIG)
        config.drop("buffer")
        trainer = config.part("trainer")
        config.finish()
        kind = trainer.take("dict_class", frozenset(_CLASSES))
        trainer.drop(*_OF_TRAINING, "k")
        content = files.content(name)
        # A run that goes on has not scaled its biases back to rows as they are.
        factor = _check_checkpoint(files, name, content) if "ae" in content else 1.0
        tensors = Tensors(f"{name!r} of {files.where!r}", content.get("ae", content), files.ignore)
        tensors.sizes = {"d": trainer.take("activation_dim", POSITIVE), "m": trainer.take("dict_size", POSITIVE)}
        trainer.finish()
        weights, selection, k = _CLASSES[kind](tensors)
        tensors.finish()
        stated = trainer.content.get("k") or trainer.content.get("target_l0")
        weights.bias, weights.intercept = weights.bias * factor, weights.intercept * factor
        if weights.threshold is not None:
            # One below zero stands for none, and still does.
            weights.threshold = weights.threshold * factor
        if k is not None and stated is not None and k != stated:
            raise ValueError(f"{files.where!r} is not read: k is {stated} in {_CONFIG} and {k} in {name}.")
        if kind in _SUBTRACTED:
            weights.of_subtracted(weights.intercept)
        if kind == "AutoEncoder" and normalize_decoder and not _is_unit(weights.components):
            weights.with_unit_components()
        if kind == "AutoEncoderTopK" and use_threshold:
            if weights.threshold is None:
                raise ValueError(f"{tensors.where} has no threshold to code by.")
            selection = "above"
        if (kind in _BATCHES or use_threshold) and (weights.threshold < 0).all():
            warn_caller(
                f"the threshold of {files.where!r} was not set, its run was too short: codes are all that is positive, "
                "as the tool has it.",
            )
        settings = {"n_nonzero_coefs": k} if selection == "largest" else {}
        settings |= {"activation": _BATCHES[kind]} if kind in _BATCHES else {}
        said = trainer.content
        return weights.autoencoder(
            selection,
            source_in_file(
                "dictionary_learning",
                model=said.get("lm_name"),
                place=said.get("submodule_name"),
                layer=said.get("layer"),
                l0=stated,
                architecture=kind,
            ),
            **settings,
        )

    def written(self, model):
        """Return the files of a dictionary."""
        import torch

        kind, tensors, more = _written(model)
        state = {name: torch.tensor(np.array(value, order="C")) for name, value in tensors.items()}
        said = getattr(model, "source_", {})
        trainer = {
            "dict_class": kind,
            "activation_dim": model.n_features_in_,
            "dict_size": len(model.components_),
            "lm_name": said.get("model"),
            "layer": said.get("layer"),
            "submodule_name": said.get("place"),
            **more,
        }
        buffer = io.BytesIO()
        torch.save(state, buffer)
        return {
            _TENSORS: buffer.getvalue(),
            _CONFIG: json.dumps({"trainer": trainer, "buffer": {}}, indent=2).encode(),
        }


def _tensor_file(files):
    """Find the file of tensors: the one that a run ends with, or the only one that was asked for."""
    if _TENSORS in files:
        return _TENSORS
    if files.chosen is not None:
        return files.chosen
    found = ", ".join(files.matching(_CHECKPOINT).values())
    raise FileNotFoundError(
        f"{files.where!r} holds no {_TENSORS}, which a run ends with"
        + (f", only checkpoints of one that has not ended: to read one, pass its path ({found})." if found else ".")
    )


def _check_checkpoint(files, name, content) -> float:
    """Return by what the biases of a run's checkpoint are to be multiplied."""
    unknown = set(content) - {"ae", "step", "optimizer", "config", "norm_factor"} - set(files.ignore)
    if unknown or not isinstance(content["ae"], dict):
        raise ValueError(
            f"{name!r} of {files.where!r} is not read: {', '.join(sorted(unknown)) or 'ae'} is not known here."
        )
    factor = content.get("norm_factor")
    return 1.0 if factor is None else float(factor)


def _autoencoder(tensors):
    encoder, decoder = tensors.take("encoder.weight", "m", "d"), tensors.take("decoder.weight", "d", "m")
    weights = Weights(encoder, tensors.take("encoder.bias", "m"), decoder.T, tensors.take("bias", "d"))
    return weights, "positive", None


def _new_autoencoder(tensors):
    encoder, decoder = tensors.take("encoder.weight", "m", "d"), tensors.take("decoder.weight", "d", "m")
    return (
        Weights(encoder, tensors.take("encoder.bias", "m"), decoder.T, tensors.take("decoder.bias", "d")),
        "positive",
        None,
    )


def _gated(tensors):
    encoder, decoder = tensors.take("encoder.weight", "m", "d"), tensors.take("decoder.weight", "d", "m")
    growth = np.exp(np.float64(tensors.take("r_mag", "m")))
    bias = np.float64(tensors.take("mag_bias", "m"))
    # Whether the gate is open is a threshold on the value, as both see the same product.
    threshold = bias - growth * tensors.take("gate_bias", "m")
    weights = Weights(encoder * growth[:, None], bias, decoder.T, tensors.take("decoder_bias", "d"), threshold)
    return weights, "above", None


def _topk(tensors):
    encoder, decoder = tensors.take("encoder.weight", "m", "d"), tensors.take("decoder.weight", "d", "m")
    weights = Weights(encoder, tensors.take("encoder.bias", "m"), decoder.T, tensors.take("b_dec", "d"))
    # Files of before 0.1.0 have none.
    if "threshold" in tensors:
        weights.threshold = np.broadcast_to(tensors.number("threshold"), weights.bias.shape)
    return weights, "largest", int(tensors.number("k"))


def _batch_topk(tensors):
    tensors.number("threshold")
    weights, _, k = _topk(tensors)
    return weights, "above", k


def _matryoshka(tensors):
    weights = Weights(
        tensors.take("W_enc", "d", "m").T,
        tensors.take("b_enc", "m"),
        tensors.take("W_dec", "m", "d"),
        tensors.take("b_dec", "d"),
        tensors.number("threshold"),
    )
    sizes = tensors.take("group_sizes", "n_groups")
    if sizes.sum() != len(weights.bias):
        raise ValueError(
            f"{tensors.where} is not read: its groups add up to {sizes.sum():g} latents, not {len(weights.bias)}."
        )
    return weights, "above", int(tensors.number("k"))


def _jump_relu(tensors):
    weights = Weights(
        tensors.take("W_enc", "d", "m").T,
        tensors.take("b_enc", "m"),
        tensors.take("W_dec", "m", "d"),
        tensors.take("b_dec", "d"),
        tensors.take("threshold", "m"),
    )
    return weights, "above", None


# From tensors to weights, which pre-activations are kept, and k.
_CLASSES = {
    "AutoEncoder": _autoencoder,
    "AutoEncoderNew": _new_autoencoder,
    "AutoEncoderTopK": _topk,
    "BatchTopKSAE": _batch_topk,
    "GatedAutoEncoder": _gated,
    "JumpReluAutoEncoder": _jump_relu,
    "MatryoshkaBatchTopKSAE": _matryoshka,
}
_SUBTRACTED = {"AutoEncoder", "GatedAutoEncoder", "AutoEncoderTopK", "BatchTopKSAE", "MatryoshkaBatchTopKSAE"}
_BATCHES = {"BatchTopKSAE": "batch_topk", "MatryoshkaBatchTopKSAE": "batch_topk"}


def _is_unit(components):
    return np.allclose(np.linalg.norm(components, axis=1), 1)


def _written(model):
    """Return the class, the tensors and what else is said of a model."""
    if not isinstance(model, SparseAutoencoder) or hasattr(model, "predict"):
        raise ValueError(f"dictionary_learning has no dictionaries such as this {type(model).__name__}.")
    if model.scaling_ != "none":
        raise ValueError(f"dictionary_learning has no scaling of rows ({model.scaling_}).")
    encoder, bias, components, intercept = (
        model.encoder_,
        model.encoder_intercept_,
        model.components_,
        model.intercept_,
    )
    if model.selection_ == "positive":
        named = {
            "encoder.weight": encoder,
            "encoder.bias": bias,
            "decoder.weight": components.T,
            "decoder.bias": intercept,
        }
        return "AutoEncoderNew", named, {}
    if model.selection_ == "above":
        named = {
            "W_enc": encoder.T,
            "b_enc": bias,
            "W_dec": components,
            "b_dec": intercept,
            "threshold": model.threshold_,
        }
        return "JumpReluAutoEncoder", named, {}
    if model.selection_ == "largest":
        # It subtracts the intercept from rows before it encodes them.
        shifted = (bias + np.float64(encoder) @ intercept).astype(np.float32)
        k = int(model.n_nonzero_coefs)
        named = {
            "b_dec": intercept,
            "k": np.array(k, np.int32),
            "threshold": np.array(-1.0, np.float32),
            "decoder.weight": components.T,
            "encoder.weight": encoder,
            "encoder.bias": shifted,
        }
        return "AutoEncoderTopK", named, {"k": k}
    raise ValueError(f"dictionary_learning has no autoencoder that keeps {WORDS[model.selection_]}.")
