"""Checkpoints: a fit that was killed goes on to the same bits. Nothing is ever unpickled."""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load, save

from skfactors.files import advised_errors, replaced_file
from skfactors.learning.processes import Alone

_WHOLE_NUMBERS = {"step", "n_rows", "n_silent", "n_reseeded", "n_open"}


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
        """Names of the solver and the update that the fit was begun with."""
        return self.numbers["methods"]

    def restore(self, learner, standing) -> None:
        """Put a learner, and where its fit stands, back to where they were."""
        learner.components = learner.problem.tensor(self.arrays["components"])
        learner.restore(_under("state", self.arrays))
        standing.epoch_state = self._random_state("epoch_state")
        standing.history = _records(_under("history", self.arrays))
        for name in ("n_epochs", "n_batches", "n_open", "best", "is_over"):
            setattr(standing, name, self.numbers[name])

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
    fingerprint : str
        Of parameters and rows: names the file.
    every : int
        Steps from one writing to the next.
    team : Alone or Team
        Its first process writes and reads.
    """

    def __init__(self, folder, fingerprint: str, every: int, team: Alone):
        self._path = None if folder is None else Path(folder) / f"{fingerprint}.safetensors"
        self._every = every
        self._team = team

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
        if self._team.rank == 0 and self._path.is_file():
            with advised_errors(self._path):
                content = self._path.read_bytes()
        content = self._team.share_bytes(content)
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
            f"the checkpoint {str(self._path)!r} was cut short or altered. Delete it, and fit again from the start."
        )

    def write_if_due(self, learner, standing) -> None:
        """Write after every so many steps."""
        if learner.n_steps % self._every == 0:
            self.write(learner, standing)

    def write(self, learner, standing) -> None:
        """Write everything that the rest of the fit depends on, whole or not at all."""
        if self._path is None or self._team.rank:
            return
        arrays = {"components": learner.components.cpu().numpy()}
        arrays |= {f"state.{name}": array for name, array in learner.state().items()}
        arrays |= {f"history.{name}": array for name, array in _columns(standing.history).items()}
        numbers = {name: getattr(standing, name) for name in ("n_epochs", "n_batches", "n_open", "best", "is_over")}
        numbers["methods"] = learner.methods
        for name in ("first_state", "epoch_state"):
            kind, arrays[name], *rest = getattr(standing, name)
            numbers[name] = [kind, *rest]
        arrays = {name: np.asarray(array, order="C") for name, array in arrays.items()}
        header = json.dumps({"numbers": numbers, "sha256": _checksum(arrays, numbers)}).encode()
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with replaced_file(self._path) as file:
            file.write(save(arrays | {"header": np.frombuffer(header, dtype=np.uint8)}))


def fingerprint_of(content) -> str:
    """Digest what JSON can hold, and arrays in it."""
    return hashlib.sha256(json.dumps(content, sort_keys=True, default=_described).encode()).hexdigest()[:32]


def _described(value) -> list:
    """Describe what JSON cannot hold."""
    if hasattr(value, "fingerprint"):
        return [value.fingerprint]
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, np.random.RandomState):
        kind, keys, *rest = value.get_state()
        return [kind, _described(keys), *rest]
    if not isinstance(value, np.ndarray):
        return [type(value).__name__, len(value)]
    return [list(value.shape), str(value.dtype), hashlib.sha256(np.ascontiguousarray(value)).hexdigest()]


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
        columns[f"values.{name}"] = np.array([history[place][name] for place in places], dtype=np.float64)
    return columns


def _records(columns: dict[str, np.ndarray]) -> list[dict]:
    places = _under("places", columns)
    records = [{} for _ in range(1 + max((int(of.max()) for of in places.values() if len(of)), default=-1))]
    for name, of in places.items():
        number = int if name in _WHOLE_NUMBERS else float
        for place, value in zip(of.tolist(), columns[f"values.{name}"].tolist(), strict=True):
            records[place][name] = number(value)
    return records
