"""Frequency weights of a store's rows, looked up as they are asked for."""

from collections.abc import Sequence
from functools import cached_property, lru_cache

import numpy as np

from skfactors.extraction.indexing import row_numbers
from skfactors.extraction.store.shards import Shard
from skfactors.fingerprints import fingerprint

# Shards whose tokens are kept at hand; a shuffle buffer draws from many.
_SHARDS_AT_HAND = 256


class FrequencyWeights:
    """
    1/√count(token) for each row, scaled to mean 1, without an array of all rows.

    Counts are over the whole store; as every token has a row for each place, it does not matter how many places there
    are (Yun et al. 2021). Index it as an array of shape (n_rows,), or take all by ``weights[:]``.

    Parameters
    ----------
    shards : sequence of Shard
    ends : ndarray of int of shape (n_shards,)
        Number of the row after each shard's last.
    store_fingerprint : str
        Of the store: they are no other's.

    Attributes
    ----------
    store_fingerprint : str
    """

    def __init__(self, shards: Sequence[Shard], ends: np.ndarray, store_fingerprint: str):
        self._shards, self._ends, self.store_fingerprint = shards, ends, store_fingerprint
        counts = np.zeros(0, dtype=np.int64)
        for shard in shards:
            of_shard = np.bincount(_token_ids(shard), minlength=len(counts))
            of_shard[: len(counts)] += counts
            counts = of_shard
        self._keep_at_hand()
        weight = 1 / np.sqrt(np.maximum(counts, 1))
        self._weight_of_token = weight / max((weight @ counts) / max(len(self), 1), np.finfo(float).tiny)

    def _keep_at_hand(self) -> None:
        self._token_ids = lru_cache(_SHARDS_AT_HAND)(lambda shard: _token_ids(self._shards[shard]).astype(np.int32))

    def __getstate__(self):
        return {name: value for name, value in vars(self).items() if name != "_token_ids"}

    def __setstate__(self, state):
        vars(self).update(state)
        self._keep_at_hand()

    @cached_property
    def fingerprint(self) -> str:
        """Digest that identifies the weights."""
        return fingerprint(["frequency weights", self.store_fingerprint])

    @property
    def shape(self) -> tuple[int]:
        """Number of rows."""
        return (len(self),)

    def __len__(self) -> int:
        return int(self._ends[-1]) if len(self._ends) else 0

    def __getitem__(self, rows):
        rows = row_numbers(rows, len(self))
        flat = np.ravel(rows)
        weights = np.empty(len(flat))
        shards = np.searchsorted(self._ends, flat, side="right")
        starts = np.concatenate([[0], self._ends])
        for shard in np.unique(shards):
            of_shard = shards == shard
            token_ids = self._token_ids(int(shard))[flat[of_shard] - starts[shard]]
            weights[of_shard] = self._weight_of_token[token_ids]
        return weights.reshape(np.shape(rows))[()]

    def __array__(self, dtype=None, copy=None) -> np.ndarray:
        return self[:].astype(dtype or np.float64, copy=False)


def _token_ids(shard: Shard) -> np.ndarray:
    return shard.columns(["token_id"])["token_id"].to_numpy()
