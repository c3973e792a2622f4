"""Which tokens of its context make a factor active at a place."""

from skfactors.reports.saliency.computing import iter_saliency, token_saliency
from skfactors.reports.saliency.methods import METHODS

__all__ = ["METHODS", "iter_saliency", "token_saliency"]
