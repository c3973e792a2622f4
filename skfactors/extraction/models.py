"""Models and their tokenizers: found, loaded, shared, and told apart by their content."""

import threading
from contextlib import contextmanager
from dataclasses import dataclass
from numbers import Integral
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError
from transformers import AutoConfig, AutoModel, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase
from transformers.utils import logging as transformers_logging

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


class ModelSlot:
    """
    Room for one loaded model, shared by an extractor and its clones.

    A grid search clones the extractor for every candidate and fold; sharing the slot loads the model once. It goes
    when the last of the clones goes. It is never pickled.
    """

    def __init__(self):
        self._lock = threading.Lock()
        self._key = None
        self._loaded = None

    def get(self, source: ModelSource) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
        """Return model and tokenizer, loading them if the slot holds others or if the files have changed."""
        key = (source, _fingerprint(source.name))
        with self._lock:
            if self._key != key:
                self._loaded, self._key = None, None
                self._loaded = load_model(source), load_tokenizer(source)
                self._key = key
            return self._loaded


def _fingerprint(name: str) -> tuple:
    folder = Path(name)
    if not folder.is_dir():
        return ()
    stats = [(path.name, path.stat()) for path in sorted(folder.iterdir())]
    return tuple((name, stat.st_mtime_ns, stat.st_size) for name, stat in stats)


def load_config(source: ModelSource):
    """
    Load a model's configuration: cheap, and enough to know its layers and width.

    Raises
    ------
    OSError
        If there is no such model or folder, or its configuration cannot be read.
    """
    folder = Path(source.name)
    if folder.is_dir() and not (folder / "config.json").is_file():
        raise OSError(f"{source.name!r} is no model folder: it holds no config.json.")
    if not folder.is_dir() and (folder.is_absolute() or len(folder.parts) > 2):
        raise OSError(f"There is no folder {source.name!r}, and no model on a hub is named like this.")
    with _named_errors(source, "configuration"):
        config = AutoConfig.from_pretrained(source.name, **source.options())
    return config.get_text_config()


def n_layers_of(config) -> int:
    """Return the number of layers of a model, or of an encoder-decoder's encoder."""
    return getattr(config, "encoder_layers", None) or config.num_hidden_layers


def longest_window(config, tokenizer: PreTrainedTokenizerBase) -> int:
    """Return how many tokens, special ones included, a model has positions for."""
    positions = getattr(config.get_text_config(), "max_position_embeddings", None) or tokenizer.model_max_length
    return min(positions, tokenizer.model_max_length)


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


def load_model(source: ModelSource) -> PreTrainedModel:
    """
    Load a model, or the encoder of an encoder-decoder, ready for inference.

    Raises
    ------
    OSError
        If weights are missing or damaged.
    """
    with _named_errors(source, "weights"), _no_loading_bar():
        model, info = AutoModel.from_pretrained(
            source.name, dtype=DTYPES[source.dtype], output_loading_info=True, **source.options()
        )
    # A head that the checkpoint lacks does not touch hidden states; any other missing weight would be random.
    missing = sorted(name for name in info["missing_keys"] if "pooler" not in name)
    if missing:
        raise OSError(
            f"The weights of {source.name!r} lack {len(missing)} of the model's tensors, {missing[0]!r} the first: "
            "the folder is incomplete or belongs to another architecture."
        )
    if model.config.is_encoder_decoder:
        model = model.get_encoder()
    model.config.use_cache = False
    return model.eval().requires_grad_(False).to(source.device)


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


def resolve_layers(layers, n_hidden_states: int, model: str) -> list[int]:
    """
    Turn `layers` into indices from 0.

    Parameters
    ----------
    layers : "all", int or sequence of int
    n_hidden_states : int
        How many the model has: its layers and the embeddings.
    model : str
        For the message.

    Raises
    ------
    TypeError, ValueError
        If a layer is no integer, out of range, or asked for twice; or if none is asked for.
    """
    if isinstance(layers, str):
        return list(range(n_hidden_states))
    asked = list(np.atleast_1d(np.asarray(layers, dtype=object)))
    for layer in asked:
        if not isinstance(layer, Integral) or isinstance(layer, bool):
            raise TypeError(f"layers={layers!r}: {layer!r} is no integer.")
        if not -n_hidden_states <= layer < n_hidden_states:
            raise ValueError(
                f"layers={layers!r}: {model!r} has no layer {layer}; its hidden states go from 0 (embeddings) "
                f"to {n_hidden_states - 1}."
            )
    resolved = [int(layer) % n_hidden_states for layer in asked]
    if not resolved or len(set(resolved)) < len(resolved):
        raise ValueError(f"layers={layers!r} must name at least one layer, and each once.")
    return resolved
