"""Numbers that judge a dictionary, and scorers that let scikit-learn search by them."""

from skfactors.metrics.amortization import amortization_gap
from skfactors.metrics.description_length import description_length
from skfactors.metrics.matching import factor_match
from skfactors.metrics.reconstruction import explained_variance
from skfactors.metrics.scorers import (
    SCORERS,
    amortization_gap_scorer,
    dead_fraction_scorer,
    density_scorer,
    description_length_scorer,
    explained_variance_scorer,
    l0_scorer,
)
from skfactors.metrics.selection import best_below_l0, sparsest_within
from skfactors.metrics.sparsity import dead_fraction, density, l0

__all__ = [
    "SCORERS",
    "amortization_gap",
    "amortization_gap_scorer",
    "best_below_l0",
    "dead_fraction",
    "dead_fraction_scorer",
    "density",
    "density_scorer",
    "description_length",
    "description_length_scorer",
    "explained_variance",
    "explained_variance_scorer",
    "factor_match",
    "l0",
    "l0_scorer",
    "sparsest_within",
]
