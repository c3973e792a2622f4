"""Codes and provenance as tables that a person reads."""

from skfactors.reports.contexts import top_contexts
from skfactors.reports.factor_report import FactorReport
from skfactors.reports.importance import importance_by_layer
from skfactors.reports.levels import classify_levels

__all__ = ["FactorReport", "classify_levels", "importance_by_layer", "top_contexts"]
