"""A step of learning on the CPU, in compiled code that touches what is active."""

from dataclasses import dataclass, fields

import numpy as np
import torch
from scipy.sparse import csr_array

from skfactors.devices import keep_to_one_thread_if_forked
from skfactors.dictionaries.autoencoders._learning import (
    decode_rows,
    learn_factors,
    sort_by_factor,
    sum_gradients,
    sum_rows,
    tally,
    update_factors,
)
from skfactors.dictionaries.autoencoders.activations.base import Activation
from skfactors.dictionaries.autoencoders.selections import Largest
from skfactors.dictionaries.autoencoders.weights import Weights, adam, aligned
from skfactors.learning.batches import slices
from skfactors.learning.processes import Processes
from skfactors.learning.threads import in_parallel, torch_on_one_thread

_ROWS_A_TASK = 256
_FACTORS_A_TASK = 128
_PAIRS_AT_A_TIME = 8192


@dataclass
class Outcome:
    """
    What a step saw, before it changed anything.

    Attributes
    ----------
    loss : float
        Weighted sum of ½‖y - ŷ‖² over this process's rows.
    squared : float
        Sum of ‖y - ŷ‖² over them.
    n_codes : int
        Their codes.
    size : float
        Sum of the magnitudes of these.
    squares : float
        Sum of ‖y‖².
    total : ndarray of float64 of shape (n_features,)
        Sum of y.
    fired : ndarray of bool of shape (n_components,)
        Which factors had codes, in any process.
    rows, residual : ndarray or Tensor of shape (n_rows, n_features)
        This process's rows x, centred and scaled, and their ŷ - y, where the engine has them.
    """

    loss: float
    squared: float
    n_codes: int
    size: float
    squares: float
    total: np.ndarray
    fired: np.ndarray
    rows: np.ndarray | torch.Tensor
    residual: np.ndarray | torch.Tensor


@dataclass
class _Entries:
    """Pre-activations of rows, and what the loss has to do with them."""

    counts: np.ndarray
    factors: np.ndarray
    codes: np.ndarray
    by_product: np.ndarray
    by_parameters: np.ndarray
    slots: np.ndarray

    @classmethod
    def joined(cls, parts: list["_Entries"]) -> "_Entries":
        """Put some after the others."""
        return cls(*(np.concatenate([getattr(part, field.name) for part in parts], axis=-1) for field in fields(cls)))


