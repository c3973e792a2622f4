"""Working sets for many rows at once, in plain tensor operations: for accelerators."""

import torch

from skfactors.dictionaries.sparse_coding.objective import gap_from_residual
from skfactors.dictionaries.sparse_coding.solvers.base import Solver
from skfactors.dictionaries.sparse_coding.solvers.fista import accelerate

_MOST_NEW_FACTORS = 64
_STEPS_A_ROUND = 50


class BatchedActiveSet(Solver):
    """
    Code rows by accelerated gradient steps on the few factors of each row that matter, until the duality gap closes.

    Each round measures the gap, lets rows go that are done, and gives every other row a working set: its active
    factors, and those whose correlation with the residual most exceeds the penalty. Their part of the Gram matrix is
    gathered, and a number of FISTA steps are taken on these small problems, all rows together. One such step costs a
    hundredth of a step on all factors.

    Parameters as in :class:`~skfactors.dictionaries.sparse_coding.solvers.base.Solver`, `max_iter` counting rounds.

    References
    ----------
    Massias, Gramfort, Salmon (2018), "Celer: a fast solver for the lasso with dual extrapolation", for working sets.
    """

    def __init__(self, components: torch.Tensor, **problem):
        super().__init__(components, **problem)
        self.gram = components @ components.T

    def solve(self, X: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Code rows, all of them a round at a time."""
        codes = X.new_zeros(len(X), len(self.components))
        gaps = X.new_zeros(len(X))
        open_rows = torch.arange(len(X), device=X.device)
        current = codes
        for n_rounds in range(self.max_iter + 1):
            rows, current_gaps, correlations = X[open_rows], *self._measure(X[open_rows], current)
            done = current_gaps <= self.tol
            if n_rounds == self.max_iter:
                done[:] = True
            codes[open_rows[done]], gaps[open_rows[done]] = current[done], current_gaps[done]
            open_rows = open_rows[~done]
            if not len(open_rows):
                break
            current = self._improve(rows[~done] @ self.components.T, current[~done], correlations[~done])
        return codes, gaps

    def _measure(self, X, codes):
        residual = X - codes @ self.components
        correlations = residual @ self.components.T
        gaps = gap_from_residual(X, residual, correlations, codes.abs().sum(1), self.alpha, self.positive)
        return gaps, correlations

    def _improve(self, data_correlations, codes, correlations):
        """Choose each row's working set, and improve its codes in there."""
        strength = correlations if self.positive else correlations.abs()
        active = codes != 0
        score = torch.where(active, torch.inf, torch.where(strength > self.alpha, strength, -torch.inf))
        width = min(int(active.sum(1).max()) + _MOST_NEW_FACTORS, score.shape[1])
        score, factors = score.topk(width, dim=1)
        inside = (score > -torch.inf).to(codes)
        gram = self.gram[factors[:, :, None], factors[:, None, :]] * inside[:, :, None] * inside[:, None, :]
        data = data_correlations.gather(1, factors) * inside
        improved = self._minimise(gram, data, codes.gather(1, factors))
        return torch.zeros_like(codes).scatter(1, factors, improved)

    def _minimise(self, gram, data, codes):
        """Take FISTA steps on small problems, of as long a step as each allows."""
        # The largest eigenvalue of G is at most the fourth root of the trace of its fourth power.
        bound = torch.linalg.matrix_norm(gram @ gram).sqrt()[:, None]
        bound = torch.where(bound > 0, bound * (1 + 1e3 * torch.finfo(bound.dtype).eps), 1)
        ahead, momentum = codes, codes.new_ones(len(codes), 1)
        for _ in range(_STEPS_A_ROUND):
            previous = codes
            gradient = torch.bmm(gram, ahead[:, :, None])[:, :, 0] - data
            moved = ahead - gradient / bound
            shrunk = (moved.abs() - self.alpha / bound).clamp_min(0) * moved.sign()
            codes = shrunk.clamp_min(0) if self.positive else shrunk
            ahead, momentum = accelerate(ahead, previous, codes, momentum)
        return codes
