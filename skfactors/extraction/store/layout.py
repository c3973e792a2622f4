"""What a store's folder holds: a manifest, records of shards, and what they say, each vouched for by a checksum."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from skfactors.extraction.sites import HIDDEN_STATES, Place
from skfactors.files import checksum, replaced_file
from skfactors.records import digest

FORMAT = "skfactors activation store"
FORMAT_VERSION = 2
MANIFEST = "manifest.json"
COMPLETE = "complete.json"
SHARDS = "shards"
LOCKS = "locks"


@dataclass(frozen=True)
class Record:
    """
    What is known of a shard without opening its files.

    Attributes
    ----------
    block, part, n_parts : int
        Which run of texts it belongs to, which of that run's shards it is, and of how many.
    texts : str
        Digest of the texts of the run.
    n_rows, n_nonfinite, n_rowless : int
        Rows; values that are NaN or infinite; documents that give no rows.
    chunks : list of int
        CRC-32 of each run of `CHUNK_ROWS` rows of X.
    files : dict of str to [int, str]
        Size and SHA-256 of each file, by name.
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

    @property
    def name(self) -> str:
        """Stem of the shard's files."""
        return shard_name(self.block, self.part)


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


def read_checked(path: Path) -> dict:
    """
    Read what :func:`write_checked` wrote.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If it was cut short or altered.
    """
    try:
        outer = json.loads(path.read_bytes())
        if digest(outer["content"]) == outer["sha256"]:
            return outer["content"]
    except (ValueError, KeyError, TypeError):
        pass
    raise ValueError(f"{path} was cut short or altered.")


def read_manifest(folder: Path) -> dict:
    """
    Read a store's manifest.

    Raises
    ------
    FileNotFoundError
        If the folder is not a store.
    ValueError
        If the manifest is damaged, or of a format that this version does not know.
    """
    if not (folder / MANIFEST).is_file():
        raise FileNotFoundError(f"{str(folder)!r} is not an activation store: it has no {MANIFEST}.")
    manifest = read_checked(folder / MANIFEST)
    if manifest.get("format") != FORMAT or manifest.get("format_version") not in range(1, FORMAT_VERSION + 1):
        raise ValueError(
            f"{str(folder)!r} is of format {manifest.get('format')!r}, version {manifest.get('format_version')!r}; "
            f"this version of skfactors reads {FORMAT!r}, up to version {FORMAT_VERSION}."
        )
    return manifest


def widths_of(manifest: dict) -> dict[Place, int]:
    """Return the places of a store's tokens, in the order of their rows, with their widths."""
    if "places" in manifest:
        return {Place(site, layer): width for site, layer, width in manifest["places"]}
    # Version 1 knew only the hidden states, of one width.
    return {Place(HIDDEN_STATES, layer): manifest["hidden_size"] for layer in manifest["content"]["layers"]}


def write_record(folder: Path, record: Record) -> None:
    """Say of a shard that it is there; its files must be."""
    write_checked(block_folder(folder, record.block) / f"{record.name}.json", asdict(record))


def read_record(folder: Path, block: int, part: int) -> Record | None:
    """Read what is said of a shard; None where nothing is, or nothing that can be relied on."""
    try:
        return Record(**read_checked(block_folder(folder, block) / f"{shard_name(block, part)}.json"))
    except (FileNotFoundError, ValueError, TypeError):
        return None


def records_of(folder: Path, block: int) -> list[Record]:
    """Read the records of a run's shards that are there, in the order of their rows."""
    names = sorted(path.stem for path in block_folder(folder, block).glob("[0-9]*.json"))
    records = (read_record(folder, *map(int, name.split("-"))) for name in names)
    return [record for record in records if record is not None]


def all_records(folder: Path) -> list[Record]:
    """Read the records of all shards that are there, in the order of their rows."""
    blocks = sorted(int(path.name) for path in (folder / SHARDS).iterdir() if path.name.isdigit())
    return [record for block in blocks for record in records_of(folder, block)]


def trouble_with(folder: Path, record: Record) -> str | None:
    """Say what is wrong with a shard's files; None if they are what its record says."""
    for name, (size, sha256) in record.files.items():
        path = block_folder(folder, record.block) / name
        if not path.is_file():
            return f"{name} is missing"
        if path.stat().st_size != size:
            return f"{name} has {path.stat().st_size} bytes instead of {size}"
        if checksum(path) != sha256:
            return f"{name} was altered: its checksum is not the one recorded"
    return None
