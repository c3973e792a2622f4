"""Trials: something befalls a sound folder, or a process that writes one, and what a user then sees is judged."""

import faulthandler
import logging
import os
import re
import resource
import shutil
import signal
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from random import Random

import joblib
import numpy as np

from .believing import all_checksums_right
from .crashes import points_of, stopped
from .kinds import Kind, Workshop, verified
from .mutations import BLUNT, SUBTLE, Victim, flip_bit
from .writings import Writing

logger = logging.getLogger(__name__)

SECONDS, BYTES = 20, 2**30
# As after hours, when what was left behind may go.
_HOURS = 10 * 3600


class TooLong(BaseException):
    """Not to be caught by what handles errors."""


@dataclass(frozen=True)
class Outcome:
    """
    What came of a use of a folder.

    Attributes
    ----------
    result : object
        None where there was an error.
    error : BaseException or None
    """

    result: object = None
    error: BaseException | None = None

    @property
    def digest(self) -> str:
        return joblib.hash(self.result)


def outcome_of(use: Callable) -> Outcome:
    """Call a function, for so long and with so much memory."""
    try:
        with _bounded(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return Outcome(use())
    except (Exception, TooLong) as error:
        return Outcome(error=error)


@contextmanager
def _bounded() -> Iterator[None]:
    def stop(*of):
        raise TooLong

    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    now = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    handler = signal.signal(signal.SIGALRM, stop)
    resource.setrlimit(resource.RLIMIT_AS, (now + BYTES, hard))
    signal.setitimer(signal.ITIMER_REAL, SECONDS)
    # What hangs where no handler runs ends all, with a traceback.
    faulthandler.dump_traceback_later(SECONDS + 60, exit=True)
    try:
        yield
    finally:
        faulthandler.cancel_dump_traceback_later()
        signal.setitimer(signal.ITIMER_REAL, 0)
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))
        signal.signal(signal.SIGALRM, handler)


def trouble_with_error(error: BaseException, folder: Path, names: set[str]) -> str | None:
    """Say what is wrong with an error; None where it is a ValueError or OSError that names what it is of in a line."""
    text = str(error)
    if isinstance(error, TooLong):
        return f"it took more than {SECONDS} s"
    if not isinstance(error, (ValueError, OSError)):
        return f"a bare {type(error).__name__}: {text[:200]}"
    if str(folder) not in text and not any(name in text for name in names):
        return f"a {type(error).__name__} that names no file: {text[:200]}"
    return f"a message of several lines: {text[:200]!r}" if "\n" in text.strip() else None


class Trial:
    """
    Sound folders of a kind, and what befalls one of them.

    Parameters
    ----------
    kind : Kind
    workshop : Workshop
    folder : Path
        Where the folders are made.
    """

    def __init__(self, kind: Kind, workshop: Workshop, folder: Path):
        self._kind, self._workshop = kind, workshop
        self._folder, self._twin, self._sound = folder / "tried", folder / "twin", folder / "sound"
        self._outside = folder / "outside"
        for path, variant in ((self._sound, 0), (self._twin, 1)):
            path.mkdir(parents=True)
            kind.make(workshop, path, variant)
        self._outside.mkdir()
        shutil.copytree(self._sound, self._folder)
        self._files, self._twins = _files_of(self._sound), _files_of(self._twin)
        self._names = {path.name for path in self._files} | kind.names
        outcome = outcome_of(lambda: kind.use(workshop, self._folder))
        if outcome.error is not None:
            raise outcome.error
        self._expected = outcome.digest
        self._restore()

    def mutated(self, seed: str) -> tuple[str, str | None]:
        """
        Let something befall the folder.

        Parameters
        ----------
        seed : str
            Decides what.

        Returns
        -------
        what : str
            What it was.
        deviation : str or None
            What should not have come of it.
        """
        rng, what = Random(seed), None
        while what is None:
            subtle = rng.random() < 0.5
            victim = self._victim(rng)
            what = rng.choice(SUBTLE if subtle else BLUNT)(rng, victim)
        believed = subtle and rng.random() < 0.7
        if not believed:
            return self._judged(victim, what, vouched=self._kind.vouched)
        self._correct_sizes(victim)
        with all_checksums_right():
            return self._judged(victim, f"{what}, with the right checksums", vouched=False)

    def flipped(self, seed: str) -> tuple[str, str | None]:
        """Flip a bit, and return what :meth:`mutated` does."""
        rng = Random(seed)
        victim = self._victim(rng)
        return self._judged(victim, flip_bit(rng, victim), vouched=self._kind.vouched)

    def _victim(self, rng: Random) -> Victim:
        file = rng.choice(self._files)
        alike = [path for path in self._twins if path.suffix == file.suffix]
        twin = file if file in self._twins else alike[self._files.index(file) % len(alike)]
        return Victim(self._folder, self._folder / file, self._twin, self._twin / twin, self._outside)

    def _judged(self, victim: Victim, what: str, vouched: bool) -> tuple[str, str | None]:
        what = f"{victim.file.relative_to(self._folder)}: {what}"
        logger.info(what)
        outcome = outcome_of(lambda: self._kind.use(self._workshop, self._folder))
        deviation = self._deviation(outcome, vouched)
        if deviation is None and outcome.error is not None and self._kind.verified:
            deviation = self._deviation_of_verify(outcome.error)
        if (self._outside / "unpickled").exists():
            deviation = "it was unpickled"
            (self._outside / "unpickled").rmdir()
        self._restore()
        return what, deviation

    def _deviation(self, outcome: Outcome, vouched: bool) -> str | None:
        error = outcome.error
        if error is not None:
            if self._kind.serves:
                return f"an error: {error!r}"
            return trouble_with_error(error, self._folder, self._names)
        if vouched and outcome.digest != self._expected:
            return "another result, without a word"
        if self._kind.finite and not _is_finite(outcome.result):
            return "a result that is not finite"
        return None

    def _deviation_of_verify(self, error: BaseException) -> str | None:
        # What a use alone can find out is known by what it says.
        if any(name in str(error) for name in self._kind.names):
            return None
        # It is not restored yet, and a use may have mended it.
        verdict = outcome_of(lambda: verified(self._folder))
        if verdict.error is not None:
            return f"verify ends with {verdict.error!r}"
        return f"verify finds it sound, and to use it is an error: {error}" if verdict.result else None

    def _correct_sizes(self, victim: Victim) -> None:
        """Have the records beside a file tell its new size."""
        if not victim.file.is_file():
            return
        before = (self._sound / victim.file.relative_to(self._folder)).stat().st_size
        for path in self._folder.rglob("*.json"):
            if path != victim.file:
                text = path.read_bytes()
                path.write_bytes(re.sub(rb"\b%d\b" % before, b"%d" % victim.file.stat().st_size, text))

    def _restore(self) -> None:
        shutil.rmtree(self._folder)
        shutil.copytree(self._sound, self._folder)


