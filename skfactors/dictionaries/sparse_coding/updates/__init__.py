"""Dictionary updates: one file an algorithm, all in one registry."""

import torch

from skfactors.devices import fits_in_memory
from skfactors.dictionaries.sparse_coding.updates.block import BlockUpdate
from skfactors.dictionaries.sparse_coding.updates.hessian import HessianUpdate

UPDATES = {"block": BlockUpdate, "hessian": HessianUpdate}


def best_update(device: str, n_components: int) -> str:
    """
    Choose an update.

    Parameters
    ----------
    device : str
        A torch device string.
    n_components : int

    Returns
    -------
    str
        A name in `UPDATES`: "block" wherever there is the memory for its sums over pairs of components.
    """
    return "block" if fits_in_memory(n_components**2 * torch.float64.itemsize, device) else "hessian"
