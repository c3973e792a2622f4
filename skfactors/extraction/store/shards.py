"""One shard: rows and texts in a safetensors file, provenance beside them in Parquet or among them."""

import hashlib
import io
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from importlib.util import find_spec
from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from safetensors.torch import save

from skfactors.extraction.activations import Activations
from skfactors.extraction.provenance import NUMBER_COLUMNS, PROVENANCE_COLUMNS, is_at, sites_of
from skfactors.extraction.sites import HIDDEN_STATES, Place
from skfactors.extraction.store.layout import (
    Record,
    block_folder,
    chunk_rows_of,
    model_of,
    shard_name,
    widths_of,
)
from skfactors.extraction.store.tensors import Tensor, find_tensors
from skfactors.extraction.text.corpus import Texts
from skfactors.files import advised_errors, open_plain, replaced_file

# How numbers lie on disk. NumPy has no bfloat16: it is the upper half of a float32.
_ON_DISK = {"float64": np.float64, "float32": np.float32, "float16": np.float16, "bfloat16": np.uint16}
_KINDS = {"float64": "F64", "float32": "F32", "float16": "F16", "bfloat16": "BF16"}
_INTEGERS = {"I64", "I32", "I16", "U8"}
# More than any vocabulary; tokens are counted in an array as long as their highest number.
_MOST_TOKENS = 2**24
_COLUMN_TYPES = {"layer": np.int16, "position": np.int32, "token_id": np.int32, "start": np.int32, "end": np.int32}


def provenance_format() -> str:
    """Return "parquet" where pyarrow is installed, else "safetensors"."""
    return "parquet" if find_spec("pyarrow") else "safetensors"


