"""Texts whose words have states set by hand, and dictionaries to code them with, without a model."""

import numpy as np
import pandas as pd

from skfactors.extraction import Activations


class Extractor:
    """
    Gives every word of texts a state.

    Parameters
    ----------
    state_of : callable
        From a word to its state.
    """

    model = "planted"

    def __init__(self, state_of):
        self._state_of = state_of

    def extract(self, texts):
        """Return the states of the words, which spaces part."""
        rows, states = [], []
        for document, text in enumerate(texts):
            start = 0
            for position, word in enumerate(text.split()):
                start = text.index(word, start)
                rows.append((document, 0, position, 7, start, start + len(word)))
                states.append(self._state_of(word))
                start += len(word)
        names = ["document", "layer", "position", "token_id", "start", "end"]
        return Activations(np.array(states, dtype=np.float32), pd.DataFrame(rows, columns=names), list(texts))


class Encoder:
    """
    A dictionary whose codes are what is above a threshold of a product.

    Parameters
    ----------
    encoder, components : ndarray of shape (n_components, n_features)
    threshold : float, default=0.0
    """

    def __init__(self, encoder, components, threshold=0.0):
        self.encoder, self.components_, self.threshold = encoder, components, threshold

    def transform(self, X):
        """Return codes."""
        return np.maximum(X @ self.encoder.T - self.threshold, 0)

    def inverse_transform(self, codes):
        """Return rows."""
        return codes @ self.components_
