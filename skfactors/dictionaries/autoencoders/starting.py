"""Where learning starts: a scale for rows, components, and an encoder that comes near the exact codes."""

from dataclasses import dataclass

import numpy as np
import torch
from scipy.sparse import csr_array

from skfactors.dictionaries.autoencoders._learning import standardize
from skfactors.dictionaries.sparse_coding.encoding import Coding, encode
from skfactors.dictionaries.sparse_coding.solvers import fastest_solver
from skfactors.dictionaries.sparse_coding.starting import drawn_components, given_components
from skfactors.dictionaries.sparse_coding.step import SparseCodingStep
from skfactors.dictionaries.sparse_coding.updates import best_update
from skfactors.learning.batches import slices
from skfactors.learning.callbacks import Watcher
from skfactors.learning.loop import Schedule, learn
from skfactors.learning.processes import Processes

_BATCH_SIZE = 1024
# Ridge of the regression, as a share of the mean variance of a feature.
_RIDGE = 1e-2
_ROUNDS, _MOST_SCALED = 4, 4.0
# Codes of a row when components, and then an encoder, are first learned: one for each so many that are asked for.
# Those that are taken in first say the most; with all of them, fewer true directions are found, and it takes longer.
_SHARE_FOR_COMPONENTS, _SHARE_FOR_ENCODER = 4, 2
# Rows that learning starts from, and those of them by which the number of codes is made right.
_LEAST_ROWS, _ROWS_A_COMPONENT = 4096, 2
_LEAST_ROWS_TO_SPARE = 1000
_LEAST_ROWS_MEASURED, _ROWS_MEASURED, _VALUES_MEASURED = 512, 4096, 2**24


@dataclass(frozen=True)
class Standardizer:
    """
    How rows are centred and scaled before anything is learned from them, and what of them is to be predicted.

    Attributes
    ----------
    mean : ndarray of shape (n_features,)
    scale : float or ndarray of shape (n_blocks,)
        With it, rows have a mean squared length of `n_features`. Where columns are in blocks, each block is scaled for
        itself: to the width of the widest.
    widths : tuple of int or None
        Of the blocks; None where all columns are scaled alike.
    predicts : bool
        Whether the first of two blocks is what is read, and the second what is to be predicted from it. Else rows are
        to be predicted from themselves.
    """

    mean: np.ndarray
    scale: float | np.ndarray
    widths: tuple[int, ...] | None = None
    predicts: bool = False

    @classmethod
    def of(cls, rows: np.ndarray, weight: np.ndarray, *, scaled: bool, widths=None, predicts=False) -> "Standardizer":
        """Measure some rows."""
        rows = rows.astype(np.float64)
        mean = np.average(rows, axis=0, weights=weight)
        blocks = [rows - mean] if widths is None else np.split(rows - mean, np.cumsum(widths)[:-1], axis=1)
        width = max(block.shape[1] for block in blocks)
        squares = [float(np.average((block**2).sum(axis=1) / width, weights=weight)) for block in blocks]
        scale = np.array([square**-0.5 if scaled and square > 0 else 1.0 for square in squares])
        return cls(mean, float(scale[0]) if widths is None else scale, widths, predicts)

    @property
    def by_column(self) -> np.ndarray:
        """The scale of each column."""
        return np.full(len(self.mean), self.scale) if self.widths is None else np.repeat(self.scale, self.widths)

    @property
    def unit(self) -> float:
        """The scale of codes: components are as long for rows as they are, in the mean over blocks, as when scaled."""
        if self.predicts or self.widths is None:
            return float(np.ravel(self.scale)[-1])
        return float(np.mean(self.scale**-2.0) ** -0.5)

    def apply(self, rows: np.ndarray, dtype) -> np.ndarray:
        """Return rows centred and scaled."""
        standardized = np.empty(rows.shape, dtype)
        # Compiled code knows neither half precision nor the byte orders of other machines.
        rows = np.ascontiguousarray(rows, np.result_type(rows, np.float32))
        standardize(rows, self.mean, self.by_column, standardized)
        return standardized

    def parted(self, rows):
        """Part rows, an array or a tensor, into what is read and what is to be predicted, both of one width."""
        if not self.predicts:
            return rows, rows
        n_read, width = self.widths[0], max(self.widths)
        of_torch = torch.as_tensor(rows)
        parts = [
            torch.nn.functional.pad(part, (0, width - part.shape[1])).contiguous()
            for part in (of_torch[:, :n_read], of_torch[:, n_read:])
        ]
        return parts if torch.is_tensor(rows) else [part.numpy() for part in parts]


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


