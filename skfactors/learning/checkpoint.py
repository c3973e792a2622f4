"""Checkpoints: a fit that was killed goes on to the same bits. Nothing is ever unpickled."""

import hashlib
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from numbers import Real
from pathlib import Path

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load, save

from skfactors.files import Claim, Waiting, read_plain, remove_leftovers, replaced_file
from skfactors.fingerprints import fingerprint
from skfactors.learning.processes import Processes
from skfactors.records import NATURAL, mismatch, sealed, unsealed

FORMAT = "skfactors checkpoint"
FORMAT_VERSION = 2
_REMEDY = "Delete it, and fit again from the start."
_NUMBERS = ("n_epochs", "n_batches", "n_before", "best", "is_over")
_DAMAGE = (SafetensorError, ValueError, KeyError, TypeError, OverflowError, RecursionError, MemoryError)


def _is_random_state(value) -> bool:
    fields = (frozenset(["MT19937"]), range(625), range(2), float)
    return isinstance(value, list) and len(value) == 4 and all(map(_fits, value, fields))


def _fits(value, schema) -> bool:
    return mismatch(value, schema) is None


_NUMBERS_SCHEMA = {
    "n_epochs": NATURAL,
    "n_batches": NATURAL,
    "n_before": NATURAL,
    "best": (None, float),
    "is_over": bool,
    "methods": str,
    "first_state": _is_random_state,
    "epoch_state": _is_random_state,
}
# The first version kept infinity as such, and not always all of them.
_FIRST_NUMBERS_SCHEMA = {f"{name}?" if name in _NUMBERS else name: of for name, of in _NUMBERS_SCHEMA.items()}
_FIRST_NUMBERS_SCHEMA |= {"best?": lambda value: isinstance(value, float) and value > 0, "n_open?": NATURAL}
_HEADER_SCHEMA = {
    "format": frozenset([FORMAT]),
    "format_version": range(FORMAT_VERSION, FORMAT_VERSION + 1),
    "of": {"fit": str, "step": str, "parameters": {...: str}},
    "numbers": _NUMBERS_SCHEMA,
    "arrays": str,
}


