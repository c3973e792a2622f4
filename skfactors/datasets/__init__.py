"""
The offline demo models and corpora.

Weights and texts are read from the files of installed packages, which are found without importing them, so
everything here works without a model hub and without network.
"""

from skfactors._lazy import attach

_HOMES = {
    "demo_language_model": "skfactors.datasets.language_model",
    "demo_model": "skfactors.datasets.encoder",
    "demo_model_pair": "skfactors.datasets.model_pair",
    "demo_wide_encoder": "skfactors.datasets.wide_encoder",
    "load_probing_tasks": "skfactors.datasets.probing_tasks",
    "load_topics": "skfactors.datasets.topics",
    "load_wikipedia": "skfactors.datasets.wikipedia",
    "load_wordnet_examples": "skfactors.datasets.wordnet",
}
__all__ = list(_HOMES)
__getattr__, __dir__ = attach(__name__, _HOMES)
