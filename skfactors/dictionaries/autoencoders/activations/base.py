"""What every activation is."""

from abc import ABC

import numpy as np
import torch

from skfactors.dictionaries.autoencoders._selecting import rows_above


class Activation(ABC):
    """
    How pre-activations become codes, and how that is learned.

    A pre-activation is ``z = w·x + bias`` of a row x and a factor's encoder w. Those that have to do with the loss of a
    minibatch are its entries: they are found, row by row, and everything else is a function of them. So it is on the
    CPU; on an accelerator the same loss is written out densely, and differentiated by torch.

    Parameters
    ----------
    n_nonzero_coefs : int
        The mean number of codes asked for.

    Attributes
    ----------
    selection : str
        Name in `SELECTIONS`: what `transform` keeps, once all is learned.
    parameters : tuple of str
        What is learned of each factor beside its encoder and component. The first is the bias.
    is_steered : bool
        Whether there is a penalty, which decides how many codes there are.
    keeps_number : bool
        Whether a row has as many codes as asked for without anything being steered or shifted.
    decodes_twice : bool
        Whether the pre-activations themselves are to reconstruct the rows as well.
    power_of_scale : int
        With which power of the rows' scale a penalty grows.
    """

    selection = "positive"
    parameters = ("bias",)
    is_steered = False
    keeps_number = False
    decodes_twice = False
    power_of_scale = 1

    def __init__(self, n_nonzero_coefs: int):
        self.n_nonzero_coefs = n_nonzero_coefs

    def begin(self, bias: np.ndarray, cutoff: float) -> np.ndarray:
        """
        Return the parameters to start from.

        Parameters
        ----------
        bias : ndarray of shape (n_components,)
        cutoff : float
            As many pre-activations are above it as codes are asked for.

        Returns
        -------
        ndarray of shape (n_parameters, n_components)
        """
        return bias[None]

    def first_penalty(self, cutoff: float) -> float:
        """Return a penalty to start from, which is steered from there."""
        return 0.0

    def nudge(self, parameters, amount: float, size: float) -> None:
        """
        Make codes fewer by a little, or more, at once, where there is a penalty that does so in time.

        Parameters
        ----------
        parameters : array of shape (n_parameters, n_components)
            Changed in place.
        amount : float
            As a share of the size of a code.
        size : float
            Of a code, in the mean.
        """

    # Entries.

    def floor(self, P: np.ndarray) -> np.ndarray:
        """Return above which values pre-activations are entries, of shape (n_components,)."""
        return np.zeros(P.shape[1], P.dtype)

    def find(self, Z: np.ndarray, P: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return the number of entries of each row, their factors in ascending order, and their pre-activations."""
        return rows_above(Z, self.floor(P))

    def narrow(self, counts, factors, z, processes):
        """Return the entries that are left once those of the whole minibatch are known; None has them found again."""
        return counts, factors, z

    def codes(self, z: np.ndarray, p: np.ndarray) -> np.ndarray:
        """Return codes of entries, whose factors have the parameters p, of shape (n_parameters, n_entries)."""
        return z

    def gradients(self, z, p, pulls, second_pulls, weight, penalty) -> tuple[np.ndarray, np.ndarray]:
        """
        Differentiate the loss.

        Parameters
        ----------
        z : ndarray of shape (n_entries,)
        p : ndarray of shape (n_parameters, n_entries)
        pulls : ndarray of shape (n_entries,)
            The derivative of the reconstruction's loss by each code.
        second_pulls : ndarray of shape (n_entries,) or None
            That of the second reconstruction, where there is one, by each pre-activation.
        weight : ndarray of shape (n_entries,)
            By which the loss of each entry's row is multiplied.
        penalty : float

        Returns
        -------
        by_product : ndarray of shape (n_entries,)
            By ``w·x``.
        by_parameters : ndarray of shape (n_parameters, n_entries)
        """
        return pulls, pulls[None]

    def slopes(self, P):
        """Return by how much the codes of each factor grow with ``w·x``, an array or a tensor as P is; None for 1."""
        return None

    # The same, densely.

    def dense_codes(self, Z: torch.Tensor, P: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return codes, with gradients, and which pre-activations are entries."""
        entries = self.dense_entries(Z.detach(), P.detach())
        return torch.where(entries, Z, 0), entries

    def dense_entries(self, Z: torch.Tensor, P: torch.Tensor) -> torch.Tensor:
        """Return which pre-activations are entries."""
        return Z > 0

    def dense_penalty(self, Z: torch.Tensor, P: torch.Tensor, codes: torch.Tensor) -> torch.Tensor:
        """Return what the penalty of each row is multiplied with."""
        return Z.new_zeros(len(Z))

    # What is learned, for `transform`.

    def margins(self, Z: np.ndarray, P: np.ndarray) -> np.ndarray:
        """Return by how much each pre-activation is above what makes it a code."""
        return Z

    def fitted(self, W: np.ndarray, P: np.ndarray, shift: float) -> dict[str, np.ndarray]:
        """
        Return encoder, bias and threshold for inference.

        Parameters
        ----------
        W : ndarray of shape (n_components, n_features)
        P : ndarray of shape (n_parameters, n_components)
        shift : float
            By how much more a pre-activation must be above what makes it a code, for as many codes as asked for.
        """
        return {"encoder": W, "bias": P[0]}
