"""Open a transformer into sparse, non-negative factors, the scikit-learn way."""

from skfactors._lazy import attach
from skfactors._version import __version__

_HOMES = {
    "ActivationStore": "skfactors.extraction",
    "Activations": "skfactors.extraction",
    "Crosscoder": "skfactors.dictionaries",
    "DocumentFactors": "skfactors.compose",
    "FactorModel": "skfactors.dictionaries",
    "FactorReport": "skfactors.reports",
    "SparseAutoencoder": "skfactors.dictionaries",
    "SparseDictionary": "skfactors.dictionaries",
    "Transcoder": "skfactors.dictionaries",
    "TransformerFeatureExtractor": "skfactors.extraction",
    "load_dictionary": "skfactors.dictionaries",
}
__all__ = ["__version__", *_HOMES]
__getattr__, __dir__ = attach(__name__, _HOMES)
