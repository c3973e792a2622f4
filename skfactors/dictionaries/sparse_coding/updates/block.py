"""Block coordinate descent on sufficient statistics."""

import torch

from skfactors.dictionaries.sparse_coding.updates._atoms import add_rows, change_of_block
from skfactors.dictionaries.sparse_coding.updates.base import Update
from skfactors.learning.threads import torch_threads_for

# Atoms whose mutual corrections are worked out among them; between blocks they are one matrix product. Many together on
# an accelerator, where a small product takes as long as a large one.
_ATOMS_MOVED_IN_TURN = 64
_ATOMS_MOVED_TOGETHER = 2048
# After t batches the statistics are those of the last t / 4, about: longer memories keep codes of dictionaries long
# gone, shorter ones are short of rows.
_SHARE_REMEMBERED = 1 / 4
_MAJORIZED_STEPS = 8


class BlockUpdate(Update):
    """
    Minimise the reconstruction error of all rows so far, over one component after the other.

    The error is a quadratic of the components that depends on the rows only through A = Σ w·a aᵀ and B = Σ w·a xᵀ; old
    rows count for less, as their codes belong to an older dictionary. Components stay in the unit ball.

    On a CPU, atoms of a block are moved one after the other by compiled code. Elsewhere they move together, a few steps
    along their gradients that are short enough not to overshoot.

    Parameters as in :class:`~skfactors.dictionaries.sparse_coding.updates.base.Update`.

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

    def step(self, components, X, codes, weight, processes):
        """Take in a batch of coded rows and move the components."""
        self.state["n_batches"] += 1
        kept = max(1 - 1 / (_SHARE_REMEMBERED * self.state["n_batches"].item()), 0.0)
        # One process brings what all remember, so that the sum over them holds it once.
        kept = kept if processes.rank == 0 else 0.0
        codes_codes, codes_data = self.state["codes_codes"].mul_(kept), self.state["codes_data"].mul_(kept)
        if isinstance(codes, torch.Tensor):
            # Only sums over many batches need double precision, in which most accelerators are slow.
            weighted = (codes * weight.to(codes)[:, None]).T
            codes_codes += weighted @ codes
            codes_data += weighted @ X
        else:
            arrays = (tensor.numpy() for tensor in (X, weight, codes_codes, codes_data))
            add_rows(codes.indptr, codes.indices, codes.data, *arrays)
        processes.sum_(codes_codes)
        processes.sum_(codes_data)
        way = (
            (_in_turn, _ATOMS_MOVED_IN_TURN) if components.device.type == "cpu" else (_together, _ATOMS_MOVED_TOGETHER)
        )
        with torch_threads_for(len(components) * components.numel()):
            return sweep(components, codes_codes, codes_data, *way)

    def forget(self, factors: torch.Tensor) -> None:
        """Drop what is remembered of some factors, which start anew."""
        self.state["codes_codes"][factors] = 0
        self.state["codes_codes"][:, factors] = 0
        self.state["codes_data"][factors] = 0


def sweep(
    components: torch.Tensor, codes_codes: torch.Tensor, codes_data: torch.Tensor, move, n_at_once: int
) -> torch.Tensor:
    """
    Improve every component once, block by block. A component that no row uses stays as it is.

    Parameters
    ----------
    components : Tensor of shape (n_components, n_features)
    codes_codes : Tensor of shape (n_components, n_components)
        Σ w·a aᵀ.
    codes_data : Tensor of shape (n_components, n_features)
        Σ w·a xᵀ.
    move : callable
        From a block's atoms, its gradient and its part of `codes_codes` to the change of its atoms.
    n_at_once : int
        Atoms in a block.

    Returns
    -------
    components : Tensor of shape (n_components, n_features)
    """
    components = components.clone()
    for start in range(0, len(components), n_at_once):
        block = slice(start, start + n_at_once)
        with_all = codes_codes[block].to(components)
        gradient = codes_data[block].to(components).addmm(with_all, components, alpha=-1)
        components[block] += move(components[block], gradient, with_all[:, block].contiguous())
    return components


def _in_turn(atoms, gradient, within):
    return torch.from_numpy(change_of_block(atoms.numpy(), gradient.numpy(), within.numpy()))


def _together(atoms, gradient, within):
    """Step along the gradients, each divided by the sum of its row of `within`, which bounds the curvature."""
    bound = within.abs().sum(1, keepdim=True)
    used = within.diagonal()[:, None] > 0
    change = torch.zeros_like(atoms)
    for _ in range(_MAJORIZED_STEPS):
        moved = atoms + change + (gradient - within @ change) / torch.where(used, bound, 1)
        change = torch.where(used, moved / moved.norm(dim=1, keepdim=True).clamp_min(1) - atoms, 0)
    return change
