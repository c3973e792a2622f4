"""Checkpoints: a fit that was killed goes on to the same bits. Nothing is ever unpickled."""

import hashlib
import json
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load, save

from skfactors.files import advised_errors, replaced_file
from skfactors.fingerprints import fingerprint
from skfactors.learning.processes import Processes

_NUMBERS = ("n_epochs", "n_batches", "n_before", "best", "is_over")


@dataclass(frozen=True)
class Saved:
    """What a checkpoint holds: arrays by name, and the numbers beside them."""

    arrays: dict[str, np.ndarray]
    numbers: dict

    @property
    def first_state(self) -> tuple:
        """Random state as the fit found it."""
        return self._random_state("first_state")

    @property
    def methods(self) -> str:
        """Names of what the machine decided when the fit began."""
        return self.numbers["methods"]

    def restore(self, step, standing) -> None:
        """Put a step, and where its fit stands, back to where they were."""
        learned = _under("learned", self.arrays)
        if "components" in self.arrays:
            # Of a version that knew no other attribute.
            learned["components_"] = self.arrays["components"]
        step.restore(learned, _under("state", self.arrays))
        standing.epoch_state = self._random_state("epoch_state")
        standing.history = _records(_under("history", self.arrays))
        for name in _NUMBERS:
            setattr(standing, name, self.numbers.get(name, getattr(standing, name)))

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
        Of the file.
    every : int
        Steps from one writing to the next.
    processes : Processes
        The first of them writes and reads.
    name_before : callable
        Gives the name that an earlier version gave the file, or None.
    """

    def __init__(self, folder, name: str, every: int, processes: Processes, name_before=lambda: None):
        self._path = None if folder is None else Path(folder) / f"{name}.safetensors"
        self._name_before = name_before
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
            return cls(None, "", every, processes)
        name = fingerprint(identity)
        if processes.share_bytes(name.encode()) != name.encode():
            raise ValueError(
                "the processes of the group were given different rows or parameters: give all the same, or learn alone "
                "in each with distributed=False."
            )
        return cls(folder, name, every, processes, partial(_name_before, identity))

    def read(self) -> Saved | None:
        """
        Read what was written; None where nothing was.

        Raises
        ------
        ValueError
            If the file was cut short or altered.
        """
        if self._path is None:
            return None
        content = None
        path = self._path if self._path.is_file() else self._path_of_before()
        if self._processes.rank == 0 and path is not None:
            with advised_errors(path):
                content = path.read_bytes()
        content = self._processes.share_bytes(content)
        if content is None:
            return None
        try:
            arrays = load(content)
            header = json.loads(arrays.pop("header").tobytes())
            if _checksum(arrays, header["numbers"]) == header["sha256"]:
                return Saved(arrays, header["numbers"])
        except (SafetensorError, ValueError, KeyError, TypeError):
            pass
        raise ValueError(
            f"the checkpoint {str(path or self._path)!r} was cut short or altered. "
            "Delete it, and fit again from the start."
        )

    def _path_of_before(self) -> Path | None:
        """Find the file that version 0.1.0 wrote of the same fit."""
        if not any(self._path.parent.glob("*.safetensors")):
            return None
        path = self._path.with_name(f"{self._name_before()}.safetensors")
        return path if path.is_file() else None

    def write_if_due(self, step, standing) -> None:
        """Write after every so many steps."""
        if step.n_steps % self._every == 0:
            self.write(step, standing)

    def write(self, step, standing) -> None:
        """Write everything that the rest of the fit depends on, whole or not at all."""
        if self._path is None or self._processes.rank:
            return
        arrays = {f"learned.{name}": array for name, array in step.learned().items()}
        arrays |= {f"state.{name}": array for name, array in step.state().items()}
        arrays |= {f"history.{name}": array for name, array in _columns(standing.history).items()}
        numbers = {name: getattr(standing, name) for name in _NUMBERS} | {"methods": step.methods}
        for name in ("first_state", "epoch_state"):
            kind, arrays[name], *rest = getattr(standing, name)
            numbers[name] = [kind, *rest]
        arrays = {name: np.asarray(array, order="C") for name, array in arrays.items()}
        header = json.dumps({"numbers": numbers, "sha256": _checksum(arrays, numbers)}).encode()
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with replaced_file(self._path) as file:
            file.write(save(arrays | {"header": np.frombuffer(header, dtype=np.uint8)}))


def _checksum(arrays: dict[str, np.ndarray], numbers: dict) -> str:
    checksum = hashlib.sha256(json.dumps(numbers, sort_keys=True).encode())
    for name in sorted(arrays):
        checksum.update(f"{name} {arrays[name].dtype} {arrays[name].shape}".encode())
        checksum.update(arrays[name].tobytes())
    return checksum.hexdigest()


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
