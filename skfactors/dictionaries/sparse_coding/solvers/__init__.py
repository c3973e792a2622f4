"""Sparse coding solvers: one file an algorithm, all in one registry."""

import torch

from skfactors.devices import fits_in_memory
from skfactors.dictionaries.sparse_coding.solvers.active_set import ActiveSet
from skfactors.dictionaries.sparse_coding.solvers.batched import BatchedActiveSet
from skfactors.dictionaries.sparse_coding.solvers.fista import Fista

SOLVERS = {"active_set": ActiveSet, "batched_active_set": BatchedActiveSet, "fista": Fista}


def fastest_solver(device: str, n_components: int, dtype: torch.dtype) -> str:
    """
    Choose a solver.

    Parameters
    ----------
    device : str
        A torch device string.
    n_components : int
    dtype : torch.dtype

    Returns
    -------
    str
        A name in `SOLVERS`: working sets, one row a thread on a CPU and batched elsewhere, if a Gram matrix fits.
    """
    if not fits_in_memory(n_components**2 * dtype.itemsize, device):
        return "fista"
    return "active_set" if torch.device(device).type == "cpu" else "batched_active_set"
