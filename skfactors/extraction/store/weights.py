"""Frequency weights of a store's rows, looked up as they are asked for."""

from collections.abc import Sequence
from functools import cached_property, lru_cache

import numpy as np

from skfactors.extraction.store.shards import Shard
from skfactors.fingerprints import fingerprint

# Shards whose tokens are kept at hand; a shuffle buffer draws from many.
_SHARDS_AT_HAND = 256


class FrequencyWeights:
    """
    1/√count(token) for each row, scaled to mean 1, without an array of all rows.

    Counts are over the whole store, each token counted once however many layers hold it (Yun et al. 2021).
    Index it by rows (``weights[rows]``, ``weights[10:20]``) for an array of float64.

    Parameters
    ----------
    shards : sequence of Shard
    ends : ndarray of int of shape (n_shards,)
        Number of the row after each shard's last.
    first_layer : int
        Layer whose rows are counted.
    """

    def __init__(self, shards: Sequence[Shard], ends: np.ndarray, first_layer: int):
        self._ends = ends
        self._token_ids = lru_cache(_SHARDS_AT_HAND)(
            lambda shard: shards[shard].columns(["token_id"])["token_id"].to_numpy(np.int32)
        )
        counts, all_counts = np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.int64)
        for shard in shards:
            columns = shard.columns(["token_id", "layer"])
            token_ids = columns["token_id"].to_numpy()
            all_counts = _sum_of(all_counts, np.bincount(token_ids))
            counts = _sum_of(counts, np.bincount(token_ids[columns["layer"].to_numpy() == first_layer]))
        weight = 1 / np.sqrt(np.maximum(counts, 1))
        self._weight_of_token = weight / max((weight @ all_counts) / max(len(self), 1), np.finfo(float).tiny)

    @cached_property
    def fingerprint(self) -> str:
        """Digest that identifies the weights."""
        return fingerprint([self._ends, self._weight_of_token])

    @property
    def shape(self) -> tuple[int]:
        """Number of rows."""
        return (len(self),)

    def __len__(self) -> int:
        return int(self._ends[-1]) if len(self._ends) else 0

    def __getitem__(self, rows) -> np.ndarray:
        if isinstance(rows, slice):
            rows = np.arange(*rows.indices(len(self)))
        rows = np.asarray(rows)
        weights = np.empty(len(rows))
        shards = np.searchsorted(self._ends, rows, side="right")
        starts = np.concatenate([[0], self._ends])
        for shard in np.unique(shards):
            of_shard = shards == shard
            token_ids = self._token_ids(int(shard))[rows[of_shard] - starts[shard]]
            weights[of_shard] = self._weight_of_token[token_ids]
        return weights


def _token_ids(shard: Shard) -> np.ndarray:
    return shard.columns(["token_id"])["token_id"].to_numpy(np.int32)


def _sum_of(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    total = np.zeros(max(len(one), len(other)), dtype=np.int64)
    total[: len(one)] += one
    total[: len(other)] += other
    return total
