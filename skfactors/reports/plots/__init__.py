"""Pictures of a report, one file each."""

from skfactors.reports.plots.importance import plot_importance

__all__ = ["plot_importance"]
