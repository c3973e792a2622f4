"""SAELens, from version 6 and before: cfg.json and sae_weights.safetensors."""

import json
import re

import numpy as np
from safetensors.numpy import save

from skfactors.callers import warn_caller
from skfactors.dictionaries.autoencoders.sparse_autoencoder import SparseAutoencoder
from skfactors.dictionaries.formats.base import WritableFormat
from skfactors.dictionaries.formats.reading import POSITIVE, Fields, Files
from skfactors.dictionaries.formats.weights import WORDS, Weights, parts_of
from skfactors.dictionaries.learned_from import source_in_file
from skfactors.dictionaries.pretrained import PretrainedDictionary

CONFIG, TENSORS = "cfg.json", "sae_weights.safetensors"
_SCALER = "activation_scaler.json"
# The version whose files the writer's are like, and that opens them.
_VERSION = "6.54.12"
_SCALINGS = {
    "none": "none",
    "constant_norm_rescale": "unit_norm",
    "layer_norm": "layer_norm",
    # These mean something to training only; the files that it ends with have them folded in.
    "expected_average_only_in": "none",
    "covariance_whitening": "none",
}
# What a run that goes on needs: its checkpoints say it, and the dictionaries that it ends with do not.
_OF_TRAINING = {
    *(
        "aux_loss_coefficient",
        "decoder_init_norm",
        "jumprelu_bandwidth",
        "jumprelu_init_threshold",
        "jumprelu_ste_to_input",
    ),
    *("jumprelu_sparsity_loss_mode", "jumprelu_tanh_scale", "l0_coefficient", "l0_warm_up_steps", "l1_coefficient"),
    *("l1_warm_up_steps", "lp_norm", "matryoshka_widths", "pre_act_loss_coefficient", "target_l0", "topk_threshold_lr"),
    *("use_matryoshka_aux_loss", "use_sparse_activations"),
}
# What files from before version 6 say of the run.
_BEFORE_6 = {
    *("activation_fn", "context_size", "d_head", "dataset_path", "dataset_trust_remote_code", "device", "dtype"),
    *("finetuning_scaling_factor", "from_pretrained_path", "hook_head_index", "hook_layer", "hook_name", "hook_point"),
    *("hook_point_head_index", "hook_point_layer", "model_from_pretrained_kwargs", "model_name", "neuronpedia_id"),
    *("prepend_bos", "sae_lens_training_version", "sae_lens_version", "seqpos_slice", "is_dataset_tokenized"),
}
_SELECTIONS = {
    "standard": "positive",
    "gated": "above",
    "jumprelu": "above",
    "topk": "largest",
    "abstopk": "largest_magnitudes",
    "batchtopk": "above",
    "matryoshka_batchtopk": "above",
}
_BATCHES = {"batchtopk", "matryoshka_batchtopk"}
_ACTIVATIONS = {"gated": "gated", "batchtopk": "batch_topk", "matryoshka_batchtopk": "batch_topk"}
_TRANSCODERS = {
    "transcoder": "positive",
    "skip_transcoder": "positive",
    "jumprelu_transcoder": "above",
    "jumprelu_skip_transcoder": "above",
}
_ARCHITECTURES = {*_SELECTIONS, *_TRANSCODERS, "matching_pursuit", "temporal"}


class SAELens(WritableFormat):
    """
    Dictionaries of SAELens.

    Options: ``batch``, of a BatchTopK or Matryoshka that was saved before its run had ended: whether codes are the
    largest of all rows together, as in training, or those above the threshold that training has kept, as in the file
    that the run ends with. By default the latter for checkpoints of a trainer, with activation_scaler.json, else the
    former.
    """

    options = frozenset({"batch"})

    def fits(self, files):
        """Say whether both files are there."""
        return CONFIG in files and TENSORS in files

    def read(self, files, batch=None):
        """Read a dictionary."""
        config, tensors = files.json(CONFIG), files.tensors(TENSORS)
        metadata = config.take("metadata", dict, {})
        version = str(metadata.get("sae_lens_version") or config.take("sae_lens_version", str, "0"))
        number = re.match(r"\d+", version)
        if number is None:
            raise ValueError(f"{config.where} is not read: its sae_lens_version is {version!r}.")
        if int(number[0]) < 6:
            _bring_up_to_date(config)
        config.drop("dtype", "device", "reshape_activations")
        architecture = config.take("architecture", frozenset(_ARCHITECTURES))
        tensors.sizes = {"d": config.take("d_in", POSITIVE), "m": config.take("d_sae", POSITIVE)}
        if architecture not in _BATCHES and batch is not None:
            raise TypeError(
                f"{config.where} is no BatchTopK that was saved before its run had ended: it takes no batch=."
            )
        if architecture in _BATCHES:
            batch = _SCALER not in files if batch is None else batch
        model = _READERS.get(architecture, _read_autoencoder)(files, config, tensors, architecture)
        if batch:
            warn_caller(
                f"{files.where!r} was saved before its run had ended: codes are the largest of all rows that are coded "
                "together, as in training. With batch=False they are those above its threshold, row by row."
            )
            model = _of_batches(model, config.content["k"])
        config.finish()
        tensors.finish()
        model.source_ = source_in_file(
            "saelens",
            model=metadata.get("model_name") or config.content.get("model_name"),
            place=metadata.get("hook_name") or config.content.get("hook_name") or config.content.get("hook_point"),
            place_out=metadata.get("hook_name_out"),
            l0=_stated_l0(config, metadata),
            architecture=metadata.get("training_architecture") or architecture,
        )
        return model

    def written(self, model):
        """Return the files of a dictionary."""
        content, tensors = _written(model)
        content |= {
            "d_in": model.n_features_in_,
            "d_sae": len(model.components_),
            "dtype": "float32",
            "device": "cpu",
            "reshape_activations": "none",
            "metadata": {
                "sae_lens_version": _VERSION,
                "model_name": getattr(model, "source_", {}).get("model"),
                "hook_name": getattr(model, "source_", {}).get("place"),
            },
        }
        tensors = {name: np.ascontiguousarray(tensor, np.float32) for name, tensor in tensors.items()}
        return {TENSORS: save(tensors), CONFIG: json.dumps(content, indent=2).encode()}


