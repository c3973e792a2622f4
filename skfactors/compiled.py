"""Functions compiled by numba and kept on disk, where there is a safe place; damaged ones are compiled again."""

import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from io import BytesIO
from pathlib import Path
from types import ModuleType

from numba import njit
from numba.core.caching import FunctionCache, IndexDataCacheFile
from numba.core.dispatcher import Dispatcher

from skfactors.files import open_plain

_DIGEST = hashlib.sha256
_DIGEST_SIZE = _DIGEST().digest_size
_OTHERS_WRITE = 0o022
_PLAIN = (bool, int, float, str, tuple)


def compile_with(**options):
    """
    Make a decorator that compiles functions for arithmetic, without the interpreter's lock.

    Compiled code is kept where numba keeps it: in ``NUMBA_CACHE_DIR``, beside the source, or in the home folder. Where
    none of them can be written, or the one that can belongs to another user, every process compiles for itself.

    Parameters
    ----------
    **options
        More options of :func:`numba.njit`.

    Returns
    -------
    callable
    """

    def decorate(function):
        dispatcher = njit(nogil=True, fastmath={"reassoc", "contract", "nsz", "arcp"}, **options)(function)
        # What is raised where no folder can be written, or no source read.
        with suppress(RuntimeError, OSError):
            dispatcher._cache = _CheckedCache(function)
        return dispatcher

    return decorate


class _CheckedCache(FunctionCache):
    """Numba's cache of a function, with files that are checked, and a full disk that stops nothing."""

    def __init__(self, function):
        super().__init__(function)
        self._cache_file = _CheckedFiles(self._cache_path, self._impl.filename_base, _digest_of(function))
        self._cache_file.keep_others_out(function.__code__.co_filename)

    def save_overload(self, sig, data):
        with suppress(OSError):
            super().save_overload(sig, data)


class _CheckedFiles(IndexDataCacheFile):
    """
    An index and its files of code, each ending in its digest. A file that does not is taken for absent.

    So is one that another user may have put there: it is unpickled, and could run anything.
    """

    def keep_others_out(self, source) -> None:
        """
        Let none write to the folder who cannot write to the source.

        Raises
        ------
        PermissionError
            If it belongs to somebody else.
        """
        of_source, folder = os.stat(source), os.stat(self._cache_path)
        self._owners = {0, of_source.st_uid, *([os.geteuid()] if hasattr(os, "geteuid") else [])}
        self._others = _OTHERS_WRITE & ~os.stat(Path(source).parent).st_mode
        if folder.st_uid not in self._owners:
            raise PermissionError(f"{self._cache_path!r} is another user's")
        if folder.st_mode & self._others:
            os.chmod(self._cache_path, folder.st_mode & 0o7777 & ~self._others)

    def _load_index(self):
        return super()._load_index() if self._is_good(self._index_path) else {}

    def _load_data(self, name):
        return super()._load_data(name) if self._is_good(self._data_path(name)) else None

    def _is_good(self, path) -> bool:
        try:
            with open_plain(path) as file:
                found, content = os.fstat(file.fileno()), file.read()
        except (OSError, ValueError):
            return False
        ours = found.st_uid in self._owners and not found.st_mode & self._others
        return ours and content[-_DIGEST_SIZE:] == _DIGEST(content[:-_DIGEST_SIZE]).digest()

    @contextmanager
    def _open_for_write(self, filepath):
        with super()._open_for_write(filepath) as file:
            content = BytesIO()
            yield content
            if hasattr(os, "fchmod"):
                os.fchmod(file.fileno(), os.fstat(file.fileno()).st_mode & 0o7777 & ~self._others)
            file.write(content.getvalue() + _DIGEST(content.getvalue()).digest())


def _digest_of(function) -> str:
    """Digest the files of all compiled functions that may be compiled into one, and the plain values that they see."""
    waiting, files, values = [function], set(), set()
    while waiting:
        reached = waiting.pop()
        if reached.__code__.co_filename in files:
            continue
        files.add(reached.__code__.co_filename)
        for name, value in _seen_by(reached):
            if isinstance(value, Dispatcher):
                waiting.append(value.py_func)
            elif isinstance(value, _PLAIN) and not name.startswith("__"):
                values.add(f"{reached.__module__}.{name}={value!r}")
    digests = [_DIGEST(Path(file).read_bytes()).hexdigest() for file in sorted({*files, __file__})]
    return _DIGEST(repr([digests, sorted(values)]).encode()).hexdigest()


def _seen_by(function) -> Iterator[tuple[str, object]]:
    for name, value in function.__globals__.items():
        yield name, value
        if isinstance(value, ModuleType):
            yield from ((name, of) for name, of in vars(value).items() if isinstance(of, Dispatcher))
