"""The only place that runs a model."""

import logging
from collections.abc import Sequence
from contextlib import nullcontext

import numpy as np
import torch
from torch import nn

from skfactors.devices import keep_to_one_thread_if_forked
from skfactors.extraction.hooks import reading
from skfactors.extraction.sites import HIDDEN_STATES, Place

logger = logging.getLogger(__name__)

_OUT_OF_MEMORY = "out of memory"


def run_model(model: nn.Module, facts, places: Sequence[Place] | None = None, **inputs) -> tuple[torch.Tensor, ...]:
    """
    Run a model once.

    Parameters
    ----------
    model : torch.nn.Module
    facts : ModelFacts
    places : sequence of Place, default=None
        What is read. None reads the hidden states of all layers.
    **inputs
        `input_ids` or `inputs_embeds`, and `attention_mask`.

    Returns
    -------
    tuple of tensor of shape (n_windows, longest, width)
        For each place, or for each layer, the embeddings first. Whether autograd follows is as the caller has it.

    Raises
    ------
    ValueError
        If nothing flows at a place, or other than a vector for each token.
    """
    within = [place for place in places or () if place.site != HIDDEN_STATES]
    all_within = places is not None and len(within) == len(places)
    keep_to_one_thread_if_forked()
    with facts.turns, _in_its_own_precision(model):
        facts.as_loaded.put_back()
        with reading(model, within) as read:
            output = model(**inputs, output_hidden_states=not all_within)
    layers = () if all_within else _layers(model, facts, output.hidden_states, inputs)
    if places is None:
        return layers
    shape = next(iter(inputs.values())).shape[:2]
    for place in within:
        found = tuple(read[place].shape) if place in read else None
        if found is None or len(found) != 3 or found[0] != shape[0] or found[1] < shape[1]:
            raise ValueError(
                f"{tuple(place)} of {type(model).__name__} cannot be read: for {shape[0]} texts of {shape[1]} tokens, "
                f"{f'a tensor of shape {found}' if found else 'nothing'} flows there, and not a vector for each token."
            )
    return tuple(layers[place.layer] if place.site == HIDDEN_STATES else read[place] for place in places)


def _layers(model: nn.Module, facts, states: tuple, inputs: dict) -> tuple[torch.Tensor, ...]:
    if facts.taken is None:
        return states
    embeddings = inputs.get("inputs_embeds")
    if embeddings is None:
        embeddings = model.get_input_embeddings()(inputs["input_ids"])
    named = (embeddings, *states)
    return tuple(named[number] for number in facts.taken)


def _in_its_own_precision(model: nn.Module):
    """Set aside the lower precision that a caller may have asked of torch: rows are what `dtype` says."""
    kind = next(model.parameters()).device.type
    return torch.autocast(kind, enabled=False) if torch.amp.is_autocast_available(kind) else nullcontext()


