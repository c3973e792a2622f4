"""Texts to rows of hidden states, each row knowing where it came from."""

from skfactors._lazy import attach

_HOMES = {
    "ActivationStore": "skfactors.extraction.store",
    "Activations": "skfactors.extraction.activations",
    "TransformerFeatureExtractor": "skfactors.extraction.text.extractor",
}
__all__ = list(_HOMES)
__getattr__, __dir__ = attach(__name__, _HOMES)
