"""Files that are there whole or not at all, and checksums of what they hold."""

import errno
import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

UNFINISHED = ".unfinished"
_TEXT = {"encoding": "utf-8", "errors": "backslashreplace", "newline": ""}
_ADVICE = {
    errno.ENOSPC: "what was written before is kept: make room on the disk and start again",
    errno.EDQUOT: "what was written before is kept: make room in the quota and start again",
    errno.EFBIG: "what was written before is kept: raise the limit on the size of files and start again",
    errno.EMFILE: "close some, or raise the limit (ulimit -n)",
}


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

    Raises
    ------
    OSError
        If it cannot be written; the message names the file and what can be done.
    """
    path = Path(path)
    unfinished = path.with_name(f".{path.name}.{uuid4().hex}{UNFINISHED}")
    try:
        with advised_errors(path), open(unfinished, "x" if text else "xb", **(_TEXT if text else {})) as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(unfinished, path)
    finally:
        unfinished.unlink(missing_ok=True)


@contextmanager
def advised_errors(path) -> Iterator:
    """Add what can be done to the errors of a system that is short of something."""
    try:
        yield
    except OSError as error:
        if error.errno not in _ADVICE:
            raise
        raise type(error)(error.errno, f"{error.strerror}; {_ADVICE[error.errno]}", str(path)) from error


def checksum(path) -> str:
    """Return the SHA-256 of a file's content, in hexadecimal."""
    with advised_errors(path), open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
