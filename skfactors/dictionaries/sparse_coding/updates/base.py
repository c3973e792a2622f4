"""What every dictionary update is."""

from abc import ABC, abstractmethod

import torch
from scipy.sparse import csr_array

from skfactors.learning.processes import Processes


class Update(ABC):
    """
    A way of moving the components after a batch of rows was coded.

    Parameters
    ----------
    n_components, n_features : int
    dtype : torch.dtype
        Of what is remembered of the rows so far.
    device : str

    Attributes
    ----------
    state : dict of str to Tensor
        All that a later step depends on; can be stored and given back.
    """

    state: dict[str, torch.Tensor]

    @abstractmethod
    def __init__(self, n_components: int, n_features: int, *, dtype: torch.dtype, device: str): ...

    @abstractmethod
    def step(
        self,
        components: torch.Tensor,
        X: torch.Tensor,
        codes: torch.Tensor | csr_array,
        weight: torch.Tensor,
        processes: Processes,
    ) -> torch.Tensor:
        """
        Take in a batch of coded rows and move the components.

        Parameters
        ----------
        components : Tensor of shape (n_components, n_features)
        X : Tensor of shape (n_rows, n_features)
        codes : Tensor or csr_array of shape (n_rows, n_components)
            An array where tensors are on a CPU.
        weight : Tensor of shape (n_rows,)
        processes : Processes
            The processes that have coded the batch's other rows.

        Returns
        -------
        components : Tensor of shape (n_components, n_features)
        """

    @abstractmethod
    def forget(self, factors: torch.Tensor) -> None:
        """Drop what is remembered of some factors, which start anew."""
