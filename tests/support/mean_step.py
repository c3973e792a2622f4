"""The simplest model that the loop can learn: the mean of the rows, without penalty, codes or factors."""

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


def run(weight=None, stop_after=None, identity="mean", **changes):
    weight = np.ones(len(X)) if weight is None else weight
    return learn(
        X,
        weight,
        lambda rows, random_state, processes, methods: MeanStep(stop_after),
        schedule(**changes),
        np.random.RandomState(0),
        identity=[{"what": identity}, []],
        history=[],
        watcher=Watcher(),
    )
