"""Turns: threads that share a model or a tokenizer use it one after the other."""

import os
import threading


class Turns:
    """A lock. A process that is forked while a thread of its parent holds it does not find it held."""

    def __init__(self):
        self._renew()

    def _renew(self):
        self._lock, self._process = threading.Lock(), os.getpid()

    def __enter__(self):
        if self._process != os.getpid():
            self._renew()
        self._lock.acquire()

    def __exit__(self, *_):
        self._lock.release()
