"""Texts into a store: run by run, each by one process, each only once."""

from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from filelock import FileLock, Timeout

from skfactors._version import __version__
from skfactors.extraction.identity import differences
from skfactors.extraction.sites import Place
from skfactors.extraction.store.layout import (
    COMPLETE,
    FORMAT,
    FORMAT_VERSION,
    LOCKS,
    MANIFEST,
    SHARDS,
    Record,
    read_checked,
    read_manifest,
    records_of,
    trouble_with,
    write_checked,
    write_record,
)
from skfactors.extraction.store.shards import provenance_format, write_shard
from skfactors.extraction.stream import ActivationStream
from skfactors.files import UNFINISHED
from skfactors.records import digest

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
    path.mkdir(parents=True, exist_ok=True)
    with FileLock(path / ".lock"):
        if not (path / MANIFEST).exists():
            if any(path.glob("[!.]*")):
                raise ValueError(
                    f"{str(path)!r} is not an activation store and holds other files: choose another folder."
                )
            for name in (SHARDS, LOCKS):
                (path / name).mkdir()
            made = {
                "format": FORMAT,
                "format_version": FORMAT_VERSION,
                "skfactors": __version__,
                "model": model,
                "provenance": provenance_format(),
                "places": [[*place, width] for place, width in zip(places, widths, strict=True)],
                **asked,
            }
            write_checked(path / MANIFEST, made)
    manifest = read_manifest(path)
    different = differences(asked, {name: manifest[name] for name in asked})
    if different:
        raise ValueError(
            f"the store {str(path)!r} holds other rows than these would be: {'; '.join(different)}. "
            "Extract to another folder, or with the settings that it was made with."
        )
    return manifest


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
    n_blocks = n_documents = 0
    elsewhere = []
    for block in blocks_of(texts):
        n_blocks += 1
        n_documents += len(block.texts)
        lock = FileLock(path / LOCKS / f"{block.number:08d}.lock")
        try:
            with lock.acquire(blocking=False):
                _fill_block(path, manifest, stream, block, advance)
        except Timeout:
            elsewhere.append(lock)
            advance(sum(map(len, block.texts)))
    for lock in elsewhere:
        with lock:
            pass
    return _finish(path, n_blocks, n_documents)


def _fill_block(path: Path, manifest: dict, stream: ActivationStream, block: Block, advance) -> None:
    texts = digest(block.texts)
    sound = _sound_records(path, block, texts)
    if sound and len(sound) == next(iter(sound.values())).n_parts:
        advance(sum(map(len, block.texts)))
        return
    parts = list(stream.split(block.texts, manifest["rows_per_shard"], block.first_document))
    for number, part in enumerate(parts):
        if number in sound:
            continue
        place = {"block": block.number, "part": number, "n_parts": len(parts), "texts": texts}
        acts = stream.read(part, advance)
        write_record(path, write_shard(path, acts, **place, n_rowless=part.n_rowless, manifest=manifest))


def _sound_records(path: Path, block: Block, texts: str) -> dict[int, Record]:
    """Read the records of a run's shards that are what was written."""
    sound = {}
    for record in records_of(path, block.number):
        if record.texts != texts:
            last = block.first_document + len(block.texts) - 1
            raise ValueError(
                f"the store {str(path)!r} was made from other texts: they differ somewhere in "
                f"texts[{block.first_document}] to texts[{last}]. Extract these to another folder."
            )
        if trouble_with(path, record) is None:
            sound[record.part] = record
    return sound


def _finish(path: Path, n_blocks: int, n_documents: int) -> tuple[int, int]:
    records, n_missing = [], 0
    for block in range(n_blocks):
        of_block = records_of(path, block)
        n_missing += not of_block or len(of_block) < of_block[0].n_parts
        records += of_block
    n_rowless = sum(record.n_rowless for record in records)
    if not n_missing:
        _complete(path, n_documents, records)
    return n_missing, n_rowless


def _complete(path: Path, n_documents: int, records: list[Record]) -> None:
    complete = {"n_documents": n_documents, "shards": [asdict(record) for record in records]}
    try:
        there = read_checked(path / COMPLETE)
    except (FileNotFoundError, ValueError):
        there = None
    if there is not None and there["n_documents"] != n_documents:
        raise ValueError(
            f"the store {str(path)!r} was made from {there['n_documents']} texts, and these are {n_documents}: "
            "extract them to another folder."
        )
    if there != complete:
        write_checked(path / COMPLETE, complete)
    for leftover in (path / SHARDS).glob(f"*/.*{UNFINISHED}"):
        leftover.unlink(missing_ok=True)
