"""The only place that loads and runs a model."""

import logging
import threading
from collections.abc import Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError
from transformers import AutoConfig, AutoModel, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase
from transformers.utils import logging as transformers_logging

logger = logging.getLogger(__name__)

DTYPES = {
    "float64": torch.float64,
    "float32": torch.float32,
    "float16": torch.float16,
    "bfloat16": torch.bfloat16,
}

_OUT_OF_MEMORY = "out of memory"


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


class HiddenStateRunner:
    """
    Run windows through a model, a batch at a time.

    Parameters
    ----------
    model : transformers.PreTrainedModel
    batch_size : int
        Windows in a forward pass. Halved for good whenever the accelerator runs out of memory.
    """

    def __init__(self, model: PreTrainedModel, batch_size: int):
        self.model = model
        self.batch_size = batch_size

    def run(self, windows: Sequence[np.ndarray], layers: Sequence[int]):
        """
        Yield hidden states for windows of token ids, longest windows first.

        Windows of like length share a batch, so little is spent on padding.

        Parameters
        ----------
        windows : sequence of ndarray of int64
        layers : sequence of int
            Indices into the model's hidden states.

        Yields
        ------
        indices : list of int
            Which windows this batch holds.
        states : list of n_layers ndarray of shape (len(indices), longest, hidden_size)
            Rows past a window's own length are padding.
        """

        def states_of(indices):
            hidden_states = self._forward([windows[index] for index in indices])
            return [_to_numpy(hidden_states[layer]) for layer in layers]

        return self._in_batches(windows, states_of)

    def states_at(self, windows: Sequence[np.ndarray], reads: np.ndarray) -> np.ndarray:
        """
        Return hidden states of single tokens.

        Parameters
        ----------
        windows : sequence of ndarray of int64
        reads : ndarray of int of shape (n_reads, 3)
            Which window, which layer, and which of the window's tokens. Windows that no read names are not run.

        Returns
        -------
        ndarray of shape (n_reads, hidden_size)
        """
        asked, reads_window = np.unique(reads[:, 0], return_inverse=True)
        asked_windows = [windows[number] for number in asked]

        def states_of(indices):
            row_of = np.full(len(asked), -1)
            row_of[indices] = np.arange(len(indices))
            numbers = np.flatnonzero(row_of[reads_window] >= 0)
            rows, layers, tokens = row_of[reads_window[numbers]], reads[numbers, 1], reads[numbers, 2]
            hidden_states = self._forward([asked_windows[index] for index in indices])
            states = np.empty((len(numbers), hidden_states[0].shape[-1]), self._numpy_dtype())
            for layer in np.unique(layers):
                of_layer = layers == layer
                states[of_layer] = _to_numpy(hidden_states[layer][rows[of_layer], tokens[of_layer]])
            return numbers, states

        states = np.empty((len(reads), self.model.config.hidden_size), self._numpy_dtype())
        for _, (numbers, found) in self._in_batches(asked_windows, states_of):
            states[numbers] = found
        return states

    def gradients_times_embeddings(
        self, windows: Sequence[np.ndarray], reads: np.ndarray, directions: np.ndarray, baseline_id: int | None
    ) -> list[np.ndarray]:
        """
        Return how a hidden state's product with a direction changes, to first order, with each token's embedding.

        Parameters
        ----------
        windows : sequence of ndarray of int64
        reads : ndarray of int of shape (n_windows, 2)
            For each window a layer and the token whose hidden state there is meant.
        directions : ndarray of shape (n_windows, hidden_size)
        baseline_id : int or None
            The token whose embedding is where the change is counted from; None counts from zero.

        Returns
        -------
        list of ndarray of shape (n_tokens,)
            For each window and token: the gradient with respect to its embedding, times embedding less baseline.
        """
        embed = self.model.get_input_embeddings()

        def products_of(indices):
            input_ids, attention_mask = self._padded([windows[index] for index in indices])
            with torch.no_grad():
                embeddings = embed(input_ids)
                baseline = 0 if baseline_id is None else embed(input_ids.new_tensor(baseline_id))
            embeddings.requires_grad_()
            hidden_states = self._hidden_states(inputs_embeds=embeddings, attention_mask=attention_mask)
            along = torch.as_tensor(directions[indices], dtype=embeddings.dtype, device=embeddings.device)
            read = [hidden_states[layer][row, token] for row, (layer, token) in enumerate(reads[indices].tolist())]
            (gradients,) = torch.autograd.grad((torch.stack(read) * along).sum(), embeddings)
            return _to_numpy((gradients * (embeddings.detach() - baseline)).sum(-1))

        products = [None] * len(windows)
        for indices, batch in self._in_batches(windows, products_of):
            for index, row in zip(indices, batch, strict=True):
                products[index] = row[: len(windows[index])]
        return products

    def _in_batches(self, windows, result_of):
        remaining = sorted(range(len(windows)), key=lambda index: -len(windows[index]))
        while remaining:
            indices = remaining[: self.batch_size]
            try:
                result = result_of(indices)
            except (torch.OutOfMemoryError, RuntimeError) as error:
                if not self._halve(error):
                    raise
                continue
            yield indices, result
            remaining = remaining[len(indices) :]

    def _halve(self, error: Exception) -> bool:
        if _OUT_OF_MEMORY not in str(error).lower() or self.batch_size == 1:
            return False
        self.batch_size //= 2
        logger.warning("%s ran out of memory; going on with batch_size=%d", self.model.device, self.batch_size)
        if self.model.device.type == "cuda":
            torch.cuda.empty_cache()
        return True

    @torch.inference_mode()
    def _forward(self, windows: list[np.ndarray]) -> tuple[torch.Tensor, ...]:
        input_ids, attention_mask = self._padded(windows)
        return self._hidden_states(input_ids=input_ids, attention_mask=attention_mask)

    def _padded(self, windows: list[np.ndarray]) -> tuple[torch.Tensor, torch.Tensor]:
        return tuple(torch.from_numpy(array).to(self.model.device) for array in pad(windows))

    def _hidden_states(self, **inputs) -> tuple[torch.Tensor, ...]:
        return self.model(**inputs, output_hidden_states=True).hidden_states

    def _numpy_dtype(self):
        return np.float64 if self.model.dtype == torch.float64 else np.float32


def _to_numpy(states: torch.Tensor) -> np.ndarray:
    return states.to("cpu", torch.promote_types(states.dtype, torch.float32)).numpy()


def pad(windows: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """
    Pad windows of token ids on the right, where no model shifts the positions of real tokens.

    Which side the tokenizer would pad, and whether it has a padding token, does not matter: padding is masked, and
    its id, 0, is one that every model has.

    Returns
    -------
    input_ids, attention_mask : ndarray of int64 of shape (n_windows, longest)
    """
    input_ids = np.zeros((len(windows), max(map(len, windows))), dtype=np.int64)
    attention_mask = np.zeros_like(input_ids)
    for row, window in enumerate(windows):
        input_ids[row, : len(window)] = window
        attention_mask[row, : len(window)] = 1
    return input_ids, attention_mask
