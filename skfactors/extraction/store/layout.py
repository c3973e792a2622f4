"""What a store's folder holds: a manifest, records of shards, and what they say, each vouched for by a checksum."""

import hashlib
import json
import re
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path

from skfactors.extraction.identity import ModelIdentity, differences
from skfactors.extraction.sites import HIDDEN_STATES, Place
from skfactors.files import open_plain, replaced_file
from skfactors.records import ANY, NATURAL, check_schema, damaged, digest, mismatch, read_json

FORMAT = "skfactors activation store"
FORMAT_VERSION = 3
MANIFEST = "manifest.json"
COMPLETE = "complete.json"
SHARDS = "shards"
LOCKS = "locks"

# Rows that are read, and vouched for, together; from version 3 on, a store says itself how many they are.
CHUNK_ROWS = 2048
# How numbers lie on disk, and what safetensors calls them.
ITEM_SIZES = {"float64": 8, "float32": 4, "float16": 2, "bfloat16": 2}

_MEND = "Call extract_to again with the same texts, which makes anew what is damaged, and nothing else."
_RESTORE = "Put the file of a copy in its place, or remove the folder and extract again."


@dataclass(frozen=True)
class Record:
    """
    What is known of a shard without opening its files.

    Attributes
    ----------
    block, part, n_parts : int
        Which run of texts it belongs to, which of that run's shards it is, and of how many.
    texts : str
        Digest of the texts, up to the end of the run; in stores of version 1 and 2, of the run's own.
    n_rows, n_nonfinite, n_rowless : int
        Rows; values that are NaN or infinite; documents that give no rows.
    chunks : list of int
        CRC-32 of each run of so many rows of X.
    files : dict of str to [int, str]
        Size and SHA-256 of each file, by name.
    before : str or None
        Digest of the texts before the run. None in stores of version 1 and 2, as is:
    documents : [int, int] or None
        Numbers of the run's first text and of the one after its last.
    n_outliers : int or None
        Tokens left out as outliers; None where none were looked for.
    """

    block: int
    part: int
    n_parts: int
    texts: str
    n_rows: int
    n_nonfinite: int
    n_rowless: int
    chunks: list[int]
    files: dict[str, list]
    before: str | None = None
    documents: list[int] | None = None
    n_outliers: int | None = None

    @property
    def name(self) -> str:
        """Stem of the shard's files."""
        return shard_name(self.block, self.part)


def _is_digest(value) -> bool:
    return isinstance(value, str) and re.fullmatch("[0-9a-f]{64}", value) is not None


def _are_checksums(value) -> bool:
    return isinstance(value, list) and all(type(item) is int and 0 <= item < 2**32 for item in value)


def _is_file(value) -> bool:
    return isinstance(value, list) and len(value) == 2 and mismatch(value[0], NATURAL) is None and _is_digest(value[1])


def _is_range(value) -> bool:
    return mismatch(value, [NATURAL]) is None and len(value) == 2 and value[0] < value[1]


def _is_place(value) -> bool:
    fits = isinstance(value, list) and len(value) == 3 and isinstance(value[0], str)
    return fits and mismatch(value[1:], [NATURAL]) is None and value[1] < 2**15 and value[2] > 0


_RECORD = {
    "block": NATURAL,
    "part": NATURAL,
    "n_parts": NATURAL,
    "texts": _is_digest,
    "n_rows": NATURAL,
    "n_nonfinite": NATURAL,
    "n_rowless": NATURAL,
    "n_outliers?": NATURAL,
    "chunks": _are_checksums,
    "files": {...: _is_file},
}
_CHAINED = {"before": _is_digest, "documents": _is_range}
_MADE = {
    "format": str,
    "format_version": int,
    "skfactors": str,
    "model": str,
    "provenance": frozenset({"parquet", "safetensors"}),
    "content": {"files?": {...: str}, "layers": [range(2**15)], ...: ANY},
    "hidden_size": range(1, 2**31),
    "dtype": frozenset(ITEM_SIZES),
    "rows_per_shard": NATURAL,
}
_MANIFESTS = {
    1: _MADE,
    2: _MADE | {"places": [_is_place]},
    3: _MADE | {"places": [_is_place], "chunk_rows": range(1, 2**16 + 1)},
}


