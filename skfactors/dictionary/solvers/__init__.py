"""Sparse coding solvers: one file an algorithm, all in one registry."""

import torch

from skfactors.dictionary.solvers.active_set import ActiveSet
from skfactors.dictionary.solvers.fista import Fista

SOLVERS = {"active_set": ActiveSet, "fista": Fista}


def solver_class(name: str, device: str):
    """
    Find a solver in the registry.

    Parameters
    ----------
    name : str
        A name in `SOLVERS`, or "auto" for the fastest on the device.
    device : str
        A torch device string.

    Returns
    -------
    type
        A subclass of :class:`~skfactors.dictionary.solvers.base.Solver`.
    """
    if name == "auto":
        name = "active_set" if torch.device(device).type == "cpu" else "fista"
    return SOLVERS[name]
