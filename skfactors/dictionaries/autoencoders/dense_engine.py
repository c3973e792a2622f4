"""A step of learning on an accelerator, in torch."""

import numpy as np
import torch

from skfactors.devices import fused
from skfactors.dictionaries.autoencoders.activations.base import Activation
from skfactors.dictionaries.autoencoders.losses import loss
from skfactors.dictionaries.autoencoders.sparse_engine import Outcome
from skfactors.dictionaries.autoencoders.weights import Weights, adam
from skfactors.learning.processes import Processes


class DenseEngine:
    """
    Weights, and how they are learned from minibatches: as in `SparseEngine`, with dense arrays.

    Rows go to the device as they come, and what a step saw comes back in one piece: a device that waits for the host,
    or the host for it, is what such steps cost.

    Parameters
    ----------
    weights : Weights
    activation : Activation
    group_ends : ndarray of int of shape (n_groups,)
    processes : Processes
    device : str
    half : bool
        Whether matrices are multiplied in bfloat16.
    jacobian_penalty : float, default=0.0
    """

    def __init__(
        self,
        weights: Weights,
        activation: Activation,
        group_ends,
        processes: Processes,
        device,
        half=False,
        jacobian_penalty=0.0,
    ):
        self.jacobian_penalty = jacobian_penalty
        self.weights, self.activation, self.group_ends = weights.on(device), activation, group_ends.tolist()
        self.processes, self._device, self._half = processes, device, half
        # Apple's GPUs have no double precision.
        self._exact = torch.float32 if torch.device(device).type == "mps" else torch.float64
        self._fused_update = fused(device, _load_fused_update)

    def learn(self, X, standardizer, weight, rate: float, penalty: float, silent: np.ndarray, auxk: float) -> Outcome:
        """Take a step."""
        weights = self.weights
        arrays = (X, weight, standardizer.mean, standardizer.by_column)
        X, exact_weight, mean, scale = (self._sent(array).to(self._exact) for array in arrays)
        silent = self._sent(silent)
        X, exact = standardizer.parted((X - mean) * scale)
        X, Y, weight = (tensor.to(weights.factors.dtype) for tensor in (X, exact, exact_weight))
        learned = [weights.factors, weights.parameters, weights.intercept]
        learned += [] if weights.skip is None else [weights.skip]
        leaves = [tensor.detach().requires_grad_() for tensor in learned]
        factors, parameters, intercept, *skip = leaves
        with torch.enable_grad(), torch.autocast(X.device.type, torch.bfloat16, enabled=self._half):
            total, codes, entries, residual = loss(
                X,
                Y,
                weight,
                factors,
                parameters,
                intercept,
                skip[0] if skip else None,
                self.activation,
                self.group_ends,
                penalty,
                self.jacobian_penalty,
                silent,
                auxk,
            )
            gradients = torch.autograd.grad(total, leaves, materialize_grads=True)
        codes = codes.detach()
        is_code = codes != 0
        fired, touched = (self.processes.sum_(mask.any(0).to(X.dtype)) > 0 for mask in (is_code, entries))
        for gradient in gradients:
            self.processes.sum_(gradient)
        self._update(touched, rate, *gradients)
        losses = residual.to(self._exact).square().sum(1)
        sums = [losses @ exact_weight / 2, losses.sum(), is_code.sum(), codes.abs().sum(), exact.square().sum()]
        seen = torch.cat([torch.stack([value.to(self._exact) for value in sums]), exact.sum(0), fired.to(self._exact)])
        of_rows, of_features, fired = np.split(seen.cpu().numpy(), [len(sums), len(sums) + Y.shape[1]])
        return Outcome(*of_rows, of_features, fired > 0, X, residual)

    def _sent(self, array) -> torch.Tensor:
        """Return an array on the device."""
        tensor = torch.as_tensor(np.ascontiguousarray(array))
        if torch.device(self._device).type != "cuda":
            return tensor.to(self._device)
        # Memory that stays where it is travels several times as fast.
        return tensor.pin_memory().to(self._device, non_blocking=True)

    @torch.no_grad()
    def _update(self, touched, rate, by_factors, by_parameters, by_intercept, by_skip=None):
        weights = self.weights
        weights.n_updates += touched
        weights.n_steps += 1
        counts = torch.where(touched, weights.n_updates, 0)
        update = self._fused_update or _update_factors
        update(by_factors, weights.factors, weights.factor_moments, counts, rate)
        _adam_of_some(by_parameters, weights.parameters, weights.parameter_moments, counts, rate)
        n_steps = weights.n_steps.to(by_intercept)
        adam(weights.intercept, by_intercept, weights.intercept_moments, n_steps, rate)
        if by_skip is not None:
            adam(weights.skip, by_skip, weights.skip_moments, n_steps, rate)


def _load_fused_update(device):
    """Return the kernel that moves factors, once it has moved one."""
    from skfactors.dictionaries.autoencoders._fused_update import update_factors

    gradients, weights, *moments = torch.ones(4, 2, 1, 1, device=device)
    update_factors(gradients, weights, torch.stack(moments), torch.ones(1, dtype=torch.int64, device=device), 0.0)
    return update_factors


def _update_factors(gradients, weights, moments, n_updates, rate):
    """Take a step of Adam with factors, whose components stay of length 1, where `n_updates` is not 0."""
    # What would lengthen a component is no use: its length is 1.
    gradients[1] -= (gradients[1] * weights[1]).sum(1, keepdim=True) * weights[1]
    _adam_of_some(gradients, weights, moments, n_updates[:, None], rate)
    weights[1] /= weights[1].norm(dim=1, keepdim=True)


def _adam_of_some(gradient, weight, moments, n_updates, rate):
    """Take a step of Adam where `n_updates` is not 0."""
    moves, counts = n_updates > 0, n_updates.clamp_min(1).to(weight)
    new, new_moments = weight.clone(), moments.clone()
    adam(new, gradient, new_moments, counts, rate)
    torch.where(moves, new, weight, out=weight)
    torch.where(moves, new_moments, moments, out=moments)