def write_shard(
    folder: Path, acts: Activations, *, block: int, part: int, n_parts: int, n_rowless: int, manifest: dict, **texts
) -> Record:
    """
    Write a shard's files, each of them whole or not at all.

    Parameters
    ----------
    folder : Path
        Of the store.
    acts : Activations
    block, part, n_parts, n_rowless
        As in :class:`Record`.
    manifest : dict
        Of the store: `dtype`, `provenance` and `chunk_rows` say how to write.
    **texts
        `texts`, `before`, `documents` and `n_outliers` as in :class:`Record`.

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
    block_folder(folder, block).mkdir(parents=True, exist_ok=True)
    for suffix, content in files.items():
        with replaced_file(block_folder(folder, block) / (name + suffix)) as file:
            file.write(content)
    return Record(
        block=block,
        part=part,
        n_parts=n_parts,
        n_rows=len(acts),
        n_nonfinite=int((~torch.isfinite(X)).sum()),
        n_rowless=n_rowless,
        chunks=[zlib.crc32(_bytes_of(chunk)) for chunk in X.split(chunk_rows_of(manifest))] if len(acts) else [],
        files={name + suffix: [len(content), hashlib.sha256(content).hexdigest()] for suffix, content in files.items()},
        **texts,
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
    A shard that is there, to be read whole or in parts; whatever is read is checked.

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
        self.chunk_rows = chunk_rows_of(manifest)
        self._place = place
        self._dtype = manifest["dtype"]
        self._width_on_disk = manifest["hidden_size"]
        self._widths = widths_of(manifest)
        self._model = model_of(manifest)
        self._sites = _sites(manifest) if "places" in manifest else None
        # What is found at the first look: files that are no links, and where X begins.
        self._lie_here: set[str] = set()
        self._start_of_rows: int | None = None

    @property
    def n_rows(self) -> int:
        """Rows that are read."""
        return self.record.n_rows // (1 if self._place is None else len(self._widths))

    def read(self) -> Activations:
        """Read all of it."""
        with self._told_of_damage():
            X, rows, provenance, texts = self._parts(self._checked_bytes(".safetensors"))
        return Activations(widened(X[rows], self._dtype), provenance, texts, self._widths, self._model)

    def read_surroundings(self) -> tuple[np.ndarray, pd.DataFrame, Texts]:
        """
        Read all but the rows.

        Returns
        -------
        numbers : ndarray of int
            Of the rows that are read, among all that are on disk.
        provenance : DataFrame
            Of these.
        texts : Texts
        """
        with self._told_of_damage():
            X, rows, provenance, texts = self._parts(self._checked_bytes(".safetensors"))
        return np.arange(len(X))[rows], provenance, texts

    def columns(self, names: list[str]) -> pd.DataFrame:
        """Read some columns of the provenance."""
        with self._told_of_damage():
            columns = self._provenance(None, names)
            return columns if self._place is None else columns.iloc[self._numbers()].reset_index(drop=True)

    def check_size(self) -> None:
        """
        Check that its rows take as much room as its record says, before memory is taken for them.

        Raises
        ------
        ValueError
            If they do not.
        """
        name = self._file(".safetensors").name
        with self._told_of_damage(), advised_errors(self._file(".safetensors")):
            size = self._file(".safetensors").stat().st_size
            if size != self.record.files[name][0]:
                raise ValueError(f"{name} has {size} bytes instead of {self.record.files[name][0]}")

    def trouble(self) -> tuple[str | None, Texts | None]:
        """
        Look for whatever reading would refuse.

        Returns
        -------
        problem : str or None
        texts : Texts or None
            Where there is no problem.
        """
        try:
            X, _, _, texts = self._parts(self._checked_bytes(".safetensors"))
            chunks = [X[start : start + self.chunk_rows] for start in range(0, len(X), self.chunk_rows)]
            if [zlib.crc32(np.ascontiguousarray(chunk)) for chunk in chunks] != self.record.chunks:
                raise ValueError("rows are not those that were written")
            if (
                sum(int((~np.isfinite(widened(chunk, self._dtype))).sum()) for chunk in chunks)
                != self.record.n_nonfinite
            ):
                raise ValueError("more or fewer values are NaN or infinite than its record says")
        except (FileNotFoundError, NotADirectoryError) as error:
            return f"{Path(error.filename).name} is missing", None
        except ValueError as error:
            return str(error), None
        return None, texts

    def _parts(self, content: bytes) -> tuple[np.ndarray, np.ndarray | slice, pd.DataFrame, Texts]:
        tensors = self._tensors(io.BytesIO(content), len(content))
        arrays = {name: tensor.in_content(content) for name, tensor in tensors.items()}
        texts = self._texts(arrays)
        provenance = self._provenance(arrays, list(PROVENANCE_COLUMNS))
        if not np.isin(provenance["document"].unique(), arrays["documents"]).all():
            raise ValueError("rows are of documents that it does not hold")
        X = arrays["X"]
        if self._place is None:
            return X, slice(None), provenance, texts
        rows = np.flatnonzero(is_at(provenance, self._place))
        return X[:, : self._widths[self._place]], rows, provenance.iloc[rows].reset_index(drop=True), texts

    def _tensors(self, file, size: int) -> dict[str, Tensor]:
        tensors = find_tensors(file, size)
        n_rows = (self.record.n_rows,)
        n_texts = tensors["documents"].shape[:1] if "documents" in tensors else ()
        n_bytes = tensors["texts"].shape[:1] if "texts" in tensors else ()
        needed = {
            "X": ({_KINDS[self._dtype]}, (self.record.n_rows, self._width_on_disk)),
            "documents": ({"I64"}, n_texts),
            "text_ends": ({"I64"}, n_texts),
            "texts": ({"U8"}, n_bytes),
        }
        if not self._has_parquet:
            needed |= dict.fromkeys(NUMBER_COLUMNS, (_INTEGERS, n_rows))
            # Version 1 knew no sites.
            needed |= {"site": ({"U8"}, n_rows)} if self._sites or "site" in tensors else {}
        if set(tensors) != set(needed):
            raise ValueError(f"it holds the arrays {sorted(tensors)} instead of {sorted(needed)}")
        for name, (kinds, shape) in needed.items():
            tensor = tensors[name]
            if tensor.kind not in kinds or tensor.shape != shape or not shape:
                raise ValueError(f"its array {name} is {tensor.kind} of shape {tensor.shape}")
        return tensors

    def _texts(self, arrays: dict[str, np.ndarray]) -> Texts:
        documents, ends, encoded = arrays["documents"], arrays["text_ends"], arrays["texts"].tobytes()
        first, stop = self.record.documents or (0, np.iinfo(np.int64).max)
        if (np.diff(documents) <= 0).any() or (len(documents) and not first <= documents[0] <= documents[-1] < stop):
            raise ValueError("its documents are not in order, or of another run of texts")
        if (np.diff(ends, prepend=0) < 0).any() or (ends[-1] if len(ends) else 0) != len(encoded):
            raise ValueError("its texts do not end where it says")
        texts = [encoded[start:end].decode("utf-8", "surrogatepass") for start, end in pairwise([0, *ends.tolist()])]
        return Texts(dict(zip(documents.tolist(), texts, strict=True)))

    def _provenance(self, arrays: dict | None, names: list[str]) -> pd.DataFrame:
        numbers = [name for name in names if name != "site"]
        if self._has_parquet:
            table = _read_parquet(
                self._checked_bytes(".parquet"), names if self._sites else numbers, self.record.n_rows
            )
        else:
            if arrays is None:
                content = self._checked_bytes(".safetensors")
                tensors = self._tensors(io.BytesIO(content), len(content))
                arrays = {name: tensors[name].in_content(content) for name in (*numbers, "site") if name in tensors}
            table = pd.DataFrame({name: arrays[name].astype(np.int64) for name in numbers})
            if self._sites and "site" in names:
                # A number beyond the sites is refused.
                table["site"] = sites_of(arrays["site"].astype(np.int16), self._sites)
        if not self._sites and "site" in names:
            table["site"] = sites_of(np.zeros(self.record.n_rows, dtype=np.int8), [HIDDEN_STATES])
        self._check_columns(table)
        return table

    def _check_columns(self, table: pd.DataFrame) -> None:
        for name in table.columns.intersection(NUMBER_COLUMNS):
            if table[name].dtype.kind != "i":
                raise ValueError(f"its column {name} holds other things than whole numbers")
        if "token_id" in table and not table["token_id"].between(0, _MOST_TOKENS - 1).all():
            raise ValueError("it has tokens of impossible numbers")
        if "site" not in table or "layer" not in table:
            return
        if not isinstance(table["site"].dtype, pd.CategoricalDtype):
            raise ValueError("its column site holds no categories")
        if not table["layer"].between(0, np.iinfo(np.int16).max).all() or table["site"].isna().any():
            raise ValueError("it has rows of no place")
        names = table["site"].cat.categories
        keys = table["layer"].to_numpy() * len(names) + table["site"].cat.codes.to_numpy()
        counts = np.bincount(keys)
        found = {Place(names[key % len(names)], key // len(names)): counts[key] for key in np.flatnonzero(counts)}
        n_tokens = self.record.n_rows // len(self._widths)
        if found != {place: n_tokens for place in self._widths if n_tokens}:
            raise ValueError("its rows are not as many for each place of the store")

    def _numbers(self) -> np.ndarray:
        """Return which rows of the shard are those of its place."""
        return np.flatnonzero(np.unpackbits(self._is_at_place, count=self.record.n_rows))

    @cached_property
    def _is_at_place(self) -> np.ndarray:
        return np.packbits(is_at(self._provenance(None, ["layer", "site"]), self._place))

    @property
    def bytes_of_chunk(self) -> int:
        """Bytes that a chunk takes on disk."""
        return self.chunk_rows * self._width_on_disk * np.dtype(_ON_DISK[self._dtype]).itemsize

    def scratch(self) -> np.ndarray:
        """Return room for a chunk as it lies on disk."""
        return np.empty((self.chunk_rows, self._width_on_disk), dtype=_ON_DISK[self._dtype])

    def read_chunk(self, number: int, scratch: np.ndarray) -> tuple[int, np.ndarray]:
        """
        Read `chunk_rows` rows of X, fewer at the end, after checking that they are what was written.

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
        start, rows = number * self.chunk_rows, self.chunk(number, scratch)
        if self._place is None:
            return start, widened(rows, self._dtype)
        with self._told_of_damage():
            numbers = self._numbers()
        first, stop = np.searchsorted(numbers, [start, start + len(rows)])
        at_place = rows[numbers[first:stop] - start, : self._widths[self._place]]
        return int(first), widened(at_place, self._dtype)

    def chunk(self, number: int, scratch: np.ndarray | None = None) -> np.ndarray:
        """Read a chunk as :meth:`read_chunk` does, of all places, and as it lies on disk."""
        start = number * self.chunk_rows
        rows = (self.scratch() if scratch is None else scratch)[: self.record.n_rows - start]
        with self._told_of_damage(), self._opened(".safetensors") as file:
            first = self._start_of_rows
            if first is None:
                first = self._tensors(file, self.record.files[self._file(".safetensors").name][0])["X"].start
            file.seek(first + start * self._width_on_disk * rows.itemsize)
            n_read = file.readinto(memoryview(rows).cast("B"))
            if n_read < rows.nbytes or zlib.crc32(rows) != self.record.chunks[number]:
                raise ValueError(f"rows {start} to {start + len(rows)} are not those that were written")
        self._start_of_rows = first
        return rows

    def damaged(self, reason: str) -> ValueError:
        """Return the error that says that this shard is bad and what to do."""
        return ValueError(
            f"shard {self.record.name} of the store {str(self._store)!r} is damaged: {reason}. "
            "Call extract_to again with the same texts, which extracts damaged shards anew; verify() lists them all."
        )

    @property
    def _has_parquet(self) -> bool:
        return self._file(".parquet").name in self.record.files

    def _file(self, suffix: str) -> Path:
        return self._folder / (self.record.name + suffix)

    def _checked_bytes(self, suffix: str) -> bytes:
        with self._opened(suffix) as file:
            content = file.read()
        name = self._file(suffix).name
        if hashlib.sha256(content).hexdigest() != self.record.files[name][1]:
            raise ValueError(f"{name} was cut short or altered")
        return content

    @contextmanager
    def _opened(self, suffix: str) -> Iterator:
        path = self._file(suffix)
        # Following links takes as long as reading a little.
        folder = None if suffix in self._lie_here else self._store
        with open_plain(path, folder, size=self.record.files[path.name][0]) as file, advised_errors(path):
            self._lie_here.add(suffix)
            yield file

    @contextmanager
    def _told_of_damage(self) -> Iterator:
        try:
            yield
        except (FileNotFoundError, NotADirectoryError) as error:
            raise self.damaged(f"{Path(error.filename).name} is missing") from error
        except ValueError as error:
            raise self.damaged(str(error)) from error


def widened(rows: np.ndarray, dtype: str) -> np.ndarray:
    """Turn rows as they lie on disk into float32, or float64 where they are that."""
    if dtype == "bfloat16":
        return (rows.astype(np.uint32) << 16).view(np.float32)
    return np.asarray(rows) if dtype == "float64" else np.asarray(rows, dtype=np.float32)


def _read_parquet(content: bytes, names: list[str], n_rows: int) -> pd.DataFrame:
    """Read columns of a Parquet file; what its reader raises at one that is damaged becomes a ValueError."""
    import pyarrow
    from pyarrow import parquet

    try:
        # Few bytes can stand for more rows than memory holds.
        if parquet.ParquetFile(io.BytesIO(content)).metadata.num_rows != n_rows:
            raise ValueError("the provenance is of more or fewer rows")
        return pd.read_parquet(io.BytesIO(content), columns=names, engine="pyarrow")[names]
    except (pyarrow.ArrowException, OSError, KeyError) as error:
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise ValueError(f"the provenance cannot be read: {reason}") from error
