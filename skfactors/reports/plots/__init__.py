"""Pictures of factors, one file each."""

from skfactors.reports.plots.activations import plot_activations
from skfactors.reports.plots.attribution import plot_attribution
from skfactors.reports.plots.density import plot_density
from skfactors.reports.plots.frontier import plot_frontier
from skfactors.reports.plots.heatmap import plot_importance_heatmap
from skfactors.reports.plots.importance import plot_importance
from skfactors.reports.plots.tokens import plot_token_saliency

__all__ = [
    "plot_activations",
    "plot_attribution",
    "plot_density",
    "plot_frontier",
    "plot_importance",
    "plot_importance_heatmap",
    "plot_token_saliency",
]
