"""Threads: compiled code runs on several at a time, and libraries that would take the same cores keep to one."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache

import torch
from threadpoolctl import ThreadpoolController

_TASKS_WORTH_NO_THREADS = 2
_PRODUCTS_WORTH_THREADS = 3e8

_n_threads: ContextVar[int | None] = ContextVar("n_threads", default=None)


def n_threads() -> int:
    """Return how many threads torch may use, also where it is held to one for the time being."""
    return _n_threads.get() or torch.get_num_threads()


@contextmanager
def torch_on_one_thread() -> Iterator[None]:
    """
    Hold torch to the calling thread.

    After an operation on several threads, these wait for the next in a loop: for milliseconds they take the cores that
    compiled code is to run on.
    """
    held = _n_threads.set(n_threads())
    try:
        with _torch_threads(1):
            yield
    finally:
        _n_threads.reset(held)


@contextmanager
def torch_threads_for(n_products: int) -> Iterator[None]:
    """Give torch all threads again, for a matrix product that is large enough to gain more than their wait costs."""
    with _torch_threads(n_threads() if n_products >= _PRODUCTS_WORTH_THREADS else torch.get_num_threads()):
        yield


@contextmanager
def _torch_threads(number: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(number)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def in_parallel(function, tasks) -> list:
    """
    Apply a function to tasks, on as many threads as torch may use.

    Each of them multiplies matrices by itself: threads of the BLAS would wait for more in a loop that takes a core.

    Parameters
    ----------
    function : callable
    tasks : sequence

    Returns
    -------
    list
        What the function returned, in order.
    """
    with _libraries().limit(limits=1, user_api="blas"):
        if len(tasks) <= _TASKS_WORTH_NO_THREADS:
            return [function(task) for task in tasks]
        with ThreadPoolExecutor(n_threads()) as threads:
            return list(threads.map(function, tasks))


@cache
def _libraries() -> ThreadpoolController:
    return ThreadpoolController()
