"""How a factor's activations are distributed in each layer, counted in bins that no corpus can move."""

import numpy as np
import pandas as pd

from skfactors.reports.counting.groups import Gathered, added, grown

# Half octaves from 1/256 to 4096. Bins that are the same for every corpus can be counted while it streams by.
BIN_EDGES = 2.0 ** (np.arange(-16, 25) / 2)
N_BINS = len(BIN_EDGES) - 1
HISTOGRAM_COLUMNS = ("factor", "layer", "bin", "count")


class ActivationHistogram(Gathered):
    """
    Count the activations of every group by size.

    Attributes
    ----------
    counts : ndarray of int of shape (n_groups, n_bins)
        Of a bin from one edge of `BIN_EDGES` to the next, the lower one included. What is smaller than the first edge
        counts in the first bin, what is larger than the last edge in the last.
    """

    arrays = ("counts",)

    def __init__(self):
        self.counts = np.empty((0, N_BINS), dtype=np.int64)

    def add(self, groups, activations, n_groups):
        """Take in the positive entries of one part."""
        self.counts = grown(self.counts, n_groups)
        bins = np.clip(np.searchsorted(BIN_EDGES, activations, side="right") - 1, 0, N_BINS - 1)
        cells, counts = np.unique(groups * N_BINS + bins, return_counts=True)
        self.counts.reshape(-1)[cells] += counts

    def merge(self, other, groups, n_groups):
        """Add the counts of another."""
        self.counts = added(self.counts, other.counts, groups, n_groups)

    def table(self, group_numbers):
        """Return the bins that are not empty: integer columns `factor`, `layer`, `bin` and `count`, sorted."""
        groups, bins = np.nonzero(self.counts)
        factors, layers = group_numbers.factors_and_layers(groups)
        columns = factors, layers, bins, self.counts[groups, bins]
        order = np.lexsort((bins, layers, factors))
        return pd.DataFrame({name: column[order] for name, column in zip(HISTOGRAM_COLUMNS, columns, strict=True)})
