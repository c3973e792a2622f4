"""Callbacks of scikit-learn, where it has them: one task for each epoch, and in it one for each minibatch."""

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


def watcher_of(estimator, n_epochs: int) -> Watcher:
    """Return who is to be told how a fit goes: nobody, at no cost, unless `estimator` has callbacks."""
    return CallbackWatcher(estimator, n_epochs) if getattr(estimator, "_skl_callbacks", None) else Watcher()
