"""Rows to sparse codes and back: what all dictionaries share, and the ways to learn one."""

from skfactors._lazy import attach

_HOMES = {
    "ACTIVATIONS": "skfactors.dictionaries.autoencoders.activations",
    "FactorModel": "skfactors.dictionaries.base",
    "SOLVERS": "skfactors.dictionaries.sparse_coding.solvers",
    "SparseAutoencoder": "skfactors.dictionaries.autoencoders.sparse_autoencoder",
    "SparseDictionary": "skfactors.dictionaries.sparse_coding.sparse_dictionary",
    "UPDATES": "skfactors.dictionaries.sparse_coding.updates",
    "as_factor_model": "skfactors.dictionaries.adapters",
}
__all__ = list(_HOMES)
__getattr__, __dir__ = attach(__name__, _HOMES)
