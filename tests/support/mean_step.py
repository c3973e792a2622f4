"""The simplest model that the loop can learn: the mean of the rows, without penalty, codes or factors."""

import os

import numpy as np

from skfactors.learning.callbacks import Watcher
from skfactors.learning.loop import Schedule, learn
from skfactors.learning.step import Step

X = np.random.default_rng(0).random((103, 4))


class MeanStep(Step):
    """The weighted mean of all rows so far."""

    methods = "plain"

    def __init__(self, stop_after=None):
        self.total, self.weight, self.stop_after = np.zeros(4), 0.0, stop_after

    def learn_from(self, rows, weight, patience):
        if self.n_steps == self.stop_after:
            raise KeyboardInterrupt
        self.n_steps += 1
        self.total, self.weight = self.total + weight @ rows, self.weight + weight.sum()
        return {"step": self.n_steps, "n_rows": len(rows), "share": 0.5}

    def loss(self, rows, batch_size):
        return sum(float(weight @ (X - self.total / self.weight) ** 2 @ np.ones(4)) for X, weight in rows.in_order(9))

    def learned(self):
        return {"mean_": self.total / max(self.weight, 1e-9)}

    def state(self):
        return {"total": self.total, "weight": np.array(self.weight), "n_steps": np.array(self.n_steps)}

    def restore(self, learned, state):
        self.total, self.weight, self.n_steps = state["total"], float(state["weight"]), int(state["n_steps"])

    def status(self, record):
        return ""


def schedule(**changes):
    settings = {"max_iter": 3, "batch_size": 10, "device": "cpu", "distributed": False, "verbose": False}
    return Schedule(**settings | changes)


def run(weight=None, stop_after=None, identity="mean", watcher=None, **changes):
    weight = np.ones(len(X)) if weight is None else weight
    return learn(
        X,
        weight,
        lambda rows, random_state, processes, methods: MeanStep(stop_after),
        schedule(**changes),
        np.random.RandomState(0),
        identity=[{"what": identity}, []],
        history=[],
        watcher=Watcher() if watcher is None else watcher,
    )


class WatcherOfOne(Watcher):
    """Asks for a stop at a step, or fails there, in one process of several."""

    def __init__(self, at, fails):
        self.at, self.fails = at, fails

    def end_batch(self, step):
        if step.n_steps == self.at and self.fails:
            raise ValueError("this callback fails")
        return step.n_steps == self.at


def run_watched_by_one(folder, at, fails):
    """Learn in a process of a group, of which the last has callbacks; note how far it came."""
    rank = int(os.environ["RANK"])
    step, _ = run(watcher=WatcherOfOne(at, fails) if rank else None, distributed=True)
    (folder / str(rank)).write_text(str(step.n_steps))
