"""Texts to rows of hidden states, each row knowing where it came from."""

from skfactors.extraction.activations import Activations
from skfactors.extraction.extractor import TransformerFeatureExtractor
from skfactors.extraction.store import ActivationStore

__all__ = ["ActivationStore", "Activations", "TransformerFeatureExtractor"]