def model_of(manifest: dict) -> ModelIdentity:
    """Return which model a store's rows are from."""
    return ModelIdentity(manifest["model"], manifest["content"].get("files", {}))


def shard_name(block: int, part: int) -> str:
    """Return the stem of a shard's files; names sort as rows do."""
    return f"{block:08d}-{part:04d}"


def block_folder(folder: Path, block: int) -> Path:
    """Return where the shards of a run of texts lie: apart, as a folder of all would be slow to look through."""
    return folder / SHARDS / f"{block:08d}"


def write_checked(path: Path, content: dict) -> None:
    """Write JSON with its checksum, whole or not at all."""
    with replaced_file(path, text=True) as file:
        json.dump({"content": content, "sha256": digest(content)}, file)


def read_checked(path: Path, folder: Path | None = None, *, remedy: str = _MEND):
    """
    Read what :func:`write_checked` wrote.

    Parameters
    ----------
    path : path-like
    folder : path-like, default=None
        Where it must lie, links followed.
    remedy : str
        What to do where it is damaged, for the message: a sentence.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If it was cut short or altered.
    """
    outer = read_json(path, folder, remedy=remedy)
    check_schema(path, outer, {"content": ANY, "sha256": _is_digest}, remedy=remedy)
    with suppress(RecursionError):
        if digest(outer["content"]) == outer["sha256"]:
            return outer["content"]
    raise damaged(path, "it was cut short or altered, its checksum is not that of its content", remedy)


def read_manifest(folder: Path) -> dict:
    """
    Read a store's manifest.

    Raises
    ------
    FileNotFoundError
        If there is no such folder, or it is not a store.
    ValueError
        If the manifest is damaged, or of a format that this version does not know.
    """
    path = folder / MANIFEST
    if not folder.is_dir():
        raise FileNotFoundError(f"there is no folder {str(folder)!r}: was it moved? Open it where it is now.")
    try:
        manifest = read_checked(path, folder, remedy=_RESTORE)
    except FileNotFoundError as error:
        raise FileNotFoundError(f"{str(folder)!r} is not an activation store: it has no {MANIFEST}.") from error
    check_schema(path, manifest, {"format": ANY, "format_version": ANY, ...: ANY}, remedy=_RESTORE)
    version = manifest["format_version"]
    if manifest["format"] != FORMAT or type(version) is not int or version not in _MANIFESTS:
        raise ValueError(
            f"{str(folder)!r} is of format {manifest['format']!r}, version {version!r}; "
            f"this version of skfactors reads {FORMAT!r}, up to version {FORMAT_VERSION}."
        )
    check_schema(path, manifest, _MANIFESTS[version], remedy=_RESTORE)
    places = manifest.get("places", manifest["content"]["layers"])
    widths = widths_of(manifest)
    if not widths or len(widths) < len(places) or max(widths.values()) != manifest["hidden_size"]:
        raise damaged(path, "its places do not fit its width, or occur twice", _RESTORE)
    return manifest


def widths_of(manifest: dict) -> dict[Place, int]:
    """Return the places of a store's tokens, in the order of their rows, with their widths."""
    if "places" in manifest:
        return {Place(site, layer): width for site, layer, width in manifest["places"]}
    # Version 1 knew only the hidden states, of one width.
    return {Place(HIDDEN_STATES, layer): manifest["hidden_size"] for layer in manifest["content"]["layers"]}


def write_record(folder: Path, record: Record, manifest: dict) -> None:
    """Say of a shard that it is there; its files must be."""
    write_checked(_record_path(folder, record.block, record.part), _named(_listed(record), manifest))


def read_record(folder: Path, block: int, part: int, manifest: dict) -> Record:
    """
    Read what is said of a shard.

    Raises
    ------
    FileNotFoundError
        If nothing is.
    ValueError
        If the record is damaged, of another shard or of another store; what differs is named.
    """
    path = _record_path(folder, block, part)
    content = _of_this_store(path, read_checked(path, folder), manifest)
    check_schema(path, content, _schema_of_records(manifest), remedy=_MEND)
    record = Record(**content)
    if (record.block, record.part) != (block, part):
        raise damaged(path, f"it is of the shard {record.name}", _MEND)
    _check_record(path, record, manifest)
    return record