@dataclass(frozen=True)
class Saved:
    """
    What a checkpoint holds: arrays by name, and the numbers beside them.

    Attributes
    ----------
    path : Path
        Where it was.
    arrays : dict of str to ndarray
    numbers : dict
    of : dict or None
        What it says it is of; the first version said nothing.
    """

    path: Path
    arrays: dict[str, np.ndarray]
    numbers: dict
    of: dict | None

    @classmethod
    def from_bytes(cls, content: bytes, path: Path) -> "Saved":
        """
        Read the content of a file.

        Raises
        ------
        ValueError
            If it was cut short or altered.
        """
        try:
            arrays = load(content)
            header = json.loads(arrays.pop("header").tobytes())
            if "format_version" not in header:
                return cls._from_first_version(path, arrays, header)
            unsealed(path, header, remedy=_REMEDY)
        except _DAMAGE as error:
            raise _refused(path, "was cut short or altered") from error
        problem = mismatch(header, _HEADER_SCHEMA)
        if problem is not None:
            raise _refused(path, f"is none that this version of skfactors reads: {problem}")
        if header["arrays"] != _digest_of_arrays(arrays).hexdigest() or not _has_random_states(arrays):
            raise _refused(path, "was cut short or altered")
        return cls(path, arrays, header["numbers"], header["of"])

    @classmethod
    def _from_first_version(cls, path: Path, arrays: dict[str, np.ndarray], header: dict) -> "Saved":
        numbers = header["numbers"]
        checksum = _digest_of_arrays(arrays, hashlib.sha256(json.dumps(numbers, sort_keys=True).encode()))
        problem = mismatch(numbers, _FIRST_NUMBERS_SCHEMA)
        if checksum.hexdigest() != header["sha256"] or problem is not None or not _has_random_states(arrays):
            raise ValueError(problem)
        if "components" in arrays:
            # Of a time that knew no other attribute.
            arrays["learned.components_"] = arrays.pop("components")
        return cls(path, arrays, numbers, None)

    @property
    def is_over(self) -> bool:
        """Whether the fit has ended."""
        return self.numbers.get("is_over", False)

    @property
    def first_state(self) -> tuple:
        """Random state as the fit found it."""
        return self._random_state("first_state")

    @property
    def methods(self) -> str:
        """Names of what the machine decided when the fit began."""
        return self.numbers["methods"]

    def restore(self, step, standing) -> None:
        """
        Put a step, and where its fit stands, back to where they were.

        Raises
        ------
        ValueError
            If the checkpoint holds something else than a step of this kind and size needs.
        """
        problem = self._mismatch(step)
        if problem is not None:
            raise _refused(self.path, f"holds no step of this fit: {problem}")
        step.restore(_under("learned", self.arrays), _under("state", self.arrays))
        standing.epoch_state = self._random_state("epoch_state")
        standing.history = _records(_under("history", self.arrays))
        for name in _NUMBERS:
            value = self.numbers.get(name)
            setattr(standing, name, getattr(standing, name) if value is None else value)

    def _mismatch(self, step) -> str | None:
        if self.of is not None and self.of["step"] != type(step).__name__:
            return f"it is one of {self.of['step']} and not of {type(step).__name__}"
        needed, others = _arrays_of(step), ("first_state", "epoch_state", "history.")
        there = {name: array for name, array in self.arrays.items() if not name.startswith(others)}
        if needed.keys() != there.keys():
            return f"its arrays are not the same in {', '.join(sorted(needed.keys() ^ there.keys()))}"
        for name, array in there.items():
            if array.shape != needed[name].shape or array.dtype.kind not in "biuf":
                return f"{name} is {array.dtype} of shape {array.shape}, not {needed[name].shape}"
        n_records = _number_of_records(_under("history", self.arrays))
        is_whole = n_records is not None and self.numbers.get("n_before", 0) <= n_records
        return None if is_whole else "its history has gaps, or numbers that are NaN or infinite"

    def _random_state(self, name: str) -> tuple:
        kind, position, has_gauss, gauss = self.numbers[name]
        return kind, self.arrays[name], position, has_gauss, gauss


