"""The explorer: a report as one HTML file."""

from skfactors.reports.explorer.builder import write_page

__all__ = ["write_page"]
