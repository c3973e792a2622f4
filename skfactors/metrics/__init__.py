"""Numbers that judge a dictionary, and scorers that let scikit-learn search by them."""

from skfactors._lazy import attach

_HOMES = {
    "SCORERS": "skfactors.metrics.scorers",
    "amortization_gap": "skfactors.metrics.amortization",
    "amortization_gap_scorer": "skfactors.metrics.scorers",
    "best_below_l0": "skfactors.metrics.selection",
    "dead_fraction": "skfactors.metrics.sparsity",
    "dead_fraction_scorer": "skfactors.metrics.scorers",
    "density": "skfactors.metrics.sparsity",
    "density_scorer": "skfactors.metrics.scorers",
    "description_length": "skfactors.metrics.bits",
    "description_length_scorer": "skfactors.metrics.scorers",
    "explained_variance": "skfactors.metrics.reconstruction",
    "explained_variance_scorer": "skfactors.metrics.scorers",
    "factor_match": "skfactors.metrics.matching",
    "l0": "skfactors.metrics.sparsity",
    "l0_scorer": "skfactors.metrics.scorers",
    "sparsest_within": "skfactors.metrics.selection",
}
__all__ = list(_HOMES)
__getattr__, __dir__ = attach(__name__, _HOMES)
