"""Nested codes: one group of factors after the other, each on what the groups before it leave of a row."""

import numpy as np
import torch

from skfactors.dictionaries.sparse_coding.solvers._nested import code_groups
from skfactors.dictionaries.sparse_coding.solvers.gram import GramSolver


class Nested(GramSolver):
    """
    Code rows group by group.

    A group lets in, at once, its factors whose correlation with what the groups before leave of the row is above their
    threshold; then the (non-negative) least squares problem of all factors at hand is solved, and those whose code is
    zero drop out.

    Parameters
    ----------
    components : Tensor of shape (n_components, n_features)
    group_ends : sequence of int
    threshold : ndarray of shape (n_components,)
    positive : bool
        Whether codes are non-negative.

    Notes
    -----
    Gaps are NaN: which factors are best is not a convex problem, and has no duality gap.

    References
    ----------
    Donoho, Tsaig, Drori, Starck (2012), "Sparse solution of underdetermined systems of linear equations by stagewise
    orthogonal matching pursuit", for factors that are let in together by a threshold.
    """

    def __init__(self, components: torch.Tensor, *, group_ends, threshold: np.ndarray, positive: bool):
        super().__init__(components, alpha=0.0, positive=positive, tol=1.0, max_iter=1)
        self._ends = np.asarray(group_ends, dtype=np.int64)
        self._threshold = np.asarray(threshold, dtype=self._components.dtype)

    def code_task(self, rows, correlations):
        """Code some rows."""
        return code_groups(correlations, self._gram, self._ends, self._threshold, self.positive)
