"""Every call that writes what is kept on disk: what was there before, the call, and what a user then finds."""

from collections.abc import Callable
from dataclasses import dataclass

from skfactors import FactorReport

from .kinds import KINDS, tables_of


@dataclass(frozen=True)
class Writing:
    """
    A call that writes.

    Attributes
    ----------
    prepare : callable
        ``prepare(workshop, folder)`` makes what is there before.
    write : callable
        ``write(workshop, folder)`` is the call.
    read : callable
        ``read(workshop, folder)`` returns what is there: for a fit that goes on from its checkpoint, what comes of it.
    """

    prepare: Callable
    write: Callable
    read: Callable


def _nothing(workshop, folder):
    """Leave the folder empty."""


def _kept(name: str, prepare: Callable = _nothing) -> Writing:
    """Return the making of a kind that is used by the call that makes it."""
    use = KINDS[name].use
    return Writing(prepare, use, use)


def _extract_to(workshop, folder):
    workshop.extract_to(folder, 0)


def _read_report(workshop, folder):
    report = FactorReport.load(folder)
    return [tables_of(report), tables_of(FactorReport.merge([report]))]


def _read_page(workshop, folder):
    return (folder / "page.html").read_text(encoding="utf-8")


WRITINGS = {
    "a dictionary over another": Writing(
        lambda workshop, folder: workshop.dictionaries[1].save(folder),
        lambda workshop, folder: workshop.dictionaries[0].save(folder),
        KINDS["dictionary"].use,
    ),
    "a report over another": Writing(
        lambda workshop, folder: workshop.parts[1][0].save(folder),
        lambda workshop, folder: workshop.parts[0][0].save(folder),
        _read_report,
    ),
    "a page over another": Writing(
        lambda workshop, folder: workshop.parts[1][0].to_html(folder / "page.html"),
        lambda workshop, folder: workshop.parts[0][0].to_html(folder / "page.html"),
        _read_page,
    ),
    "a store": Writing(_nothing, _extract_to, KINDS["store"].use),
    "a store that was stopped": Writing(
        lambda workshop, folder: KINDS["stopped store"].make(workshop, folder, 0), _extract_to, KINDS["store"].use
    ),
    "checkpoints of a fit": _kept("checkpoint of a fit"),
    "checkpoints of a report": _kept("checkpoint of a report"),
    "a cache": _kept("cache"),
}
