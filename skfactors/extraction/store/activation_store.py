"""ActivationStore: more rows than fit in memory, in a folder."""

from collections.abc import Iterator, Sequence
from functools import cached_property, lru_cache
from itertools import groupby
from numbers import Integral
from operator import index
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
    MANIFEST,
    Record,
    all_records,
    blocks_there,
    model_of,
    parts_there,
    read_complete,
    read_manifest,
    read_record,
    shard_name,
    trouble_with_texts,
    widths_of,
)
from skfactors.extraction.store.shards import Shard, widened
from skfactors.extraction.store.shuffling import shuffled_batches
from skfactors.extraction.store.weights import FrequencyWeights
from skfactors.extraction.text.corpus import Texts
from skfactors.records import digest

# What slicing keeps: provenance and texts of so many shards, and rows of so many bytes, a chunk at least. Rows are read
# and checked by the chunk, and not mapped: a mapped file that is altered gives wrong rows, and one that is cut ends the
# process. Of 100,000 rows of width 384 on a busy machine, 1,000 at random take 120 ms and 20 slices of 20 rows 70 ms of
# processor time; mapped, and checked at the first look only, they took 7 and 30.
_SHARDS_AT_HAND = 16
_BYTES_AT_HAND = 2**26


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
    source : dict
        What a dictionary that is learned from the rows keeps as its `source_`.
    places : list of Place
        Each a site and a layer.
    layers : list of int
    n_documents : int or None
        Texts, those without rows included; None for a store that is not complete.
    n_shards : int
    n_nonfinite : int
        Values that are NaN or infinite.
    n_outliers : int or None
        Tokens left out as outliers; None for a store that was made without `drop_outliers`.
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

    def _open(self, path, partial: bool) -> None:
        # A relative path would lead elsewhere once the process has changed its folder.
        path = Path(path).absolute()
        manifest = read_manifest(path)
        try:
            self._take(path, manifest, *read_complete(path, manifest))
        except FileNotFoundError as error:
            if not partial:
                n_shards = sum(len(parts_there(path, block)) for block in blocks_there(path))
                raise ValueError(
                    f"the store {str(path)!r} is not complete: {n_shards} shards are there. Call extract_to "
                    "again with the same texts, which goes on where it stopped, or open it with partial=True."
                ) from error
            self._take(path, manifest, all_records(path, manifest), None)

    def _take(
        self, path: Path, manifest: dict, records: list[Record], n_documents: int | None, place: Place | None = None
    ) -> None:
        self.path, self._manifest, self._records = path, manifest, records
        self.n_documents, self._place = n_documents, place
        self._widths = widths_of(manifest)
        self._shards = [Shard(path, record, manifest, place) for record in records]
        self._ends = np.cumsum([shard.n_rows for shard in self._shards], dtype=np.int64)
        self._surroundings = lru_cache(_SHARDS_AT_HAND)(lambda number: self._shards[number].read_surroundings())
        n_chunks = max(1, _BYTES_AT_HAND // self._shards[0].bytes_of_chunk) if self._shards else 1
        self._chunk = lru_cache(n_chunks)(lambda number, chunk: self._shards[number].chunk(chunk))

    @property
    def content(self) -> dict:
        """All that decides the rows."""
        return self._manifest["content"]

    @property
    def source(self) -> dict:
        """What a dictionary that is learned from the rows keeps as its `source_`; see Activations."""
        return model_of(self._manifest).source(self.places)

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

    @property
    def n_outliers(self) -> int | None:
        """Tokens left out as outliers; None where none were looked for."""
        if "drop_outliers" not in self.content:
            return None
        return sum(shard.record.n_outliers or 0 for shard in self._shards)

    @cached_property
    def fingerprint(self) -> str:
        """Digest that identifies the rows."""
        place = [] if self._place is None else [self._place]
        return digest([self._manifest, *place, *(record.files for record in self._records)])

    @cached_property
    def sample_weight(self) -> FrequencyWeights:
        """Weight of each row by the rarity of its token, of mean 1, looked up a batch at a time; see Activations."""
        self._check_sizes()
        return FrequencyWeights(self._shards, self._ends, self.fingerprint)

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
        store._take(self.path, self._manifest, self._records, self.n_documents, place)
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
        IndexError
            If there is no such shard.
        ValueError
            If the shard is not what was written.
        """
        if not 0 <= index(number) < self.n_shards:
            raise IndexError(f"there is no shard {number}: the {self.n_shards} of this store are counted from 0.")
        return self._shards[number].read()

    def __getstate__(self):
        state = {"path": self.path, "partial": self.n_documents is None, "place": self._place}
        return state | {"fingerprint": self.fingerprint}

    def __setstate__(self, state):
        self._open(state["path"], state["partial"])
        if state["place"] is not None:
            self._take(self.path, self._manifest, self._records, self.n_documents, state["place"])
        if state.get("fingerprint", self.fingerprint) != self.fingerprint:
            raise ValueError(
                f"the store {str(self.path)!r} holds other rows than when it was pickled: open it anew, by its path."
            )

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
        self._check_sizes()
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
        Read every file and compare it with its checksum and with the others.

        Returns
        -------
        DataFrame
            Columns `shard` and `problem`, a row for each bad shard or other file; empty for a store that is sound.
        """
        bad = [*self._trouble_with_lists(), *self._trouble_with_shards()]
        return pd.DataFrame(bad, columns=["shard", "problem"])

    def _trouble_with_lists(self) -> Iterator[tuple[str, str]]:
        """Find what opening would refuse now, and shards that are there and are not listed."""
        lists = {MANIFEST: lambda: read_manifest(self.path) == self._manifest}
        if self.n_documents is not None:
            lists[COMPLETE] = lambda: read_complete(self.path, self._manifest) == (self._records, self.n_documents)
        for name, is_as_before in lists.items():
            try:
                if not is_as_before():
                    yield name, "it is another than the store was opened with"
            except (FileNotFoundError, ValueError) as error:
                yield name, str(error)
        if self.n_documents is not None:
            there = {(block, part) for block in blocks_there(self.path) for part in parts_there(self.path, block)}
            for block, part in sorted(there - {(record.block, record.part) for record in self._records}):
                yield shard_name(block, part), f"{COMPLETE} does not list it"

    def _trouble_with_shards(self) -> Iterator[tuple[str, str]]:
        for _, records in groupby(self._records, key=lambda record: record.block):
            records, texts = list(records), []
            for record in records:
                try:
                    if read_record(self.path, record.block, record.part, self._manifest) != record:
                        yield record.name, "its record is another than the store was opened with"
                        continue
                except FileNotFoundError:
                    yield record.name, "its record is missing"
                    continue
                except ValueError as error:
                    yield record.name, str(error)
                    continue
                problem, of_shard = Shard(self.path, record, self._manifest).trouble()
                if problem is not None:
                    yield record.name, problem
                texts.append(of_shard)
            if len(texts) == records[0].n_parts and None not in texts:
                problem = trouble_with_texts(records[0], {number: text for of in texts for number, text in of.items()})
                if problem is not None:
                    yield records[0].name, problem

    def _check_sizes(self, numbers: Sequence[int] | None = None) -> None:
        """Refuse shards that are not as large as is said of them, before memory is taken for their rows."""
        for number in range(self.n_shards) if numbers is None else numbers:
            self._shards[number].check_size()

    def __getitem__(self, rows) -> Activations:
        rows = selected_rows(rows, len(self))
        self._check_sizes(self._shards_with(rows))
        rows = row_numbers(rows, len(self))
        numbers = np.searchsorted(self._ends, rows, side="right")
        X = np.zeros((len(rows), max(self._widths[place] for place in self.places)), dtype=self.dtype)
        provenance, texts = [], {}
        for number in np.unique(numbers).tolist():
            places = np.flatnonzero(numbers == number)
            within = rows[places] - (self._ends[number] - self._shards[number].n_rows)
            its_numbers, its_provenance, its_texts = self._surroundings(number)
            X[places] = self._rows_of(number, its_numbers[within])
            provenance.append(its_provenance.iloc[within].set_index(places))
            texts |= {document: its_texts[document] for document in provenance[-1]["document"].unique().tolist()}
        if not provenance:
            return Activations(X, no_provenance(), [])
        texts = Texts(dict(sorted(texts.items())))
        return Activations(X, pd.concat(provenance).sort_index(), texts, self._widths, model_of(self._manifest))

    def _shards_with(self, rows: slice | np.ndarray) -> Sequence[int]:
        """List the shards that rows lie in, without an array as long as a slice."""
        if not isinstance(rows, slice):
            return np.unique(np.searchsorted(self._ends, rows, side="right")).tolist()
        span = range(*rows.indices(len(self)))
        if not span:
            return []
        first, last = np.searchsorted(self._ends, sorted([span[0], span[-1]]), side="right")
        return range(first, last + 1)

    def _rows_of(self, number: int, rows: np.ndarray) -> np.ndarray:
        """Read rows of a shard by their numbers on disk, a chunk at a time."""
        X = np.empty((len(rows), max(self._widths[place] for place in self.places)), dtype=self.dtype)
        chunks, within = np.divmod(rows, self._shards[number].chunk_rows)
        for chunk in np.unique(chunks).tolist():
            chosen = chunks == chunk
            X[chosen] = widened(self._chunk(number, chunk)[within[chosen], : X.shape[1]], self._manifest["dtype"])
        return X

    def __array__(self, dtype=None, copy=None) -> np.ndarray:
        self._check_sizes()
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
