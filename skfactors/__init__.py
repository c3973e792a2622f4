"""Open a transformer into sparse, non-negative factors, the scikit-learn way."""

from skfactors._version import __version__
from skfactors.compose import DocumentFactors
from skfactors.dictionary import SparseDictionary
from skfactors.extraction import Activations, ActivationStore, TransformerFeatureExtractor
from skfactors.reports import FactorReport

__all__ = [
    "ActivationStore",
    "Activations",
    "DocumentFactors",
    "FactorReport",
    "SparseDictionary",
    "TransformerFeatureExtractor",
    "__version__",
]
