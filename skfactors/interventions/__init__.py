"""Factors changed inside the running model, and what that does to what it says."""

from skfactors._lazy import attach

_HOMES = {
    "ablation_effects": "skfactors.interventions.effects",
    "attribute": "skfactors.interventions.attributing",
    "check_attribution": "skfactors.interventions.attributing",
    "intervene": "skfactors.interventions.editing",
}
__all__ = list(_HOMES)
__getattr__, __dir__ = attach(__name__, _HOMES)
