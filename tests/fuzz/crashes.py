"""A model of crashes: a process that writes is stopped before a step, and nothing that it does later counts."""

import builtins
import io
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from unittest.mock import patch

_open, _os_open, _fsync, _truncate = open, os.open, os.fsync, os.truncate
_CHANGES = ("replace", "rename", "link", "symlink", "unlink", "remove", "rmdir", "mkdir", "truncate")
# What happens to the step that a process is stopped at, and to what was not yet synced.
KILLED, TORN, POWER_CUT = "killed", "killed amid", "power cut"


class Crash(BaseException):
    """The end of a process: not to be caught by what handles errors."""


class Disk:
    """
    A folder whose writing is counted in steps: files opened, written to, synced, renamed, removed; folders made.

    Parameters
    ----------
    folder : Path
        What is written elsewhere does not count.
    stop : int, default=None
        Before which step the process ends; None lets it live.
    how : str, default=KILLED
        `TORN` lets half of the bytes of the step be written. `POWER_CUT` empties what was written and not synced.

    Attributes
    ----------
    steps : list of (str, bool)
        Each the name of a step, and whether something was not synced before it.
    """

    def __init__(self, folder: Path, stop: int | None = None, how: str = KILLED):
        self._folder = str(folder)
        self._stop, self._how = stop, how
        self._is_over = False
        self._unsynced = set()
        self._files = []
        self.steps = []

    def step(self, name: str, effect: Callable, half: Callable = lambda: None):
        """Let a step take effect, unless the process ends with it."""
        if self._is_over:
            raise Crash
        if len(self.steps) == self._stop:
            self._is_over = True
            if self._how == TORN:
                half()
            if self._how == POWER_CUT:
                self._lose_unsynced()
            raise Crash
        self.steps.append((name, bool(self._unsynced)))
        return effect()

    @contextmanager
    def patched(self) -> Iterator["Disk"]:
        """Have what Python writes go through this."""
        with (
            patch.multiple(os, open=self._opened_raw, fsync=self._synced, **{n: self._counted(n) for n in _CHANGES}),
            patch.object(builtins, "open", self._opened),
            patch.object(io, "open", self._opened),
        ):
            try:
                yield self
            finally:
                # What a process holds it lets go of as it ends.
                for file in self._files:
                    file.close()

    def _counted(self, name: str) -> Callable:
        change = getattr(os, name)

        def counted(path, *of, **options):
            if not self._is_within(path):
                return change(path, *of, **options)
            return self.step(name, lambda: change(path, *of, **options))

        return counted

    def _opened_raw(self, path, flags, *of, **options):
        if not self._is_within(path) or not flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
            return _os_open(path, flags, *of, **options)
        return self.step("open", lambda: _os_open(path, flags, *of, **options))

    def _opened(self, path, mode="r", buffering=-1, encoding=None, errors=None, newline=None, **options):
        if not self._is_within(path) or not set(mode) & set("wxa"):
            return _open(path, mode, buffering, encoding, errors, newline, **options)
        raw = self.step("open", lambda: _Written(self, path, mode.replace("b", "").replace("t", "")))
        buffered = io.BufferedRandom(raw) if "+" in mode else io.BufferedWriter(raw)
        return buffered if "b" in mode else io.TextIOWrapper(buffered, encoding, errors, newline)

    def _synced(self, descriptor):
        self.step("sync", lambda: _fsync(descriptor))
        self._unsynced.discard(os.fstat(descriptor).st_ino)

    def opened(self, file) -> None:
        """Take note of a file that may still be open at the end."""
        self._files.append(file)

    def written(self, file, write: Callable, content) -> int:
        """Write some bytes, as a step."""
        self._unsynced.add(os.fstat(file.fileno()).st_ino)
        return self.step("write", lambda: write(content), lambda: write(content[: len(content) // 2]))

    def _lose_unsynced(self):
        for path in Path(self._folder).rglob("*"):
            if path.is_file() and path.stat().st_ino in self._unsynced:
                _truncate(path, 0)

    def _is_within(self, path) -> bool:
        return not isinstance(path, int) and os.path.abspath(os.fspath(path)).startswith(self._folder)


class _Written(io.FileIO):
    def __init__(self, disk: Disk, path, mode: str):
        self._disk = disk
        super().__init__(path, mode)
        disk.opened(self)

    def write(self, content):
        return self._disk.written(self, super().write, content)


def stopped(folder: Path, stop: int | None, call: Callable, how: str = KILLED) -> Disk:
    """Call a function whose process is stopped before a step, and return what it wrote to."""
    with Disk(folder, stop, how).patched() as disk, suppress(Crash):
        call()
    return disk


def stopped_midway(folder: Path, call: Callable) -> None:
    """Leave in a folder what a function leaves whose process is killed after two thirds of its steps."""
    n_steps = len(stopped(folder, None, call).steps)
    shutil.rmtree(folder)
    folder.mkdir()
    stopped(folder, 2 * n_steps // 3, call)


def points_of(disk: Disk) -> list[tuple[int, str]]:
    """Return all ways to stop what was written in some steps: each the number of a step, and how."""
    points = []
    for number, (name, is_unsynced) in enumerate(disk.steps):
        points += [(number, KILLED)]
        points += [(number, TORN)] * (name == "write") + [(number, POWER_CUT)] * is_unsynced
    return points