def write_complete(folder: Path, n_documents: int, records: Sequence[Record], manifest: dict) -> None:
    """Say that a store is complete; its records must be there."""
    content = {"n_documents": n_documents, "shards": [_listed(record) for record in records]}
    write_checked(folder / COMPLETE, _named(content, manifest))


def read_complete(folder: Path, manifest: dict) -> tuple[list[Record], int]:
    """
    Read of which shards and of how many texts a complete store is.

    Raises
    ------
    FileNotFoundError
        If it is not complete.
    ValueError
        If that is damaged or of another store; what differs is named.
    """
    path = folder / COMPLETE
    content = _of_this_store(path, read_checked(path, folder), manifest)
    schema = {"n_documents": NATURAL, "shards": [_schema_of_records(manifest)]}
    check_schema(path, content, schema, remedy=_MEND)
    records = [Record(**record) for record in content["shards"]]
    for record in records:
        _check_record(path, record, manifest)
    if not records or [(record.block, record.part) for record in records] != _all_of(records):
        raise damaged(path, "shards are missing from it, or out of order", _MEND)
    check_texts_follow(folder, records)
    for record in {record.name: record for record in (records[0], records[-1])}.values():
        try:
            found = read_record(folder, record.block, record.part, manifest)
        except (FileNotFoundError, ValueError):
            continue
        if found != record:
            different = ", ".join(name for name, value in asdict(found).items() if getattr(record, name) != value)
            raise damaged(
                path, f"it is of other shards: {different} of {record.name} are not as its record says", _MEND
            )
    last = records[-1].documents
    if last is not None and last[1] != content["n_documents"]:
        raise damaged(path, f"it counts {content['n_documents']} texts, and there are {last[1]}", _MEND)
    return records, content["n_documents"]


def blocks_there(folder: Path) -> list[int]:
    """List the runs of texts of which there is a folder."""
    return _numbers(folder / SHARDS, r"(\d{8,18})")


def parts_there(folder: Path, block: int) -> list[int]:
    """List the shards of a run of texts of which there is a record."""
    return _numbers(block_folder(folder, block), rf"{block:08d}-(\d{{4,18}})\.json")


def all_records(folder: Path, manifest: dict) -> list[Record]:
    """
    Read the records of all shards that are there, in the order of their rows.

    Raises
    ------
    ValueError
        If one is damaged or of another store, or they are of different texts.
    """
    there = ((block, part) for block in blocks_there(folder) for part in parts_there(folder, block))
    records = [read_record(folder, block, part, manifest) for block, part in there]
    check_texts_follow(folder, records)
    return records


def check_texts_follow(folder: Path, records: Sequence[Record]) -> None:
    """
    Check that records are of one and the same row of texts, as far as neighbours tell.

    Raises
    ------
    ValueError
        If two calls filled the folder from different texts.
    """
    for one, other in pairwise(records):
        same = other.block == one.block
        if same and (one.n_parts, one.texts, one.before) == (other.n_parts, other.texts, other.before):
            continue
        if not same and (other.before is None or other.block > one.block + 1 or other.before == one.texts):
            continue
        raise ValueError(
            f"the store {str(folder)!r} holds shards of different texts: {other.name} does not go on where {one.name} "
            "ends. Two calls filled it from different texts: remove the folder, and extract each to one of its own."
        )


def opened_file(folder: Path, record: Record, name: str):
    """Open a file of a shard, after checking that it is a plain file in the store and as long as its record says."""
    return open_plain(block_folder(folder, record.block) / name, folder, size=record.files[name][0])


def chunk_rows_of(manifest: dict) -> int:
    """Return how many rows of a store are read, and vouched for, together."""
    return manifest.get("chunk_rows", CHUNK_ROWS)


def trouble_with(folder: Path, record: Record) -> str | None:
    """Say what is wrong with a shard's files; None if they are what its record says."""
    for name in record.files:
        try:
            with opened_file(folder, record, name) as file:
                if hashlib.file_digest(file, "sha256").hexdigest() != record.files[name][1]:
                    return f"{name} was cut short or altered: its checksum is not the one recorded"
        except (FileNotFoundError, NotADirectoryError):
            return f"{name} is missing"
        except ValueError as error:
            return str(error)
    return None


