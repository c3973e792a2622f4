"""What takes the steps of learning, by device."""

import torch

from skfactors.dictionaries.autoencoders.dense_engine import DenseEngine
from skfactors.dictionaries.autoencoders.sparse_engine import SparseEngine


def engine_for(device: str, weights, activation, group_ends, processes, *, half: bool, jacobian_penalty: float):
    """Return a SparseEngine on a CPU, and a DenseEngine elsewhere, in bfloat16 if asked for."""
    if torch.device(device).type == "cpu":
        return SparseEngine(weights, activation, group_ends, processes, jacobian_penalty)
    return DenseEngine(weights, activation, group_ends, processes, device, half, jacobian_penalty)
