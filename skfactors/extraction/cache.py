"""Hidden states of windows that were run before, by this process or another."""

import hashlib
import json
import logging
import os
import stat
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path

import numpy as np
from filelock import FileLock, Timeout

from skfactors.extraction.forward import HiddenStateRunner
from skfactors.files import leftovers, read_plain, remove_leftovers, replaced_file, waited_for

logger = logging.getLogger(__name__)

_LOCKS = 256
# What eviction leaves of the limit, and how much of it a process writes before it looks at the folder again.
_SHARE_KEPT = 0.9
_SHARE_UNWATCHED = 0.1
_DTYPES = {"float32": "F32", "float64": "F64"}


class HiddenStateCache:
    """
    A folder with the hidden states of windows, each file named by what decides its content.

    Files appear whole or not at all. Each begins with its key and with the checksum, shape and type of what it holds:
    one that is not, to the last bit, what it should be counts as missing. What cannot be kept is said once, and stops
    nothing.

    Parameters
    ----------
    folder : path-like
        Made if need be.
    identity : str
        Digest of the model, places and precision.
    limit : int or None
        Bytes that the folder may hold, give or take a tenth for each process that writes to it. Beyond them, what was
        used least recently goes.

    Raises
    ------
    OSError
        If there is no such folder and it cannot be made.
    """

    def __init__(self, folder, identity: str, limit: int | None):
        self._folder = Path(folder)
        self._identity = identity.encode()
        self._limit = limit
        self._unwatched = np.inf
        self._tidied = False
        self._said = set()
        try:
            (self._folder / "locks").mkdir(parents=True, exist_ok=True)
        except OSError as error:
            if not self._folder.is_dir():
                raise type(error)(
                    error.errno,
                    f"the folder for hidden states cannot be made ({error.strerror}): choose another cache_dir",
                    str(self._folder),
                ) from error

    def key(self, window: np.ndarray) -> str:
        """Name a window of token ids by its content."""
        return hashlib.sha256(self._identity + np.ascontiguousarray(window, dtype="<i8").tobytes()).hexdigest()

    def get(self, key: str, shape: tuple[int, int, int], dtype) -> np.ndarray | None:
        """
        Look up a window.

        Parameters
        ----------
        key : str
        shape : tuple of int
            Of the states: places, tokens and width.
        dtype : {float32, float64}
            Of the states.

        Returns
        -------
        ndarray of that shape and dtype, or None
        """
        path = self._path(key)
        n_bytes = int(np.prod(shape)) * np.dtype(dtype).itemsize
        n_before = len(_header(key, shape, dtype, "0" * 64))
        try:
            content = memoryview(read_plain(path, self._folder, size=n_before + n_bytes))
        except FileNotFoundError:
            return None
        except OSError as error:
            return self._say_once("read", error)
        except ValueError as error:
            return self._damaged(path, error)
        states = content[n_before:]
        if content[:n_before] != _header(key, shape, dtype, hashlib.sha256(states).hexdigest()):
            return self._damaged(path, "it was altered, or is of another window or model")
        # Another process may have evicted it meanwhile, or the folder cannot be written: what was read is good.
        with suppress(OSError):
            os.utime(path)
        return np.frombuffer(states, np.dtype(dtype).newbyteorder("<")).reshape(shape)

    def put(self, key: str, states: np.ndarray) -> None:
        """Keep a window."""
        states = np.ascontiguousarray(states, states.dtype.newbyteorder("<"))
        header = _header(key, states.shape, states.dtype, hashlib.sha256(states).hexdigest())
        path = self._path(key)
        try:
            path.parent.mkdir(exist_ok=True)
            if path.parent.is_symlink():
                raise NotADirectoryError(f"{str(path.parent)!r} is a link and not a folder")
            with replaced_file(path) as file:
                file.write(header)
                file.write(states.data)
            self._tidy(len(header) + states.nbytes)
        except OSError as error:
            self._say_once("kept", error)

    def claim(self, key: str, claims: ExitStack) -> bool:
        """Claim a window, and its neighbours, for this process until the stack closes; False where another has them."""
        lock = self._lock(key)
        try:
            lock.acquire(blocking=False)
        except Timeout:
            return False
        except (OSError, NotImplementedError):
            # Where nothing can be locked, two processes may run the same window, and both are right.
            return True
        claims.callback(lock.release)
        return True

    def wait(self, key: str) -> None:
        """Wait until no other process has the window."""
        with (
            suppress(OSError, NotImplementedError),
            waited_for(self._lock(key), f"runs the model over the same texts and shares the cache {self._folder}"),
        ):
            pass

    def lock_name(self, key: str) -> int:
        """Return which of the locks a window comes under."""
        return int(key[:4], 16) % _LOCKS

    def _lock(self, key: str) -> FileLock:
        return FileLock(self._folder / "locks" / f"{self.lock_name(key):02x}.lock", thread_local=False)

    def _path(self, key: str) -> Path:
        return self._folder / key[:2] / f"{key}.safetensors"

    def _say_once(self, what: str, error: OSError) -> None:
        if what not in self._said:
            logger.warning(
                "some hidden states cannot be %s in %s, and the model is run again: %s", what, self._folder, error
            )
        self._said.add(what)

    def _damaged(self, path: Path, reason) -> None:
        logger.warning("%s is not used, and its window is run again: %s.", path, reason)
        with suppress(OSError):
            path.unlink()

    def _tidy(self, n_bytes: int) -> None:
        """Remove what killed processes left; with a limit, also what is beyond it."""
        self._unwatched += n_bytes
        if self._tidied and (self._limit is None or self._unwatched <= _SHARE_UNWATCHED * self._limit):
            return
        self._tidied, self._unwatched = True, 0
        remove_leftovers(self._folder, "??/")
        if self._limit is None:
            return
        entries = sorted(_stats(self._folder.glob("??/*.safetensors")))
        # Files that are being written count, and stay.
        total = sum(size for _, size, _ in [*entries, *_stats(leftovers(self._folder, "??/"))])
        if total <= self._limit:
            return
        for _, size, path in entries:
            if total <= _SHARE_KEPT * self._limit:
                break
            with suppress(OSError):
                path.unlink(missing_ok=True)
                total -= size


