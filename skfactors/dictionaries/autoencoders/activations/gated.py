"""Gated: one function of the encoder's products tells whether a factor is active, another how much."""

import numpy as np
import torch

from skfactors.dictionaries.autoencoders.activations.base import Activation


class Gated(Activation):
    """
    Let a gate decide which factors are active, and a magnitude how much.

    Both are made of the same products p = w·x::

        π = p + gate_bias        code = relu(exp(r) p + magnitude_bias)  where π > 0, else 0

    The gate is learned by a penalty on ‖relu(π)‖₁ and by a second reconstruction, from relu(π) with components that are
    held fixed. Once all is learned, the two are one encoder with a threshold for each factor.

    References
    ----------
    Rajamanoharan, Conmy, Smith, Lieberum, Varma, Kramár, Shah, Nanda (2024), "Improving dictionary learning with gated
    sparse autoencoders".
    """

    selection = "above"
    parameters = ("gate_bias", "log_scale", "magnitude_bias")
    is_steered = True
    decodes_twice = True

    def begin(self, bias, cutoff):
        """Return the parameters to start from: gates that are open for as many codes as asked for."""
        return np.stack([bias - cutoff, np.zeros_like(bias), bias])

    def nudge(self, parameters, amount, size):
        """Make codes fewer by a little, or more."""
        parameters[0] -= amount * size

    def first_penalty(self, cutoff):
        """Return a penalty to start from."""
        return 0.1 * abs(cutoff)

    def codes(self, z, p):
        """Return codes of entries."""
        return np.maximum(np.exp(p[1]) * (z - p[0]) + p[2], 0)

    def gradients(self, z, p, pulls, second_pulls, weight, penalty):
        """Differentiate ½‖x - x̂‖² + ½‖x - x̂(relu(π))‖² + penalty ‖relu(π)‖₁."""
        scale = np.exp(p[1])
        by_magnitude = np.where(scale * (z - p[0]) + p[2] > 0, pulls, 0)
        by_gate = second_pulls + penalty * weight
        by_product = scale * by_magnitude + by_gate
        return by_product, np.stack([by_gate, by_magnitude * scale * (z - p[0]), by_magnitude])

    def slopes(self, P):
        """Return by how much the codes of each factor grow with its product."""
        return np.e ** P[1]

    def dense_codes(self, Z, P):
        """Return codes, with gradients, and which pre-activations are entries."""
        # Whether a gate is open has no gradient; how far it is does, in the penalty and the second reconstruction.
        magnitudes = torch.relu(P[1].exp() * (Z - P[0]) + P[2])
        entries = Z.detach() > 0
        return torch.where(entries, magnitudes, 0), entries

    def dense_penalty(self, Z, P, codes):
        """Return ‖relu(π)‖₁."""
        return torch.relu(Z).sum(1)

    def fitted(self, W, P, shift):
        """Return encoder, bias and threshold: the gate is open where ``exp(r) p + magnitude_bias`` is above it."""
        scale = np.exp(P[1])
        return {
            "encoder": scale[:, None] * W,
            "bias": P[2],
            "threshold": np.maximum(P[2] + scale * (shift - P[0]), 0),
        }
