"""Turns: threads that share a model or a tokenizer use it one after the other."""

import os
import threading
from weakref import WeakSet


class Turns:
    """A lock. A process that is forked while a thread of its parent holds it does not find it held."""

    def __init__(self):
        self.renew()
        _all.add(self)

    def renew(self) -> None:
        """Let go of it, whoever holds it: in a child, the threads that did are not there."""
        self._lock = threading.Lock()

    def __enter__(self):
        self._lock.acquire()

    def __exit__(self, *_):
        self._lock.release()


_all: WeakSet[Turns] = WeakSet()


def _renew_all() -> None:
    for turns in list(_all):
        turns.renew()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew_all)
