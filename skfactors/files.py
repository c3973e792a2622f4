"""Files that are there whole or not at all, folders that are replaced as a whole, and checks of what is read back."""

import errno
import hashlib
import logging
import os
import socket
import stat
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from uuid import uuid4

from filelock import FileLock, Timeout

try:
    import fcntl
except ImportError:  # Windows has none; there, age alone says whether a file was left behind.
    fcntl = None

logger = logging.getLogger(__name__)

UNFINISHED = ".unfinished"
STAGED = ".staged"
_TEXT = {"encoding": "utf-8", "errors": "backslashreplace", "newline": ""}
_ADVICE = {
    errno.ENOSPC: "what was written before is kept: make room on the disk and start again",
    errno.EDQUOT: "what was written before is kept: make room in the quota and start again",
    errno.EFBIG: "what was written before is kept: raise the limit on the size of files and start again",
    errno.EMFILE: "close some, or raise the limit (ulimit -n)",
}
# A file that nobody holds may be a moment old: made, and not yet held. Where nothing can be held, only age tells.
_SECONDS_TO_HOLD = 5
_SECONDS_TO_FINISH = 3600
_SECONDS_OF_SILENCE = 3
_SECONDS_BETWEEN_LOOKS = 0.1
_READ_ONLY = {errno.EROFS, errno.EACCES, errno.EPERM}


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
            # Held as long as it is written: who finds it can tell that it is not a leftover.
            _hold(file.fileno())
            yield file
            file.flush()
            os.fsync(file.fileno())
            os.replace(unfinished, path)
        _sync(path.parent)
    finally:
        unfinished.unlink(missing_ok=True)


def remove_leftovers(folder, pattern: str = "") -> None:
    """
    Remove what processes that were killed had begun to write in a folder; what others are writing stays.

    Parameters
    ----------
    folder : path-like
    pattern : str, default=""
        What stands before them: ``"*/"`` finds those in subfolders, ``".a"`` those of a file called "a".
    """
    for path in leftovers(folder, pattern):
        with suppress(OSError, ValueError):
            _remove_if_abandoned(path)


def leftovers(folder, pattern: str = "") -> list[Path]:
    """Find the files in a folder that are being written, or were when a process was killed."""
    return list(Path(folder).glob(f"{pattern}.*{UNFINISHED}"))


