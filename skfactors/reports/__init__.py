"""Codes and provenance as tables that a person reads."""

from skfactors.reports.contexts import top_contexts
from skfactors.reports.explanation import Explanation
from skfactors.reports.factor_report import FactorReport
from skfactors.reports.importance import importance_by_layer
from skfactors.reports.levels import classify_levels, context_span
from skfactors.reports.saliency import token_saliency

__all__ = [
    "Explanation",
    "FactorReport",
    "classify_levels",
    "context_span",
    "importance_by_layer",
    "token_saliency",
    "top_contexts",
]
