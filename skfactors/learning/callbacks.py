"""Callbacks of scikit-learn, where it has them: one task for each epoch, and in it one for each minibatch."""

from collections.abc import Callable
from functools import partial

import torch

from skfactors.learning.processes import Processes
from skfactors.learning.step import Step

try:
    from sklearn.callback import CallbackSupportMixin
except ImportError:

    class CallbackSupportMixin:
        """Stands in where scikit-learn has no callbacks yet."""


class Watcher:
    """Is told how a fit goes. This one does nothing."""

    def begin_fit(self, X) -> None:
        """Say that a fit begins."""

    def begin_epoch(self, n_batches: int) -> None:
        """Say that an epoch begins."""

    def end_batch(self, step: Step) -> bool:
        """Say that a minibatch is learned from; return whether to stop."""
        return False

    def end_epoch(self, step: Step) -> bool:
        """Say that an epoch is over; return whether to stop."""
        return False

    def end_fit(self) -> None:
        """Say that a fit is over."""


class CallbackWatcher(Watcher):
    """
    Calls back who has asked for it by ``set_callbacks``.

    Parameters
    ----------
    estimator : estimator with CallbackSupportMixin
    n_epochs : int
        At most.
    """

    def __init__(self, estimator, n_epochs: int):
        self._estimator = estimator
        self._fit = estimator._init_callback_context(max_subtasks=n_epochs)

    def begin_fit(self, X) -> None:
        """Say that a fit begins."""
        self._X = X
        self._fit.call_on_fit_task_begin(estimator=self._estimator, X=X)

    def begin_epoch(self, n_batches: int) -> None:
        """Say that an epoch begins."""
        self._epoch = self._fit.subcontext(task_name="epoch", max_subtasks=n_batches)
        self._epoch.call_on_fit_task_begin(estimator=self._estimator, X=self._X)

    def end_batch(self, step: Step) -> bool:
        """Say that a minibatch is learned from; return whether to stop."""
        batch = self._epoch.subcontext(task_name="minibatch")
        batch.call_on_fit_task_begin(estimator=self._estimator, X=self._X)
        return self._end(batch, step)

    def end_epoch(self, step: Step) -> bool:
        """Say that an epoch is over; return whether to stop."""
        return self._end(self._epoch, step)

    def end_fit(self) -> None:
        """Say that a fit is over."""
        self._fit.call_on_fit_task_end(estimator=self._estimator, X=self._X, reconstruction_attributes={})

    def _end(self, task, step: Step) -> bool:
        return bool(
            task.call_on_fit_task_end(
                estimator=self._estimator,
                X=self._X,
                reconstruction_attributes=step.learned,
            )
        )


class SharedWatcher(Watcher):
    """
    Has all processes do what the callbacks of any of them ask for, at the same step.

    Parameters
    ----------
    watcher : Watcher
        Of this process.
    processes : Processes
    """

    def __init__(self, watcher: Watcher, processes: Processes):
        self._watcher, self._processes = watcher, processes

    def begin_fit(self, X) -> None:
        """Say that a fit begins."""
        self._agreed(partial(self._watcher.begin_fit, X))

    def begin_epoch(self, n_batches: int) -> None:
        """Say that an epoch begins."""
        self._agreed(partial(self._watcher.begin_epoch, n_batches))

    def end_batch(self, step: Step) -> bool:
        """Say that a minibatch is learned from; return whether to stop."""
        return self._agreed(partial(self._watcher.end_batch, step))

    def end_epoch(self, step: Step) -> bool:
        """Say that an epoch is over; return whether to stop."""
        return self._agreed(partial(self._watcher.end_epoch, step))

    def end_fit(self) -> None:
        """Say that a fit is over."""
        self._agreed(self._watcher.end_fit)

    def _agreed(self, call: Callable[[], bool | None]) -> bool:
        error, stops = None, False
        try:
            stops = bool(call())
        except BaseException as raised:
            error = raised
        n_stopping, n_failed = self._processes.sum_(torch.tensor([float(stops), float(error is not None)])).tolist()
        if error is not None:
            raise error
        if n_failed:
            raise RuntimeError("a callback failed in another process of the group: see the error there.")
        return n_stopping > 0


def shared(watcher: Watcher, processes: Processes) -> Watcher:
    """Return who is to be told in each process: the watcher itself, at no cost, where nobody has callbacks."""
    has_callbacks = type(watcher) is not Watcher
    if processes.size == 1 or not processes.sum_(torch.tensor([float(has_callbacks)])).item():
        return watcher
    return SharedWatcher(watcher, processes)


def watcher_of(estimator, n_epochs: int) -> Watcher:
    """Return who is to be told how a fit goes: nobody, at no cost, unless `estimator` has callbacks."""
    return CallbackWatcher(estimator, n_epochs) if getattr(estimator, "_skl_callbacks", None) else Watcher()
