"""FISTA: accelerated proximal gradient descent, all rows at once."""

import math

import torch

from skfactors.dictionaries.sparse_coding.objective import gap_from_residual
from skfactors.dictionaries.sparse_coding.solvers.acceleration import accelerate
from skfactors.dictionaries.sparse_coding.solvers.base import Solver

_STEPS_BETWEEN_CHECKS = 10


class Fista(Solver):
    """
    Code rows by FISTA with adaptive restart; rows that are done leave the batch.

    Parameters as in :class:`~skfactors.dictionaries.sparse_coding.solvers.base.Solver`.

    References
    ----------
    Beck, Teboulle (2009), "A fast iterative shrinkage-thresholding algorithm for linear inverse problems".
    O'Donoghue, Candès (2015), "Adaptive restart for accelerated gradient schemes" (the gradient scheme, row by row).
    """

    def __init__(self, components: torch.Tensor, **problem):
        super().__init__(components, **problem)
        n_components, n_features = components.shape
        self.lipschitz = largest_eigenvalue_bound(components)
        self.gram = components @ components.T if n_components <= 2 * n_features else None

    def solve(self, X: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Code rows, all of them a step at a time."""
        codes = X.new_zeros(len(X), len(self.components))
        gaps = X.new_zeros(len(X))
        rows = torch.arange(len(X), device=X.device)
        data_correlations = X @ self.components.T
        current = ahead = codes
        momentum = X.new_ones(len(X), 1)
        for step in range(1, self.max_iter + 1):
            previous, current = current, self._proximal_step(ahead, data_correlations)
            ahead, momentum = accelerate(ahead, previous, current, momentum)
            last = step == self.max_iter
            if step % _STEPS_BETWEEN_CHECKS and not last:
                continue
            row_gaps = self._gap(X, current)
            leaving = row_gaps <= self.tol
            if last:
                leaving[:] = True
            if leaving.any():
                codes[rows[leaving]], gaps[rows[leaving]] = current[leaving], row_gaps[leaving]
                staying = ~leaving
                X, data_correlations, rows = X[staying], data_correlations[staying], rows[staying]
                current, ahead, momentum = current[staying], ahead[staying], momentum[staying]
            if not len(rows):
                break
        return codes, gaps

    def _proximal_step(self, codes, data_correlations):
        product = codes @ self.gram if self.gram is not None else (codes @ self.components) @ self.components.T
        moved = codes - (product - data_correlations) / self.lipschitz
        threshold = self.alpha / self.lipschitz
        if self.positive:
            return (moved - threshold).clamp_min(0)
        return torch.nn.functional.softshrink(moved, threshold)

    def _gap(self, X, codes):
        residual = X - codes @ self.components
        correlations = residual @ self.components.T
        return gap_from_residual(X, residual, correlations, codes.abs().sum(1), self.alpha, self.positive)


def largest_eigenvalue_bound(components: torch.Tensor, doublings: int = 6) -> float:
    """
    Bound the largest eigenvalue of the Gram matrix from above, tightly and without decomposing it.

    The largest eigenvalue of a positive semi-definite G is at most trace(G^p)^(1/p), and at least that divided by
    n^(1/p). Squaring G six times gives p = 64.

    Parameters
    ----------
    components : Tensor of shape (n_components, n_features)
    doublings : int, default=6

    Returns
    -------
    float
        At least the largest eigenvalue; positive also where all components are zero.
    """
    n_components, n_features = components.shape
    power = components @ components.T if n_components <= n_features else components.T @ components
    logarithm, exponent = 0.0, 1
    for _ in range(doublings):
        norm = power.norm().item()
        if norm == 0:
            return 1.0
        power = (power / norm) @ (power / norm)
        logarithm = 2 * (logarithm + math.log(norm))
        exponent *= 2
    rounding = 1 + 1e3 * torch.finfo(components.dtype).eps
    return rounding * math.exp((logarithm + math.log(power.trace().item())) / exponent)
