"""The paper's update: a gradient step scaled by a running diagonal Hessian."""

import torch

from skfactors.dictionaries.sparse_coding.updates.base import Update
from skfactors.learning.processes import Processes
from skfactors.learning.threads import torch_threads_for

_STEP_SIZE = 0.005
_DAMPING = 0.001
_HORIZON = 300


class HessianUpdate(Update):
    """
    Move each component along its gradient, divided by a running mean of its squared activation.

    With residuals r, codes a and weights w of a batch, Φ_j += 0.005 · mean(w·r a_j) / (H_j + 0.001), then unit norm;
    H_j is the running mean of w·a_j², over some 300 batches. The constants are those of the paper's code, which works
    with batches of 100 rows and unweighted H; here weights count in both, so that a weight of 2 is a row seen twice.

    Parameters as in :class:`~skfactors.dictionaries.sparse_coding.updates.base.Update`.

    References
    ----------
    Yun, Chen, Olshausen, LeCun (2021), "Transformer visualization via dictionary learning", and its code.
    """

    def __init__(self, n_components: int, n_features: int, *, dtype: torch.dtype, device: str):
        self.state = {
            "n_batches": torch.zeros((), dtype=torch.int64),
            "squared_codes": torch.zeros(n_components, dtype=dtype, device=device),
        }

    def step(
        self, components: torch.Tensor, X: torch.Tensor, codes: torch.Tensor, weight: torch.Tensor, processes: Processes
    ) -> torch.Tensor:
        """Take in a batch of coded rows and move the components."""
        state = self.state
        state["n_batches"] += 1
        horizon = min(state["n_batches"].item(), _HORIZON)
        dtype = state["squared_codes"].dtype
        if not isinstance(codes, torch.Tensor):
            codes = torch.from_numpy(codes.toarray())
        codes, X, moved = codes.to(dtype), X.to(dtype), components.to(dtype)
        share = weight.to(dtype) / processes.sum_(weight.to(dtype).sum())
        state["squared_codes"].lerp_(processes.sum_(share @ codes.square()), 1 / horizon)
        with torch_threads_for(len(X) * components.numel()):
            gradient = (codes * share[:, None]).T @ (X - codes @ moved)
        gradient = processes.sum_(gradient)
        moved = moved + _STEP_SIZE * gradient / (state["squared_codes"] + _DAMPING)[:, None]
        norms = moved.norm(dim=1, keepdim=True)
        return (moved / torch.where(norms > 0, norms, 1)).to(components.dtype)

    def forget(self, factors: torch.Tensor) -> None:
        """Drop what is remembered of some factors, which start anew."""
        self.state["squared_codes"][factors] = 0
