"""A step of learning on an accelerator, in plain torch."""

import numpy as np
import torch

from skfactors.dictionaries.autoencoders.activations.base import Activation
from skfactors.dictionaries.autoencoders.losses import loss
from skfactors.dictionaries.autoencoders.sparse_engine import Outcome
from skfactors.dictionaries.autoencoders.weights import Weights, adam
from skfactors.learning.processes import Processes


class DenseEngine:
    """
    Weights, and how they are learned from minibatches: as in `SparseEngine`, with dense arrays.

    Parameters
    ----------
    weights : Weights
    activation : Activation
    group_ends : ndarray of int of shape (n_groups,)
    processes : Processes
    device : str
    half : bool
        Whether matrices are multiplied in bfloat16.
    """

    def __init__(self, weights: Weights, activation: Activation, group_ends, processes: Processes, device, half=False):
        self.weights, self.activation, self.group_ends = weights.on(device), activation, group_ends.tolist()
        self.processes, self._device, self._half = processes, device, half

    def learn(self, X, weight, rate: float, penalty: float, silent: np.ndarray, auxk: float) -> Outcome:
        """Take a step."""
        weights = self.weights
        X, weight = (torch.as_tensor(np.ascontiguousarray(array)).to(weights.factors) for array in (X, weight))
        leaves = [
            tensor.detach().requires_grad_() for tensor in (weights.factors, weights.parameters, weights.intercept)
        ]
        silent = torch.as_tensor(silent, device=X.device)
        with torch.enable_grad(), torch.autocast(X.device.type, torch.bfloat16, enabled=self._half):
            total, codes, entries, residual = loss(
                X, weight, *leaves, self.activation, self.group_ends, penalty, silent, auxk
            )
            by_factors, by_parameters, by_intercept = torch.autograd.grad(total, leaves, materialize_grads=True)
        fired, touched = (self.processes.sum_(mask.any(0).to(X.dtype)) > 0 for mask in (codes.detach() != 0, entries))
        for gradient in (by_factors, by_parameters, by_intercept):
            self.processes.sum_(gradient)
        self._update(by_factors, by_parameters, by_intercept, touched, rate)
        squared, size = residual.square().sum(1).cpu().numpy(), codes.detach().abs().sum().item()
        n_codes = int((codes.detach() != 0).sum())
        return Outcome(squared, n_codes, size, fired.cpu().numpy(), residual.cpu().numpy())

    @torch.no_grad()
    def _update(self, by_factors, by_parameters, by_intercept, touched, rate):
        weights = self.weights
        weights.n_updates += touched
        weights.n_steps += 1
        # What would lengthen a component is no use: its length is 1.
        components = weights.factors[1]
        by_factors[1] -= (by_factors[1] * components).sum(1, keepdim=True) * components
        moving = torch.nonzero(touched).ravel()
        n_updates = weights.n_updates[moving].to(weights.factors)
        for own, gradient, moments, counts in (
            (weights.factors, by_factors, weights.factor_moments, n_updates[:, None]),
            (weights.parameters, by_parameters, weights.parameter_moments, n_updates),
        ):
            axis = 1
            part, part_moments = own.index_select(axis, moving), moments.index_select(axis + 1, moving)
            adam(part, gradient.index_select(axis, moving), part_moments, counts, rate)
            own.index_copy_(axis, moving, part)
            moments.index_copy_(axis + 1, moving, part_moments)
        weights.factors[1] /= weights.factors[1].norm(dim=1, keepdim=True)
        adam(weights.intercept, by_intercept, weights.intercept_moments, int(weights.n_steps[0]), rate)
