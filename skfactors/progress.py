"""Progress that nests: a line for every stage that is under way, in terminals, notebooks and files alike."""

import importlib.util
import multiprocessing
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta

from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    TaskProgressColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

# Seconds from one line to the next, in a file, and from one state of a line to the next, in a notebook.
_LINE_EVERY, _REDRAWN_EVERY = 30, 0.5


@contextmanager
def progress_bar(description: str, *, total: float | None, enabled: bool = True) -> Iterator[Callable]:
    """
    Show a stage's progress while the block runs.

    In a terminal, and in a notebook with ipywidgets, it is a bar; in a notebook without them a line that is written
    anew; in a file, or from one of several processes, a line now and then.

    Parameters
    ----------
    description : str
        What the stage does.
    total : float or None
        Work to be done, in any unit; None when unknown.
    enabled : bool, default=True
        False shows nothing and costs nothing.

    Yields
    ------
    advance : callable
        ``advance(amount, status="")``: so much more is done, and what to say beside the bar.
    """
    if not enabled:
        yield lambda amount, status="": None
        return
    with _shared.display() as display:
        stage = display.begin(description, total)
        try:
            yield stage.advance
        except BaseException:
            display.end(stage, finished=False)
            raise
        display.end(stage, finished=True)


class _Bars:
    """Bars below each other, which rich draws."""

    def __init__(self, console: Console):
        self._progress = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            TaskProgressColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[status]}", markup=False),
            console=console,
        )
        self._progress.start()

    def begin(self, description, total):
        return _Bar(self._progress, self._progress.add_task(description, total=total, status=""))

    def end(self, stage, finished):
        if finished:
            stage.fill()

    def close(self):
        self._progress.stop()


class _Bar:
    def __init__(self, progress, task):
        self._progress, self._task = progress, task

    def advance(self, amount: float, status: str = "") -> None:
        self._progress.update(self._task, advance=amount, status=status)

    def fill(self) -> None:
        task = self._progress.tasks[self._progress.task_ids.index(self._task)]
        total = task.completed if task.total is None else task.total
        self._progress.update(self._task, total=total, completed=total)


class _Lines:
    """
    Lines of text, of the stage that was begun last.

    Parameters
    ----------
    console : Console
    in_place : bool
        Whether a line is written over the one before it, or below.
    """

    def __init__(self, console: Console, *, in_place: bool):
        self._console, self._in_place = console, in_place
        self._stages: list[_Counted] = []
        self._every = _REDRAWN_EVERY if in_place else _LINE_EVERY
        self._width, self._next = 0, time.monotonic() + self._every

    def begin(self, description, total):
        stage = _Counted(self, description, total)
        self._stages.append(stage)
        return stage

    def advanced(self) -> None:
        if time.monotonic() >= self._next:
            self._write(" > ".join(str(stage) for stage in self._stages))

    def end(self, stage, finished) -> None:
        self._stages.remove(stage)
        self._write(f"{stage}, {'done' if finished else 'stopped'}")
        if self._in_place:
            print(file=self._console.file, flush=True)
            self._width = 0

    def close(self) -> None:
        pass

    def _write(self, line: str) -> None:
        self._next = time.monotonic() + self._every
        if self._in_place:
            print("\r" + line.ljust(self._width), end="", file=self._console.file, flush=True)
            self._width = len(line)
        else:
            print(line, file=self._console.file, flush=True)


class _Counted:
    """What is done of a stage, as text."""

    def __init__(self, lines: _Lines, description: str, total: float | None):
        self._lines, self._description, self._total = lines, description, total
        self._done, self._status, self._began = 0.0, "", time.monotonic()

    def advance(self, amount: float, status: str = "") -> None:
        self._done, self._status = self._done + amount, status
        self._lines.advanced()

    def __str__(self):
        elapsed = timedelta(seconds=int(time.monotonic() - self._began))
        share = f"{self._done / self._total:.0%}" if self._total else ""
        return ", ".join(filter(None, (f"{self._description} {share}".rstrip(), str(elapsed), self._status)))


class _Shared:
    """The display of a process, which stages in all its threads share: there can be no two at once."""

    def __init__(self):
        self._lock, self._display, self._n_stages = threading.Lock(), None, 0

    @contextmanager
    def display(self) -> Iterator[_Bars | _Lines]:
        with self._lock:
            if self._display is None:
                self._display = _suitable_display()
            self._n_stages += 1
            display = self._display
        try:
            yield display
        finally:
            with self._lock:
                self._n_stages -= 1
                if self._n_stages == 0:
                    self._display.close()
                    self._display = None


def _suitable_display() -> _Bars | _Lines:
    console = Console()
    if console.is_jupyter:
        has_widgets = importlib.util.find_spec("ipywidgets") is not None
        return _Bars(console) if has_widgets else _Lines(console, in_place=True)
    # Bars of several processes would be drawn over each other.
    is_alone = multiprocessing.parent_process() is None and os.environ.get("WORLD_SIZE", "1") == "1"
    return _Bars(console) if console.is_terminal and is_alone else _Lines(console, in_place=False)


def _begin_anew_after_fork() -> None:
    global _shared
    _shared = _Shared()


_shared = _Shared()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_begin_anew_after_fork)
