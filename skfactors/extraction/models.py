"""Models and their tokenizers: found, loaded, shared, and told apart by their content."""

from collections.abc import Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from numbers import Integral
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from safetensors import SafetensorError
from torch import nn
from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForCausalLM,
    AutoModelForMaskedLM,
    AutoModelForSeq2SeqLM,
    AutoTokenizer,
    PreTrainedTokenizerBase,
)
from transformers.utils import cached_file
from transformers.utils import logging as transformers_logging

from skfactors.devices import keep_to_one_thread_if_forked
from skfactors.extraction.facts import ModelFacts, try_out
from skfactors.extraction.identity import FileVersion, versions_in
from skfactors.extraction.sites import HIDDEN_STATES, Place, find_site, reading_part
from skfactors.extraction.turns import Turns

DTYPES = {
    "float64": torch.float64,
    "float32": torch.float32,
    "float16": torch.float16,
    "bfloat16": torch.bfloat16,
}


@dataclass(frozen=True)
class ModelSource:
    """What decides which model is loaded, and where to."""

    name: str
    revision: str | None
    device: str
    dtype: str
    trust_remote_code: bool

    def options(self) -> dict:
        """Return the keywords that every ``from_pretrained`` takes."""
        return {"revision": self.revision, "trust_remote_code": self.trust_remote_code}


class Headless(ValueError):
    """A model has no head that predicts tokens."""


class OpenModel(NamedTuple):
    """A model, ready to run, its tokenizer, and what a trial showed of it."""

    model: nn.Module
    tokenizer: PreTrainedTokenizerBase
    facts: ModelFacts
    files: dict[Path, FileVersion]


class LanguageModel(NamedTuple):
    """A model with its head, and its tokenizer."""

    model: nn.Module
    tokenizer: PreTrainedTokenizerBase
    files: dict[Path, FileVersion]


class ModelSlot:
    """
    Room for one loaded model, and for the same with its head, shared by an extractor and its clones.

    A grid search clones the extractor for every candidate and fold; sharing the slot loads the model once. It goes
    when the last of the clones goes. It is never pickled.
    """

    def __init__(self):
        self._turns = Turns()
        self._held = {}

    def get(self, source: ModelSource) -> OpenModel:
        """Return the model, loading it if the slot holds another or if the files have changed."""
        return self._get(open_model, source)

    def get_with_head(self, source: ModelSource) -> LanguageModel:
        """Return the model with its head, loading it likewise."""
        return self._get(open_language_model, source)

    def files(self, source: ModelSource) -> dict[Path, FileVersion]:
        """Return the files of the model, as it was loaded from them, with its head or without."""
        with self._turns:
            loaded = next(filter(None, (self._found(load, source) for load in self._held)), None)
        return (loaded or self.get(source)).files

    def _get(self, load, source: ModelSource):
        keep_to_one_thread_if_forked()
        with self._turns:
            if self._found(load, source) is None:
                # The one before goes first: there may not be room for both.
                self._held.pop(load, None)
                self._held[load] = source, load(source)
            return self._held[load][1]

    def _found(self, load, source: ModelSource):
        """Return what is held, if it is of this source and its files are as they were."""
        of, loaded = self._held.get(load, (None, None))
        return loaded if of == source and loaded.files == _files(source, otherwise=loaded.files) else None


def open_model(source: ModelSource) -> OpenModel:
    """
    Load a model and its tokenizer, and try them out.

    Raises
    ------
    OSError
        If they cannot be loaded, or their files change meanwhile.
    ValueError
        If the model is none that is supported.
    """
    model, tokenizer, files = _load_together(load_model, source)
    return OpenModel(model, tokenizer, try_out(model, tokenizer, source.name), files)


def open_language_model(source: ModelSource) -> LanguageModel:
    """
    Load a model with its head, and its tokenizer.

    Raises
    ------
    OSError
        If they cannot be loaded, or their files change meanwhile.
    ValueError
        If the model has no head that predicts tokens.
    """
    return LanguageModel(*_load_together(load_language_model, source))


def _load_together(load, source: ModelSource) -> tuple[nn.Module, PreTrainedTokenizerBase, dict[Path, FileVersion]]:
    """Load a model and its tokenizer from files that are of one version."""
    before = _files(source, otherwise=None)
    if before is None:
        # The commit that a branch stands for now, so that all files are of one.
        source = replace(source, revision=getattr(load_config(source), "_commit_hash", None) or source.revision)
    model, tokenizer = load(source), load_tokenizer(source)
    if before is None:
        files = versions_in(Path(cached_file(source.name, "config.json", revision=source.revision)).parent)
    elif before != (files := versions_in(source.name)):
        raise OSError(f"The files of the model {source.name!r} changed while it was loaded. Load it again.")
    return model, tokenizer, files


