"""ReLU with an L1 penalty."""

import numpy as np

from skfactors.dictionaries.autoencoders.activations.base import Activation


class ReLU(Activation):
    """
    Keep what is positive; a penalty on the sum of the codes makes them few.

    References
    ----------
    Bricken et al. (2023), "Towards monosemanticity: decomposing language models with dictionary learning".
    """

    is_steered = True

    def begin(self, bias, cutoff):
        """Return the parameters to start from: codes begin where they are as many as asked for."""
        return (bias - cutoff)[None]

    def nudge(self, parameters, amount, size):
        """Make codes fewer by a little, or more."""
        parameters[0] -= amount * size

    def first_penalty(self, cutoff):
        """Return a penalty to start from."""
        return 0.1 * abs(cutoff)

    def gradients(self, z, p, pulls, second_pulls, weight, penalty):
        """Differentiate ½‖x - x̂‖² + penalty ‖code‖₁."""
        by_product = pulls + penalty * weight
        return by_product, by_product[None]

    def dense_penalty(self, Z, P, codes):
        """Return ‖code‖₁."""
        return codes.sum(1)

    def fitted(self, W, P, shift):
        """Return encoder and bias."""
        return {"encoder": W, "bias": P[0] - np.asarray(shift, P.dtype)}
