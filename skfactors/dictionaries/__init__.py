"""Rows to sparse codes and back: what all dictionaries share, and the ways to learn one."""

from skfactors._lazy import attach

_HOMES = {
    "ACTIVATIONS": "skfactors.dictionaries.autoencoders.activations",
    "Crosscoder": "skfactors.dictionaries.crosscoder",
    "FORMATS": "skfactors.dictionaries.formats",
    "FactorModel": "skfactors.dictionaries.base",
    "PretrainedDictionary": "skfactors.dictionaries.pretrained",
    "PretrainedTranscoder": "skfactors.dictionaries.pretrained",
    "SOLVERS": "skfactors.dictionaries.sparse_coding.solvers",
    "SparseAutoencoder": "skfactors.dictionaries.autoencoders.sparse_autoencoder",
    "SparseDictionary": "skfactors.dictionaries.sparse_coding.sparse_dictionary",
    "Transcoder": "skfactors.dictionaries.transcoder",
    "UPDATES": "skfactors.dictionaries.sparse_coding.updates",
    "as_factor_model": "skfactors.dictionaries.adapters",
    "check_l0": "skfactors.dictionaries.checks",
    "load_dictionary": "skfactors.dictionaries.formats",
}
__all__ = list(_HOMES)
__getattr__, __dir__ = attach(__name__, _HOMES)
