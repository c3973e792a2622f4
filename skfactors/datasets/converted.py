"""Models that come in another form than transformers reads: converted once, and kept in the user's cache folder."""

import hashlib
import json
import os
from collections.abc import Callable, Mapping
from functools import lru_cache
from pathlib import Path

import numpy as np
from safetensors.numpy import save

from skfactors.datasets.packages import check_sha256
from skfactors.files import checksum, held_lock, replace_files
from skfactors.progress import progress_bar
from skfactors.records import check_schema, read_sealed, sealed

_RECORD = "converted.json"
_SCHEMA = {"source": {...: str}, "files": {...: str}}
_REMEDY = "It is made anew."


def cache_folder() -> Path:
    """Return where converted models are kept: the variable SKFACTORS_CACHE, or a folder of the user's cache."""
    chosen = os.environ.get("SKFACTORS_CACHE")
    if chosen:
        return Path(chosen).expanduser().absolute()
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache").absolute() / "skfactors"


def converted(name: str, source: Mapping[Path, str], install: str, convert: Callable[[Callable], Mapping]) -> str:
    """
    Return the folder of a converted model; make it, where it is not there, or not what was made.

    Processes that ask together wait for the first. Killed in between, nothing half-made is taken for the model.

    Parameters
    ----------
    name : str
        Of the folder.
    source : mapping of Path to str
        Files of installed packages, and the SHA-256 that each must have.
    install : str
        The command that installs the packages.
    convert : callable
        ``convert(advance)`` returns what each file is to hold, in bytes; ``advance(share)`` moves the progress bar on.

    Returns
    -------
    str

    Raises
    ------
    RuntimeError
        If a source is not the one that this library knows.
    OSError
        If the folder cannot be written.
    """
    folder = cache_folder() / name
    told = {str(number): sha256 for number, sha256 in enumerate(source.values())}
    if _is_whole(folder, told):
        return str(folder)
    folder.mkdir(parents=True, exist_ok=True)
    with held_lock(folder / ".lock", f"makes the model {str(folder)!r}"):
        if not _is_whole(folder, told):
            with progress_bar(f"making {name}, once", total=1.0) as advance:
                for path, sha256 in source.items():
                    check_sha256(path, sha256, install)
                files = convert(advance)
                sums = {file: hashlib.sha256(content).hexdigest() for file, content in files.items()}
                record = json.dumps(sealed({"source": told, "files": sums})).encode()
                replace_files(folder, files, _RECORD, record)
    return str(folder)


def model_files(config, tensors: Mapping) -> dict[str, bytes]:
    """
    Return the files that a model's configuration and weights make.

    Parameters
    ----------
    config : transformers.PretrainedConfig
    tensors : mapping of str to ndarray

    Returns
    -------
    dict of str to bytes
    """
    weights = save({name: np.ascontiguousarray(values) for name, values in tensors.items()}, metadata={"format": "pt"})
    return {"config.json": config.to_json_string().encode(), "model.safetensors": weights}


def _is_whole(folder: Path, source: dict) -> bool:
    """Say whether all files of a model are there, and made of this source."""
    try:
        record = read_sealed(folder / _RECORD, remedy=_REMEDY)
        check_schema(folder / _RECORD, record, _SCHEMA, remedy=_REMEDY)
        stats = [(name, os.stat(folder / name)) for name in record["files"]]
    except (FileNotFoundError, ValueError):
        return False
    # Checking takes a second for large models: once in a process.
    versions = tuple((name, found.st_ino, found.st_size, found.st_mtime_ns) for name, found in stats)
    return record["source"] == source and _are(folder, versions, tuple(record["files"].values()))


@lru_cache
def _are(folder: Path, versions: tuple, sums: tuple) -> bool:
    return all(checksum(folder / name) == sha256 for (name, *_), sha256 in zip(versions, sums, strict=True))