def replace_files(folder, files: Mapping[str, bytes], record: str, content: bytes, *, without: tuple = ()) -> None:
    """
    Replace several files of a folder and the record that vouches for them, all of them or none.

    The files are written beside the old ones, then the record takes the place of the old record, then the files those
    of theirs. Stopped before the record, the old ones are what is read; after it, the new ones, by :func:`read_member`.

    Parameters
    ----------
    folder : path-like
        Made if need be.
    files : mapping of str to bytes
        What each is to hold.
    record : str
        Name of the record, which says how long each file is and what its SHA-256.
    content : bytes
        Of the record.
    without : tuple of str, default=()
        Files that the new state has not.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    with _alone_in(folder):
        staged = {name: _staged(folder, name, hashlib.sha256(of).hexdigest()) for name, of in files.items()}
        for name, path in staged.items():
            with replaced_file(path) as file:
                file.write(files[name])
        with replaced_file(folder / record) as file:
            file.write(content)
        for name, path in staged.items():
            os.replace(path, folder / name)
        for name in without:
            (folder / name).unlink(missing_ok=True)
        _sync(folder)
        for name in (*files, *without):
            for path in folder.glob(f".{name}.*{STAGED}"):
                path.unlink(missing_ok=True)
        remove_leftovers(folder)


def read_member(folder, name: str, size: int | None, sha256: str, *, remedy: str) -> bytes:
    """
    Read a file that a record vouches for.

    Parameters
    ----------
    folder : path-like
    name : str
    size : int or None
        Bytes that it should have; None where the record does not say.
    sha256 : str
        That it should have, in hexadecimal.
    remedy : str
        What to do where it is another, for the message: a sentence.

    Returns
    -------
    bytes

    Raises
    ------
    FileNotFoundError
        If there is none.
    ValueError
        If it is not what the record says.
    """
    folder = Path(folder)
    staged = _staged(folder, name, sha256)
    problem = None
    # A save that was stopped after its record has left the file where it was staged.
    for path in (folder / name, staged):
        try:
            content = read_plain(path, folder, size=size)
        except (FileNotFoundError, ValueError) as error:
            problem = problem or error
            continue
        if hashlib.sha256(content).hexdigest() == sha256:
            return content
        problem = problem or ValueError(f"{str(path)!r} was cut short or altered: its checksum is not the one recorded")
    if isinstance(problem, FileNotFoundError):
        raise FileNotFoundError(f"{str(folder / name)!r} is missing. {remedy}") from problem
    raise ValueError(f"{problem}. {remedy}") from problem


def read_plain(path, folder=None, *, size: int | None = None) -> bytes:
    """
    Read a file, after checking that it is one; see :func:`open_plain`.

    Returns
    -------
    bytes
    """
    with open_plain(path, folder, size=size) as file, advised_errors(path):
        try:
            return file.read()
        except MemoryError as error:
            held = os.fstat(file.fileno()).st_size
            raise ValueError(f"{str(path)!r} has {held} bytes, more than there is memory for") from error


@contextmanager
def open_plain(path, folder=None, *, size: int | None = None) -> Iterator:
    """
    Open a file to read bytes, after checking that it is a plain file that lies where it seems to.

    Parameters
    ----------
    path : path-like
    folder : path-like, default=None
        Where it must lie, links followed; None lets it lie anywhere.
    size : int, default=None
        Bytes that it must have.

    Yields
    ------
    file

    Raises
    ------
    FileNotFoundError
        If there is none.
    ValueError
        If it is a folder, a pipe or a device, a link that leads out of the folder, or of another size.
    """
    path = Path(path)
    if folder is not None and not Path(os.path.realpath(path)).is_relative_to(os.path.realpath(folder)):
        raise ValueError(f"{str(path)!r} is a link that leads out of its folder; put the file itself there")
    # A pipe would be waited for.
    flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
    with advised_errors(path):
        descriptor = os.open(path, flags)
    found = os.fstat(descriptor)
    if not stat.S_ISREG(found.st_mode):
        os.close(descriptor)
        raise ValueError(f"{str(path)!r} is not a plain file")
    with open(descriptor, "rb") as file:
        if size is not None and found.st_size != size:
            raise ValueError(f"{str(path)!r} was cut short or altered: it has {found.st_size} bytes instead of {size}")
        yield file


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
    with open_plain(path) as file, advised_errors(path):
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def held_lock(path, doing: str) -> Iterator:
    """
    Hold a lock among processes; one that has to wait for long says for what.

    Parameters
    ----------
    path : path-like
        Of the lock's file, made if need be.
    doing : str
        What the process that holds it does, for the message, as in ``"writes the store 'a'"``.
    """
    with waited_for(FileLock(path, thread_local=False), doing):
        yield


@contextmanager
def waited_for(lock: FileLock, doing: str) -> Iterator:
    """Hold a lock as :func:`held_lock` does."""
    try:
        lock.acquire(timeout=_SECONDS_OF_SILENCE)
    except Timeout:
        logger.warning("waiting for another process, which %s.", doing)
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


class Claim:
    """
    A file by which one process at a time claims some work; it is free again once that one has let go of it, or died.

    Parameters
    ----------
    path : path-like
        Of the file, which is gone afterwards. Its folder must exist.
    """

    def __init__(self, path):
        self._path, self._file, self._owner = Path(path), None, None

    def take(self) -> bool:
        """
        Claim the work, unless another has.

        Raises
        ------
        OSError
            If the file cannot be made.
        """
        while True:
            file = open(self._path, "a+", encoding="utf-8")
            # Where files cannot be held, nobody can tell.
            if _hold(file.fileno()) is False:
                file.close()
                return False
            if self._is_current(file):
                break
            file.close()
        file.truncate(0)
        file.write(f"process {os.getpid()} on {socket.gethostname()}")
        file.flush()
        self._file, self._owner = file, os.getpid()
        return True

    def holder(self) -> str:
        """Return who has claimed it, as far as can be told."""
        try:
            return self._path.read_text(encoding="utf-8")[:200] or "another process"
        except (OSError, ValueError):
            return "another process"

    def let_go(self) -> None:
        """Let others have it."""
        if self._file is None:
            return
        # A process that was forked meanwhile has the file, too, but not the claim.
        if self._owner == os.getpid():
            with suppress(OSError):
                self._path.unlink()
        self._file.close()
        self._file = None

    def _is_current(self, file) -> bool:
        """Say whether the file has still its name: who had it before may have removed it a moment ago."""
        with suppress(FileNotFoundError):
            return os.path.samestat(os.fstat(file.fileno()), os.stat(self._path))
        return False


class Waiting:
    """Waits for others a moment at a time, and after some seconds says once for whom."""

    def __init__(self):
        self._start, self._is_said = time.monotonic(), False

    @property
    def seconds(self) -> float:
        """How long so far."""
        return time.monotonic() - self._start

    def go_on(self, whom: str) -> None:
        """Wait a moment more."""
        if not self._is_said and self.seconds > _SECONDS_OF_SILENCE:
            logger.warning("waiting for %s.", whom)
            self._is_said = True
        time.sleep(_SECONDS_BETWEEN_LOOKS)


def is_read_only(error: OSError) -> bool:
    """Say whether an error comes from a folder that cannot be written to."""
    return error.errno in _READ_ONLY


def _staged(folder: Path, name: str, sha256: str) -> Path:
    return folder / f".{name}.{sha256[:16]}{STAGED}"


@contextmanager
def _alone_in(folder: Path) -> Iterator:
    """Keep other processes from replacing files of a folder meanwhile, where the system can."""
    if fcntl is None:
        yield
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        # Some network file systems hold no folders.
        with suppress(OSError):
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _hold(descriptor: int) -> bool | None:
    """Hold a file for this process; False where another holds it, None where files cannot be held."""
    if fcntl is None:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return None
    return True


def _remove_if_abandoned(path: Path) -> None:
    age = time.time() - path.stat().st_mtime
    if age <= _SECONDS_TO_HOLD:
        return
    with open_plain(path) as file:
        held = _hold(file.fileno())
    if held or (held is None and age > _SECONDS_TO_FINISH):
        path.unlink()


def _sync(folder: Path) -> None:
    """Have the disk keep a folder's names, too, where the system can."""
    with suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
