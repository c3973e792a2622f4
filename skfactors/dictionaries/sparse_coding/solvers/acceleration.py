"""The extrapolation of accelerated gradient steps, with a restart for each row."""

import torch


def accelerate(ahead, previous, current, momentum):
    """Extrapolate, starting afresh in the rows where the last extrapolation led uphill."""
    uphill = ((ahead - current) * (current - previous)).sum(1, keepdim=True) > 0
    momentum = torch.where(uphill, 1, momentum)
    following = (1 + (1 + 4 * momentum.square()).sqrt()) / 2
    return current + ((momentum - 1) / following) * (current - previous), following
