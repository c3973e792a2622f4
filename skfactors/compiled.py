"""Functions compiled by numba and kept on disk, where there is a place; what is damaged there is compiled again."""

import hashlib
from contextlib import contextmanager, suppress
from io import BytesIO
from pathlib import Path

from numba import njit
from numba.core.caching import FunctionCache, IndexDataCacheFile
from numba.core.dispatcher import Dispatcher

_DIGEST = hashlib.sha256
_DIGEST_SIZE = _DIGEST().digest_size


def compile_with(**options):
    """
    Make a decorator that compiles functions for arithmetic, without the interpreter's lock.

    Compiled code is kept where numba keeps it: in ``NUMBA_CACHE_DIR``, beside the source, or in the home folder. Where
    none of them can be written, every process compiles for itself.

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
        stamp = self._impl.locator.get_source_stamp(), _digest_of_callees(function)
        self._cache_file = _CheckedFiles(self._cache_path, self._impl.filename_base, stamp)

    def save_overload(self, sig, data):
        with suppress(OSError):
            super().save_overload(sig, data)


class _CheckedFiles(IndexDataCacheFile):
    """An index and its files of code, each ending in its digest. A file that does not is taken for absent."""

    def _load_index(self):
        return super()._load_index() if _is_whole(self._index_path) else {}

    def _load_data(self, name):
        return super()._load_data(name) if _is_whole(self._data_path(name)) else None

    @contextmanager
    def _open_for_write(self, filepath):
        with super()._open_for_write(filepath) as file:
            content = BytesIO()
            yield content
            file.write(content.getvalue() + _DIGEST(content.getvalue()).digest())


def _digest_of_callees(function) -> str:
    """Digest the files of the compiled functions that a function may call: they are compiled into it."""
    callees = (value.py_func for value in function.__globals__.values() if isinstance(value, Dispatcher))
    files = sorted({callee.__code__.co_filename for callee in callees} - {function.__code__.co_filename})
    return _DIGEST(b"".join(_DIGEST(Path(file).read_bytes()).digest() for file in files)).hexdigest()


def _is_whole(path) -> bool:
    try:
        content = Path(path).read_bytes()
    except OSError:
        return False
    return content[-_DIGEST_SIZE:] == _DIGEST(content[:-_DIGEST_SIZE]).digest()