class Checkpoint:
    """
    A file that a fit writes as it goes, and goes on from.

    Parameters
    ----------
    folder : path-like or None
        None writes nothing.
    name : str
        Of the file, and of the fit: it comes from all that decides the result.
    parameters : dict
        Of the fit, for people.
    every : int
        Steps from one writing to the next.
    processes : Processes
        The first of them writes and reads.
    name_before : callable
        Gives the name that an earlier version gave the file, or None.
    """

    def __init__(
        self,
        folder,
        name: str,
        parameters: dict,
        every: int,
        processes: Processes,
        name_before: Callable[[], str | None] = lambda: None,
    ):
        self._path = None if folder is None else Path(folder) / f"{name}.safetensors"
        self._name, self._name_before = name, name_before
        plain = {key: value for key, value in parameters.items() if isinstance(value, (str, Real, type(None)))}
        self._parameters = {key: str(value) for key, value in plain.items()}
        self._every = every
        self._processes = processes

    @classmethod
    def of(cls, schedule, identity: list, processes: Processes) -> "Checkpoint":
        """
        Find the file for a fit, which is named by all that decides its result.

        Raises
        ------
        ValueError
            If the processes were given different fits.
        """
        folder, every = schedule.checkpoint_dir, schedule.checkpoint_every
        if folder is None and processes.size == 1:
            return cls(None, "", {}, every, processes)
        name = fingerprint(identity)
        if processes.share_bytes(name.encode()) != name.encode():
            raise ValueError(
                "the processes of the group were given different rows or parameters: give all the same, or learn alone "
                "in each with distributed=False."
            )
        parameters = identity[0] if isinstance(identity[0], dict) else {}
        return cls(folder, name, parameters, every, processes, partial(_name_before, identity))

    @contextmanager
    def taken_up(self) -> Iterator[Saved | None]:
        """
        Read what was written, and keep other processes from the same fit meanwhile, unless it is over.

        One that comes second waits until the first has ended, and takes up what that has written.

        Yields
        ------
        Saved or None
            None where nothing was written.

        Raises
        ------
        ValueError
            If the file was cut short or altered, or is of another fit.
        OSError
            If the fit is not over, and the folder cannot be written to.
        """
        saved = self._read()
        if self._path is None or (saved is not None and saved.is_over):
            # Finished work is there for all, also where nothing can be written.
            yield saved
            return
        claim = Claim(self._path.with_name(f".{self._name}.lock"))
        try:
            self._wait_for(claim)
            yield self._read()
        finally:
            claim.let_go()

    def _wait_for(self, claim: Claim) -> None:
        waiting = Waiting()
        while not self._take(claim):
            if self._processes.rank == 0:
                waiting.go_on(f"{claim.holder()}, which is at this very fit")

    def _take(self, claim: Claim) -> bool:
        """Take a claim for all processes; tell them whether it was free."""
        taken = False
        if self._processes.rank == 0:
            try:
                self._path.parent.mkdir(parents=True, exist_ok=True)
                taken = claim.take()
            except OSError as error:
                advice = "a fit keeps its checkpoints there: pass a checkpoint_dir that can be written to, or None"
                raise type(error)(error.errno, f"{error.strerror}; {advice}", str(self._path.parent)) from error
        return self._processes.share_bytes(bytes([taken])) == bytes([True])

    def _read(self) -> Saved | None:
        if self._path is None:
            return None
        content, path = None, self._path
        if self._processes.rank == 0:
            remove_leftovers(path.parent)
            content = _content_of(path)
            if content is None and any(path.parent.glob("*.safetensors")):
                # Version 0.1.0 had other names.
                before = self._name_before()
                path = path if before is None else path.with_name(f"{before}.safetensors")
                content = _content_of(path)
        content = self._processes.share_bytes(content)
        if content is None:
            return None
        saved = Saved.from_bytes(content, path)
        if saved.of is not None and saved.of["fit"] != self._name:
            there = saved.of["parameters"]
            differ = [
                f"{name}={there[name]} and not {value}"
                for name, value in self._parameters.items()
                if there.get(name, value) != value
            ]
            raise _refused(path, f"is that of another fit, with {', '.join(differ) or 'other rows, weights or arrays'}")
        return saved

    def write_if_due(self, step, standing) -> None:
        """Write after every so many steps."""
        if step.n_steps % self._every == 0:
            self.write(step, standing)

    def write(self, step, standing) -> None:
        """Write everything that the rest of the fit depends on, whole or not at all."""
        if self._path is None or self._processes.rank:
            return
        arrays = _arrays_of(step)
        arrays |= {f"history.{name}": array for name, array in _columns(standing.history).items()}
        numbers = {name: getattr(standing, name) for name in _NUMBERS} | {"methods": step.methods}
        numbers["best"] = numbers["best"] if np.isfinite(numbers["best"]) else None
        for name in ("first_state", "epoch_state"):
            kind, arrays[name], *rest = getattr(standing, name)
            numbers[name] = [kind, *rest]
        arrays = {name: np.asarray(array, order="C") for name, array in arrays.items()}
        header = {
            "format": FORMAT,
            "format_version": FORMAT_VERSION,
            "of": {"fit": self._name, "step": type(step).__name__, "parameters": self._parameters},
            "numbers": numbers,
            "arrays": _digest_of_arrays(arrays).hexdigest(),
        }
        header = np.frombuffer(json.dumps(sealed(header)).encode(), dtype=np.uint8)
        with replaced_file(self._path) as file:
            file.write(save(arrays | {"header": header}))


