"""ActivationStore: more rows than fit in memory, in a folder."""

from collections.abc import Iterator
from functools import cached_property, lru_cache
from numbers import Integral
from pathlib import Path

import numpy as np
import pandas as pd
from sklearn.utils import check_scalar

from skfactors.extraction.activations import Activations
from skfactors.extraction.indexing import row_numbers, selected_rows
from skfactors.extraction.provenance import no_provenance
from skfactors.extraction.sites import Place, find_place, named
from skfactors.extraction.store.layout import (
    COMPLETE,
    Record,
    all_records,
    read_checked,
    read_manifest,
    trouble_with,
    widths_of,
)
from skfactors.extraction.store.shards import Shard, widened
from skfactors.extraction.store.shuffling import shuffled_batches
from skfactors.extraction.store.weights import FrequencyWeights
from skfactors.extraction.text.corpus import Texts
from skfactors.records import digest

_SHARDS_MAPPED = 16


class ActivationStore:
    """
    Hidden states on disk, with their provenance and texts; made by :meth:`TransformerFeatureExtractor.extract_to`.

    Iterating gives :class:`Activations`, a shard at a time, in the order of the corpus. Slicing by row
    (``store[10:20]``, ``store[mask]``, ``store[indices]``) gives Activations too, and reads no more than these rows.
    :meth:`SparseDictionary.fit` and :meth:`FactorReport.from_store` read it piece by piece.

    Parameters
    ----------
    path : path-like
        The folder.
    partial : bool, default=False
        Whether to open a store that is not complete, for the shards that are there.

    Attributes
    ----------
    path : Path
    content : dict
        All that decides the rows: checksums of the model's files, layers, windows and precision.
    places : list of Place
        Each a site and a layer.
    layers : list of int
    n_documents : int or None
        Texts, those without rows included; None for a store that is not complete.
    n_shards : int
    n_nonfinite : int
        Values that are NaN or infinite.
    fingerprint : str
        Digest that identifies the rows.

    Raises
    ------
    FileNotFoundError
        If the folder is not a store.
    ValueError
        If it is not complete, or its manifest is damaged.

    See Also
    --------
    TransformerFeatureExtractor.extract_to : Makes stores, and mends them.

    Notes
    -----
    Each shard is a safetensors file and, where pyarrow was installed, a Parquet file with the provenance; JSON files
    say what belongs where, with checksums. What is read is checked first: rows that are not those that were written
    raise an error.

    Examples
    --------
    >>> from tempfile import TemporaryDirectory
    >>> from skfactors import SparseDictionary, TransformerFeatureExtractor
    >>> from skfactors.datasets import demo_model
    >>> extractor = TransformerFeatureExtractor(demo_model(), layers=[6])
    >>> with TemporaryDirectory() as folder:
    ...     store = extractor.extract_to(["She left the park.", "The left gate of the park."], folder)
    ...     dictionary = SparseDictionary(4, alpha=1.0).fit(store, sample_weight=store.sample_weight)
    ...     store.shape, store[:3].X.shape, len(store.verify())
    ((12, 384), (3, 384), 0)
    """

    def __init__(self, path, *, partial=False):
        self._open(path, partial)

    def _open(self, path, partial, place=None):
        self.path = Path(path)
        self._place = place
        self._manifest = read_manifest(self.path)
        self._widths = widths_of(self._manifest)
        records, self.n_documents = _completed(self.path)
        if records is None:
            records = all_records(self.path)
            if not partial:
                raise ValueError(
                    f"the store {str(self.path)!r} is not complete: {len(records)} shards are there. Call extract_to "
                    "again with the same texts, which goes on where it stopped, or open it with partial=True."
                )
        self._shards = [Shard(self.path, record, self._manifest, place) for record in records]
        self._ends = np.cumsum([shard.n_rows for shard in self._shards], dtype=np.int64)
        self._mapped = lru_cache(_SHARDS_MAPPED)(lambda number: self._shards[number].map())

    @property
    def content(self) -> dict:
        """All that decides the rows."""
        return self._manifest["content"]

    @property
    def places(self) -> list[Place]:
        """Places of the rows, each a site and a layer, in the order of a document's rows."""
        return list(self._widths) if self._place is None else [self._place]

    @property
    def layers(self) -> list[int]:
        """Layers of the rows, from 0."""
        return list(dict.fromkeys(layer for _, layer in self.places))

    @property
    def n_shards(self) -> int:
        """Number of shards."""
        return len(self._shards)

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and width; a ValueError where places differ in width."""
        widths = {self._widths[place] for place in self.places}
        if len(widths) > 1:
            raise ValueError(
                f"The rows of this store differ in width: {sorted(widths)}. Take those of one place, as with "
                f"at(layer={self.layers[0]}); there are {named(self.places)}."
            )
        return len(self), widths.pop()

    @property
    def ndim(self) -> int:
        """Two, as of an array."""
        return 2

    @property
    def dtype(self) -> np.dtype:
        """Data type that rows come out as."""
        return np.dtype(np.float64 if self._manifest["dtype"] == "float64" else np.float32)

    @property
    def nbytes(self) -> int:
        """Bytes on disk."""
        return sum(size for shard in self._shards for size, _ in shard.record.files.values())

    @cached_property
    def n_nonfinite(self) -> int:
        """Values that are NaN or infinite."""
        if self._place is None:
            return sum(shard.record.n_nonfinite for shard in self._shards)
        suspects = (shard.read().X for shard in self._shards if shard.record.n_nonfinite)
        return sum(int((~np.isfinite(X)).sum()) for X in suspects)

    @cached_property
    def fingerprint(self) -> str:
        """Digest that identifies the rows."""
        files = [shard.record.files for shard in self._shards]
        return digest([self._manifest, *files] if self._place is None else [self._manifest, self._place, *files])

    @cached_property
    def sample_weight(self) -> FrequencyWeights:
        """Weight of each row by the rarity of its token, of mean 1, looked up a batch at a time; see Activations."""
        return FrequencyWeights(self._shards, self._ends)

    def __len__(self) -> int:
        return int(self._ends[-1]) if len(self._ends) else 0

    def __iter__(self) -> Iterator[Activations]:
        return (shard.read() for shard in self._shards)

    def at(self, site: str | None = None, layer: int | None = None) -> "ActivationStore":
        """
        Take the rows of one place; none are read yet.

        Parameters
        ----------
        site : str, default=None
            None is for a store of a single site.
        layer : int, default=None
            None is for a store of a single layer.

        Returns
        -------
        ActivationStore
            Of shape (n_tokens, width of the place), in the order of the corpus: tokens are in the same order for every
            place. It is read piece by piece as the whole is, to fit a dictionary or to report on one.

        Raises
        ------
        ValueError
            If there is no such place, or more than one; the message names those that there are.
        """
        place = find_place(self.places, site, layer)
        store = object.__new__(ActivationStore)
        store._open(self.path, self.n_documents is None, place)
        return store

    def read_shard(self, number: int) -> Activations:
        """
        Read a shard.

        Parameters
        ----------
        number : int
            From 0 to `n_shards` - 1.

        Returns
        -------
        Activations
            Rows in the order of the corpus; documents keep their number in the whole of it.

        Raises
        ------
        ValueError
            If the shard is not what was written.
        """
        return self._shards[number].read()

    def __getstate__(self):
        return {"path": self.path, "partial": self.n_documents is None, "place": self._place}

    def __setstate__(self, state):
        self._open(**state)

    def iter_shuffled(self, batch_size, random_state, *, buffer_rows=131_072) -> Iterator[tuple]:
        """
        Read every row once, in shuffled order and in batches.

        Parameters
        ----------
        batch_size : int
            Rows in a batch; the last may have fewer.
        random_state : RandomState
            Decides the order, by a single draw that is made at once.
        buffer_rows : int, default=131_072
            Rows held in memory. They come from random places of the store, 2,048 neighbours from each, and a batch is
            a random draw of them: neighbours are farther apart the larger the buffer is.

        Yields
        ------
        rows : ndarray of int64 of shape (n_in_batch,)
            Numbers of the rows, ascending.
        X : ndarray of shape (n_in_batch, width)

        Raises
        ------
        ValueError
            If `batch_size` or `buffer_rows` is not positive, or rows are not those that were written.
        """
        check_scalar(batch_size, "batch_size", Integral, min_val=1)
        check_scalar(buffer_rows, "buffer_rows", Integral, min_val=1)
        generator = np.random.default_rng(random_state.randint(np.iinfo(np.int32).max))
        first_rows = np.concatenate([[0], self._ends])[:-1]
        return shuffled_batches(
            self._shards,
            first_rows,
            self.shape[1],
            self.dtype,
            generator,
            batch_size=batch_size,
            buffer_rows=buffer_rows,
        )

    def verify(self) -> pd.DataFrame:
        """
        Read every file and compare it with its checksum.

        Returns
        -------
        DataFrame
            Columns `shard` and `problem`, a row for each bad shard; empty for a store that is sound.
        """
        bad = []
        for shard in self._shards:
            problem = trouble_with(self.path, shard.record)
            if problem is not None:
                bad.append((shard.record.name, problem))
        return pd.DataFrame(bad, columns=["shard", "problem"])

    def __getitem__(self, rows) -> Activations:
        rows = row_numbers(selected_rows(rows, len(self)), len(self))
        width = max(self._widths[place] for place in self.places)
        X = np.zeros((len(rows), width), dtype=self.dtype)
        numbers = np.searchsorted(self._ends, rows, side="right")
        provenance, texts = [], {}
        for number in np.unique(numbers):
            places = np.flatnonzero(numbers == number)
            within = rows[places] - (self._ends[number] - self._shards[number].n_rows)
            of_shard, its_numbers, its_provenance, its_texts = self._mapped(int(number))
            X[places] = widened(of_shard[its_numbers[within]], self._manifest["dtype"])
            provenance.append(its_provenance.iloc[within].set_index(places))
            texts |= {document: its_texts[document] for document in provenance[-1]["document"].unique().tolist()}
        if not provenance:
            return Activations(X, no_provenance(), [])
        texts = Texts(dict(sorted(texts.items())))
        return Activations(X, pd.concat(provenance).sort_index(), texts, self._widths)

    def __array__(self, dtype=None, copy=None) -> np.ndarray:
        X = np.empty(self.shape, dtype=dtype or self.dtype)
        for end, shard in zip(self._ends, self._shards, strict=True):
            X[end - shard.n_rows : end] = shard.read().X
        return X

    def __repr__(self) -> str:
        widths = sorted({self._widths[place] for place in self.places})
        state = "" if self.n_documents is not None else ", not complete"
        return (
            f"ActivationStore({str(self.path)!r}: {len(self):,} rows x {' or '.join(map(str, widths))} features, "
            f"layers {self.layers}, {self.n_shards} shards{state})"
        )


def _completed(folder: Path) -> tuple[list[Record] | None, int | None]:
    if not (folder / COMPLETE).is_file():
        return None, None
    complete = read_checked(folder / COMPLETE)
    return [Record(**record) for record in complete["shards"]], complete["n_documents"]
