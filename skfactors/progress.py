"""Progress bars that nest: one live display, a line for every stage that is under way."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from rich.progress import (
    BarColumn,
    Progress,
    TaskProgressColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

_display: ContextVar[Progress | None] = ContextVar("skfactors_progress_display", default=None)


@contextmanager
def progress_bar(description: str, *, total: float | None, enabled: bool = True) -> Iterator[Callable]:
    """
    Show a stage's progress while the block runs.

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
    display = _display.get()
    if display is not None:
        yield from _stage(display, description, total)
        return
    display = Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        TaskProgressColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[status]}", markup=False),
    )
    with display:
        _display.set(display)
        try:
            yield from _stage(display, description, total)
        finally:
            _display.set(None)


def _stage(display: Progress, description: str, total: float | None) -> Iterator[Callable]:
    task = display.add_task(description, total=total, status="")

    def advance(amount: float, status: str = "") -> None:
        display.update(task, advance=amount, status=status)

    yield advance
    if total is None:
        total = display.tasks[display.task_ids.index(task)].completed
    display.update(task, total=total, completed=total)
