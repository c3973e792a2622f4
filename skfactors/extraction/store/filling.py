"""Texts into a store: run by run, each by one process, each only once."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock, Timeout

from skfactors._version import __version__
from skfactors.extraction.identity import differences
from skfactors.extraction.sites import Place
from skfactors.extraction.store.layout import (
    CHUNK_ROWS,
    FORMAT,
    FORMAT_VERSION,
    LOCKS,
    MANIFEST,
    SHARDS,
    Record,
    block_folder,
    blocks_there,
    digest_of_texts,
    parts_there,
    read_complete,
    read_manifest,
    read_record,
    trouble_with,
    write_checked,
    write_complete,
    write_record,
)
from skfactors.extraction.store.shards import provenance_format, write_shard
from skfactors.extraction.stream import ActivationStream
from skfactors.files import held_lock, is_read_only, leftovers, remove_leftovers, waited_for
from skfactors.records import digest

# The digest of no text.
_BEFORE_ALL = digest([])
# Texts whose shards one process makes: enough that few runs are in hand at a time, and little to do again.
CHARACTERS_IN_A_BLOCK = 250_000


@dataclass(frozen=True)
class Block:
    """
    A run of texts, cut where enough characters are together: the same on every reading, and without a tokenizer.

    Attributes
    ----------
    number, first_document : int
    texts : list of str
    """

    number: int
    first_document: int
    texts: list[str]

    @property
    def documents(self) -> list[int]:
        """Numbers of its first text and of the one after its last."""
        return [self.first_document, self.first_document + len(self.texts)]

    @property
    def n_characters(self) -> int:
        """Characters of its texts."""
        return sum(map(len, self.texts))


def blocks_of(texts: Iterable[str]) -> Iterator[Block]:
    """Cut texts into runs, lazily."""
    number = first = n_characters = 0
    held = []
    for document, text in enumerate(texts):
        held.append(text)
        n_characters += len(text)
        if n_characters >= CHARACTERS_IN_A_BLOCK:
            yield Block(number, first, held)
            number, first, held, n_characters = number + 1, document + 1, [], 0
    if held:
        yield Block(number, first, held)


def open_folder(
    path, content: dict, *, model: str, places: list[Place], widths: list[int], dtype: str, rows_per_shard: int
) -> dict:
    """
    Make a store's folder, or check that the one that is there holds the same kind of rows.

    Parameters
    ----------
    path : Path
    content : dict
        All that decides the rows.
    model : str
        Its name, for people.
    places : list of Place
    widths : list of int
        Of each place.
    dtype : str
        Of the rows on disk.
    rows_per_shard : int

    Returns
    -------
    dict
        The manifest.

    Raises
    ------
    ValueError
        If the folder holds something else, or a store of other rows; the differences are named.
    """
    asked = {"content": content, "hidden_size": max(widths), "dtype": dtype, "rows_per_shard": rows_per_shard}
    if not (path / MANIFEST).exists():
        made = {
            "format": FORMAT,
            "format_version": FORMAT_VERSION,
            "skfactors": __version__,
            "model": model,
            "provenance": provenance_format(),
            "places": [[*place, width] for place, width in zip(places, widths, strict=True)],
            "chunk_rows": CHUNK_ROWS,
            **asked,
        }
        with _told_if_read_only(path):
            _make_folder(path, made)
    manifest = read_manifest(path)
    different = differences(asked, {name: manifest[name] for name in asked})
    if different:
        raise ValueError(
            f"the store {str(path)!r} holds other rows than these would be: {'; '.join(different)}. "
            "Extract to another folder, or with the settings that it was made with."
        )
    return manifest


def _make_folder(path: Path, manifest: dict) -> None:
    path.mkdir(parents=True, exist_ok=True)
    with held_lock(path / ".lock", f"makes the store {str(path)!r}"):
        if (path / MANIFEST).exists():
            return
        # Empty folders may be what a process left that was killed here.
        if any(found.name not in (SHARDS, LOCKS) or any(found.iterdir()) for found in path.glob("[!.]*")):
            raise ValueError(f"{str(path)!r} is not an activation store and holds other files: choose another folder.")
        write_checked(path / MANIFEST, manifest)


def fill(path: Path, manifest: dict, stream: ActivationStream, texts: Iterable[str], advance) -> tuple[int, int]:
    """
    Make all shards of `texts` that are not there; wait for those that other processes are making.

    Parameters
    ----------
    path : Path
    manifest : dict
    stream : ActivationStream
    texts : iterable of str
    advance : callable
        Told of characters that are done.

    Returns
    -------
    n_missing : int
        Runs of texts that are not there: processes died while they made them.
    n_rowless : int
        Texts without rows, of all that are there.

    Raises
    ------
    ValueError
        If what is there was made from other texts.
    """
    expected, elsewhere = [], []
    complete = _complete_before(path, manifest)
    for block in blocks_of(texts):
        expected.append(_told_of_texts(block, expected[-1]["texts"] if expected else _BEFORE_ALL, manifest))
        if complete is not None and block.number > complete[0][-1].block:
            raise _of_so_many_texts(path, complete[1], "more")
        if _is_there(path, manifest, block, expected[-1]):
            advance(block.n_characters)
            continue
        try:
            with _lock_of(path, block.number):
                _fill_block(path, manifest, stream, block, expected[-1], advance)
        except Timeout:
            elsewhere.append(block.number)
            advance(block.n_characters)
    for number in elsewhere:
        lock = FileLock(path / LOCKS / f"{number:08d}.lock")
        with waited_for(lock, f"extracts run {number} of the texts to the store {str(path)!r}"):
            pass
    return _finish(path, manifest, expected, block.documents[1])


def _told_of_texts(block: Block, before: str, manifest: dict) -> dict:
    """Return what the records of a run say of its texts."""
    if manifest["format_version"] < 3:
        return {"texts": digest_of_texts(block.texts, None)}
    return {"texts": digest_of_texts(block.texts, before), "before": before, "documents": block.documents}


def _fill_block(path: Path, manifest: dict, stream: ActivationStream, block: Block, texts: dict, advance) -> None:
    # Nobody else writes here now.
    for leftover in leftovers(block_folder(path, block.number)):
        leftover.unlink(missing_ok=True)
    sound = {
        record.part: record
        for record in _records_of(path, manifest, block.number, texts)
        if trouble_with(path, record) is None
    }
    parts = list(stream.split(block.texts, manifest["rows_per_shard"], block.first_document))
    for number, part in enumerate(parts):
        if number in sound and sound[number].n_parts == len(parts):
            continue
        place = {"block": block.number, "part": number, "n_parts": len(parts), "n_rowless": part.n_rowless}
        acts = stream.read(part, advance)
        if stream.drop_outliers is not None:
            place["n_outliers"] = part.n_outliers
        record = write_shard(path, acts, **place, **texts, manifest=manifest)
        write_record(path, record, manifest)


def _is_there(path: Path, manifest: dict, block: Block, texts: dict) -> bool:
    """Say whether all shards of a run are there and are what was written."""
    records = _records_of(path, manifest, block.number, texts)
    return _are_all(records) and all(trouble_with(path, record) is None for record in records)


def _are_all(records: list[Record]) -> bool:
    return bool(records) and all(record.n_parts == len(records) for record in records)


def _records_of(path: Path, manifest: dict, block: int, texts: dict) -> list[Record]:
    """Read the records of a run's shards; those that are damaged, or of another store, count as not there."""
    records = []
    for part in parts_there(path, block):
        with suppress(FileNotFoundError, ValueError):
            records.append(read_record(path, block, part, manifest))
    for record in records:
        different = [name for name, value in texts.items() if getattr(record, name) != value]
        if different:
            where = "in or before" if "before" in different else "in"
            raise ValueError(
                f"the store {str(path)!r} was made from other texts: they differ somewhere {where} those of its shard "
                f"{record.name}. Extract these to another folder."
            )
    return records


