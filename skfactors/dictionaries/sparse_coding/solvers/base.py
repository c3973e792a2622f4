"""What every solver is."""

from abc import ABC, abstractmethod

import scipy.sparse
import torch

from skfactors.codes import csr_of
from skfactors.learning.threads import torch_threads_for


class Solver(ABC):
    """
    A way of coding rows with a given dictionary.

    The constructor prepares what all rows share; :meth:`solve` and :meth:`solve_sparse` code rows, each until its
    relative duality gap is within `tol`.

    Parameters
    ----------
    components : Tensor of shape (n_components, n_features)
    alpha : float
        L1 penalty.
    positive : bool
        Whether codes are non-negative.
    tol : float
        Relative duality gap at which a row is done.
    max_iter : int
        Steps, of whatever kind the solver takes, after which a row is returned as it is.
    """

    def __init__(self, components: torch.Tensor, *, alpha: float, positive: bool, tol: float, max_iter: int):
        self.components = components
        self.alpha = alpha
        self.positive = positive
        # The gap is measured with rounding errors of some units in the last place; leave them room below tol.
        self.tol = max(tol - 16 * torch.finfo(components.dtype).eps, tol / 2)
        self.max_iter = max_iter

    @abstractmethod
    def solve(self, X: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """
        Code rows.

        Parameters
        ----------
        X : Tensor of shape (n_rows, n_features)

        Returns
        -------
        codes : Tensor of shape (n_rows, n_components)
        gaps : Tensor of shape (n_rows,)
            Relative duality gap reached.
        """

    def solve_sparse(self, X: torch.Tensor) -> tuple[scipy.sparse.csr_array, torch.Tensor]:
        """
        Code rows to a sparse array.

        Parameters
        ----------
        X : Tensor of shape (n_rows, n_features)

        Returns
        -------
        codes : csr_array of shape (n_rows, n_components)
            With sorted indices.
        gaps : Tensor of shape (n_rows,)
        """
        with torch_threads_for(len(X) * self.components.numel()):
            codes, gaps = self.solve(X)
        return csr_of(codes), gaps
