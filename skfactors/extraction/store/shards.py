"""One shard: rows and texts in a safetensors file, provenance beside them in Parquet or among them."""

import hashlib
import io
import json
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from importlib.util import find_spec
from itertools import pairwise
from mmap import ACCESS_READ, mmap
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from safetensors.torch import save

from skfactors.extraction.activations import Activations
from skfactors.extraction.provenance import NUMBER_COLUMNS, PROVENANCE_COLUMNS, is_at, sites_of
from skfactors.extraction.sites import HIDDEN_STATES, Place
from skfactors.extraction.store.layout import Record, block_folder, shard_name, trouble_with, widths_of
from skfactors.extraction.text.corpus import Texts
from skfactors.files import advised_errors, replaced_file

# Rows that are read, and vouched for, together.
CHUNK_ROWS = 2048

# How numbers lie on disk. NumPy has no bfloat16: it is the upper half of a float32.
_ON_DISK = {"float64": np.float64, "float32": np.float32, "float16": np.float16, "bfloat16": np.uint16}
_COLUMN_TYPES = {"layer": np.int16, "position": np.int32, "token_id": np.int32, "start": np.int32, "end": np.int32}


def provenance_format() -> str:
    """Return "parquet" where pyarrow is installed, else "safetensors"."""
    return "parquet" if find_spec("pyarrow") else "safetensors"


def write_shard(
    folder: Path, acts: Activations, *, block: int, part: int, n_parts: int, texts: str, n_rowless: int, manifest: dict
) -> Record:
    """
    Write a shard's files, each of them whole or not at all.

    Parameters
    ----------
    folder : Path
        Of the store.
    acts : Activations
    block, part, n_parts, texts, n_rowless
        As in :class:`Record`.
    manifest : dict
        Of the store: `dtype` and `provenance` say how to write.

    Returns
    -------
    Record
        To be written once the files are there.
    """
    X = torch.tensor(acts.padded).to(getattr(torch, manifest["dtype"]))
    encoded = [text.encode("utf-8", "surrogatepass") for text in acts.texts]
    tensors = {
        "X": X,
        "documents": torch.tensor([number for number, _ in acts.texts.items()], dtype=torch.int64),
        "text_ends": torch.tensor(np.cumsum([len(text) for text in encoded], dtype=np.int64)),
        "texts": torch.tensor(np.frombuffer(b"".join(encoded), dtype=np.uint8)),
    }
    files = {}
    if manifest["provenance"] == "parquet":
        files[".parquet"] = acts.provenance.to_parquet(index=False, compression="zstd")
    else:
        columns = {name: acts.provenance[name].to_numpy() for name in NUMBER_COLUMNS}
        tensors |= {name: torch.tensor(column.astype(_column_type(column, name))) for name, column in columns.items()}
        site_codes = acts.provenance["site"].cat.set_categories(_sites(manifest)).cat.codes
        tensors["site"] = torch.tensor(site_codes.to_numpy(np.uint8))
    files[".safetensors"] = save(tensors)
    name = shard_name(block, part)
    block_folder(folder, block).mkdir(exist_ok=True)
    for suffix, content in files.items():
        with replaced_file(block_folder(folder, block) / (name + suffix)) as file:
            file.write(content)
    return Record(
        block=block,
        part=part,
        n_parts=n_parts,
        texts=texts,
        n_rows=len(acts),
        n_nonfinite=int((~torch.isfinite(X)).sum()),
        n_rowless=n_rowless,
        chunks=[zlib.crc32(_bytes_of(chunk)) for chunk in X.split(CHUNK_ROWS)] if len(acts) else [],
        files={name + suffix: [len(content), hashlib.sha256(content).hexdigest()] for suffix, content in files.items()},
    )


def _column_type(column: np.ndarray, name: str) -> type:
    """Return the small type of a column where its values fit, which all but gigantic documents do."""
    small = _COLUMN_TYPES.get(name, np.int64)
    return small if column.max(initial=0) <= np.iinfo(small).max else np.int64


def _bytes_of(rows: torch.Tensor) -> memoryview:
    return memoryview(rows.contiguous().view(torch.uint8).numpy())


