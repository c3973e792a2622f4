"""Hidden states on disk: shards with checksums, made by as many processes as there are, read piece by piece."""

from skfactors.extraction.store.activation_store import ActivationStore

__all__ = ["ActivationStore"]
