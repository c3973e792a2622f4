"""Sparse coding solvers: one file an algorithm, all in one registry."""

import torch

from skfactors.devices import fits_in_memory
from skfactors.dictionary.solvers.active_set import ActiveSet
from skfactors.dictionary.solvers.fista import Fista

SOLVERS = {"active_set": ActiveSet, "fista": Fista}


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
        A name in `SOLVERS`: the active-set solver on a CPU that has the memory for a Gram matrix.
    """
    on_cpu = torch.device(device).type == "cpu"
    return "active_set" if on_cpu and fits_in_memory(n_components**2 * dtype.itemsize, device) else "fista"