def check_checkpoint(path) -> None:
    """
    Check that a file is a checkpoint that is whole, and of the fit that its name says.

    Raises
    ------
    FileNotFoundError
        If there is none.
    ValueError
        If it is not.
    """
    path = Path(path)
    saved = Saved.from_bytes(read_plain(path, path.parent), path)
    if saved.of is not None and saved.of["fit"] != path.stem:
        raise _refused(path, "is that of another fit")


def _content_of(path: Path) -> bytes | None:
    try:
        return read_plain(path, path.parent)
    except FileNotFoundError:
        return None
    except ValueError as error:
        raise ValueError(f"this fit cannot go on from its checkpoint: {error}. {_REMEDY}") from error


def _refused(path: Path, reason: str) -> ValueError:
    return ValueError(f"the checkpoint {str(path)!r} {reason}. {_REMEDY}")


def _has_random_states(arrays: dict[str, np.ndarray]) -> bool:
    found = [arrays.get(name) for name in ("first_state", "epoch_state")]
    return all(array is not None and (array.dtype, array.shape) == (np.uint32, (624,)) for array in found)


def _arrays_of(step) -> dict[str, np.ndarray]:
    arrays = {f"learned.{name}": array for name, array in step.learned().items()}
    return arrays | {f"state.{name}": array for name, array in step.state().items()}


def _digest_of_arrays(arrays: dict[str, np.ndarray], checksum=None):
    checksum = checksum or hashlib.sha256()
    for name in sorted(arrays):
        checksum.update(f"{name} {arrays[name].dtype} {arrays[name].shape}".encode())
        checksum.update(arrays[name].tobytes())
    return checksum


def _under(prefix: str, arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {name.removeprefix(f"{prefix}."): array for name, array in arrays.items() if name.startswith(f"{prefix}.")}


def _columns(history: list[dict]) -> dict[str, np.ndarray]:
    """Turn records into arrays: for each of their names the records that have it, and its values."""
    names = {name for record in history for name in record}
    columns = {}
    for name in names:
        places = [place for place, record in enumerate(history) if name in record]
        columns[f"places.{name}"] = np.array(places, dtype=np.int64)
        columns[f"values.{name}"] = np.array([history[place][name] for place in places])
    return columns


def _number_of_records(columns: dict[str, np.ndarray]) -> int | None:
    """Count the records that columns are of; None where they are of none."""
    places, values = _under("places", columns), _under("values", columns)
    if places.keys() != values.keys() or len(columns) != 2 * len(places):
        return None
    for name, of in places.items():
        if (
            of.dtype != np.int64
            or of.ndim != 1
            or of.shape != values[name].shape
            or values[name].dtype.kind not in "biuf"
            or not np.isfinite(values[name]).all()
        ):
            return None
    named = np.unique(np.concatenate([np.zeros(0, np.int64), *places.values()]))
    return len(named) if np.array_equal(named, np.arange(len(named))) else None


def _records(columns: dict[str, np.ndarray]) -> list[dict]:
    places = _under("places", columns)
    records = [{} for _ in range(1 + max((int(of.max()) for of in places.values() if len(of)), default=-1))]
    for name, of in places.items():
        for place, value in zip(of.tolist(), columns[f"values.{name}"].tolist(), strict=True):
            records[place][name] = value
    return records


def _name_before(identity: list) -> str | None:
    """Return the name that version 0.1.0 gave the checkpoint of a fit; None where its names were ambiguous."""
    parameters, start, X, weight = identity
    if not all(isinstance(array, (np.ndarray, type(None))) for array in (parameters.get("dict_init"), weight)):
        return None
    content = json.dumps([parameters, X, weight, start], sort_keys=True, default=_described_before)
    return hashlib.sha256(content.encode()).hexdigest()[:32]


def _described_before(value) -> list:
    if hasattr(value, "fingerprint"):
        return [value.fingerprint]
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, np.random.RandomState):
        kind, keys, *rest = value.get_state()
        return [kind, _described_before(keys), *rest]
    return [list(value.shape), str(value.dtype), hashlib.sha256(np.ascontiguousarray(value)).hexdigest()]