class HiddenStateRunner:
    """
    Run windows through a model, a batch at a time.

    Parameters
    ----------
    model : torch.nn.Module
    facts : ModelFacts
        Of this model.
    places : sequence of Place
        What is read of it.
    batch_size : int
        Windows in a forward pass. Halved for good whenever the accelerator runs out of memory.

    Attributes
    ----------
    widths : list of int
        Of each place.
    """

    def __init__(self, model: nn.Module, facts, places: Sequence[Place], batch_size: int):
        self.model = model
        self.facts = facts
        self.places = places
        self.widths = facts.widths_at(places)
        self.batch_size = batch_size

    def run(self, windows: Sequence[np.ndarray]):
        """
        Yield what flows at the places for windows of token ids, longest windows first.

        Windows of like length share a batch, so little is spent on padding.

        Parameters
        ----------
        windows : sequence of ndarray of int64

        Yields
        ------
        indices : list of int
            Which windows this batch holds.
        states : list of n_places ndarray of shape (len(indices), longest, width)
            Rows past a window's own length are padding.
        """

        def states_of(indices):
            return [_to_numpy(states) for states in self.forward([windows[index] for index in indices])]

        return self._in_batches(windows, states_of)

    def states_at(self, windows: Sequence[np.ndarray], reads: np.ndarray) -> np.ndarray:
        """
        Return what flows at single tokens.

        Parameters
        ----------
        windows : sequence of ndarray of int64
        reads : ndarray of int of shape (n_reads, 3)
            Which window, which place, counted from 0, and which of the window's tokens. Windows that no read names are
            not run.

        Returns
        -------
        ndarray of shape (n_reads, width)

        Raises
        ------
        ValueError
            If places of different widths are read.
        """
        width = self.facts.width_of([self.places[number] for number in np.unique(reads[:, 1])])
        asked, reads_window = np.unique(reads[:, 0], return_inverse=True)
        asked_windows = [windows[number] for number in asked]

        def states_of(indices):
            row_of = np.full(len(asked), -1)
            row_of[indices] = np.arange(len(indices))
            numbers = np.flatnonzero(row_of[reads_window] >= 0)
            rows, places, tokens = row_of[reads_window[numbers]], reads[numbers, 1], reads[numbers, 2]
            flowing = self.forward([asked_windows[index] for index in indices])
            states = np.empty((len(numbers), width), self.dtype)
            for place in np.unique(places):
                at_place = places == place
                states[at_place] = _to_numpy(flowing[place][rows[at_place], tokens[at_place]])
            return numbers, states

        states = np.empty((len(reads), width), self.dtype)
        for _, (numbers, found) in self._in_batches(asked_windows, states_of):
            states[numbers] = found
        return states

    def gradients_times_embeddings(
        self, windows: Sequence[np.ndarray], reads: np.ndarray, directions: np.ndarray, baseline_id: int | None
    ) -> list[np.ndarray]:
        """
        Return how a state's product with a direction changes, to first order, with each token's embedding.

        Parameters
        ----------
        windows : sequence of ndarray of int64
        reads : ndarray of int of shape (n_windows, 2)
            For each window a place, counted from 0, and the token whose state there is meant.
        directions : ndarray of shape (n_windows, width)
        baseline_id : int or None
            The token whose embedding is where the change is counted from; None counts from zero.

        Returns
        -------
        list of ndarray of shape (n_tokens,)
            For each window and token: the gradient with respect to its embedding, times embedding less baseline.

        Raises
        ------
        ValueError
            If the model cannot be read from embeddings, or autograd cannot follow it.
        """
        embed = self.model.get_input_embeddings()

        def gradients_of(embeddings, attention_mask, indices):
            inputs = {"inputs_embeds": embeddings, "attention_mask": attention_mask}
            flowing = run_model(self.model, self.facts, self.places, **inputs)
            along = torch.as_tensor(directions[indices], dtype=embeddings.dtype, device=embeddings.device)
            read = [flowing[place][row, token] for row, (place, token) in enumerate(reads[indices].tolist())]
            (gradients,) = torch.autograd.grad((torch.stack(read) * along).sum(), embeddings)
            return gradients

        # Whatever the caller has set: most notebooks on interpretability begin by switching gradients off.
        @torch.inference_mode(False)
        @torch.enable_grad()
        def products_of(indices):
            keep_to_one_thread_if_forked()
            input_ids, attention_mask = padded([windows[index] for index in indices], self.model)
            with torch.no_grad():
                embeddings = embed(input_ids)
                baseline = 0 if baseline_id is None else embed(input_ids.new_tensor(baseline_id))
            embeddings.requires_grad_()
            try:
                gradients = gradients_of(embeddings, attention_mask, indices)
            except (NotImplementedError, RuntimeError, TypeError, ValueError) as error:
                if _is_out_of_memory(error):
                    raise
                raise ValueError(
                    f"{type(self.model).__name__} gives no gradients with respect to its embeddings "
                    f"({str(error).strip().splitlines()[0]}). Use method='lime' or 'occlusion'."
                ) from error
            return _to_numpy((gradients * (embeddings.detach() - baseline)).sum(-1))

        products = [None] * len(windows)
        for indices, batch in self._in_batches(windows, products_of):
            for index, row in zip(indices, batch, strict=True):
                products[index] = row[: len(windows[index])]
        return products

    def _in_batches(self, windows, result_of):
        remaining = sorted(range(len(windows)), key=lambda index: -len(windows[index]))
        while remaining:
            indices = self._companions(remaining, windows)
            try:
                result = result_of(indices)
            except (torch.OutOfMemoryError, RuntimeError) as error:
                if not self._halve(error):
                    raise
                continue
            remaining = remaining[len(indices) :]
            yield indices, result
            # Let go of before the next batch is run, whose hidden states then take the same, warm memory.
            del result

    def _companions(self, remaining: list[int], windows) -> list[int]:
        """Return the first of the windows that remain and those after it that may share its pass."""
        indices = remaining[: 1 if self.facts.company == "none" else self.batch_size]
        if self.facts.company == "same length":
            indices = [index for index in indices if len(windows[index]) == len(windows[indices[0]])]
        return indices

    def _halve(self, error: Exception) -> bool:
        if not _is_out_of_memory(error) or self.batch_size == 1:
            return False
        self.batch_size //= 2
        device = next(self.model.parameters()).device
        logger.warning("%s ran out of memory; going on with batch_size=%d", device, self.batch_size)
        if device.type == "cuda":
            torch.cuda.empty_cache()
        return True

    @torch.inference_mode(False)
    @torch.no_grad()
    def forward(self, windows: list[np.ndarray]) -> tuple[torch.Tensor, ...]:
        """Return what flows in a batch of windows: for each place a tensor of shape (n_windows, longest, width)."""
        # Not inference mode, whose tensors, where a model keeps one, could have no gradients later.
        input_ids, attention_mask = padded(windows, self.model)
        return run_model(self.model, self.facts, self.places, input_ids=input_ids, attention_mask=attention_mask)

    @property
    def dtype(self) -> np.dtype:
        """Data type of the states."""
        return np.dtype(np.float64 if next(self.model.parameters()).dtype == torch.float64 else np.float32)


def _is_out_of_memory(error: Exception) -> bool:
    return _OUT_OF_MEMORY in str(error).lower()


def _to_numpy(states: torch.Tensor) -> np.ndarray:
    return states.to("cpu", torch.promote_types(states.dtype, torch.float32)).numpy()


def padded(windows: Sequence[np.ndarray], model: nn.Module) -> tuple[torch.Tensor, torch.Tensor]:
    """
    Pad windows of token ids on the right, where no model shifts the positions of real tokens.

    Which side the tokenizer would pad, and whether it has a padding token, does not matter: padding is masked, and
    its id, 0, is one that every model has.

    Returns
    -------
    input_ids, attention_mask : tensor of int64 of shape (n_windows, longest)
        Where the model is.
    """
    input_ids = np.zeros((len(windows), max(map(len, windows))), dtype=np.int64)
    attention_mask = np.zeros_like(input_ids)
    for row, window in enumerate(windows):
        input_ids[row, : len(window)] = window
        attention_mask[row, : len(window)] = 1
    device = next(model.parameters()).device
    return torch.from_numpy(input_ids).to(device), torch.from_numpy(attention_mask).to(device)
