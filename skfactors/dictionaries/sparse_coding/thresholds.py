"""What nested codes ask of the factors that they let in, as it is learned."""

from collections.abc import Callable, Sequence

import numpy as np
import torch

# A factor that is seldom active must correlate more, by the logarithm of the odds against it: so does the most probable
# code, where features of one strength are seen through Gaussian noise. This is the noise's share in it.
_WEIGHT_OF_ODDS = 0.2
# Frequencies below this share of their mean count as it: a factor may be about to find its feature.
_LEAST_SHARE, _HIGHEST = 0.1, 0.9
# A group has at least this share of the active factors that its size would give it: else the first, which sees rows
# whole, leaves nothing for the others where rows have much in common, and these never learn.
_LEAST_OF_GROUP = 0.25
# Batches over which frequencies are averaged, and the most that a batch moves the threshold.
_HORIZON, _STEP = 20, 0.1
_ROUNDS = 16


class Thresholds:
    """
    Thresholds of factors: one for all, more for those that are seldom active, less for groups that hardly are.

    Parameters
    ----------
    n_components : int
    alpha : float
        The threshold of a factor that is active in every second row.
    n_nonzero_coefs : int or None
        Active factors of a row that it is steered to instead, in the mean.
    group_ends : sequence of int
        Where groups of factors end. Only where `n_nonzero_coefs` is given are their thresholds lowered.

    Attributes
    ----------
    state : dict of str to Tensor
        All that a later step depends on.
    """

    def __init__(self, n_components: int, alpha: float, n_nonzero_coefs: int | None, group_ends: Sequence[int]):
        self._asked, self._sizes = n_nonzero_coefs, torch.tensor(np.diff(group_ends, prepend=0))
        threshold = alpha if n_nonzero_coefs is None else 0.0
        self.state = {
            "threshold": torch.tensor(threshold, dtype=torch.float64),
            "frequencies": torch.full((n_components,), 0.5, dtype=torch.float64),
            "scales": torch.ones(n_components, dtype=torch.float64),
        }

    def of_factors(self) -> np.ndarray:
        """Return the threshold of each factor."""
        frequencies = self.state["frequencies"]
        likely = frequencies.clamp(float(_LEAST_SHARE * frequencies.mean()), _HIGHEST).clamp_min(1e-6)
        odds = 1 - _WEIGHT_OF_ODDS * torch.logit(likely)
        return (self.state["threshold"] * self.state["scales"] * odds).numpy()

    def begin(self, longest: float, l0_at: Callable[[np.ndarray], float]) -> None:
        """
        Find the threshold to begin with, unless it is given.

        Parameters
        ----------
        longest : float
            A correlation that is hardly exceeded.
        l0_at : callable
            From thresholds to the active factors of a row.
        """
        if self._asked is None or self.state["threshold"] > 0:
            return
        low, high = 1e-4 * longest, longest
        for _ in range(_ROUNDS):
            self.state["threshold"].fill_((low * high) ** 0.5)
            threshold = self.state["threshold"].item()
            low, high = (threshold, high) if l0_at(self.of_factors()) > self._asked else (low, threshold)

    def update(self, frequencies: torch.Tensor, n_steps: int) -> None:
        """
        Take in a batch.

        Parameters
        ----------
        frequencies : Tensor of shape (n_components,)
            Shares of its rows, by weight, in which each factor was active.
        n_steps : int
            Batches so far, this one among them.
        """
        frequencies = frequencies.to(self.state["frequencies"])
        if self._asked is not None:
            excess = (frequencies.sum().item() - self._asked) / self._asked
            self.state["threshold"] *= 1 + _STEP * float(np.clip(excess, -1, 1))
            least = _LEAST_OF_GROUP * self._asked * self._sizes / len(frequencies)
            of_groups = torch.stack([group.sum() for group in frequencies.split(self._sizes.tolist())])
            steps = 1 + _STEP * ((of_groups - least) / least).clamp(-1, 1)
            self.state["scales"].mul_(steps.repeat_interleave(self._sizes)).clamp_(max=1)
        self.state["frequencies"].lerp_(frequencies, 1 / min(n_steps, _HORIZON))

    def forget(self, factors: torch.Tensor) -> None:
        """Take factors that start anew for as frequent as others are."""
        self.state["frequencies"][factors.cpu()] = self.state["frequencies"].mean()

    def restore(self, state: dict[str, np.ndarray]) -> None:
        """Take up where a state was taken; a threshold that is given stays."""
        if "frequencies" not in state:
            return
        self.state["frequencies"] = torch.tensor(state["frequencies"])
        if self._asked is not None:
            # Once groups had no scales.
            self.state |= {name: torch.tensor(state[name]) for name in ("threshold", "scales") if name in state}
