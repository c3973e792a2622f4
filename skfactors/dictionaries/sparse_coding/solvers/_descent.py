"""Coordinate descent on many small problems at once, in one kernel: for GPUs that Triton compiles for."""

import torch
import triton
import triton.language as tl

_MOST_STEPS = 1024
_FACTORS_A_WARP = 256


def descend(gram, factors, sizes, codes, correlations, limits, positive: bool) -> torch.Tensor:
    """
    Improve codes within working sets, each by its own steps: of all codes that one moves which has furthest to go.

    Parameters
    ----------
    gram : Tensor of shape (n_components, n_components)
    factors : Tensor of int64 of shape (n_rows, width)
    sizes : Tensor of int64 of shape (n_rows,)
        How many of these, the first, are each row's working set.
    codes, correlations : Tensor of shape (n_rows, width)
        What the factors' codes are, and how they correlate with the residual that these leave.
    limits : Tensor of shape (2,)
        The penalty, and how far a correlation may be from where it should be.
    positive : bool

    Returns
    -------
    codes : Tensor of shape (n_rows, width)
    """
    n_rows, width = factors.shape
    improved = codes.clone(memory_format=torch.contiguous_format)
    filled_up = max(triton.next_power_of_2(width), 32)
    with torch.cuda.device_of(codes):
        _descend[(n_rows,)](
            gram,
            factors.contiguous(),
            sizes,
            improved,
            correlations.contiguous(),
            limits,
            len(gram),
            width,
            WIDTH=filled_up,
            POSITIVE=positive,
            MOST_STEPS=_MOST_STEPS,
            num_warps=max(filled_up // _FACTORS_A_WARP, 1),
        )
    return improved


@triton.jit(do_not_specialize=["n_components", "width"])
def _descend(
    gram,
    factors,
    sizes,
    codes,
    correlations,
    limits,
    n_components,
    width,
    WIDTH: tl.constexpr,
    POSITIVE: tl.constexpr,
    MOST_STEPS: tl.constexpr,
):
    """Solve the problem of one row; its codes and correlations stay in registers."""
    first = tl.program_id(0).to(tl.int64) * width
    size = tl.load(sizes + tl.program_id(0))
    places = tl.arange(0, WIDTH)
    there = places < size
    factor = tl.load(factors + first + places, mask=there, other=0)
    code = tl.load(codes + first + places, mask=there, other=0.0)
    correlation = tl.load(correlations + first + places, mask=there, other=0.0)
    curvature = tl.load(gram + factor * n_components + factor, mask=there, other=0.0)
    alpha = tl.load(limits)
    least = tl.load(limits + 1)
    furthest = least + 1
    step = 0
    while (step < MOST_STEPS) & (furthest > least):
        pull = correlation + curvature * code
        target = tl.maximum(pull - alpha, 0.0)
        if not POSITIVE:
            target -= tl.maximum(-pull - alpha, 0.0)
        target = tl.where(curvature > 0, target / curvature, code)
        furthest, place = tl.max(tl.abs(target - code) * curvature, 0, return_indices=True)
        chosen = places == place
        change = tl.sum(tl.where(chosen, target - code, 0.0), 0)
        code = tl.where(chosen, target, code)
        row = tl.load(factors + first + place, mask=place < size, other=0)
        correlation -= change * tl.load(gram + row * n_components + factor, mask=there, other=0.0)
        step += 1
    tl.store(codes + first + places, code, mask=there)