def _files_of(folder: Path) -> list[Path]:
    """Find what may befall something: neither tables for spreadsheets, which are not read, nor locks."""
    files = [path for path in folder.rglob("*") if path.is_file() and path.suffix not in (".csv", ".lock")]
    return sorted(path.relative_to(folder) for path in files if path.stat().st_size and path.name != ".lock")


def _is_finite(result) -> bool:
    if isinstance(result, dict):
        result = result.values()
    if isinstance(result, np.ndarray):
        return result.dtype.kind not in "fc" or bool(np.isfinite(result).all())
    if isinstance(result, (float, np.floating)):
        return bool(np.isfinite(result))
    return all(map(_is_finite, result)) if isinstance(result, (list, tuple, type({}.values()))) else True


def crash_trials(
    writing: Writing, workshop: Workshop, folder: Path, every: int = 1
) -> Iterator[tuple[str, str | None]]:
    """
    Stop a call that writes at each of its steps, and call it again.

    Parameters
    ----------
    writing : Writing
    workshop : Workshop
    folder : Path
        Where to.
    every : int, default=1
        How many of the ways to stop it one is taken from.

    Yields
    ------
    what : str
        Where it was stopped.
    deviation : str or None
        What should not have come of it.
    """
    before, tried, looked_at = folder / "before", folder / "tried", folder / "looked at"
    before.mkdir(parents=True)
    writing.prepare(workshop, before)

    def read(path):
        shutil.rmtree(looked_at, ignore_errors=True)
        shutil.copytree(path, looked_at)
        return outcome_of(lambda: writing.read(workshop, looked_at))

    def begin():
        shutil.rmtree(tried, ignore_errors=True)
        shutil.copytree(before, tried)

    old = read(before)
    begin()
    disk = stopped(tried, None, lambda: writing.write(workshop, tried))
    new, names = read(tried), _names_in(tried)
    if new.error is not None:
        raise new.error
    for number, how in points_of(disk)[::every]:
        begin()
        what = f"{how} at step {number}, {disk.steps[number][0]}"
        logger.info(what)
        ended = outcome_of(lambda: stopped(tried, number, lambda: writing.write(workshop, tried), how))
        if ended.error is not None:
            yield what, f"it ends with {ended.error!r}"
            continue
        found = read(tried)
        if found.error is not None:
            right = old.error is not None and trouble_with_error(found.error, looked_at, set()) is None
        else:
            right = found.digest == new.digest or (old.error is None and found.digest == old.digest)
        if not right:
            yield what, f"neither the old nor the new: {found.error!r}"
            continue
        for path in tried.rglob("*"):
            os.utime(path, (time.time() - _HOURS,) * 2)
        again = outcome_of(lambda: writing.write(workshop, tried))
        if again.error is not None:
            yield what, f"called again, it ends with {again.error!r}"
        elif read(tried).digest != new.digest:
            yield what, "called again, it ends with another result"
        elif _names_in(tried) != names:
            yield what, f"called again, it leaves {sorted(_names_in(tried) ^ names)}"
        else:
            yield what, None


def _names_in(folder: Path) -> set[str]:
    """Find what is in a folder, but for locks, which may stay: they hold nothing, and are taken again."""
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.suffix != ".lock"}