def _finish(path: Path, manifest: dict, expected: list[dict], n_documents: int) -> tuple[int, int]:
    records, n_missing = [], 0
    for block, texts in enumerate(expected):
        of_block = _records_of(path, manifest, block, texts)
        n_missing += not _are_all(of_block)
        records += of_block
    if any(parts_there(path, block) for block in blocks_there(path) if block >= len(expected)):
        raise _of_so_many_texts(path, "more", n_documents)
    if not n_missing:
        _complete(path, manifest, n_documents, records)
    return n_missing, sum(record.n_rowless for record in records)


def _complete(path: Path, manifest: dict, n_documents: int, records: list[Record]) -> None:
    before = _complete_before(path, manifest)
    if before is not None and before[1] != n_documents:
        raise _of_so_many_texts(path, before[1], n_documents)
    if before != (records, n_documents):
        with _told_if_read_only(path):
            write_complete(path, n_documents, records, manifest)
    remove_leftovers(path)
    remove_leftovers(path / SHARDS, "*/")


def _complete_before(path: Path, manifest: dict) -> tuple[list[Record], int] | None:
    """Read what is said of a store that is complete; one that is not, or wrongly said to be, is filled."""
    try:
        return read_complete(path, manifest)
    except (FileNotFoundError, ValueError):
        return None


def _of_so_many_texts(path: Path, there, here) -> ValueError:
    return ValueError(
        f"the store {str(path)!r} was made from {there} texts, and these are {here}: extract them to another folder."
    )


@contextmanager
def _lock_of(path: Path, block: int) -> Iterator:
    """Hold a run of texts; a Timeout says that another process does."""
    with _told_if_read_only(path):
        (path / LOCKS).mkdir(exist_ok=True)
        lock = FileLock(path / LOCKS / f"{block:08d}.lock")
        lock.acquire(blocking=False)
    try:
        yield
    finally:
        lock.release()


@contextmanager
def _told_if_read_only(path: Path) -> Iterator:
    try:
        yield
    except OSError as error:
        if not is_read_only(error):
            raise
        problem = "the store is not complete and its folder is read-only; make it writable, or extract to another"
        raise type(error)(error.errno, problem, str(path)) from error