def penalised(alpha: float, positive: bool, device: str, components: np.ndarray) -> Coding:
    """Return how rows are coded with a penalty."""
    dtype = torch.float64 if components.dtype == np.float64 else torch.float32
    return Coding(
        alpha=alpha,
        positive=positive,
        solver=fastest_solver(device, len(components), dtype),
        tol=1e-4,
        max_iter=1000,
        n_nonzero_coefs=None,
        debias=False,
        device=device,
        dtype=dtype,
    )


def begin_from(
    dict_init,
    inputs: np.ndarray,
    targets: np.ndarray,
    weight: np.ndarray,
    n_components: int,
    n_outputs: int,
    activation,
    by_use: bool,
    device: str,
    processes: Processes,
    random_state,
):
    """
    Make what learning starts from.

    Parameters
    ----------
    dict_init : "dictionary", "random" or array-like
    inputs, targets : ndarray of shape (n_rows, n_features)
        Rows, centred and scaled: what is read, and what is to be predicted. The same, but for a transcoder.
    weight : ndarray of shape (n_rows,)
    n_components : int
    n_outputs : int
        Features that are predicted; of wider rows, the others are zero.
    activation : Activation
    by_use : bool
        Whether components come in the order of how much they are used.
    device : str
    processes : Processes
    random_state : RandomState

    Returns
    -------
    encoder, components : ndarray of shape (n_components, n_features)
    bias : ndarray of shape (n_components,)
        The same in all processes.
    """
    shape = (n_components, targets.shape[1])
    named = isinstance(dict_init, str)
    if named and dict_init == "random":
        components = random_components(shape, targets, random_state)
        encoder = components if inputs is targets else random_components(shape, inputs, random_state)
        return encoder, components, np.zeros(n_components, targets.dtype)
    positive = activation.selection != "largest_magnitudes"
    for_components, for_encoder = (
        pursuit_of(max(activation.n_nonzero_coefs // share, 1), positive, device, targets.dtype)
        for share in (_SHARE_FOR_COMPONENTS, _SHARE_FOR_ENCODER)
    )
    if named:
        components = learned_components(targets, weight, n_components, for_components, processes, random_state)
    else:
        components = unit_rows(given_components(dict_init, (n_components, n_outputs)))
        components = np.pad(components, ((0, 0), (0, shape[1] - n_outputs)))
    codes = exact_codes(targets, components, for_encoder)
    encoder, bias, use = regressed_encoder(inputs, weight, components if inputs is targets else None, codes)
    if by_use and named:
        # The first groups get what is used most.
        order = np.argsort(-use, kind="stable")
        encoder, components, bias = encoder[order], components[order], bias[order]
    start = [np.ascontiguousarray(array, targets.dtype) for array in (encoder, components, bias)]
    return [
        np.frombuffer(bytearray(processes.share_bytes(array.tobytes())), targets.dtype).reshape(array.shape)
        for array in start
    ]


def regressed_skip(inputs: np.ndarray, targets: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Regress what is to be predicted to what is read, with a ridge: ndarray (n_features, n_features)."""
    second_moment = _second_moment(inputs, weight / weight.sum())
    product = (targets.astype(np.float64) * (weight / weight.sum())[:, None]).T @ inputs
    return np.linalg.solve(second_moment, product.T).T.astype(inputs.dtype)


def sample_size(n_components: int) -> int:
    """Return how many rows are looked at before learning starts."""
    return max(_LEAST_ROWS, _ROWS_A_COMPONENT * n_components)


def set_apart(X: np.ndarray, weight: np.ndarray):
    """
    Set rows apart that nothing is learned from, by which the number of codes is made right for rows like them.

    Parameters
    ----------
    X : ndarray of shape (n_rows, n_features)
    weight : ndarray of shape (n_rows,)

    Returns
    -------
    weight : ndarray of shape (n_rows,)
        Zero for rows that were set apart.
    rows : tuple of ndarray, or None
        These rows and their weights; of few rows, none are set apart.
    """
    counted = np.flatnonzero(weight)
    if len(counted) < _LEAST_ROWS_TO_SPARE:
        return weight, None
    # Of few rows more than a tenth: by 1,000 the number of codes is known to some hundredths.
    n_apart = min(max(len(counted) // 10, 1000), len(counted) // 4, _ROWS_MEASURED)
    # Always the same, since a fit that goes on must find them again.
    chosen = np.sort(np.random.RandomState(0).permutation(counted)[:n_apart])
    left = weight.copy()
    left[chosen] = 0
    return left, (X[chosen], weight[chosen])


def first_rows(sample, n_components: int) -> list[np.ndarray]:
    """Return so many rows of a sample, chosen evenly, that their pre-activations fit in memory."""
    most = max(min(_ROWS_MEASURED, _VALUES_MEASURED // n_components), _LEAST_ROWS_MEASURED)
    return [np.ascontiguousarray(part[:: -(-len(part) // most)]) for part in sample]


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


def random_components(shape: tuple[int, int], rows: np.ndarray, random_state: np.random.RandomState) -> np.ndarray:
    """Draw directions of rows: they have nothing of features that are zero in every one."""
    components = random_state.standard_normal(shape)
    filled = rows.any(axis=0)
    if filled.any():
        components *= filled
    return (components / np.linalg.norm(components, axis=1, keepdims=True)).astype(rows.dtype)


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


def exact_codes(rows: np.ndarray, components: np.ndarray, coding: Coding) -> csr_array:
    """Code rows exactly, of shape (n_rows, n_components)."""
    return encode(rows, components, coding, batch_size=_BATCH_SIZE, sparse=True)


def regressed_encoder(
    rows: np.ndarray, weight: np.ndarray, components: np.ndarray | None, codes: csr_array
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """
    Regress an encoder to the exact codes of rows.

    A pre-activation is to equal the code where there is one. Elsewhere it may be anything below zero: what it is to be
    there is set anew between the rounds of a ridge regression. In the end each factor's are scaled up, since a
    regression makes them too small.

    Parameters
    ----------
    rows : ndarray of shape (n_rows, n_features)
        Of mean zero.
    weight : ndarray of shape (n_rows,)
    components : ndarray of shape (n_components, n_features), or None
        What a factor that no row uses listens for; None leaves it to listen for nothing.
    codes : csr_array of shape (n_rows, n_components)

    Returns
    -------
    encoder : ndarray of shape (n_components, n_features)
    bias : ndarray of shape (n_components,)
    use : ndarray of shape (n_components,)
        Sum of the squared codes of each factor.
    """
    weight = weight / weight.sum()
    weighted = (rows * weight[:, None]).astype(rows.dtype)
    inverse = np.linalg.inv(_second_moment(rows, weight))
    signed = codes.nnz > 0 and codes.data.min() < 0
    n_components = codes.shape[1]
    encoder, bias = np.zeros((n_components, rows.shape[1]), rows.dtype), np.zeros(n_components, rows.dtype)
    for number in range(1 if signed else _ROUNDS):
        moment, mean = np.zeros(encoder.shape), np.zeros(n_components)
        for part in slices(len(rows), _BATCH_SIZE):
            wanted = np.zeros((part.stop - part.start, n_components), rows.dtype)
            if number:
                wanted = np.minimum(rows[part] @ encoder.T + bias, wanted)
            active = codes[part].tocoo()
            wanted[active.row, active.col] = active.data
            moment += wanted.T @ weighted[part]
            mean += weight[part].astype(rows.dtype) @ wanted
        encoder = (moment @ inverse).astype(rows.dtype)
        bias = mean.astype(rows.dtype)
    along, square, use = np.zeros((3, n_components))
    for part in slices(len(rows), _BATCH_SIZE):
        active = codes[part].tocoo()
        z = (rows[part] @ encoder.T + bias)[active.row, active.col]
        weight_of = weight[part][active.row]
        for sums, product in ((along, active.data * z), (square, z * z), (use, active.data**2)):
            sums += np.bincount(active.col, product * weight_of, n_components)
    # Half of what would be right where there are codes: other pre-activations will be kept as well.
    scale = np.sqrt(np.clip(along / np.maximum(square, np.finfo(float).tiny), 1 / _MOST_SCALED, _MOST_SCALED))
    unused = np.zeros_like(encoder) if components is None else components
    encoder, bias = np.where(use[:, None] > 0, encoder * scale[:, None], unused), np.where(use > 0, bias * scale, 0)
    return encoder, bias, use


def _second_moment(rows, weight):
    """Return the second moment of rows, with a ridge."""
    moment = (rows.astype(np.float64) * weight[:, None]).T @ rows
    moment[np.diag_indices_from(moment)] += _RIDGE * np.trace(moment) / len(moment) + 1e-12
    return moment
