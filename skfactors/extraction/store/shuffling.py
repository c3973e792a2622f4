"""Rows of a store in shuffled order, with bounded memory."""

from collections.abc import Iterator, Sequence

import numpy as np

from skfactors.extraction.store.shards import Shard


def shuffled_batches(
    shards: Sequence[Shard],
    first_rows: np.ndarray,
    width: int,
    dtype,
    generator: np.random.Generator,
    *,
    batch_size: int,
    buffer_rows: int,
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """
    Yield all rows once, in an order that is close to a uniform shuffle.

    Chunks of rows that lie together are read in random order into a buffer, of which batches are random draws.

    Parameters
    ----------
    shards : sequence of Shard
    first_rows : ndarray of int of shape (n_shards,)
        Number of each shard's first row.
    width : int
    dtype : dtype of the rows
    generator : Generator
    batch_size : int
    buffer_rows : int
        Rows held in memory, about.

    Yields
    ------
    rows : ndarray of int64 of shape (n_in_batch,)
        Numbers of the rows, ascending.
    X : ndarray of shape (n_in_batch, width)
    """
    n_rows = sum(shard.n_rows for shard in shards)
    chunks = [(shard, chunk) for shard, of in enumerate(shards) for chunk in range(len(of.record.chunks))]
    chunk_rows = shards[0].chunk_rows if chunks else 0
    scratch = shards[0].scratch() if chunks else None
    buffer = _Buffer(min(n_rows, max(buffer_rows, batch_size) + chunk_rows), width, dtype, generator)
    for place in generator.permutation(len(chunks)):
        shard, chunk = chunks[place]
        while buffer.held > buffer.size - chunk_rows and buffer.held >= batch_size:
            yield buffer.draw(batch_size)
        first, X = shards[shard].read_chunk(chunk, scratch)
        buffer.add(first_rows[shard] + first, X)
    while buffer.held:
        yield buffer.draw(min(batch_size, buffer.held))


class _Buffer:
    """Rows in no order. They stay where they are until they are drawn; only the list of their places is kept dense."""

    def __init__(self, size: int, width: int, dtype, generator: np.random.Generator):
        self.size, self.held = size, 0
        self._X = np.empty((size, width), dtype=dtype)
        self._rows = np.empty(size, dtype=np.int64)
        # First the places of the rows that are held, then the free ones.
        self._places = np.arange(size)
        self._generator = generator

    def add(self, first_row: int, X: np.ndarray) -> None:
        free = self._places[self.held : self.held + len(X)]
        self._X[free] = X
        self._rows[free] = first_row + np.arange(len(X))
        self.held += len(X)

    def draw(self, n_rows: int) -> tuple[np.ndarray, np.ndarray]:
        chosen = self._generator.choice(self.held, n_rows, replace=False, shuffle=False)
        places = self._places[chosen]
        self.held -= n_rows
        stay = np.setdiff1d(np.arange(self.held, self.held + n_rows), chosen, assume_unique=True)
        self._places[chosen[chosen < self.held]] = self._places[stay]
        self._places[self.held : self.held + n_rows] = places
        places = places[np.argsort(self._rows[places])]
        return self._rows[places], self._X[places]