def _bring_up_to_date(config: Fields) -> None:
    """Turn a configuration from before version 6 into one of today's."""
    said = config.content
    activation = said.get("activation_fn_str") or said.get("activation_fn") or "relu"
    if activation not in ("relu", "topk"):
        raise ValueError(
            f"{config.where} is not read: its activation function is {activation!r}; known are relu, topk."
        )
    changes = {"architecture": said.get("architecture") or "standard"}
    if activation == "topk":
        settings = said.get("activation_fn_kwargs") or {}
        if changes["architecture"] != "standard" or set(settings) != {"k"}:
            raise ValueError(
                f"{config.where} is not read: its activation function is topk, with the architecture "
                f"{changes['architecture']!r} and {settings}; known is 'standard' with k alone."
            )
        changes |= {"architecture": "topk", "k": settings["k"]}
    if isinstance(said.get("normalize_activations"), bool):
        changes["normalize_activations"] = "expected_average_only_in" if said["normalize_activations"] else "none"
    config.change(**changes)
    config.drop("activation_fn_str", "activation_fn_kwargs", *_BEFORE_6)


def _read_autoencoder(files, config, tensors, architecture):
    """Read what keeps pre-activations by a rule."""
    weights = _encoder_of(config, tensors, architecture)
    subtracted = config.take("apply_b_dec_to_input", bool, True)
    settings = {"scaling": _scaling(config)}
    if architecture in ("topk", "abstopk"):
        settings["n_nonzero_coefs"] = config.take("k", POSITIVE)
    scale, whitening = _scaling_of_run(files, config, architecture)
    config.drop(*_OF_TRAINING, "k")
    by_length = config.take("rescale_acts_by_decoder_norm", bool, False)
    if scale is not None:
        weights.of_scaled_rows(scale)
        if architecture in _BATCHES and by_length:
            weights.threshold = weights.threshold / scale
    if by_length:
        weights.with_unit_components()
    if whitening is not None:
        _unwhiten(weights, *whitening, subtracted)
    if subtracted:
        weights.of_subtracted(weights.intercept)
    if architecture in _ACTIVATIONS:
        settings["activation"] = _ACTIVATIONS[architecture]
    return weights.autoencoder(_SELECTIONS[architecture], {}, **settings)


def _of_batches(model, k):
    """Make a model that keeps the largest codes of all rows together of one that keeps those above a threshold."""
    weights = {"encoder": model.encoder_, "encoder_intercept": model.encoder_intercept_}
    settings = {"n_nonzero_coefs": k, "scaling": model.scaling_}
    return PretrainedDictionary.from_arrays(
        "largest_of_batch", model.components_, model.intercept_, weights, settings, {}
    )


def _encoder_of(config, tensors, architecture):
    components, encoder = tensors.take("W_dec", "m", "d"), tensors.take("W_enc", "d", "m").T
    # Before version 6 there was a scale for each latent, mostly of ones, by which the decoder's codes were finetuned.
    for name in ("scaling_factor", "finetuning_scaling_factor"):
        if name in tensors:
            components = components * tensors.take(name, "m")[:, None]
    intercept = tensors.take("b_dec", "d")
    if architecture == "gated":
        # Whether the gate is open is a threshold on the value, as both see the same product.
        growth = np.exp(np.float64(tensors.take("r_mag", "m")))
        bias = np.float64(tensors.take("b_mag", "m"))
        threshold = bias - growth * tensors.take("b_gate", "m")
        return Weights(encoder * growth[:, None], bias, components, intercept, threshold)
    threshold = None
    if architecture == "jumprelu":
        logarithmic = "log_threshold" in tensors
        threshold = tensors.take("log_threshold" if logarithmic else "threshold", "m")
        threshold = np.exp(np.float64(threshold)) if logarithmic else threshold
    elif architecture in _BATCHES:
        threshold = tensors.number("topk_threshold")
    return Weights(encoder, tensors.take("b_enc", "m"), components, intercept, threshold)


