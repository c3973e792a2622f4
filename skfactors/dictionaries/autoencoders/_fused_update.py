"""A step of Adam with factors of unit length, in one kernel: for GPUs that Triton compiles for."""

import torch
import triton
import triton.language as tl

from skfactors.dictionaries.autoencoders.weights import BETA_1, BETA_2, EPSILON

_FEATURES_A_WARP = 256


def update_factors(gradients, weights, moments, n_updates, rate: float) -> None:
    """
    Take a step of Adam with some factors, whose components stay of length 1.

    Parameters
    ----------
    gradients, weights : Tensor of shape (2, n_components, n_features)
        Of the encoder and the components. Weights are changed in place.
    moments : Tensor of shape (2, 2, n_components, n_features)
        First the means of the gradients, then those of their squares. Changed in place.
    n_updates : Tensor of int of shape (n_components,)
        How many steps each factor has taken, this one included; 0 leaves it as it is.
    rate : float
    """
    _, n_components, n_features = weights.shape
    counts = n_updates.double()
    correction = (1 - BETA_2**counts).sqrt()
    # Where a factor does not move, there is nothing to divide by.
    steps = (rate * correction / (1 - BETA_1 ** counts.clamp_min(1))).to(weights.dtype)
    epsilons = (EPSILON * correction).to(weights.dtype)
    width = triton.next_power_of_2(n_features)
    with torch.cuda.device_of(weights):
        _update[(n_components,)](
            gradients.contiguous(),
            weights,
            moments,
            n_updates,
            steps,
            epsilons,
            n_components,
            n_features,
            A=1 - BETA_1,
            B=1 - BETA_2,
            WIDTH=width,
            num_warps=min(max(width // _FEATURES_A_WARP, 1), 16),
        )


@triton.jit(do_not_specialize=["n_components", "n_features"])
def _update(
    gradients,
    weights,
    moments,
    n_updates,
    steps,
    epsilons,
    n_components,
    n_features,
    A: tl.constexpr,
    B: tl.constexpr,
    WIDTH: tl.constexpr,
):
    """Move one factor: all that there is of it is read once, and written once."""
    factor = tl.program_id(0).to(tl.int64)
    if tl.load(n_updates + factor) > 0:
        step, epsilon = tl.load(steps + factor), tl.load(epsilons + factor)
        features = tl.arange(0, WIDTH)
        there = features < n_features
        of_all = n_components.to(tl.int64) * n_features
        own = factor * n_features + features
        for part in tl.static_range(2):
            place = part * of_all + own
            gradient = tl.load(gradients + place, mask=there, other=0.0)
            weight = tl.load(weights + place, mask=there, other=0.0)
            if part == 1:
                # What would lengthen a component is no use: its length is 1.
                gradient -= tl.sum(gradient * weight, 0) * weight
            mean = tl.load(moments + place, mask=there, other=0.0)
            square = tl.load(moments + 2 * of_all + place, mask=there, other=0.0)
            mean += A * (gradient - mean)
            square += B * (gradient * gradient - square)
            weight -= step * mean / (tl.sqrt(square) + epsilon)
            if part == 1:
                weight /= tl.sqrt(tl.sum(weight * weight, 0))
            tl.store(moments + place, mean, mask=there)
            tl.store(moments + 2 * of_all + place, square, mask=there)
            tl.store(weights + place, weight, mask=there)