def _header(key: str, shape: tuple, dtype, sha256: str) -> bytes:
    """Return how a safetensors file begins that holds the states of a window."""
    n_bytes = int(np.prod(shape)) * np.dtype(dtype).itemsize
    tensor = {"dtype": _DTYPES[np.dtype(dtype).name], "shape": list(shape), "data_offsets": [0, n_bytes]}
    content = json.dumps({"__metadata__": {"key": key, "sha256": sha256}, "states": tensor}).encode()
    content += b" " * (-len(content) % 8)
    return len(content).to_bytes(8, "little") + content


def _stats(paths) -> Iterator[tuple[int, int, Path]]:
    for path in paths:
        with suppress(OSError):
            found = path.lstat()
            if not stat.S_ISDIR(found.st_mode):
                yield found.st_mtime_ns, found.st_size, path


class CachedRunner:
    """
    Run only windows that no process has run before.

    Takes the place of a :class:`HiddenStateRunner`.

    Parameters
    ----------
    runner : HiddenStateRunner
    cache : HiddenStateCache
    """

    def __init__(self, runner: HiddenStateRunner, cache: HiddenStateCache):
        self._runner = runner
        self._cache = cache

    def run(self, windows: Sequence[np.ndarray]) -> Iterator[tuple[list[int], list[np.ndarray]]]:
        """Yield hidden states as :meth:`HiddenStateRunner.run` does, those of known windows one by one."""
        places = {}
        for index in sorted(range(len(windows)), key=lambda index: -len(windows[index])):
            places.setdefault(self._cache.key(windows[index]), []).append(index)
        waiting = list(places)
        while waiting:
            missing = []
            for key in waiting:
                states = self._known(key, windows[places[key][0]])
                if states is None:
                    missing.append(key)
                else:
                    yield from _one_by_one(places[key], states)
            waiting = []
            while missing:
                with ExitStack() as claims:
                    mine, missing, elsewhere = self._claim(missing, claims)
                    waiting += elsewhere
                    for key, states in self._found_or_run(mine, places, windows):
                        yield from _one_by_one(places[key], states)
            if waiting:
                self._cache.wait(waiting[0])

    def _known(self, key: str, window: np.ndarray) -> np.ndarray | None:
        widths = self._runner.widths
        return self._cache.get(key, (len(widths), len(window), max(widths)), self._runner.dtype)

    def _claim(self, keys: list[str], claims: ExitStack) -> tuple[list[str], list[str], list[str]]:
        """Claim a batch of windows: return those, those that did not fit in, and those that others have."""
        mine, elsewhere, held = [], [], set()
        for number, key in enumerate(keys):
            if len(mine) == self._runner.batch_size:
                return mine, keys[number:], elsewhere
            name = self._cache.lock_name(key)
            if name not in held:
                if not self._cache.claim(key, claims):
                    elsewhere.append(key)
                    continue
                held.add(name)
            mine.append(key)
        return mine, [], elsewhere

    def _found_or_run(self, keys: list[str], places: dict, windows: Sequence[np.ndarray]):
        missing = []
        for key in keys:
            # Another process may have had it between the first look and the claim.
            states = self._known(key, windows[places[key][0]])
            if states is None:
                missing.append(key)
            else:
                yield key, states
        chosen = [windows[places[key][0]] for key in missing]
        for indices, states in self._runner.run(chosen):
            for row, index in enumerate(indices):
                of_window = _stacked([of_layer[row, : len(chosen[index])] for of_layer in states])
                self._cache.put(missing[index], of_window)
                yield missing[index], of_window


def _stacked(states: list[np.ndarray]) -> np.ndarray:
    """Stack a window's states in each layer, the narrower filled up with zeros."""
    stacked = np.zeros((len(states), len(states[0]), max(state.shape[1] for state in states)), states[0].dtype)
    for of_layer, state in zip(stacked, states, strict=True):
        of_layer[:, : state.shape[1]] = state
    return stacked


def _one_by_one(indices: list[int], states: np.ndarray) -> Iterator[tuple[list[int], list[np.ndarray]]]:
    for index in indices:
        yield [index], list(states[:, None])
