"""BatchTopK: the largest pre-activations of a minibatch, and a threshold once all is learned."""

import numpy as np
import torch

from skfactors.dictionaries.autoencoders.activations.base import Activation

# Share of a cutoff that the next one is most likely above.
_SURELY_BELOW = 0.8


class BatchTopK(Activation):
    """
    Keep the largest positive pre-activations of a minibatch, `n_nonzero_coefs` times as many as it has rows.

    A row that is hard to reconstruct may so have more codes than another. `transform` keeps what is above one
    threshold, with which rows have as many codes in the mean.

    References
    ----------
    Bussmann, Leask, Nanda (2024), "BatchTopK sparse autoencoders".
    """

    selection = "above"

    def __init__(self, n_nonzero_coefs):
        super().__init__(n_nonzero_coefs)
        # Above what is looked at first: well below the cutoff of the last minibatch.
        self._floor = 0.0

    def floor(self, P):
        """Return above which values pre-activations are looked at."""
        return np.full(P.shape[1], self._floor, P.dtype)

    def narrow(self, counts, factors, z, processes):
        """Return the entries that are left once those of the whole minibatch are known; None if some were missed."""
        n_rows, n_found = processes.sum_(torch.tensor([len(counts), len(z)], dtype=torch.float64)).long().tolist()
        most = self.n_nonzero_coefs * n_rows
        missed = self._floor > 0 and n_found < most
        self._floor = 0.0
        if missed:
            return None
        candidates = z
        if processes.size > 1:
            largest = np.sort(z)[::-1][:most]
            candidates = processes.gather(torch.from_numpy(largest.copy()), most).numpy()
        if np.count_nonzero(candidates) <= most:
            return counts, factors, z
        cutoff = np.partition(candidates, len(candidates) - most)[len(candidates) - most]
        self._floor = _SURELY_BELOW * float(cutoff)
        kept = z >= cutoff
        rows = np.repeat(np.arange(len(counts)), counts)[kept]
        return np.bincount(rows, minlength=len(counts)), factors[kept], z[kept]

    def dense_entries(self, Z, P):
        """Return which pre-activations are entries."""
        most = min(self.n_nonzero_coefs * len(Z), Z.numel())
        cutoff = Z.flatten().topk(most, sorted=False).values.min() if most else torch.inf
        return (Z >= cutoff) & (Z > 0)

    def fitted(self, W, P, shift):
        """Return encoder, bias and threshold."""
        return {"encoder": W, "bias": P[0], "threshold": np.full(P.shape[1], max(shift, 0.0))}