def _files(source: ModelSource, otherwise):
    return versions_in(source.name) if Path(source.name).is_dir() else otherwise


def load_config(source: ModelSource):
    """
    Load a model's configuration.

    Raises
    ------
    OSError
        If there is no such model or folder, or its configuration cannot be read.
    """
    folder = Path(source.name)
    if folder.is_dir() and not (folder / "config.json").is_file():
        raise OSError(f"{source.name!r} is not a model folder: it holds no config.json.")
    if not folder.is_dir() and (folder.is_absolute() or len(folder.parts) > 2):
        raise OSError(f"There is no folder {source.name!r}, and no model on a hub is named like this.")
    with _named_errors(source, "configuration"):
        return AutoConfig.from_pretrained(source.name, **source.options())


def load_tokenizer(source: ModelSource) -> PreTrainedTokenizerBase:
    """
    Load a model's tokenizer.

    Raises
    ------
    OSError
        If the model comes without one.
    """
    folder = Path(source.name)
    if folder.is_dir() and not any(path.suffix in {".json", ".txt", ".model"} for path in _tokenizer_files(folder)):
        raise OSError(
            f"{source.name!r} holds no tokenizer (no tokenizer.json, vocabulary or sentencepiece model). "
            "Save it beside the model: tokenizer.save_pretrained(folder)."
        )
    with _named_errors(source, "tokenizer"):
        tokenizer = AutoTokenizer.from_pretrained(source.name, **source.options())
    tokenizer.truncation_side = "right"
    return tokenizer


def _tokenizer_files(folder: Path):
    names = ("tokenizer.json", "vocab.json", "vocab.txt", "*.model", "*spm*", "*bpe*")
    return (path for name in names for path in folder.glob(name))


# Weights made in inference mode, which a caller may be in, could not be read by autograd later.
@torch.inference_mode(False)
def load_model(source: ModelSource) -> nn.Module:
    """
    Load the part of a model that reads texts, ready to run.

    It is the encoder of an encoder-decoder, the text half of a model of texts and images, or the whole.

    Raises
    ------
    OSError
        If weights are missing or damaged.
    """
    config = load_config(source)
    with _named_errors(source, "weights"), _no_loading_bar():
        model, info = AutoModel.from_pretrained(
            source.name, config=config, dtype=DTYPES[source.dtype], output_loading_info=True, **source.options()
        )
    part = _part_that_reads(model, info["missing_keys"])
    _check_loaded(source, model, part, info["missing_keys"])
    if not hasattr(part, "config"):
        part.config = model.config
    part.config.use_cache = False
    return part.eval().requires_grad_(False).to(source.device)


@torch.inference_mode(False)
def load_language_model(source: ModelSource) -> nn.Module:
    """
    Load a model with the head that it predicts tokens with, ready to run.

    Raises
    ------
    OSError
        If weights are damaged.
    Headless
        If it has no such head.
    """
    config = load_config(source)
    headless = Headless(
        f"The model {source.name!r} ({(config.architectures or [config.model_type])[0]}) has no head that predicts "
        "tokens, so it has no loss and generates nothing. Take a language model, such as demo_language_model()."
    )
    loader = _loader_with_head(config)
    if loader is None:
        raise headless
    with _named_errors(source, "weights"), _no_loading_bar():
        model, info = loader.from_pretrained(
            source.name, config=config, dtype=DTYPES[source.dtype], output_loading_info=True, **source.options()
        )
    missing = {name for name in info["missing_keys"] if "pooler" not in name}
    of_base = f"{model.base_model_prefix}."
    if any(not name.startswith(of_base) for name in missing):
        raise headless
    _check_loaded(source, model, model, missing)
    return model.eval().requires_grad_(False).to(source.device)


# What the names of architectures with a head that predicts tokens end in.
_HEADS = {
    "ForMaskedLM": AutoModelForMaskedLM,
    "ForPreTraining": AutoModelForMaskedLM,
    "ForCausalLM": AutoModelForCausalLM,
    "LMHeadModel": AutoModelForCausalLM,
}


def _loader_with_head(config):
    """Return what loads a model with its head; None where transformers has no model with one."""
    if config.is_encoder_decoder:
        return AutoModelForSeq2SeqLM
    for architecture in config.architectures or ():
        for ending, loader in _HEADS.items():
            if architecture.endswith(ending):
                return loader
    # Saved without it, which those do whose head is the embeddings again.
    loaders = (AutoModelForMaskedLM, AutoModelForCausalLM)
    return next((loader for loader in loaders if type(config) in loader._model_mapping), None)