def _read_transcoder(files, config, tensors, architecture):
    """Read what predicts another place."""
    tensors.sizes["d_out"] = config.take("d_out", POSITIVE)
    if config.take("apply_b_dec_to_input", bool, False):
        raise ValueError(f"{config.where} is not read: a transcoder with apply_b_dec_to_input is not known here.")
    weights = Weights(
        tensors.take("W_enc", "d", "m").T,
        tensors.take("b_enc", "m"),
        tensors.take("W_dec", "m", "d_out"),
        tensors.take("b_dec", "d_out"),
        tensors.take("threshold", "m") if _TRANSCODERS[architecture] == "above" else None,
    )
    skip = tensors.take("W_skip", "d_out", "d") if "skip" in architecture else None
    return weights.transcoder(_TRANSCODERS[architecture], {}, skip=skip, scaling=_scaling(config), undo_scaling=False)


def _read_matching_pursuit(files, config, tensors, architecture):
    """Read a matching pursuit."""
    components, shift = tensors.take("W_dec", "m", "d"), tensors.take("b_dec", "d")
    subtracted = config.take("apply_b_dec_to_input", bool, True)
    if _scaling_of_run(files, config, architecture) != (None, None):
        raise ValueError(
            f"{files.where!r} is not read: it is the checkpoint of a run on scaled rows, which no matching pursuit of "
            "rows as they are equals. Let the run end, and read what it saves."
        )
    config.drop(*_OF_TRAINING)
    settings = {
        "n_steps": config.take("max_iterations", POSITIVE, tensors.sizes["d"]),
        "residual": config.take("residual_threshold", float, 0.01),
        "stop_on_same_factors": config.take("stop_on_duplicate_support", bool, True),
        "rectified": True,
        "scaling": _scaling(config),
    }
    intercept = shift if subtracted else np.zeros_like(shift)
    weights = {"shift": shift} if subtracted else {}
    return PretrainedDictionary.from_arrays("matching_pursuit", components, intercept, weights, settings, {})


def _read_temporal(files, config, tensors, architecture):
    """Read a temporal autoencoder."""
    subtracted, tied = config.take("apply_b_dec_to_input", bool, True), config.take("tied_weights", bool, True)
    components, shift = tensors.take("W_dec", "m", "d"), tensors.take("b_dec", "d")
    n_layers = config.take("n_attn_layers", POSITIVE)
    tensors.sizes["key"] = tensors.sizes["m"] // config.take("bottleneck_factor", POSITIVE)
    weights = {
        f"attn_layers.{layer}.{name}.{part}": tensors.take(f"attn_layers.{layer}.{name}.{part}", *shape)
        for layer in range(n_layers)
        for name, size in (("k_ctx", "key"), ("q_target", "key"), ("v_ctx", "m"), ("c_proj", "m"))
        for part, shape in (("weight", (size, "m")), ("bias", (size,)))
    }
    if subtracted:
        weights["shift"] = shift
    if not tied:
        weights["encoder"] = tensors.take("W_enc", "d", "m").T
    kind = config.take("sae_diff_type", frozenset({"topk", "relu"}))
    most = config.take("kval_topk", POSITIVE, None)
    factor = config.take("activation_normalization_factor", float, 1.0)
    scalar = config.content.get("normalize_activations") == "constant_scalar_rescale"
    settings = {
        "n_layers": n_layers,
        "n_heads": config.take("n_heads", POSITIVE),
        "n_nonzero_coefs": most if kind == "topk" else None,
        "factor": factor if scalar else 1.0,
        "scaling": "none" if scalar else _scaling(config),
    }
    if scalar:
        config.drop("normalize_activations")
    intercept = shift if subtracted or not tied else np.zeros_like(shift)
    return PretrainedDictionary.from_arrays("temporal", components, intercept, weights, settings, {})


_READERS = {
    **dict.fromkeys(_TRANSCODERS, _read_transcoder),
    "matching_pursuit": _read_matching_pursuit,
    "temporal": _read_temporal,
}


def _scaling(config) -> str:
    return _SCALINGS[config.take("normalize_activations", frozenset(_SCALINGS), "none")]


