"""
Plot the factors of a report
============================

Three pictures in one: where the clearest factors are important, where all of them peak, and how often they fire. Of a
report that ``examples/quickstart.py`` saved:

    python examples/plot_factors.py --report factors-report
"""

# sphinx_gallery_thumbnail_path = "plots.png"

import argparse
from pathlib import Path

from matplotlib.figure import Figure

from skfactors import FactorReport
from skfactors.reports.plots import plot_density, plot_importance_heatmap


def parse_arguments():
    """Read the command line."""
    parser = argparse.ArgumentParser(description="Plot the factors of a report.")
    parser.add_argument("--report", type=Path, default=Path("factors-report"), help="folder (default: %(default)s)")
    parser.add_argument("--out", type=Path, default=Path("factors.png"), help="file (default: %(default)s)")
    return parser.parse_args()


def main():
    """Draw and save."""
    arguments = parse_arguments()
    report = FactorReport.load(arguments.report)
    figure = Figure(figsize=(16, 4.5), layout="constrained")
    curves, heat_map, density = figure.subplots(1, 3)
    report.plot_importance(report.clearest(5).index, ax=curves)
    plot_importance_heatmap(report.importance_by_layer(), ax=heat_map)
    plot_density(report.summary()["frequency"], ax=density)
    figure.savefig(arguments.out, dpi=80)
    print(arguments.out.resolve())


if __name__ == "__main__":
    main()
