"""Processes that learn one model together, over torch.distributed; or one process alone."""

import logging
import multiprocessing
import os
import socket
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from pathlib import Path

import numpy as np
import torch
import torch.distributed

from skfactors.files import Waiting

logger = logging.getLogger(__name__)

# A process that dies closes its connections, which the others notice at once. This is for machines that fall silent,
# and must be longer than the first process takes to write a checkpoint to a slow disk.
_TIMEOUT = timedelta(minutes=10)
# Processes that are started together reach their first fit together, too. Those that were met before may be at work.
_SECONDS_TO_COME = 120
_VARIABLES = ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")


class Processes(ABC):
    """
    The processes that learn one model; every one calls the same methods in the same order.

    Attributes
    ----------
    rank : int
        Number of this process, from 0.
    size : int
        How many there are.
    """

    rank: int = 0
    size: int = 1

    def share_of(self, rows: np.ndarray) -> np.ndarray:
        """Return the rows that are this process's to code."""
        return rows[self.rank :: self.size]

    @abstractmethod
    def sum_(self, tensor: torch.Tensor) -> torch.Tensor:
        """Add up a tensor over all processes, in place."""

    @abstractmethod
    def gather(self, rows: torch.Tensor, n_rows: int) -> torch.Tensor:
        """Put the rows of all processes one after the other; each gives at most `n_rows`."""

    @abstractmethod
    def share_bytes(self, content: bytes | None) -> bytes | None:
        """Return what the first process has."""


class OneProcess(Processes):
    """A single process: what it has is what all have."""

    def sum_(self, tensor):
        """Return the tensor."""
        return tensor

    def gather(self, rows, n_rows):
        """Return the rows."""
        return rows

    def share_bytes(self, content):
        """Return the content."""
        return content


class ProcessGroup(Processes):
    """The processes of a torch.distributed group."""

    def __init__(self, device: str):
        self.rank = torch.distributed.get_rank()
        self.size = torch.distributed.get_world_size()
        # NCCL moves tensors of a GPU only, gloo those of a CPU.
        self._device = device if torch.distributed.get_backend() == "nccl" else "cpu"

    def sum_(self, tensor: torch.Tensor) -> torch.Tensor:
        """Add up a tensor over all processes, in place."""
        moved = tensor.to(self._device)
        with _told_of_losses():
            torch.distributed.all_reduce(moved)
        return tensor if moved is tensor else tensor.copy_(moved)

    def gather(self, rows: torch.Tensor, n_rows: int) -> torch.Tensor:
        """Put the rows of all processes one after the other; each gives at most `n_rows`."""
        padded = torch.zeros((n_rows, *rows.shape[1:]), dtype=rows.dtype, device=self._device)
        padded[: len(rows)] = rows
        parts = [torch.empty_like(padded) for _ in range(self.size)]
        with _told_of_losses():
            torch.distributed.all_gather(parts, padded)
        return torch.cat(parts).to(rows.device)

    def share_bytes(self, content: bytes | None) -> bytes | None:
        """Return what the first process has."""
        size = torch.tensor([-1 if content is None else len(content)], device=self._device)
        with _told_of_losses():
            torch.distributed.broadcast(size, src=0)
            if size < 0:
                return None
            buffer = torch.empty(int(size), dtype=torch.uint8, device=self._device)
            if self.rank == 0:
                buffer.copy_(torch.frombuffer(bytearray(content), dtype=torch.uint8))
            torch.distributed.broadcast(buffer, src=0)
        return buffer.cpu().numpy().tobytes()


@contextmanager
def assembled(distributed, device: str) -> Iterator[Processes]:
    """
    Find the processes that learn together, and let go of them afterwards.

    Parameters
    ----------
    distributed : "auto" or bool
        As :func:`place` takes it.
    device : str

    Yields
    ------
    Processes

    Raises
    ------
    ValueError
        If a group is asked for and there is none.
    RuntimeError
        If the others do not come.
    """
    rank, size = place(distributed)
    if size == 1:
        yield OneProcess()
        return
    made = not _is_group_there()
    if made:
        _make_group("nccl" if torch.device(device).type == "cuda" else "gloo", rank, size)
    try:
        yield ProcessGroup(device)
    finally:
        if made:
            torch.distributed.destroy_process_group()


