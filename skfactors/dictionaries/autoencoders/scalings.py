"""What some autoencoders do to each row before they code it, and undo in what they reconstruct."""

import math

import torch

_EPSILON = 1e-5


def unscaled(X: torch.Tensor):
    """Return rows as they are; a shift of 0 and a scale of 1 undo that."""
    return X, 0.0, 1.0


def unit_norm(X: torch.Tensor):
    """Scale rows to a length of the square root of their width; a row of zeros stays one, and has no codes."""
    lengths = X.norm(dim=1, keepdim=True) / math.sqrt(X.shape[1])
    # No division by zero, not even where it is thrown away: its gradient would not be.
    return X / torch.where(lengths > 0, lengths, 1), 0.0, lengths


def layer_norm(X: torch.Tensor):
    """Shift rows to mean 0 and scale them to a sample deviation of 1."""
    mean, deviation = X.mean(1, keepdim=True), X.std(1, keepdim=True)
    return (X - mean) / (deviation + _EPSILON), mean, deviation


# From rows to scaled rows, and the shift and scale that take these back: scaled * scale + shift.
SCALINGS = {"none": unscaled, "unit_norm": unit_norm, "layer_norm": layer_norm}
