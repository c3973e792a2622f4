"""Where learning starts: a scale for rows, components, and an encoder that comes near the exact codes."""

from dataclasses import dataclass

import numpy as np
import torch
from scipy.sparse import csr_array

from skfactors.dictionaries.sparse_coding.encoding import Coding, encode
from skfactors.dictionaries.sparse_coding.starting import drawn_components
from skfactors.dictionaries.sparse_coding.step import SparseCodingStep
from skfactors.dictionaries.sparse_coding.updates import best_update
from skfactors.learning.callbacks import Watcher
from skfactors.learning.loop import Schedule, learn
from skfactors.learning.processes import Processes

_BATCH_SIZE = 1024
# Ridge of the regression, as a share of the mean variance of a feature.
_RIDGE = 1e-2
_LEAST_SCALE, _GREATEST_SCALE = 0.2, 20.0


@dataclass(frozen=True)
class Standardizer:
    """
    How rows are centred and scaled before anything is learned from them.

    Attributes
    ----------
    mean : ndarray of shape (n_features,)
    scale : float
        With it, rows have a mean squared length of `n_features`.
    """

    mean: np.ndarray
    scale: float

    @classmethod
    def of(cls, rows: np.ndarray, weight: np.ndarray, *, scaled: bool) -> "Standardizer":
        """Measure some rows."""
        rows = rows.astype(np.float64)
        mean = np.average(rows, axis=0, weights=weight)
        square = float(np.average(((rows - mean) ** 2).mean(axis=1), weights=weight))
        return cls(mean, square**-0.5 if scaled and square > 0 else 1.0)

    def apply(self, rows: np.ndarray, dtype) -> np.ndarray:
        """Return rows centred and scaled."""
        return ((rows - self.mean) * self.scale).astype(dtype)


def pursuit_of(n_nonzero_coefs: int, positive: bool, device: str, dtype) -> Coding:
    """Return how rows are coded by matching pursuit."""
    return Coding(
        alpha=1.0,
        positive=positive,
        solver="active_set",
        tol=1e-4,
        max_iter=n_nonzero_coefs,
        n_nonzero_coefs=n_nonzero_coefs,
        debias=False,
        device=device,
        dtype=torch.float64 if dtype == np.float64 else torch.float32,
    )


def unit_rows(components: np.ndarray) -> np.ndarray:
    """
    Scale components to length 1.

    Raises
    ------
    ValueError
        If one of them is zero.
    """
    lengths = np.linalg.norm(components, axis=1, keepdims=True)
    if not lengths.all():
        raise ValueError("dict_init has components that are zero: give each a direction.")
    return components / lengths


def random_components(shape: tuple[int, int], random_state: np.random.RandomState) -> np.ndarray:
    """Draw directions."""
    components = random_state.standard_normal(shape)
    return components / np.linalg.norm(components, axis=1, keepdims=True)


def learned_components(
    rows: np.ndarray,
    weight: np.ndarray,
    n_components: int,
    coding: Coding,
    processes: Processes,
    random_state: np.random.RandomState,
) -> np.ndarray:
    """Learn a dictionary from a sample of rows, by matching pursuit."""

    def begin(sample, state, processes, methods):
        components = drawn_components(sample, n_components, _BATCH_SIZE, state)
        return SparseCodingStep(coding, best_update(coding.device, n_components), components, processes)

    schedule = Schedule(1, _BATCH_SIZE, coding.device, distributed=processes.size > 1, verbose=False)
    step, _ = learn(rows, weight, begin, schedule, random_state, identity=[], history=[], watcher=Watcher())
    return step.learned()["components_"]


def regressed_encoder(
    rows: np.ndarray, weight: np.ndarray, components: np.ndarray, coding: Coding
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """
    Regress an encoder to the exact codes of rows.

    Encoder and bias are those of a ridge regression, which makes pre-activations too small where there are codes, since
    it is to give zeros elsewhere; each factor's are scaled to fit where there are.

    Parameters
    ----------
    rows : ndarray of shape (n_rows, n_features)
        Of mean zero.
    weight : ndarray of shape (n_rows,)
    components : ndarray of shape (n_components, n_features)
    coding : Coding

    Returns
    -------
    encoder : ndarray of shape (n_components, n_features)
    bias : ndarray of shape (n_components,)
    use : ndarray of shape (n_components,)
        Sum of the squared codes of each factor.
    """
    codes = encode(rows, components, coding, batch_size=_BATCH_SIZE, sparse=True)
    exact, weight = rows.astype(np.float64), weight / weight.sum()
    weighted = csr_array(
        (codes.data * np.repeat(weight, np.diff(codes.indptr)), codes.indices, codes.indptr), codes.shape
    )
    second_moment = (exact * weight[:, None]).T @ exact
    second_moment[np.diag_indices_from(second_moment)] += _RIDGE * np.trace(second_moment) / len(second_moment) + 1e-12
    encoder = np.linalg.solve(second_moment, (weighted.T @ exact).T).T
    bias = np.asarray(weighted.sum(axis=0)).ravel()
    entries = codes.tocoo()
    row, factor = entries.coords
    z = np.einsum("ij,ij->i", exact[row], encoder[factor]) + bias[factor]
    size = len(components)
    along = np.bincount(factor, entries.data * z * weight[row], size)
    square = np.bincount(factor, z * z * weight[row], size)
    scale = np.clip(along / np.maximum(square, np.finfo(float).tiny), _LEAST_SCALE, _GREATEST_SCALE)
    use = np.bincount(factor, entries.data**2 * weight[row], size)
    # A factor that no row uses listens for itself.
    idle = use == 0
    encoder, bias = encoder * scale[:, None], bias * scale
    encoder[idle], bias[idle] = components[idle], 0
    return encoder, bias, use
