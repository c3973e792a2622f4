"""Hidden states of windows that were run before, by this process or another."""

import hashlib
import logging
import os
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path

import numpy as np
from filelock import FileLock, Timeout
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from skfactors.extraction.forward import HiddenStateRunner
from skfactors.files import advised_errors, replaced_file

logger = logging.getLogger(__name__)

_LOCKS = 256
# What eviction leaves of the limit, and how much of it a process writes before it looks at the folder again.
_SHARE_KEPT = 0.9
_SHARE_UNWATCHED = 0.1


class HiddenStateCache:
    """
    A folder with the hidden states of windows, each file named by what decides its content.

    Files appear whole or not at all and carry a checksum: one that is damaged counts as missing.

    Parameters
    ----------
    folder : path-like
        Made if need be.
    identity : str
        Digest of the model, layers and precision.
    limit : int or None
        Bytes that the folder may hold, give or take a tenth for each process that writes to it. Beyond them, what was
        used least recently goes.
    """

    def __init__(self, folder, identity: str, limit: int | None):
        self._folder = Path(folder)
        self._identity = identity.encode()
        self._limit = limit
        self._unwatched = np.inf
        (self._folder / "locks").mkdir(parents=True, exist_ok=True)

    def key(self, window: np.ndarray) -> str:
        """Name a window of token ids by its content."""
        return hashlib.sha256(self._identity + np.ascontiguousarray(window, dtype="<i8").tobytes()).hexdigest()

    def get(self, key: str) -> np.ndarray | None:
        """
        Look up a window.

        Returns
        -------
        ndarray of shape (n_layers, n_tokens, hidden_size) or None
        """
        path = self._path(key)
        try:
            with advised_errors(path), safe_open(path, "numpy") as file:
                states, sha256 = file.get_tensor("states"), file.metadata()["sha256"]
        except FileNotFoundError:
            return None
        except (SafetensorError, KeyError, TypeError):
            return self._damaged(path)
        if hashlib.sha256(states).hexdigest() != sha256:
            return self._damaged(path)
        try:
            os.utime(path)
        except OSError:
            # Another process evicted it meanwhile, or the folder cannot be written: what was read is good.
            pass
        return states

    def put(self, key: str, states: np.ndarray) -> None:
        """Keep a window."""
        states = np.ascontiguousarray(states)
        content = save({"states": states}, {"sha256": hashlib.sha256(states).hexdigest()})
        path = self._path(key)
        path.parent.mkdir(exist_ok=True)
        with replaced_file(path) as file:
            file.write(content)
        self._evict(len(content))

    def try_lock(self, key: str) -> FileLock | None:
        """Claim a window for this process; None where another has it, or another of its neighbours."""
        lock = self._lock(key)
        try:
            lock.acquire(blocking=False)
        except Timeout:
            return None
        return lock

    def wait(self, key: str) -> None:
        """Wait until no other process has the window."""
        with self._lock(key):
            pass

    def lock_name(self, key: str) -> int:
        """Return which of the locks a window comes under."""
        return int(key[:4], 16) % _LOCKS

    def _lock(self, key: str) -> FileLock:
        return FileLock(self._folder / "locks" / f"{self.lock_name(key):02x}.lock", thread_local=False)

    def _path(self, key: str) -> Path:
        return self._folder / key[:2] / f"{key}.safetensors"

    def _damaged(self, path: Path) -> None:
        logger.warning("%s was cut short or altered; its window is run again.", path)
        path.unlink(missing_ok=True)

    def _evict(self, n_bytes: int) -> None:
        if self._limit is None:
            return
        self._unwatched += n_bytes
        if self._unwatched <= _SHARE_UNWATCHED * self._limit:
            return
        self._unwatched = 0
        files = sorted(_stats(self._folder))
        total = sum(size for _, size, _ in files)
        if total <= self._limit:
            return
        for _, size, path in files:
            if total <= _SHARE_KEPT * self._limit:
                break
            path.unlink(missing_ok=True)
            total -= size


def _stats(folder: Path) -> Iterator[tuple[int, int, Path]]:
    for path in folder.glob("??/*.safetensors"):
        try:
            stat = path.stat()
        except FileNotFoundError:
            continue
        yield stat.st_mtime_ns, stat.st_size, path


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

    def run(self, windows: Sequence[np.ndarray], layers: Sequence[int]) -> Iterator[tuple[list[int], list[np.ndarray]]]:
        """Yield hidden states as :meth:`HiddenStateRunner.run` does, those of known windows one by one."""
        places = {}
        for index in sorted(range(len(windows)), key=lambda index: -len(windows[index])):
            places.setdefault(self._cache.key(windows[index]), []).append(index)
        waiting = list(places)
        while waiting:
            missing = []
            for key in waiting:
                states = self._cache.get(key)
                if states is None:
                    missing.append(key)
                else:
                    yield from _known(places[key], states)
            waiting = []
            while missing:
                with ExitStack() as claims:
                    mine, missing, elsewhere = self._claim(missing, claims)
                    waiting += elsewhere
                    for key, states in self._found_or_run(mine, places, windows, layers):
                        yield from _known(places[key], states)
            if waiting:
                self._cache.wait(waiting[0])

    def _claim(self, keys: list[str], claims: ExitStack) -> tuple[list[str], list[str], list[str]]:
        """Claim a batch of windows: return those, those that did not fit in, and those that others have."""
        mine, elsewhere, held = [], [], set()
        for number, key in enumerate(keys):
            if len(mine) == self._runner.batch_size:
                return mine, keys[number:], elsewhere
            name = self._cache.lock_name(key)
            if name not in held:
                lock = self._cache.try_lock(key)
                if lock is None:
                    elsewhere.append(key)
                    continue
                claims.callback(lock.release)
                held.add(name)
            mine.append(key)
        return mine, [], elsewhere

    def _found_or_run(self, keys: list[str], places: dict, windows: Sequence[np.ndarray], layers: Sequence[int]):
        missing = []
        for key in keys:
            # Another process may have had it between the first look and the claim.
            states = self._cache.get(key)
            if states is None:
                missing.append(key)
            else:
                yield key, states
        chosen = [windows[places[key][0]] for key in missing]
        for indices, states in self._runner.run(chosen, layers):
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


def _known(indices: list[int], states: np.ndarray) -> Iterator[tuple[list[int], list[np.ndarray]]]:
    for index in indices:
        yield [index], list(states[:, None])
