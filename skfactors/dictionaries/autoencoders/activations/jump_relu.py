"""JumpReLU: a threshold for each factor, and a penalty on the number of codes."""

import numpy as np
import torch

from skfactors.dictionaries.autoencoders.activations.base import Activation

# Width of the window around a threshold in which pre-activations tell how to move it. Rows have a mean square of 1.
_BANDWIDTH = 0.5


class JumpReLU(Activation):
    """
    Keep what is above the factor's threshold, which is learned with a penalty on the number of codes.

    Neither a code nor the number of codes has a useful derivative by the threshold θ. Learned with are those that they
    have in the mean over pre-activations, estimated from those in a window around θ (K is 1 in it, and 0 outside)::

        ∂code/∂θ = -(θ/ε) K((z - θ)/ε)        ∂‖code‖₀/∂θ = -(1/ε) K((z - θ)/ε)

    References
    ----------
    Rajamanoharan, Lieberum, Sonnerat, Conmy, Varma, Kramár, Nanda (2024), "Jumping ahead: improving reconstruction
    fidelity with JumpReLU sparse autoencoders".
    """

    selection = "above"
    parameters = ("bias", "log_threshold")
    is_steered = True
    power_of_scale = 2
    bandwidth = _BANDWIDTH

    def begin(self, bias, cutoff):
        """Return the parameters to start from: thresholds at which there are as many codes as asked for."""
        return np.stack([bias, np.full(len(bias), np.log(max(cutoff, 1e-2)))])

    def nudge(self, parameters, amount, size):
        """Make codes fewer by a little, or more."""
        parameters[1] += amount

    def first_penalty(self, cutoff):
        """Return a penalty to start from: that which a code at the threshold is just worth."""
        return max(cutoff, 1e-2) ** 2 / 2

    def floor(self, P):
        """Return above which values pre-activations are entries."""
        return np.maximum(np.exp(P[1]) - P.dtype.type(self.bandwidth / 2), 0)

    def codes(self, z, p):
        """Return codes of entries."""
        return np.where(z > np.exp(p[1]), z, 0)

    def gradients(self, z, p, pulls, second_pulls, weight, penalty):
        """Differentiate ½‖x - x̂‖² + penalty ‖code‖₀."""
        threshold = np.exp(p[1])
        by_product = np.where(z > threshold, pulls, 0)
        near = abs(z - threshold) < self.bandwidth / 2
        by_threshold = np.where(near, threshold * pulls + penalty * weight, 0) / -self.bandwidth
        return by_product, np.stack([by_product, (by_threshold * threshold).astype(z.dtype)])

    def dense_entries(self, Z, P):
        """Return which pre-activations are entries."""
        return (P[1].exp() - self.bandwidth / 2).clamp_min(0) < Z

    def dense_codes(self, Z, P):
        """Return codes, with gradients, and which pre-activations are entries."""
        codes = _Jump.apply(Z, P[1].exp(), self.bandwidth)
        return codes, self.dense_entries(Z.detach(), P.detach())

    def dense_penalty(self, Z, P, codes):
        """Return ‖code‖₀."""
        return _Step.apply(Z, P[1].exp(), self.bandwidth).sum(1)

    def margins(self, Z, P):
        """Return by how much each pre-activation is above its threshold."""
        return Z - np.exp(P[1])

    def fitted(self, W, P, shift):
        """Return encoder, bias and threshold."""
        return {"encoder": W, "bias": P[0], "threshold": np.maximum(np.exp(P[1]) + shift, 0)}


class _Jump(torch.autograd.Function):
    """z where it is positive and above θ."""

    @staticmethod
    def forward(ctx, z, threshold, bandwidth):
        ctx.save_for_backward(z, threshold)
        ctx.bandwidth = bandwidth
        return torch.where(z > threshold, z, 0)

    @staticmethod
    def backward(ctx, gradient):
        z, threshold = ctx.saved_tensors
        near = (z > 0) & ((z - threshold).abs() < ctx.bandwidth / 2)
        by_threshold = -(threshold / ctx.bandwidth) * (near * gradient).sum(0)
        return torch.where(z > threshold, gradient, 0), by_threshold, None


class _Step(torch.autograd.Function):
    """1 where z is above θ."""

    @staticmethod
    def forward(ctx, z, threshold, bandwidth):
        ctx.save_for_backward(z, threshold)
        ctx.bandwidth = bandwidth
        return (z > threshold).to(z)

    @staticmethod
    def backward(ctx, gradient):
        z, threshold = ctx.saved_tensors
        near = (z > 0) & ((z - threshold).abs() < ctx.bandwidth / 2)
        return None, -(near * gradient).sum(0) / ctx.bandwidth, None
