"""Working sets for many rows at once: for accelerators."""

import torch

from skfactors.devices import fused
from skfactors.dictionaries.sparse_coding.objective import gap_from_residual
from skfactors.dictionaries.sparse_coding.solvers.acceleration import accelerate
from skfactors.dictionaries.sparse_coding.solvers.base import Solver

_MOST_NEW_FACTORS = 64
_STEPS_A_ROUND = 50
# Of tol: how exactly a working set is solved, so that what is left of the gap is due to factors outside of it.
_SHARE_OF_TOL = 0.3


class BatchedActiveSet(Solver):
    """
    Code rows on the few factors of each that matter, many rows at a time, until the duality gap closes.

    Each round measures the gap, lets rows go that are done, and gives every other row a working set: its active
    factors, and those whose correlation with the residual most exceeds the penalty. On a GPU one kernel then solves all
    these small problems, by coordinate descent that moves the code with furthest to go. Where there is no Triton to
    compile that kernel, some accelerated gradient steps are taken on them, in many small tensor operations.

    Parameters as in :class:`~skfactors.dictionaries.sparse_coding.solvers.base.Solver`, `max_iter` counting rounds.

    References
    ----------
    Massias, Gramfort, Salmon (2018), "Celer: a fast solver for the lasso with dual extrapolation", for working sets.
    Li, Osher (2009), "Coordinate descent optimization for l1 minimization with application to compressed sensing; a
    greedy algorithm", for the order of the descent.
    """

    def __init__(self, components: torch.Tensor, **problem):
        super().__init__(components, **problem)
        self.gram = components @ components.T
        self._descend = fused(str(components.device), _load_descent)
        self._limits = components.new_tensor([self.alpha, self.alpha * self.tol * _SHARE_OF_TOL])

    def solve(self, X: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Code rows, all of them a round at a time."""
        codes, current = X.new_zeros(2, len(X), len(self.components))
        gaps = X.new_zeros(len(X))
        rows = torch.arange(len(X), device=X.device)
        for n_rounds in range(self.max_iter + 1):
            current_gaps, correlations = self._measure(X, current)
            codes[rows], gaps[rows] = current, current_gaps
            # Gaps that are not a number stay open.
            open_ = (~(current_gaps <= self.tol)).nonzero()[:, 0]
            if len(open_) == 0 or n_rounds == self.max_iter:
                break
            rows, X = rows[open_], X[open_]
            current = self._improve(current[open_], correlations[open_])
        return codes, gaps

    def _measure(self, X, codes):
        residual = X - codes @ self.components
        correlations = residual @ self.components.T
        gaps = gap_from_residual(X, residual, correlations, codes.abs().sum(1), self.alpha, self.positive)
        return gaps, correlations

    def _improve(self, codes, correlations):
        """Choose each row's working set, and improve its codes in there."""
        strength = correlations if self.positive else correlations.abs()
        active = codes != 0
        score = torch.where(active, torch.inf, strength)
        # Each by its own row, so that its company does not matter.
        sizes = torch.minimum((score > self.alpha).sum(1), active.sum(1) + _MOST_NEW_FACTORS)
        factors = score.topk(max(int(sizes.max()), 1), dim=1).indices
        problem = factors, sizes, codes.gather(1, factors), correlations.gather(1, factors)
        if self._descend is None:
            improved = self._step_along_gradients(*problem)
        else:
            improved = self._descend(self.gram, *problem, self._limits, self.positive)
        return torch.zeros_like(codes).scatter(1, factors, improved)

    def _step_along_gradients(self, factors, sizes, codes, correlations):
        """Take FISTA steps on small problems, of as long a step as each allows."""
        inside = (torch.arange(factors.shape[1], device=sizes.device) < sizes[:, None]).to(codes)
        gram = self.gram[factors[:, :, None], factors[:, None, :]] * inside[:, :, None] * inside[:, None, :]
        data = correlations * inside + torch.bmm(gram, codes[:, :, None])[:, :, 0]
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


def _load_descent(device):
    """Return the kernel that solves small problems, once it has solved one."""
    from skfactors.dictionaries.sparse_coding.solvers._descent import descend

    one, factor = torch.ones(1, 1, device=device), torch.zeros(1, 1, dtype=torch.int64, device=device)
    descend(one, factor, factor[0], one, one, one.expand(2, 1), True)
    return descend
