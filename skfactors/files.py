"""Files that are there whole or not at all, and checksums of what they hold."""

import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

UNFINISHED = ".unfinished"
_TEXT = {"encoding": "utf-8", "errors": "backslashreplace", "newline": ""}


@contextmanager
def replaced_file(path, *, text: bool = False) -> Iterator:
    """
    Open a new file that takes the place of `path` once the block has ended, or of nothing where it fails.

    Parameters
    ----------
    path : path-like
        Its folder must exist.
    text : bool, default=False
        Whether text is written, in UTF-8; what that cannot hold, lone surrogates, becomes a backslash escape.

    Yields
    ------
    file
    """
    path = Path(path)
    unfinished = path.with_name(f".{path.name}.{uuid4().hex}{UNFINISHED}")
    try:
        with open(unfinished, "x" if text else "xb", **(_TEXT if text else {})) as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(unfinished, path)
    finally:
        unfinished.unlink(missing_ok=True)


def checksum(path) -> str:
    """Return the SHA-256 of a file's content, in hexadecimal."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