def _scaling_of_run(files: Files, config: Fields, architecture: str):
    """Return by what a run has scaled rows, and how it whitened them (mean, matrix, inverse matrix), or None twice."""
    normalization = config.content.get("normalize_activations")
    if normalization not in ("expected_average_only_in", "covariance_whitening"):
        return None, None
    if not (_OF_TRAINING & set(config.content) or architecture in _BATCHES):
        warn_caller(
            f"{files.where!r} says that its run scaled rows ({normalization}), and not by what: it is taken for folded "
            "in, as SAELens does. skfactors.dictionaries.check_l0 tells whether that is so."
        )
        return None, None
    if _SCALER not in files:
        raise ValueError(
            f"{files.where!r} is not read: it is the checkpoint of a run on rows that were scaled ({normalization}), "
            f"and {_SCALER}, which says how, is not beside it."
        )
    scaler = files.json(_SCALER)
    scale = scaler.take("scaling_factor", float, None)
    whitened = scaler.take("has_whitening", bool, False)
    scaler.finish()
    if not whitened:
        return scale, None
    tensors = files.tensors("activation_whitening.safetensors")
    tensors.sizes = {"d": config.content["d_in"]}
    shapes = {"mean": ("d",), "matrix": ("d", "d"), "inverse_matrix": ("d", "d")}
    found = [np.float64(tensors.take(name, *shape)) for name, shape in shapes.items()]
    tensors.finish()
    return scale, found


def _unwhiten(weights, mean, matrix, inverse, subtracted):
    """Make weights that were learned on ``(x - mean) @ matrix`` fit rows as they are."""
    weights.encoder = weights.encoder @ matrix.T
    if not subtracted:
        weights.of_subtracted(mean)
    weights.components, weights.intercept = weights.components @ inverse, weights.intercept @ inverse + mean


def _stated_l0(config, metadata):
    training = metadata.get("training_architecture_details") or {}
    stated = [config.content.get("k"), config.content.get("kval_topk"), training.get("k"), training.get("target_l0")]
    return next((number for number in stated if number is not None), None)


def _written(model):
    """Return what a configuration says of a model beside its sizes, and its tensors."""
    scaling = {ours: theirs for theirs, ours in reversed(_SCALINGS.items())}
    common = {"W_dec": model.components_, "b_dec": model.intercept_}
    weights, settings, predicts = parts_of(model)
    if isinstance(model, SparseAutoencoder) and not predicts:
        architectures = {of: name for name, of in reversed(_SELECTIONS.items()) if name not in ("gated", "batchtopk")}
        if model.selection_ not in architectures:
            raise ValueError(f"SAELens has no autoencoder that keeps {WORDS[model.selection_]}.")
        content = {
            "architecture": {"above": "jumprelu"}.get(model.selection_, architectures[model.selection_]),
            "apply_b_dec_to_input": False,
            "normalize_activations": scaling[model.scaling_],
        }
        if model.selection_.startswith("largest"):
            content |= {"k": int(model.n_nonzero_coefs), "rescale_acts_by_decoder_norm": False}
        tensors = common | {"W_enc": model.encoder_.T, "b_enc": model.encoder_intercept_}
        return content, tensors | ({"threshold": model.threshold_} if model.selection_ == "above" else {})
    if getattr(model, "architecture", None) == "matching_pursuit" and model.settings["rectified"]:
        settings = model.settings
        content = {
            "architecture": "matching_pursuit",
            "apply_b_dec_to_input": "shift" in model.weights_,
            "normalize_activations": scaling[settings.get("scaling", "none")],
            "max_iterations": settings["n_steps"],
            "residual_threshold": settings["residual"],
            "stop_on_duplicate_support": settings["stop_on_same_factors"],
        }
        return content, common
    kinds = {of: name for name, of in reversed(_TRANSCODERS.items())}
    if weights and predicts and settings["selection"] in kinds and not settings.get("any_sign"):
        skip = weights.get("skip")
        if settings.get("scaling", "none") != "none" and settings.get("undo_scaling", True):
            raise ValueError("SAELens has no transcoder that takes the scale of rows back.")
        names = {("positive", False): "transcoder", ("positive", True): "skip_transcoder"}
        names |= {("above", False): "jumprelu_transcoder", ("above", True): "jumprelu_skip_transcoder"}
        content = {
            "architecture": names[settings["selection"], skip is not None],
            "apply_b_dec_to_input": False,
            "normalize_activations": scaling[settings.get("scaling", "none")],
            "d_out": model.components_.shape[1],
        }
        tensors = common | {"W_enc": weights["encoder"].T, "b_enc": weights["encoder_intercept"]}
        tensors |= {} if skip is None else {"W_skip": skip}
        return content, tensors | ({"threshold": weights["threshold"]} if "threshold" in weights else {})
    raise ValueError(f"SAELens has no dictionaries such as this {type(model).__name__}.")
