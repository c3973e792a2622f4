"""Threads: compiled code runs on several at a time, and libraries that would take the same cores keep to one."""

import os
from collections import deque
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache, partial
from threading import Lock

import torch
from threadpoolctl import ThreadpoolController

_TASKS_WORTH_NO_THREADS = 2
_MOST_HELPERS = 256
_PRODUCTS_WORTH_THREADS = 3e8

_n_threads: ContextVar[int | None] = ContextVar("n_threads", default=None)
# The numbers of threads that torch gets back from those who hold it to one.
_held_back: list[int] = []


def n_threads() -> int:
    """Return how many threads torch may use, also where it is held to one for the time being."""
    if _n_threads.get() is not None:
        return _n_threads.get()
    number = torch.get_num_threads()
    # A thread that is new to torch begins with the number that another has just set: with one, where it holds torch.
    return max([number, *_held_back]) if number == 1 else number


@contextmanager
def torch_on_one_thread() -> Iterator[None]:
    """
    Hold torch to the calling thread.

    After an operation on several threads, these wait for the next in a loop: for milliseconds they take the cores that
    compiled code is to run on.
    """
    number = n_threads()
    before = number if _n_threads.get() is None else torch.get_num_threads()
    outer = _n_threads.set(number)
    _held_back.append(number)
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
        _held_back.remove(number)
        _n_threads.reset(outer)


@contextmanager
def torch_threads_for(n_products: float) -> Iterator[None]:
    """Give torch all threads again, for a matrix product that is large enough to gain more than their wait costs."""
    before = torch.get_num_threads()
    torch.set_num_threads(n_threads() if n_products >= _PRODUCTS_WORTH_THREADS else before)
    try:
        yield
    finally:
        torch.set_num_threads(before)


class _BlasOnOneThread:
    """Several threads may be inside at once: the first to come holds the BLAS, the last to go lets go of it."""

    def __init__(self):
        self._lock, self._n_inside, self._limits = Lock(), 0, None

    def __enter__(self):
        with self._lock:
            if self._n_inside == 0:
                self._limits = _libraries().limit(limits=1, user_api="blas")
            self._n_inside += 1

    def __exit__(self, *error):
        with self._lock:
            self._n_inside -= 1
            if self._n_inside == 0:
                self._limits.restore_original_limits()


_blas_on_one_thread = _BlasOnOneThread()


def in_parallel(function, tasks) -> list:
    """
    Apply a function to tasks, on as many threads as torch may use.

    The calling thread is one of them. Each multiplies matrices by itself: threads of the BLAS would wait for more in a
    loop that takes a core.

    Parameters
    ----------
    function : callable
    tasks : sequence

    Returns
    -------
    list
        What the function returned, in order.
    """
    with _blas_on_one_thread:
        n_helpers = min(n_threads(), len(tasks)) - 1
        if len(tasks) <= _TASKS_WORTH_NO_THREADS or n_helpers < 1:
            return [function(task) for task in tasks]
        results = [None] * len(tasks)
        numbers = iter(range(len(tasks)))

        def work():
            try:
                for number in numbers:
                    results[number] = function(tasks[number])
            finally:
                # After an error, whoever met it, nobody begins another task.
                deque(numbers, maxlen=0)

        helpers = [_helpers(torch.get_num_threads()).submit(work) for _ in range(n_helpers)]
        try:
            work()
        finally:
            # A helper that came too late is not waited for.
            begun = [helper for helper in helpers if not helper.cancel()]
            wait(begun)
        for helper in begun:
            helper.result()
        return results


@cache
def _helpers(n_torch_threads: int) -> ThreadPoolExecutor:
    """
    Return threads that stay, for callers who have so many threads of torch: their own number is the same.

    To start threads takes longer than many a task. As many start as are at work at once.
    """
    return ThreadPoolExecutor(_MOST_HELPERS, initializer=partial(torch.set_num_threads, n_torch_threads))


@cache
def _libraries() -> ThreadpoolController:
    return ThreadpoolController()


def _begin_anew_after_fork() -> None:
    """Keep torch from waiting for ever for threads that the process it was forked from had, and this one has not."""
    torch.set_num_threads(1)
    _n_threads.set(None)
    _held_back.clear()
    _helpers.cache_clear()
    _blas_on_one_thread.__init__()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_begin_anew_after_fork)
