"""The learning loop, and where it stands: what a checkpoint holds."""

from dataclasses import dataclass, field

import numpy as np

from skfactors.dictionaries.sparse_coding.step import IDLE_BATCHES, Learner
from skfactors.learning.batches import ArrayRows, StreamedRows, merge_repeats, read_ahead
from skfactors.learning.callbacks import Unwatched
from skfactors.learning.checkpoint import Checkpoint
from skfactors.progress import progress_bar

# Share of the held-out objective that an epoch must take off for another to follow.
_LEAST_GAIN = 1e-3


@dataclass
class Standing:
    """
    Where a fit stands, beside its components and statistics.

    Attributes
    ----------
    n_epochs : int
        Epochs that are over.
    n_batches : int
        Minibatches of the epoch under way.
    first_state, epoch_state : tuple
        Of the random state, as the fit found it and as the epoch under way found it.
    history : list of dict
    n_open : int
        Rows of the epoch that were left above `tol`.
    best : float
        Least held-out objective.
    is_over : bool
    """

    first_state: tuple
    epoch_state: tuple
    history: list = field(default_factory=list)
    n_epochs: int = 0
    n_batches: int = 0
    n_open: int = 0
    best: float = np.inf
    is_over: bool = False


def learn(
    learner: Learner,
    rows: ArrayRows | StreamedRows,
    held_out: ArrayRows | None,
    standing: Standing,
    random_state: np.random.RandomState,
    *,
    max_iter: int,
    batch_size: int,
    checkpoint: Checkpoint,
    watcher: Unwatched,
    verbose: bool,
) -> None:
    """
    Learn from where a fit stands to its end.

    Parameters
    ----------
    learner : Learner
        Changed in place.
    rows : ArrayRows or StreamedRows
    held_out : ArrayRows or None
        Rows that tell when to stop.
    standing : Standing
        Changed in place.
    random_state : RandomState
        Shuffles.
    max_iter : int
        Epochs, at most.
    batch_size : int
    checkpoint : Checkpoint
        Written to as it says.
    watcher : Unwatched or Watched
        Told of epochs and minibatches; may have it end early.
    verbose : bool
    """
    patience = min(rows.total_weight, IDLE_BATCHES * batch_size * rows.total_weight / len(rows))
    with progress_bar("learning factors", total=max_iter * len(rows), enabled=verbose) as advance:
        advance(standing.n_epochs * len(rows) + standing.n_batches * batch_size)
        while not standing.is_over:
            random_state.set_state(standing.epoch_state)
            watcher.begin_epoch(-(-len(rows) // batch_size) - standing.n_batches)
            # Nothing else refers to what is being read, and so keeps its buffer longer than it is read.
            for n_rows, X, weight in read_ahead(
                (len(X), *merge_repeats(X, weight))
                for X, weight in rows.shuffled(batch_size, random_state, skip=standing.n_batches)
            ):
                standing.n_batches += 1
                if n_rows == 0:
                    continue
                record = learner.step(X, weight, patience)
                standing.history.append(record)
                standing.n_open += record["n_open"]
                advance(n_rows, _status(record))
                standing.is_over |= watcher.end_batch(learner)
                if standing.is_over:
                    break
                checkpoint.write_if_due(learner, standing)
            standing.epoch_state = random_state.get_state()
            _end_epoch(learner, held_out, standing, max_iter, batch_size)
            standing.is_over |= watcher.end_epoch(learner)
            checkpoint.write_if_due(learner, standing)
    random_state.set_state(standing.epoch_state)
    checkpoint.write(learner, standing)


def _end_epoch(learner, held_out, standing, max_iter, batch_size) -> None:
    standing.n_epochs += 1
    standing.is_over |= standing.n_epochs == max_iter
    if held_out is not None:
        reached = learner.objective(held_out, batch_size)
        standing.history[-1]["validation_objective"] = reached
        standing.is_over |= reached > (1 - _LEAST_GAIN) * standing.best
        standing.best = min(reached, standing.best)
    standing.n_batches = 0
    if not standing.is_over:
        standing.n_open = 0


def _status(record: dict) -> str:
    return f"explained {record['explained_variance']:.3f}, L0 {record['l0']:.1f}, silent {record['n_silent']}"
