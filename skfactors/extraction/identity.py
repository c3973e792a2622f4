"""What decides the rows that come out of an extraction, told by content and not by name."""

from functools import lru_cache
from pathlib import Path

from transformers.utils import cached_file

from skfactors.extraction.models import ModelSource
from skfactors.files import checksum

_WEIGHTS = ("*.safetensors", "*.bin")
_TOKENIZER = ("tokenizer*.json", "vocab.*", "merges.txt", "added_tokens.json", "special_tokens_map.json", "*.model")


def model_content(source: ModelSource) -> dict[str, str]:
    """
    Return the checksums of a model's configuration, weights and tokenizer.

    Parameters
    ----------
    source : ModelSource
        Loaded before, so that a hub's files are there.

    Returns
    -------
    dict of str to str
        SHA-256 by file name.
    """
    folder = Path(source.name)
    if not folder.is_dir():
        folder = Path(cached_file(source.name, "config.json", revision=source.revision)).parent
    # Where weights come in both formats, safetensors are the ones that are loaded.
    weights = next((found for found in (sorted(folder.glob(pattern)) for pattern in _WEIGHTS) if found), [])
    others = {path for pattern in ("config.json", "*.py", *_TOKENIZER) for path in folder.glob(pattern)}
    return {path.name: _checksum_of_version(path, *_version(path)) for path in [*weights, *sorted(others)]}


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


def _version(path: Path) -> tuple[int, int]:
    stat = path.stat()
    return stat.st_mtime_ns, stat.st_size


@lru_cache(maxsize=1024)
def _checksum_of_version(path: Path, modified: int, size: int) -> str:
    return checksum(path)