def digest_of_texts(texts: Sequence[str], before: str | None) -> str:
    """Return the digest of a run of texts: of all up to its end, or, where `before` is None, of its own."""
    own = digest(texts)
    return own if before is None else digest([before, own])


def trouble_with_texts(record: Record, texts: dict[int, str]) -> str | None:
    """Say whether the texts of a run's shards, by document, are other than its records say."""
    numbers = sorted(texts)
    first, stop = record.documents or (numbers[0], numbers[-1] + 1)
    if len(numbers) != stop - first or numbers != list(range(first, stop)):
        return "texts of its run are missing"
    if digest_of_texts([texts[number] for number in numbers], record.before) != record.texts:
        return "the texts of its run are not those that were written"
    return None


def _numbers(folder: Path, pattern: str) -> list[int]:
    found = (re.fullmatch(pattern, path.name, re.ASCII) for path in folder.glob("[0-9]*"))
    return sorted(int(match[1]) for match in found if match)


def _record_path(folder: Path, block: int, part: int) -> Path:
    return block_folder(folder, block) / f"{shard_name(block, part)}.json"


def _identity(manifest: dict) -> dict:
    """Return what records say that they are of: all of the manifest by its digest, and by name what can be named."""
    content = dict(manifest["content"])
    told = {"files": digest(content.pop("files", None)), "settings": content, "manifest": digest(manifest)}
    return told | {name: manifest[name] for name in ("model", "dtype", "places", "rows_per_shard")}


def _named(content: dict, manifest: dict) -> dict:
    return {"store": _identity(manifest), **content} if _names_its_store(manifest) else content


def _of_this_store(path: Path, content, manifest: dict) -> dict:
    """Check of which store a record is, and take that off it."""
    if not _names_its_store(manifest):
        return content
    check_schema(path, content, {"store": {...: ANY}, ...: ANY}, remedy=_MEND)
    identity, found = _identity(manifest), content["store"]
    if found != identity:
        lines = differences(identity, found)
        named = [line for line in lines if not line.startswith("manifest is ")] or lines
        raise damaged(path, f"it is of another store: {'; '.join(named)}", _MEND)
    return {name: value for name, value in content.items() if name != "store"}


def _names_its_store(manifest: dict) -> bool:
    return manifest["format_version"] >= 3


def _schema_of_records(manifest: dict) -> dict:
    return _RECORD | _CHAINED if _names_its_store(manifest) else _RECORD


def _listed(record: Record) -> dict:
    return {name: value for name, value in asdict(record).items() if value is not None}


def _all_of(records: Sequence[Record]) -> list[tuple[int, int]]:
    """List the shards that a complete store of these runs of texts has."""
    n_parts = {record.block: record.n_parts for record in records}
    n_shards = len(records)
    if list(n_parts) != list(range(len(n_parts))) or sum(n_parts.values()) != n_shards:
        return []
    return [(block, part) for block, of_block in n_parts.items() for part in range(of_block)]


def _check_record(path: Path, record: Record, manifest: dict) -> None:
    """Check that a record can be true."""
    problem = _contradiction(record, manifest)
    if problem is not None:
        raise damaged(path, f"of the shard {record.name}, {problem}", _MEND)


def _contradiction(record: Record, manifest: dict) -> str | None:
    suffixes = (".parquet", ".safetensors") if manifest["provenance"] == "parquet" else (".safetensors",)
    if set(record.files) != {record.name + suffix for suffix in suffixes}:
        return f"the files are {sorted(record.files)}"
    if record.part >= record.n_parts:
        return f"the number is beyond the {record.n_parts} of its run"
    if record.n_rows % len(widths_of(manifest)):
        return f"the {record.n_rows} rows are not as many for each place"
    n_values = record.n_rows * manifest["hidden_size"]
    if n_values * ITEM_SIZES[manifest["dtype"]] > record.files[f"{record.name}.safetensors"][0]:
        return f"the {record.n_rows} rows are more than its file can hold"
    if len(record.chunks) != -(-record.n_rows // chunk_rows_of(manifest)):
        return f"there are {len(record.chunks)} checksums for {record.n_rows} rows"
    if record.n_nonfinite > n_values:
        return f"{record.n_nonfinite} values are said to be NaN or infinite"
    return None