class SparseEngine:
    """
    Weights, and how they are learned from minibatches.

    What is read and what is to be predicted are the same rows, but for a transcoder. One dense product gives the
    pre-activations. All else is sparse: what is selected is decoded, the gradients are summed up factor by factor, and
    each factor takes its step of Adam while its gradient is at hand. Factors without an entry stay as they are.

    Parameters
    ----------
    weights : Weights
    activation : Activation
    group_ends : ndarray of int of shape (n_groups,)
        Where the nested prefixes end.
    processes : Processes
    jacobian_penalty : float, default=0.0
        By which half the squares of the derivatives of a prediction by its row are multiplied.
    """

    def __init__(
        self,
        weights: Weights,
        activation: Activation,
        group_ends: np.ndarray,
        processes: Processes,
        jacobian_penalty: float = 0.0,
    ):
        self.weights, self.activation, self.group_ends, self.processes = weights, activation, group_ends, processes
        self.jacobian_penalty = jacobian_penalty
        # Which of the residuals a factor's entries have to do with.
        self._slots = np.searchsorted(group_ends, np.arange(len(weights.n_updates)), side="right").astype(np.int8)
        self._buffer, self._rows = np.empty((0, 0, 0), weights.factors.dtype), None

    @torch_on_one_thread()
    def learn(self, X, standardizer, weight, rate: float, penalty: float, silent: np.ndarray, auxk: float) -> Outcome:
        """
        Take a step.

        Parameters
        ----------
        X : ndarray of shape (n_rows, n_features)
            This process's share of a minibatch, as rows come.
        standardizer : Standardizer
        weight : ndarray of shape (n_rows,)
            By which losses are multiplied; 1 in sum over the minibatch.
        rate : float
        penalty : float
        silent : ndarray of int
            Factors that are to explain what the others leave.
        auxk : float
            By which the loss of that is multiplied.

        Returns
        -------
        Outcome
        """
        keep_to_one_thread_if_forked()
        rows, S = self._buffers(*X.shape)
        rows[...] = standardizer.apply(X, rows.dtype)
        weight = weight.astype(rows.dtype)
        rows, targets = standardizer.parted(rows)
        total, square = sum_rows(targets)
        if self.weights.skip is not None:
            targets = targets - rows @ self.weights.skip.T
        entries, squared = self._entries(rows, targets, weight, penalty, S)
        residual = S[-2] * (len(self.group_ends) / weight)[:, None]
        fired, n_codes, size = tally(entries.factors, entries.codes, len(self.weights.n_updates))
        outcome = Outcome(
            squared @ weight / 2,
            squared.sum(),
            n_codes,
            size,
            square,
            total,
            self._sum_of_all(fired) > 0,
            rows,
            residual,
        )
        parts = [entries]
        if len(silent) and auxk:
            parts.append(self._auxiliary_entries(rows, weight * rows.dtype.type(auxk), residual, silent, S))
        self._update(rows, parts, S, rate, self._of_jacobians(entries, weight) if self.jacobian_penalty else None)
        return outcome

    def _buffers(self, n_rows, n_columns) -> tuple[np.ndarray, np.ndarray]:
        """Return room for rows, and for residuals: of each prefix, and of what silent factors explain."""
        n_arrays, width = len(self.group_ends) + 1, self.weights.factors.shape[2]
        if self._buffer.shape[1] < n_rows:
            self._buffer = aligned((n_arrays, n_rows, width), self._buffer.dtype)
            self._rows = aligned((n_rows, n_columns), self._buffer.dtype)
        return self._rows[:n_rows], self._buffer[:, :n_rows]

    def _find(self, X):
        """Find what may have to do with the loss: counts, factors and pre-activations."""
        weights = self.weights
        transposed, bias = torch.from_numpy(weights.factors[0]).T, torch.from_numpy(weights.parameters[0])

        def find(start):
            rows = torch.from_numpy(X[start : start + _ROWS_A_TASK])
            return self.activation.find(torch.addmm(bias, rows, transposed).numpy(), weights.parameters)

        return _joined(in_parallel(find, range(0, len(X), _ROWS_A_TASK)), X.dtype)

    def _entries(self, X, Y, weight, penalty, S) -> tuple[_Entries, np.ndarray]:
        weights, activation, found = self.weights, self.activation, None
        while found is None:
            found = activation.narrow(*self._find(X), self.processes)
        counts, factors, z = found
        p = weights.parameters[:, factors]
        codes = activation.codes(z, p)
        pulls, squared = self._decode(Y, weight, counts, factors, codes, S[:-1])
        second_pulls = None
        if activation.decodes_twice:
            second_pulls, _ = self._decode(Y, weight, counts, factors, z, np.empty_like(S[:-1]))
        weight_of_entries = np.repeat(weight, counts)
        gradients = activation.gradients(z, p, pulls, second_pulls, weight_of_entries, z.dtype.type(penalty))
        return _Entries(counts, factors, codes, *gradients, self._slots[factors]), squared

    def _decode(self, Y, weight, counts, factors, values, S):
        """Reconstruct rows, fill in what that has to do with the loss, and return its derivatives and the errors."""
        ends = np.concatenate([[0], np.cumsum(counts)])
        pulls, squared = np.empty_like(values), np.empty(len(Y))
        components, intercept = self.weights.factors[1], self.weights.intercept

        def decode(start):
            rows = slice(start, min(start + _ROWS_A_TASK, len(Y)))
            part = slice(ends[rows.start], ends[rows.stop])
            decode_rows(
                Y[rows],
                components,
                intercept,
                counts[rows],
                factors[part],
                values[part],
                self.group_ends,
                weight[rows],
                S[:, rows],
                pulls[part],
                squared[rows],
            )

        in_parallel(decode, range(0, len(Y), _ROWS_A_TASK))
        return pulls, squared

    def _auxiliary_entries(self, X, weight, residual, silent, S) -> _Entries:
        """Let factors that are silent reconstruct the error of the others, each row by the largest of them (AuxK)."""
        encoder, components = self.weights.factors[:, silent]
        Z = torch.addmm(
            torch.from_numpy(self.weights.parameters[0, silent]), torch.from_numpy(X), torch.from_numpy(encoder).T
        ).numpy()
        counts, places, codes = Largest(max(X.shape[1] // 2, 1), None).sparse(Z)
        pulls = np.empty_like(codes)
        ends = np.array([len(silent)])
        no_intercept = np.zeros_like(self.weights.intercept)
        decode_rows(
            -residual, components, no_intercept, counts, places, codes, ends, weight, S[-1:], pulls, np.empty(len(X))
        )
        by_parameters = np.zeros((len(self.weights.parameters), len(pulls)), pulls.dtype)
        by_parameters[0] = pulls
        slots = np.full(len(pulls), len(self.group_ends), np.int8)
        return _Entries(counts, silent[places].astype(np.int32), codes, pulls, by_parameters, slots)

    def _of_jacobians(self, entries: _Entries, weight) -> tuple:
        """
        Differentiate the mean of ½‖J‖², with J the derivatives of a prediction by its row.

        J is the skip and, of each active factor, the product of its component and its encoder: all that counts of a
        minibatch is how often two factors are active together, C, and ∂/∂encoder is ``(C * (D @ D.T)) @ encoder``.
        """
        weights, activation = self.weights, self.activation
        (encoder, components), skip, slopes = weights.factors, weights.skip, activation.slopes(weights.parameters)
        heard = encoder if slopes is None else encoder * slopes[:, None]
        ends = np.concatenate([[0], np.cumsum(entries.counts)])
        is_code = (entries.codes != 0).astype(encoder.dtype)
        active = csr_array((is_code, entries.factors, ends), shape=(len(weight), len(encoder)))
        together = csr_array(active.T @ (active * weight[:, None])).tocoo()
        shape, places = together.shape, (together.row, together.col)
        of_encoders, of_components = (
            csr_array((together.data * _products(rows, *places), places), shape) for rows in (heard, components)
        )
        by_heard, by_components, by_skip = of_components @ heard, of_encoders @ components, None
        if skip is not None:
            use = (weight @ active)[:, None]
            by_heard += use * (components @ skip)
            by_components += use * (heard @ skip.T)
            by_skip = self.jacobian_penalty * ((use * components).T @ heard + weight.sum() * skip)
        by_parameters = np.zeros_like(weights.parameters)
        by_encoder = by_heard
        if slopes is not None:
            by_encoder, by_parameters[1] = slopes[:, None] * by_heard, (by_heard * heard).sum(1)
        by_factors = self.jacobian_penalty * np.stack([by_encoder, by_components])
        return by_factors, self.jacobian_penalty * by_parameters, by_skip

    def _update(self, X, parts: list[_Entries], S, rate, of_jacobians=None):
        weights, n_components = self.weights, len(self.weights.n_updates)
        joined = parts[0] if len(parts) == 1 else _Entries.joined(parts)
        starts, *entries, sums = sort_by_factor(
            len(X),
            joined.counts,
            joined.factors,
            joined.codes,
            joined.by_product,
            joined.slots,
            joined.by_parameters,
            n_components,
        )
        touched = self._sum_of_all(np.diff(starts)) > 0
        weights.n_updates += touched
        weights.n_steps += 1
        by_factors, by_parameters, by_skip = of_jacobians or (None, 0.0, None)
        sums = self._sum_of_all(sums + by_parameters).astype(X.dtype)[:, touched]
        by_intercept = self._sum_of_all(sum_rows(S[0])[0]).astype(X.dtype)
        entries = (starts, *entries, S, X)
        moved = (weights.factors, weights.factor_moments, weights.n_updates, rate)
        if self.processes.size == 1 and by_factors is None:
            self._for_factors(lambda first, last: learn_factors(first, last, *entries, *moved))
        else:
            gradients = np.empty_like(weights.factors)
            self._for_factors(lambda first, last: sum_gradients(first, last, *entries, gradients))
            if by_factors is not None:
                gradients += by_factors
            gradients = self.processes.sum_(torch.from_numpy(gradients)).numpy()
            steps = (weights.factors, weights.factor_moments, weights.n_updates * touched, rate)
            self._for_factors(lambda first, last: update_factors(first, last, gradients, *steps))
        own, moments = weights.parameters[:, touched], weights.parameter_moments[:, :, touched]
        adam(own, sums, moments, weights.n_updates[touched], rate)
        weights.parameters[:, touched], weights.parameter_moments[:, :, touched] = own, moments
        adam(weights.intercept, by_intercept, weights.intercept_moments, weights.n_steps[0], rate)
        if weights.skip is not None:
            by_skip = S[0].T @ X if by_skip is None else S[0].T @ X + by_skip
            by_skip = self._sum_of_all(by_skip).astype(X.dtype)
            adam(weights.skip, by_skip, weights.skip_moments, weights.n_steps[0], rate)

    def _for_factors(self, function):
        n_components = len(self.weights.n_updates)
        in_parallel(
            lambda first: function(first, min(first + _FACTORS_A_TASK, n_components)),
            range(0, n_components, _FACTORS_A_TASK),
        )

    def _sum_of_all(self, array) -> np.ndarray:
        """Add up an array over all processes."""
        return self.processes.sum_(torch.from_numpy(array.astype(np.float64))).numpy()


def _products(rows, first, second):
    """Return the products of pairs of rows."""
    products = np.empty(len(first), rows.dtype)
    for part in slices(len(first), _PAIRS_AT_A_TIME):
        products[part] = np.einsum("ij,ij->i", rows[first[part]], rows[second[part]])
    return products


def _joined(parts, dtype):
    """Put counts, factors and values of tasks one after the other."""
    if not parts:
        return np.empty(0, np.int64), np.empty(0, np.int32), np.empty(0, dtype)
    return tuple(np.concatenate(pieces) for pieces in zip(*parts, strict=True))
