"""What the learning loop knows of what is learned: a step, its state and its record."""

from abc import ABC, abstractmethod

import numpy as np

from skfactors.learning.batches import ArrayRows


class Step(ABC):
    """
    A model that is being learned, one minibatch at a time.

    Attributes
    ----------
    n_steps : int
        Minibatches learned from so far.
    methods : str
        Choices that depend on the machine: the first process makes them, and a checkpoint keeps them.
    """

    n_steps: int = 0
    methods: str = ""

    @abstractmethod
    def learn_from(self, rows: np.ndarray, weight: np.ndarray, patience: float) -> dict:
        """
        Learn from a minibatch.

        Parameters
        ----------
        rows : ndarray of shape (n_rows, n_features)
            Distinct.
        weight : ndarray of shape (n_rows,)
            Positive.
        patience : float
            Weight of rows for which a part of the model may do nothing before it starts anew.

        Returns
        -------
        dict
            The record of the step: numbers by name, `step` and `n_rows` among them.
        """

    @abstractmethod
    def loss(self, rows: ArrayRows, batch_size: int) -> float:
        """Return the weighted mean loss of some rows, with the model as it is."""

    @abstractmethod
    def learned(self) -> dict[str, np.ndarray]:
        """Return the fitted attributes so far, by name: the same names and shapes at every step."""

    @abstractmethod
    def state(self) -> dict[str, np.ndarray]:
        """Return all else that a later step depends on, likewise."""

    @abstractmethod
    def restore(self, learned: dict[str, np.ndarray], state: dict[str, np.ndarray]) -> None:
        """Take up where :meth:`learned` and :meth:`state` were taken."""

    @abstractmethod
    def status(self, record: dict) -> str:
        """Say in a few words how a step went, beside a progress bar."""
