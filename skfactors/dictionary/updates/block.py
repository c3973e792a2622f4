"""Block coordinate descent on sufficient statistics."""

import torch

from skfactors.dictionary.updates.base import Update

# Atoms whose mutual corrections are applied one by one; between blocks they are one matrix product.
_ATOMS_IN_A_BLOCK = 64
_SWEEPS = 2
# How fast early statistics, made with a dictionary long gone, are forgotten: the weight of all that was seen before
# the t-th batch is multiplied by (1 - 1/t)^5.
_FORGETTING = 5


class BlockUpdate(Update):
    """
    Minimise the reconstruction error of all rows so far, over one component after the other.

    The error is a quadratic of the components that depends on the rows only through A = Σ w·a aᵀ and B = Σ w·a xᵀ; old
    rows count for less, as their codes belong to an older dictionary. Components stay in the unit ball.

    Parameters as in :class:`~skfactors.dictionary.updates.base.Update`.

    References
    ----------
    Mairal, Bach, Ponce, Sapiro (2010), "Online learning for matrix factorization and sparse coding", algorithm 2 and
    section 3.4.
    """

    def __init__(self, n_components: int, n_features: int, *, dtype: torch.dtype, device: str):
        options = {"dtype": dtype, "device": device}
        self.state = {
            "n_batches": torch.zeros((), dtype=torch.int64),
            "codes_codes": torch.zeros(n_components, n_components, **options),
            "codes_data": torch.zeros(n_components, n_features, **options),
        }

    def step(
        self, components: torch.Tensor, X: torch.Tensor, codes: torch.Tensor, weight: torch.Tensor
    ) -> torch.Tensor:
        """Take in a batch of coded rows and move the components."""
        state = self.state
        state["n_batches"] += 1
        kept = (1 - 1 / state["n_batches"].item()) ** _FORGETTING
        dtype = state["codes_codes"].dtype
        codes, X = codes.to(dtype), X.to(dtype)
        weighted = (codes * weight.to(dtype)[:, None]).T
        state["codes_codes"].mul_(kept).addmm_(weighted, codes)
        state["codes_data"].mul_(kept).addmm_(weighted, X)
        moved = components.to(dtype)
        for _ in range(_SWEEPS):
            moved = _sweep(moved, state["codes_codes"], state["codes_data"])
        return moved.to(components.dtype)

    def forget(self, factors: torch.Tensor) -> None:
        """Drop what is remembered of some factors, which start anew."""
        self.state["codes_codes"][factors] = 0
        self.state["codes_codes"][:, factors] = 0
        self.state["codes_data"][factors] = 0


def _sweep(components: torch.Tensor, codes_codes: torch.Tensor, codes_data: torch.Tensor) -> torch.Tensor:
    """Minimise over every component once, in order. A component that no row uses stays as it is."""
    components = components.clone()
    curvature = codes_codes.diagonal()
    used = (curvature > 0).tolist()
    for start in range(0, len(components), _ATOMS_IN_A_BLOCK):
        block = slice(start, start + _ATOMS_IN_A_BLOCK)
        gradient = codes_data[block] - codes_codes[block] @ components
        within = codes_codes[block, block]
        change = torch.zeros_like(gradient)
        for place, (row, is_used) in enumerate(zip(within, used[block], strict=True)):
            if is_used:
                atom = components[start + place]
                moved = atom + (gradient[place] - row @ change) / curvature[start + place]
                change[place] = moved / moved.norm().clamp_min(1) - atom
        components[block] += change
    return components