def place(distributed="auto") -> tuple[int, int]:
    """
    Say which of how many processes this one is in a fit.

    Parameters
    ----------
    distributed : "auto" or bool
        Whether to use the process group that is there, or that the environment describes. True asks for one. "auto"
        goes without where there is none or it is described wrongly, and also in threads and in processes that one of
        the group has started, as joblib's workers are: the others cannot know of them.

    Returns
    -------
    rank, size : int
        0 and 1 of a process alone.

    Raises
    ------
    ValueError
        If a group is asked for and there is none.
    """
    if not distributed:
        return 0, 1
    there, described = _is_group_there(), None
    try:
        described = None if there else described_group()
    except ValueError as error:
        if distributed is True:
            raise
        logger.warning("this process learns alone: %s", error)
    reason = _reason_to_go_alone(there, described)
    if reason is None:
        return described or (torch.distributed.get_rank(), torch.distributed.get_world_size())
    if distributed is True:
        raise ValueError(f"distributed=True, and {reason}")
    return 0, 1


def described_group() -> tuple[int, int] | None:
    """
    Read which of how many processes this one is from the environment, as torchrun makes it.

    Returns
    -------
    (rank, size) or None
        None where it says nothing of processes.

    Raises
    ------
    ValueError
        If it says too little for them to find each other, or what cannot be.
    """
    found = {name: os.environ[name] for name in _VARIABLES if os.environ.get(name)}
    if "RANK" not in found and "WORLD_SIZE" not in found:
        return None
    if found.get("WORLD_SIZE") == "1" and found.get("RANK", "0") == "0":
        return 0, 1
    said = ", ".join(f"{name}={value}" for name, value in found.items())
    advice = "Start all processes with torchrun, or unset RANK and WORLD_SIZE to let this one work alone."
    missing = [name for name in _VARIABLES if name not in found]
    if missing:
        raise ValueError(f"the environment says {said}, but not {', '.join(missing)}. {advice}")
    numbers = [found[name] for name in ("RANK", "WORLD_SIZE", "MASTER_PORT")]
    rank, size, port = (int(number) if number.isdecimal() else -1 for number in numbers)
    if not (0 <= rank < size and 0 < port < 2**16):
        raise ValueError(
            f"the environment says {said}: RANK must be a number from 0 and below WORLD_SIZE, MASTER_PORT one from 1 "
            f"to 65535. {advice}"
        )
    return rank, size


def share_state(random_state: np.random.RandomState, processes: Processes) -> None:
    """Give all processes the random state of the first."""
    kind, keys, position, has_gauss, gauss = random_state.get_state()
    content = processes.share_bytes(np.concatenate([keys.astype(np.float64), [position, has_gauss, gauss]]).tobytes())
    *keys, position, has_gauss, gauss = np.frombuffer(content)
    random_state.set_state((kind, np.array(keys, dtype=np.uint32), int(position), int(has_gauss), gauss))


def _is_group_there() -> bool:
    return torch.distributed.is_available() and torch.distributed.is_initialized()


def _reason_to_go_alone(is_there: bool, described: tuple[int, int] | None) -> str | None:
    if not is_there and described is None:
        return (
            "there is no process group: start the script with torchrun, or call torch.distributed.init_process_group."
        )
    if _inherited.group is torch.distributed.group.WORLD if is_there else _inherited.has_rank():
        return (
            "this process was started by one of the group, as joblib's workers are, and does not belong to it: pass "
            "distributed=False, or call torch.distributed.init_process_group here."
        )
    if threading.current_thread() is not threading.main_thread():
        return (
            "this is not the main thread, and other processes cannot know which thread they learn with: fit in the "
            "main thread, or pass distributed=False."
        )
    return None


class _Inherited:
    """What this process has from the one that started it, where that is Python, too."""

    def __init__(self):
        self.group = self._rank = self._connections = None

    def note_fork(self) -> None:
        """Note, in a process that was forked a moment ago, what it was born with."""
        self.group = torch.distributed.group.WORLD if _is_group_there() else None
        self._rank = os.environ.get("RANK")
        # Connections are the parent's; to close one would wait for a thread that only the parent has.
        self._connections = _meeting.store
        _meeting.__init__()

    def has_rank(self) -> bool:
        """Say whether RANK is that of the process that started this one."""
        if self._rank is None and multiprocessing.parent_process() is not None:
            self._rank = _rank_at_birth()
        return os.environ.get("RANK", "") == self._rank