def _sites(manifest: dict) -> list[str]:
    return list(dict.fromkeys(place.site for place in widths_of(manifest)))


class Shard:
    """
    A shard that is there, to be read whole or in parts.

    Parameters
    ----------
    folder : Path
        Of the store.
    record : Record
    manifest : dict
        Of the store.
    place : Place, default=None
        The one whose rows are read; None reads those of all.
    """

    def __init__(self, folder: Path, record: Record, manifest: dict, place: Place | None = None):
        self._store = folder
        self._folder = block_folder(folder, record.block)
        self.record = record
        self._place = place
        self._dtype = manifest["dtype"]
        self._width_on_disk = manifest["hidden_size"]
        self._widths = widths_of(manifest)
        self._sites = _sites(manifest) if "places" in manifest else None

    @property
    def n_rows(self) -> int:
        """Rows that are read."""
        return self.record.n_rows // (1 if self._place is None else len(self._widths))

    def read(self) -> Activations:
        """Read all of it, after checking that it is what was written."""
        X, rows, provenance, texts = self._parts(self._checked_bytes(".safetensors"))
        return Activations(widened(X[rows], self._dtype), provenance, texts, self._widths)

    def map(self) -> tuple[np.ndarray, np.ndarray, pd.DataFrame, Texts]:
        """
        Check it once, and map it to memory.

        Returns
        -------
        X : ndarray
            All rows as they lie on disk.
        numbers : ndarray of int
            Which of them are read.
        provenance : DataFrame
            Of those that are read.
        texts : Texts
        """
        problem = trouble_with(self._store, self.record)
        if problem is not None:
            raise self.damaged(problem)
        with self._opened(".safetensors") as file:
            X, rows, provenance, texts = self._parts(mmap(file.fileno(), 0, access=ACCESS_READ))
        return X, np.arange(len(X))[rows], provenance, texts

    def columns(self, names: list[str]) -> pd.DataFrame:
        """Read some columns of the provenance, after checking that they are what was written."""
        columns = self._provenance(None, names)
        return columns if self._place is None else columns.iloc[self._numbers()].reset_index(drop=True)

    def _parts(self, content) -> tuple[np.ndarray, np.ndarray | slice, pd.DataFrame, Texts]:
        arrays = _arrays(content)
        encoded, ends = arrays["texts"].tobytes(), arrays["text_ends"].tolist()
        texts = [encoded[start:end].decode("utf-8", "surrogatepass") for start, end in pairwise([0, *ends])]
        texts = Texts(dict(zip(arrays["documents"].tolist(), texts, strict=True)))
        X, provenance = arrays["X"].reshape(-1, self._width_on_disk), self._provenance(arrays, list(PROVENANCE_COLUMNS))
        if self._place is None:
            return X, slice(None), provenance, texts
        rows = np.flatnonzero(is_at(provenance, self._place))
        return X[:, : self._widths[self._place]], rows, provenance.iloc[rows].reset_index(drop=True), texts

    def _provenance(self, arrays: dict | None, names: list[str]) -> pd.DataFrame:
        numbers = [name for name in names if name != "site"]
        if self._file(".parquet").name in self.record.files:
            found = names if self._sites else numbers
            table = pd.read_parquet(io.BytesIO(self._checked_bytes(".parquet")), columns=found, engine="pyarrow")
        else:
            arrays = _arrays(self._checked_bytes(".safetensors")) if arrays is None else arrays
            table = pd.DataFrame({name: arrays[name].astype(np.int64) for name in numbers})
            if self._sites and "site" in names:
                table["site"] = sites_of(arrays["site"].astype(np.int8), self._sites)
        if not self._sites and "site" in names:
            table["site"] = sites_of(np.zeros(self.record.n_rows, dtype=np.int8), [HIDDEN_STATES])
        return table

    def _numbers(self) -> np.ndarray:
        """Return which rows of the shard are those of its place."""
        return np.flatnonzero(np.unpackbits(self._is_at_place, count=self.record.n_rows))

    @cached_property
    def _is_at_place(self) -> np.ndarray:
        return np.packbits(is_at(self._provenance(None, ["layer", "site"]), self._place))

    def scratch(self) -> np.ndarray:
        """Return room for a chunk as it lies on disk."""
        return np.empty((CHUNK_ROWS, self._width_on_disk), dtype=_ON_DISK[self._dtype])

    def read_chunk(self, number: int, scratch: np.ndarray) -> tuple[int, np.ndarray]:
        """
        Read `CHUNK_ROWS` rows of X, fewer at the end, after checking that they are what was written.

        Parameters
        ----------
        number : int
        scratch : ndarray
            From :meth:`scratch`, of this or another shard of the store: taken instead of fresh memory, which is slow to
            come by. What is returned may lie in it.

        Returns
        -------
        first : int
            Number of the first row, among those that are read of this shard.
        X : ndarray of shape (n_in_chunk, width)

        Raises
        ------
        ValueError
            If they are not.
        """
        start = number * CHUNK_ROWS
        rows = scratch[: self.record.n_rows - start]
        try:
            with self._opened(".safetensors") as file:
                file.seek(_offset_of_rows(file) + start * self._width_on_disk * rows.itemsize)
                n_read = file.readinto(memoryview(rows).cast("B"))
        except (ValueError, KeyError) as error:
            raise self.damaged(str(error)) from error
        if n_read < rows.nbytes or zlib.crc32(rows) != self.record.chunks[number]:
            raise self.damaged(f"rows {start} to {start + len(rows)} are not those that were written")
        if self._place is None:
            return start, widened(rows, self._dtype)
        numbers = self._numbers()
        first, stop = np.searchsorted(numbers, [start, start + len(rows)])
        at_place = rows[numbers[first:stop] - start, : self._widths[self._place]]
        return int(first), widened(at_place, self._dtype)

    def damaged(self, reason: str) -> ValueError:
        """Return the error that says that this shard is bad and what to do."""
        return ValueError(
            f"shard {self.record.name} of the store {str(self._store)!r} is damaged: {reason}. "
            "Call extract_to again with the same texts, which extracts damaged shards anew; verify() lists them all."
        )

    def _file(self, suffix: str) -> Path:
        return self._folder / (self.record.name + suffix)

    def _checked_bytes(self, suffix: str) -> bytes:
        with self._opened(suffix) as file:
            content = file.read()
        name = self._file(suffix).name
        if hashlib.sha256(content).hexdigest() != self.record.files[name][1]:
            raise self.damaged(f"{name} was cut short or altered")
        return content

    @contextmanager
    def _opened(self, suffix: str) -> Iterator:
        path = self._file(suffix)
        try:
            with advised_errors(path), open(path, "rb") as file:
                yield file
        except FileNotFoundError as error:
            raise self.damaged(f"{path.name} is missing") from error


def widened(rows: np.ndarray, dtype: str) -> np.ndarray:
    """Turn rows as they lie on disk into float32, or float64 where they are that."""
    if dtype == "bfloat16":
        return (rows.astype(np.uint32) << 16).view(np.float32)
    return np.asarray(rows) if dtype == "float64" else np.asarray(rows, dtype=np.float32)


_TYPES = {
    "F64": np.float64,
    "F32": np.float32,
    "F16": np.float16,
    "BF16": np.uint16,
    "I64": np.int64,
    "I32": np.int32,
    "I16": np.int16,
    "U8": np.uint8,
}


def _arrays(content) -> dict[str, np.ndarray]:
    """Find a safetensors file's arrays in its content, without a copy."""
    size = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + size])
    header.pop("__metadata__", None)
    arrays = {}
    for name, entry in header.items():
        start, stop = entry["data_offsets"]
        dtype = np.dtype(_TYPES[entry["dtype"]])
        arrays[name] = np.frombuffer(content, dtype, (stop - start) // dtype.itemsize, 8 + size + start)
    return arrays


def _offset_of_rows(file) -> int:
    size = int.from_bytes(file.read(8), "little")
    return 8 + size + json.loads(file.read(size))["X"]["data_offsets"][0]
