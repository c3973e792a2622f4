"""ModelProbe: what a model says of single windows, whole or with tokens masked."""

import numpy as np

from skfactors.extraction.forward import HiddenStateRunner
from skfactors.extraction.models import OpenModel
from skfactors.extraction.sites import Place
from skfactors.extraction.windows import Window, windows_of_model


class ModelProbe:
    """
    A model, opened for questions about single windows of token ids.

    Made by :meth:`TransformerFeatureExtractor.probe`.

    Parameters
    ----------
    opened : OpenModel
    places : list of Place
        What is read: a site, in all its layers.
    batch_size : int
        Windows per forward pass.
    windowing : dict
        `max_length`, `stride` and `add_special_tokens`, as :func:`iter_windows` takes them.

    Attributes
    ----------
    masking : {"mask_token", "unk_token", "deletion"}
        How :meth:`masked` hides a token: by the tokenizer's mask token, by its token for the unknown where it has no
        mask token, by leaving it out where it has neither.
    mask_id : int or None
        Id of that token; None for deletion.
    n_hidden_states : int
        Layers that can be read are below it. For hidden states they are those of the model and its embeddings.
    """

    def __init__(self, opened: OpenModel, places: list[Place], batch_size: int, windowing: dict):
        self.batch_size = batch_size
        self.masking, self.mask_id = _masking(opened.tokenizer)
        self._number_of = {place.layer: number for number, place in enumerate(places)}
        self.n_hidden_states = max(self._number_of) + 1
        self._opened = opened
        self._windowing = windowing
        self._runner = HiddenStateRunner(opened.model, opened.facts, places, batch_size)

    def windows(self, text: str) -> list[Window]:
        """Return the windows that the extractor reads a text in."""
        n_embeddings = self._opened.facts.n_embeddings
        ((_, windows),) = windows_of_model([text], self._opened.tokenizer, n_embeddings, **self._windowing)
        return windows

    def masked(self, window: Window, kept: np.ndarray) -> np.ndarray:
        """
        Return a window's token ids with tokens of its text hidden; special tokens always stay.

        Parameters
        ----------
        window : Window
        kept : ndarray of bool
            For each token of ``window.of_text`` whether it stays.

        Returns
        -------
        ndarray of int64
            As long as the window, or shorter by the tokens hidden where `masking` is "deletion".
        """
        stays = np.ones(len(window.input_ids), dtype=bool)
        stays[window.of_text] = kept
        if self.mask_id is None:
            return window.input_ids[stays]
        return np.where(stays, window.input_ids, self.mask_id)

    def states_at(self, windows: list[np.ndarray], reads: np.ndarray) -> np.ndarray:
        """
        Return what the extractor reads of single tokens; see :meth:`HiddenStateRunner.states_at`.

        Parameters
        ----------
        windows : list of ndarray of int64
            Token ids, special tokens included.
        reads : ndarray of int of shape (n_reads, 3)
            Window, layer and token of each state.

        Returns
        -------
        ndarray of shape (n_reads, width)
        """
        return self._runner.states_at(windows, np.column_stack([reads[:, 0], self._numbers(reads[:, 1]), reads[:, 2]]))

    def gradients_times_embeddings(
        self, windows: list[np.ndarray], reads: np.ndarray, directions: np.ndarray
    ) -> list[np.ndarray]:
        """
        Return how much each token adds to a hidden state's product with a direction, to first order.

        Parameters
        ----------
        windows : list of ndarray of int64
        reads : ndarray of int of shape (n_windows, 2)
            For each window the layer and the token of the hidden state that is meant.
        directions : ndarray of shape (n_windows, hidden_size)

        Returns
        -------
        list of ndarray of shape (n_tokens,)
            The gradient of the product with respect to each token's embedding, times that embedding less the mask's
            (less nothing where there is no mask).
        """
        reads = np.column_stack([self._numbers(reads[:, 0]), reads[:, 1]])
        return self._runner.gradients_times_embeddings(windows, reads, directions, self.mask_id)

    def _numbers(self, layers: np.ndarray) -> list[int]:
        """Return which of the places are those of layers."""
        missing = sorted({*layers.tolist()} - self._number_of.keys())
        if missing:
            raise ValueError(f"layer {missing[0]} is not read: there are {sorted(self._number_of)}.")
        return [self._number_of[layer] for layer in layers.tolist()]


def _masking(tokenizer) -> tuple[str, int | None]:
    for name in ("mask_token", "unk_token"):
        # Reading the token and not only its id: without one, some tokenizers log an error for the id.
        if getattr(tokenizer, name) is not None:
            return name, getattr(tokenizer, f"{name}_id")
    return "deletion", None
