"""Processes that learn one model together, over torch.distributed; or one process alone."""

import itertools
import os
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from functools import cache

import numpy as np
import torch
import torch.distributed

# A process that dies closes its connections, which the others notice at once. This is for machines that fall silent,
# and must be longer than the first process takes to write a checkpoint to a slow disk.
_TIMEOUT = timedelta(minutes=10)

_groups_made = itertools.count()


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
        Whether to use the process group that is there, or that torchrun's environment describes. True asks for one.
    device : str

    Yields
    ------
    Processes

    Raises
    ------
    ValueError
        If a group is asked for and there is none.
    """
    made = False
    if distributed and torch.distributed.is_available() and not torch.distributed.is_initialized() and _is_described():
        _make_group("nccl" if torch.device(device).type == "cuda" else "gloo")
        made = True
    there = torch.distributed.is_available() and torch.distributed.is_initialized()
    if distributed is True and not there:
        raise ValueError(
            "distributed=True, and there is no process group: start the script with torchrun, or call "
            "torch.distributed.init_process_group."
        )
    try:
        yield ProcessGroup(device) if distributed and there else OneProcess()
    finally:
        if made:
            torch.distributed.destroy_process_group()


def share_state(random_state: np.random.RandomState, processes: Processes) -> None:
    """Give all processes the random state of the first."""
    kind, keys, position, has_gauss, gauss = random_state.get_state()
    content = processes.share_bytes(np.concatenate([keys.astype(np.float64), [position, has_gauss, gauss]]).tobytes())
    *keys, position, has_gauss, gauss = np.frombuffer(content)
    random_state.set_state((kind, np.array(keys, dtype=np.uint32), int(position), int(has_gauss), gauss))


def _is_described() -> bool:
    wanted = ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
    return all(name in os.environ for name in wanted) and int(os.environ["WORLD_SIZE"]) > 1


def _make_group(backend: str) -> None:
    store, rank, size = _meeting_point()
    # The addresses of an earlier fit's group are still there, and must not be taken for this one's.
    store = torch.distributed.PrefixStore(f"skfactors-{next(_groups_made)}", store)
    with _told_of_losses():
        torch.distributed.init_process_group(backend, store=store, rank=rank, world_size=size, timeout=_TIMEOUT)


@cache
def _meeting_point() -> tuple:
    """Connect to where processes find each other; a process can serve that address only once."""
    return next(torch.distributed.rendezvous("env://", timeout=_TIMEOUT))


@contextmanager
def _told_of_losses() -> Iterator[None]:
    try:
        yield
    except RuntimeError as error:
        raise RuntimeError(
            "a process of the group was lost, or did not answer in time. Start all of them again: with checkpoint_dir, "
            f"the fit goes on from its last checkpoint. ({str(error).splitlines()[0]})"
        ) from error
