"""From pre-activations to codes: which of them are kept. Plain NumPy arrays on the CPU, tensors elsewhere."""

from abc import ABC, abstractmethod

import numpy as np
import torch

from skfactors.dictionaries.autoencoders._selecting import rows_above, rows_largest, rows_largest_of_groups


class Selection(ABC):
    """
    A rule that keeps some pre-activations of each row and makes all others zero.

    Parameters
    ----------
    n_nonzero_coefs : int or None
        The most that are kept, where the rule has such a number.
    threshold : ndarray of shape (n_components,) or None
        What they must be above, where the rule has thresholds.
    """

    # Which of the two the rule has.
    has_number, has_threshold = False, False

    def __init__(self, n_nonzero_coefs: int | None, threshold: np.ndarray | None):
        self.n_nonzero_coefs, self.threshold = n_nonzero_coefs, threshold

    @abstractmethod
    def sparse(self, Z: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return how many are kept of each row, their factors in ascending order, and their values, row after row."""

    @abstractmethod
    def kept(self, Z: torch.Tensor) -> torch.Tensor:
        """Return which are kept: booleans of the shape of Z."""


class Positive(Selection):
    """Keeps what is positive."""

    def sparse(self, Z):
        """Return counts, factors and values."""
        return rows_above(Z, np.zeros(Z.shape[1], Z.dtype))

    def kept(self, Z):
        """Return which are kept."""
        return Z > 0


class Above(Selection):
    """Keeps what is positive and above its factor's threshold."""

    has_threshold = True

    def sparse(self, Z):
        """Return counts, factors and values."""
        return rows_above(Z, np.maximum(self.threshold, 0).astype(Z.dtype))

    def kept(self, Z):
        """Return which are kept."""
        return Z > torch.as_tensor(self.threshold).to(Z).clamp_min(0)


class Largest(Selection):
    """Keeps the largest of a row, where they are positive."""

    has_number = True
    magnitudes, positive = False, True

    def sparse(self, Z):
        """Return counts, factors and values."""
        return rows_largest(Z, self.n_nonzero_coefs, self.magnitudes, self.positive)

    def kept(self, Z):
        """Return which are kept."""
        sizes = Z.abs() if self.magnitudes else Z
        chosen = sizes.topk(min(self.n_nonzero_coefs, Z.shape[1]), dim=1, sorted=False).indices
        kept = torch.zeros_like(Z, dtype=torch.bool).scatter_(1, chosen, True)
        return kept & (Z > 0) if self.positive else kept & (Z != 0)


class LargestOfAnySign(Largest):
    """Keeps the largest of a row, also where they are negative."""

    positive = False


class LargestMagnitudes(Largest):
    """Keeps those furthest from zero, with their signs."""

    magnitudes, positive = True, False


class LargestOfGroups(Selection):
    """Cuts the factors into as many groups of neighbours, and keeps the largest of each, where it is positive."""

    has_number = True

    def sparse(self, Z):
        """Return counts, factors and values."""
        return rows_largest_of_groups(Z, self.n_nonzero_coefs)

    def kept(self, Z):
        """Return which are kept."""
        groups = Z.reshape(len(Z), self.n_nonzero_coefs, -1)
        chosen = groups.argmax(2, keepdim=True)
        kept = torch.zeros_like(groups, dtype=torch.bool).scatter_(2, chosen, True)
        return (kept & (groups > 0)).reshape(Z.shape)


SELECTIONS = {
    "positive": Positive,
    "above": Above,
    "largest": Largest,
    "largest_of_any_sign": LargestOfAnySign,
    "largest_magnitudes": LargestMagnitudes,
    "largest_of_groups": LargestOfGroups,
}


def mismatch_of_rule(name: str, n_nonzero_coefs: int | None, has_threshold: bool, n_components: int) -> str | None:
    """Say what the rule of this name lacks or has too much; None where it has what it needs."""
    rule = SELECTIONS[name]
    if rule.has_threshold != has_threshold:
        return f"it has {'a' if has_threshold else 'no'} threshold, and its selection is {name!r}"
    if rule.has_number and n_nonzero_coefs is None:
        return f"it has no n_nonzero_coefs, and its selection is {name!r}"
    if rule is LargestOfGroups and n_components % n_nonzero_coefs:
        return f"its {n_components} components are not to be cut into n_nonzero_coefs={n_nonzero_coefs} groups"
    return None
