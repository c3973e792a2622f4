"""Codes and provenance as tables that a person reads."""

from skfactors._lazy import attach

_HOMES = {
    "Explanation": "skfactors.reports.explanation",
    "FactorReport": "skfactors.reports.factor_report",
    "classify_levels": "skfactors.reports.levels",
    "context_span": "skfactors.reports.levels",
    "emergence": "skfactors.reports.levels",
    "firing_patterns": "skfactors.reports.patterns",
    "importance_by_layer": "skfactors.reports.importance",
    "output_tokens": "skfactors.reports.logit_lens",
    "token_saliency": "skfactors.reports.saliency.computing",
    "top_contexts": "skfactors.reports.contexts",
}
__all__ = list(_HOMES)
__getattr__, __dir__ = attach(__name__, _HOMES)
