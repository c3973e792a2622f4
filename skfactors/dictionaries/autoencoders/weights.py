"""What is learned of an autoencoder: weights, and where Adam stands with each of them."""

from dataclasses import dataclass, fields

import numpy as np
import torch

BETA_1, BETA_2, EPSILON = 0.9, 0.999, 1e-8


@dataclass
class Weights:
    """
    Weights and their moments: arrays on the CPU, tensors elsewhere.

    Attributes
    ----------
    factors : array of shape (2, n_components, n_features)
        Encoder and components.
    parameters : array of shape (n_parameters, n_components)
        Those of the activation.
    intercept : array of shape (n_features,)
    factor_moments, parameter_moments, intercept_moments : array of shape (2, ...)
        Running means of the gradients and of their squares.
    n_updates : array of int of shape (n_components,)
        How many steps each factor has taken.
    n_steps : array of int of shape (1,)
    skip : array of shape (n_features, n_features), or None
        What of the inputs themselves is added to the prediction, where there is such a map.
    skip_moments : array of shape (2, n_features, n_features), or None
    """

    factors: np.ndarray
    parameters: np.ndarray
    intercept: np.ndarray
    factor_moments: np.ndarray
    parameter_moments: np.ndarray
    intercept_moments: np.ndarray
    n_updates: np.ndarray
    n_steps: np.ndarray
    skip: np.ndarray | None = None
    skip_moments: np.ndarray | None = None

    @classmethod
    def begin(cls, encoder, components, parameters, dtype, skip=None) -> "Weights":
        """Take what there is to start from; the moments are zero."""
        factors = aligned((2, *components.shape), dtype)
        factors[0], factors[1] = encoder, components
        parameters = np.array(parameters, dtype)
        return cls(
            factors,
            parameters,
            np.zeros(components.shape[1], dtype),
            aligned((2, *factors.shape), dtype),
            np.zeros((2, *parameters.shape), dtype),
            np.zeros((2, components.shape[1]), dtype),
            np.zeros(len(components), np.int64),
            np.zeros(1, np.int64),
            *(() if skip is None else (np.array(skip, dtype), np.zeros((2, *skip.shape), dtype))),
        )

    @classmethod
    def like(cls, arrays: dict[str, np.ndarray], dtype) -> "Weights":
        """Take copies of what :meth:`arrays` returned."""
        weights = cls.begin(*arrays["factors"], arrays["parameters"], dtype, arrays.get("skip"))
        weights.put(arrays)
        return weights

    def names(self) -> list[str]:
        """Return the names of those that there are."""
        return [field.name for field in fields(self) if getattr(self, field.name) is not None]

    def arrays(self, *names: str) -> dict[str, np.ndarray]:
        """Return copies of some of them, or of all, as arrays."""
        names = names or self.names()
        return {name: torch.as_tensor(getattr(self, name)).to("cpu", copy=True).numpy() for name in names}

    def put(self, arrays: dict[str, np.ndarray]) -> None:
        """Put copies of arrays in place of them."""
        for name in self.names():
            own = getattr(self, name)
            own[...] = torch.from_numpy(arrays[name].copy()).to(own) if torch.is_tensor(own) else arrays[name]

    def on(self, device: str) -> "Weights":
        """Return them as tensors on a device."""
        return Weights(**{name: torch.tensor(getattr(self, name), device=device) for name in self.names()})

    def point(self, factors: np.ndarray, heard: np.ndarray, directions: np.ndarray, lengths: np.ndarray) -> None:
        """
        Let some factors learn anew, from where they are told to point.

        Parameters
        ----------
        factors : ndarray of int of shape (n_chosen,)
        heard, directions : ndarray of shape (n_chosen, n_features)
            Of their encoders and their components, of length 1.
        lengths : ndarray of shape (n_chosen,)
            How long their encoders may be; they become no longer than is usual of others.
        """
        # Tensors share the memory of arrays.
        own = {name: torch.as_tensor(getattr(self, name)) for name in self.names()}
        weights, parameters = own["factors"], own["parameters"]
        others = np.setdiff1d(np.arange(weights.shape[1]), factors)
        others, factors = (torch.as_tensor(part).to(weights.device) for part in (others, factors))
        heard, directions, lengths = (torch.as_tensor(array).to(weights) for array in (heard, directions, lengths))
        if len(others):
            lengths = lengths.minimum(weights[0, others].norm(dim=1).median())
            parameters[:, factors] = parameters[:, others].median(dim=1, keepdim=True).values
        weights[0, factors], weights[1, factors] = heard * lengths[:, None], directions
        own["factor_moments"][:, :, factors] = 0
        own["parameter_moments"][:, :, factors] = 0
        own["n_updates"][factors] = 0


def adam(weight, gradient, moments, n_updates, rate):
    """
    Take a step of Adam, in place, with arrays or tensors.

    Parameters
    ----------
    weight, gradient : array
    moments : array of shape (2, ...)
    n_updates : array of int that broadcasts
        How many steps were taken, this one included; where it is 0, nothing changes.
    rate : float

    References
    ----------
    Kingma, Ba (2015), "Adam: a method for stochastic optimization".
    """
    moments[0] += (1 - BETA_1) * (gradient - moments[0])
    moments[1] += (1 - BETA_2) * (gradient * gradient - moments[1])
    mean, square = moments[0] / (1 - BETA_1**n_updates), moments[1] / (1 - BETA_2**n_updates)
    weight -= rate * mean / (square**0.5 + EPSILON)


def aligned(shape, dtype) -> np.ndarray:
    """Make zeros that begin at a cache line: products of matrices can depend on that in the last bit."""
    return torch.zeros(shape, dtype=torch.from_numpy(np.empty(0, dtype)).dtype).numpy()