def _part_that_reads(model: nn.Module, missing: set[str]) -> nn.Module:
    # Those who publish an encoder by itself may say that it is not an encoder-decoder.
    if model.config.is_encoder_decoder or any(name.startswith("decoder.") for name in missing):
        return model.get_encoder()
    return getattr(model, "text_model", model)


def _check_loaded(source: ModelSource, model: nn.Module, part: nn.Module, missing: set[str]) -> None:
    """Refuse a model with weights that the files lack, which are random, in the part that reads."""
    reading = {id(tensor) for tensor in _tensors(part).values()}
    tensors = _tensors(model)
    # A head that the checkpoint lacks does not touch hidden states.
    missing = sorted(name for name in missing if "pooler" not in name and id(tensors.get(name)) in reading)
    if missing:
        raise OSError(
            f"The weights of {source.name!r} lack {len(missing)} of the model's tensors, {missing[0]!r} the first: "
            "the folder is incomplete or belongs to another architecture."
        )


def _tensors(module: nn.Module) -> dict[str, torch.Tensor]:
    named = (*module.named_parameters(remove_duplicate=False), *module.named_buffers(remove_duplicate=False))
    return dict(named)


@contextmanager
def _no_loading_bar():
    """Load quietly: for models of some size the bar is gone before it is read."""
    shown = transformers_logging.is_progress_bar_enabled()
    transformers_logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            transformers_logging.enable_progress_bar()


@contextmanager
def _named_errors(source: ModelSource, what: str):
    try:
        yield
    except (OSError, ValueError, KeyError, TypeError, RuntimeError, SafetensorError) as error:
        reason = str(error).strip().split("\n")[0]
        where = "The folder" if Path(source.name).is_dir() else "No such folder here, and the hub's model"
        raise OSError(
            f"The {what} of the model {source.name!r} cannot be loaded. {where} gave: {type(error).__name__}: {reason}"
        ) from error


def resolve_layers(layers, there: Sequence[int], model: str, site: str = HIDDEN_STATES) -> list[int]:
    """
    Turn `layers` into indices from 0.

    Parameters
    ----------
    layers : "all", int or sequence of int
    there : sequence of int
        Those that the site has: of the hidden states the model's layers and its embeddings, of others its blocks.
    model, site : str
        For the message.

    Raises
    ------
    TypeError, ValueError
        If a layer is not an integer, is out of range, or asked for twice; or if none is asked for.
    """
    if isinstance(layers, str):
        return list(there)
    asked = list(np.atleast_1d(np.asarray(layers, dtype=object)))
    for layer in asked:
        if not isinstance(layer, Integral) or isinstance(layer, bool):
            raise TypeError(f"layers={layers!r}: {layer!r} is not an integer.")
        if not (-len(there) <= layer < 0 or layer in there):
            have = (
                f"its hidden states go from 0 (embeddings) to {there[-1]}"
                if site == HIDDEN_STATES
                else f"layers of {site!r} are blocks, counted from 0, here {_ranged(there)}"
            )
            raise ValueError(f"layers={layers!r}: {model!r} has no layer {layer}; {have}.")
    resolved = [int(layer if layer >= 0 else there[layer]) for layer in asked]
    if not resolved or len(set(resolved)) < len(resolved):
        raise ValueError(f"layers={layers!r} must name at least one layer, and each once.")
    return resolved


def resolve_places(site, layers, opened: OpenModel, model: str) -> list[Place]:
    """
    Turn `site` and `layers` into places of a model, by site, then by layer.

    Parameters
    ----------
    site : str or sequence of str
    layers : "all", int or sequence of int
        Counted in each site by itself.
    opened : OpenModel
    model : str
        For the message.

    Raises
    ------
    TypeError, ValueError
        If the model lacks a site or one has no such layer, or one is asked for twice; or if none is asked for.
    """
    sites = [site] if isinstance(site, str) else list(site)
    for name in sites:
        if not isinstance(name, str):
            raise TypeError(f"site={site!r}: {name!r} is not a str.")
    if not sites or len(set(sites)) < len(sites):
        raise ValueError(f"site={site!r} must name at least one site, and each once.")
    there = {name: layers_of(name, opened) for name in sites}
    return [Place(name, layer) for name in sites for layer in resolve_layers(layers, there[name], model, name)]


def layers_of(site: str, opened: OpenModel) -> list[int]:
    """
    List the layers that a site has in a model.

    Raises
    ------
    ValueError
        If the model does not have the site; the message names those that it has.
    """
    if site == HIDDEN_STATES:
        return list(range(len(opened.facts.widths)))
    return find_site(opened.model, site).layers(reading_part(opened.model))


def _ranged(numbers: Sequence[int]) -> str:
    in_a_row = list(numbers) == list(range(numbers[0], numbers[-1] + 1))
    return f"{numbers[0]} to {numbers[-1]}" if in_a_row else f"{numbers}"
