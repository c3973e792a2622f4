"""Where a tensor goes: the device that a string names, and what fits there."""

import math
import os
import warnings
from collections.abc import Callable
from functools import cache
from pathlib import Path

import torch

_process = os.getpid()


def resolve_device(device: str) -> str:
    """
    Name the device that `device` stands for on this machine.

    Parameters
    ----------
    device : str
        "auto" is the first of cuda, mps and cpu that is there, and of several cards that of the process's number on
        its machine, as torchrun gives it (``LOCAL_RANK``); any other is a torch device string.

    Returns
    -------
    str

    Raises
    ------
    ValueError
        If torch knows no such device, or it is not on this machine.
    RuntimeError
        If it is cuda, and this process was forked from one that uses it.
    """
    if device == "auto":
        if torch.cuda.is_available() and not torch.cuda._is_in_bad_fork():
            return _own_card()
        return "mps" if torch.backends.mps.is_available() else "cpu"
    try:
        kind = torch.device(device).type
    except RuntimeError as error:
        raise ValueError(
            f"device={device!r} is not a device that torch knows: use 'auto', 'cpu', 'cuda' ..."
        ) from error
    if kind == "cuda" and torch.cuda._is_in_bad_fork():
        raise RuntimeError(
            f"device={device!r} cannot be used here: this process was forked from one that uses it. Start processes by "
            "'spawn', or by joblib's 'loky', or use device='cpu'."
        )
    available = {"cuda": torch.cuda.is_available, "mps": torch.backends.mps.is_available}
    if not available.get(kind, lambda: True)():
        raise ValueError(f"device={device!r} is not available on this machine: use 'auto' or 'cpu'.")
    return device


def _own_card() -> str:
    number, n_cards = os.environ.get("LOCAL_RANK", ""), torch.cuda.device_count()
    return f"cuda:{int(number) % n_cards}" if number.isdecimal() and n_cards > 1 else "cuda"


def fits_in_memory(n_bytes: int, device: str) -> bool:
    """
    Say whether an array would take no more than half of the memory that is free on a device.

    Parameters
    ----------
    n_bytes : int
    device : str
        A torch device string.

    Returns
    -------
    bool
        True also where the system does not tell.
    """
    return n_bytes <= free_memory(device) / 2


def free_memory(device: str) -> float:
    """
    Look up the free memory of a device.

    Returns
    -------
    float
        In bytes; infinite where the system does not tell.
    """
    if torch.device(device).type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    described = Path("/proc/meminfo")
    if described.exists():
        for line in described.read_text().splitlines():
            name, _, amount = line.partition(":")
            if name == "MemAvailable":
                return int(amount.split()[0]) * 1024
    return math.inf


def keep_to_one_thread_if_forked() -> None:
    """Hold torch to one thread in a forked process, which would wait for ever for threads that only its parent has."""
    global _process
    if _process != os.getpid():
        torch.set_num_threads(1)
        _process = os.getpid()


@cache
def fused(device: str, load: Callable[[str], Callable]) -> Callable | None:
    """
    Compile a kernel that does in one go what torch does in many.

    Parameters
    ----------
    device : str
        A torch device string.
    load : callable
        Called with the device: imports what needs Triton, tries it there, and returns it.

    Returns
    -------
    callable or None
        What `load` returned; None on devices that are no GPU of CUDA or ROCm, and where Triton is missing.

    Warns
    -----
    RuntimeWarning
        If Triton cannot compile here: it needs a C compiler, Python's header files and a GPU that it knows.
    """
    if torch.device(device).type != "cuda":
        return None
    try:
        return load(device)
    except ImportError:
        return None
    except Exception as error:  # Compilers and drivers raise what they like.
        warnings.warn(
            f"Triton cannot compile for {device}, and work on it is several times slower without: {error}",
            RuntimeWarning,
            stacklevel=2,
        )
        return None