def _rank_at_birth() -> str:
    """Return the RANK that this process was started with, or has now where the system does not tell."""
    try:
        born_with = Path("/proc/self/environ").read_bytes().split(b"\0")
    except OSError:
        return os.environ.get("RANK", "")
    found = [value.removeprefix(b"RANK=") for value in born_with if value.startswith(b"RANK=")]
    return os.fsdecode(found[0]) if found else ""


class _Meeting:
    """Where the processes that the environment describes find each other, once for every fit."""

    def __init__(self):
        self.store, self._n_met = None, 0

    def meet(self, rank: int, size: int):
        """Wait for all; return where they exchange addresses."""
        seconds = _TIMEOUT.total_seconds() if self._n_met else _SECONDS_TO_COME
        if self.store is None:
            self.store = _open_store(rank, size, seconds)
        # The addresses of an earlier fit are still there, and must not be taken for this one's.
        attempt = f"{os.environ.get('TORCHELASTIC_RESTART_COUNT', '0')}-{self._n_met}"
        store = torch.distributed.PrefixStore(f"skfactors-{attempt}", self.store)
        with _told_of_losses():
            store.set(f"came-{rank}", "")

        def missing() -> list[int]:
            with _told_of_losses():
                return [one for one in range(size) if not store.check([f"came-{one}"])]

        try:
            _wait_for(missing, size, seconds)
        except BaseException:
            # Who comes later must not take this one for waiting.
            with suppress(RuntimeError):
                store.delete_key(f"came-{rank}")
            raise
        self._n_met += 1
        return store


_inherited, _meeting = _Inherited(), _Meeting()


def _make_group(backend: str, rank: int, size: int) -> None:
    store = _meeting.meet(rank, size)
    with _told_of_losses():
        torch.distributed.init_process_group(backend, store=store, rank=rank, world_size=size, timeout=_TIMEOUT)


def _open_store(rank: int, size: int, seconds: float):
    """Open what torchrun, or else the first process, serves at the address that all know."""
    host, port = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
    serves = rank == 0 and os.environ.get("TORCHELASTIC_USE_AGENT_STORE") != "True"

    def missing() -> list[int]:
        try:
            socket.create_connection((host, port), timeout=1).close()
        except OSError:
            return [0]
        return []

    try:
        socket.getaddrinfo(host, port)
        if not serves:
            _wait_for(missing, size, seconds)
        limit = timedelta(seconds=seconds)
        return torch.distributed.TCPStore(
            host, port, is_master=serves, wait_for_workers=False, multi_tenant=True, timeout=limit
        )
    except (socket.gaierror, torch.distributed.DistError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error).splitlines()[0]
        raise RuntimeError(f"processes cannot meet at MASTER_ADDR={host}, MASTER_PORT={port}: {reason}") from error


def _wait_for(missing: Callable[[], list[int]], size: int, seconds: float) -> None:
    """Wait until no process is missing, at most for some seconds; after a few say which are."""
    waiting = Waiting()
    while absent := missing():
        numbers = ", ".join(map(str, absent[:10])) + " …" * (len(absent) > 10)
        whom = f"process {numbers} of {size}, to meet at {os.environ['MASTER_ADDR']}:{os.environ['MASTER_PORT']}"
        if waiting.seconds > seconds:
            raise RuntimeError(
                f"{whom}, did not come within {seconds:.0f} seconds. Start all processes together, or unset RANK and "
                "WORLD_SIZE to let this one work alone."
            )
        waiting.go_on(f"{whom}, for {seconds:.0f} seconds at most")


@contextmanager
def _told_of_losses() -> Iterator[None]:
    try:
        yield
    except RuntimeError as error:
        raise RuntimeError(
            "a process of the group was lost, or did not answer in time. Start all of them again: with checkpoint_dir, "
            f"the fit goes on from its last checkpoint. ({str(error).splitlines()[0]})"
        ) from error


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_inherited.note_fork)
