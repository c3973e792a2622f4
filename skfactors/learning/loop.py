"""The learning loop: epochs of minibatches, a step each, from the start or from a checkpoint to the end."""

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from skfactors.learning.batches import ArrayRows, StreamedRows, hold_out, merge_repeats, read_ahead, rows_of
from skfactors.learning.callbacks import Watcher, shared
from skfactors.learning.checkpoint import Checkpoint
from skfactors.learning.processes import assembled, share_state
from skfactors.learning.step import Step
from skfactors.progress import progress_bar

# Share of the held-out loss that an epoch must take off for another to follow.
_LEAST_GAIN = 1e-3
# Batches for which a part of the model may do nothing before it starts anew, unless an epoch is shorter.
_IDLE_BATCHES = 256


@dataclass(frozen=True)
class Schedule:
    """
    How a fit goes, whatever is learned: the parameters of an estimator that have these names.

    Attributes
    ----------
    max_iter, batch_size : int
    device : str
    distributed : "auto" or bool
    verbose : bool
    early_stopping : bool
    validation_fraction : float
    checkpoint_dir : path-like or None
    checkpoint_every : int
    """

    max_iter: int
    batch_size: int
    device: str
    distributed: str | bool
    verbose: bool
    early_stopping: bool = False
    validation_fraction: float = 0.1
    checkpoint_dir: object = None
    checkpoint_every: int = 1000


@dataclass
class Standing:
    """
    Where a fit stands, beside what is learned.

    Attributes
    ----------
    first_state, epoch_state : tuple
        Of the random state, as the fit found it and as the epoch under way found it.
    history : list of dict
        The records of all steps.
    n_epochs : int
        Epochs that are over.
    n_batches : int
        Minibatches of the epoch under way.
    n_before : int
        Records that are older than the epoch under way, or the last one once all is over.
    best : float
        Least held-out loss.
    is_over : bool
    """

    first_state: tuple
    epoch_state: tuple
    history: list = field(default_factory=list)
    n_epochs: int = 0
    n_batches: int = 0
    n_before: int = 0
    best: float = np.inf
    is_over: bool = False

    @property
    def last_epoch(self) -> list[dict]:
        """Records of the last epoch."""
        return self.history[self.n_before :]


def learn(
    X,
    weight,
    begin: Callable[..., Step],
    schedule: Schedule,
    random_state: np.random.RandomState,
    *,
    identity: list,
    history: list[dict],
    watcher: Watcher,
) -> tuple[Step, Standing]:
    """
    Fit a model.

    Parameters
    ----------
    X : ndarray or ActivationStore of shape (n_rows, n_features)
    weight : ndarray of shape (n_rows,), other vector that is indexed by rows, or None
    begin : callable
        ``begin(rows, random_state, processes, methods)`` gives the step to begin with; `methods` are those of a
        checkpoint, or None.
    schedule : Schedule
    random_state : RandomState
        Draws and shuffles.
    identity : list
        Beside the rows, all that decides the result.
    history : list of dict
        Records of earlier fits, which this one goes on from.
    watcher : Watcher
        Told of epochs and minibatches; may have the fit end early.

    Returns
    -------
    step : Step
        With what was learned.
    standing : Standing
    """
    with assembled(schedule.distributed, schedule.device) as processes:
        checkpoint = Checkpoint.of(schedule, [*identity, X, weight], processes)
        watcher = shared(watcher, processes)
        with checkpoint.taken_up() as saved:
            if saved is not None:
                random_state.set_state(saved.first_state)
            share_state(random_state, processes)
            first_state = random_state.get_state()
            rows, held_out = rows_of(X, weight), None
            step = begin(rows, random_state, processes, None if saved is None else saved.methods)
            if schedule.early_stopping:
                rows, held_out = hold_out(rows, schedule.validation_fraction, random_state)
            standing = Standing(first_state, random_state.get_state(), list(history), n_before=len(history))
            if saved is not None:
                saved.restore(step, standing)
            was_over = standing.is_over
            watcher.begin_fit(X)
            verbose = schedule.verbose and processes.rank == 0
            with progress_bar("learning factors", total=schedule.max_iter * len(rows), enabled=verbose) as advance:
                advance(standing.n_epochs * len(rows) + standing.n_batches * schedule.batch_size)
                while not standing.is_over:
                    _run_epoch(step, rows, standing, random_state, schedule, checkpoint, watcher, advance)
                    _end_epoch(step, held_out, standing, schedule)
                    standing.is_over |= watcher.end_epoch(step)
                    checkpoint.write_if_due(step, standing)
            random_state.set_state(standing.epoch_state)
            if not was_over:
                checkpoint.write(step, standing)
            watcher.end_fit()
    return step, standing


def _run_epoch(
    step: Step,
    rows: ArrayRows | StreamedRows,
    standing: Standing,
    random_state: np.random.RandomState,
    schedule: Schedule,
    checkpoint: Checkpoint,
    watcher: Watcher,
    advance: Callable,
) -> None:
    batch_size = schedule.batch_size
    patience = min(rows.total_weight, _IDLE_BATCHES * batch_size * rows.total_weight / len(rows))
    random_state.set_state(standing.epoch_state)
    if standing.n_batches == 0:
        standing.n_before = len(standing.history)
    watcher.begin_epoch(-(-len(rows) // batch_size) - standing.n_batches)
    # Nothing else refers to what is being read, and so keeps its buffer longer than it is read.
    for n_rows, X, weight in read_ahead(
        (len(X), *merge_repeats(X, weight))
        for X, weight in rows.shuffled(batch_size, random_state, skip=standing.n_batches)
    ):
        standing.n_batches += 1
        if n_rows == 0:
            continue
        record = step.learn_from(X, weight, patience)
        standing.history.append(record)
        advance(n_rows, step.status(record))
        standing.is_over |= watcher.end_batch(step)
        if standing.is_over:
            break
        checkpoint.write_if_due(step, standing)
    standing.epoch_state = random_state.get_state()


def _end_epoch(step: Step, held_out: ArrayRows | None, standing: Standing, schedule: Schedule) -> None:
    standing.n_epochs += 1
    standing.n_batches = 0
    standing.is_over |= standing.n_epochs >= schedule.max_iter
    if held_out is not None:
        reached = step.loss(held_out, schedule.batch_size)
        standing.history[-1]["validation_objective"] = reached
        standing.is_over |= reached > (1 - _LEAST_GAIN) * standing.best
        standing.best = min(reached, standing.best)
