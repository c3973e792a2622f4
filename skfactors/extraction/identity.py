"""What decides the rows that come out of an extraction, told by content and not by name."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

from skfactors.extraction.sites import Place
from skfactors.files import checksum
from skfactors.records import digest

_TOKENIZER = (
    "tokenizer*.json",
    "*vocab*.json",
    "vocab.*",
    "*.vocab",
    "merges.txt",
    "dict.txt",
    "bpe.codes",
    "*.bpe",
    "*.model",
    "*.spm",
    "*.tiktoken",
    "tekken.json",
    "added_tokens.json",
    "special_tokens_map.json",
)
_OTHERS = ("config.json", "adapter_config.json", "*.py", *_TOKENIZER)


class FileVersion(NamedTuple):
    """What changes with a file's content, whatever sets its time or its size back."""

    device: int
    number: int
    size: int
    modified: int
    changed: int


def versions_in(folder) -> dict[Path, FileVersion]:
    """
    Find the files of a model that decide its rows: configuration, weights, tokenizer and code.

    Parameters
    ----------
    folder : path-like

    Returns
    -------
    dict of Path to FileVersion
    """
    folder = Path(folder)
    others = {path for pattern in _OTHERS for path in folder.glob(pattern)}
    return {path: _version(path) for path in [*_weights(folder), *sorted(others)] if path.is_file()}


def _weights(folder: Path) -> list[Path]:
    # Where weights come in both formats, safetensors are the ones that are loaded.
    whole = any((folder / name).is_file() for name in ("model.safetensors", "model.safetensors.index.json"))
    return sorted(folder.glob("*.safetensors")) + sorted(folder.glob("adapter*.bin" if whole else "*.bin"))


def model_content(files: dict[Path, FileVersion]) -> dict[str, str]:
    """
    Return the checksums of a model's files.

    Parameters
    ----------
    files : dict of Path to FileVersion
        As the model was loaded from them.

    Returns
    -------
    dict of str to str
        SHA-256 by file name.

    Raises
    ------
    OSError
        If a file is no longer the one that was loaded.
    """
    folder = min((path.parent for path in files), key=lambda parent: len(parent.parts), default=Path())
    content = {}
    for path, version in files.items():
        content[path.relative_to(folder).as_posix()] = _checksum_of_version(path, version)
        # After it was read, too: what is read while it changes is neither the old nor the new one.
        if _version(path) != version:
            raise OSError(f"{str(path)!r} was changed after the model had been loaded from it. Start again.")
    return content


def model_fingerprint(content: dict[str, str]) -> str | None:
    """Digest the checksums of a model's files, weights alone; None where there are none."""
    weights = {name: of for name, of in content.items() if name.endswith((".safetensors", ".bin"))}
    return digest(weights)[:32] if weights else None


@dataclass(frozen=True)
class ModelIdentity:
    """
    Which model rows are from.

    Parameters
    ----------
    name : str
        On a hub, or a folder.
    files : mapping of Path to FileVersion, or of str to str
        As the model was loaded from them, or their checksums.
    """

    name: str
    files: Mapping

    def source(self, places: Sequence[Place]) -> dict:
        """
        Return what is to be said of rows from some places of the model.

        Returns
        -------
        dict
            `model`: the name on a hub, or of a folder without the path to it. `model_fingerprint`: of its weights; not
            there where the files have gone or changed. `places`: pairs of a site and a layer, as JSON has them.
        """
        folder = Path(self.name)
        # As hubs name models, they have at most an owner.
        local = folder.is_absolute() or len(folder.parts) > 2 or folder.is_dir()
        said = {"model": folder.resolve().name if local else self.name, "model_fingerprint": self._fingerprint()}
        said["places"] = [list(place) for place in places]
        return {name: value for name, value in said.items() if value is not None}

    def _fingerprint(self) -> str | None:
        if all(isinstance(of, str) for of in self.files.values()):
            return model_fingerprint(self.files)
        try:
            return model_fingerprint(model_content(self.files))
        except OSError:
            # Rows outlive the files that the model was loaded from.
            return None


def differences(asked: dict, found: dict, prefix: str = "") -> list[str]:
    """List where two nested dictionaries differ, in words."""
    lines = []
    for name in sorted({*asked, *found}):
        one, other = asked.get(name), found.get(name)
        if isinstance(one, dict) and isinstance(other, dict):
            lines += differences(one, other, f"{prefix}{name}: ")
        elif one != other:
            lines.append(f"{prefix}{name} is {other!r} there and {one!r} here")
    return lines


def _version(path: Path) -> FileVersion:
    found = path.stat()
    return FileVersion(found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)


@lru_cache(maxsize=1024)
def _checksum_of_version(path: Path, version: FileVersion) -> str:
    return checksum(path)
