"""How an autoencoder is learned from minibatches."""

from dataclasses import dataclass, replace

import numpy as np
import torch

from skfactors.dictionaries.autoencoders.encoder import Encoder
from skfactors.dictionaries.autoencoders.reseeding import spread
from skfactors.dictionaries.autoencoders.sparse_engine import Outcome
from skfactors.dictionaries.autoencoders.starting import Standardizer
from skfactors.dictionaries.sparse_coding.step import raise_overflow
from skfactors.learning.batches import ArrayRows
from skfactors.learning.processes import Processes
from skfactors.learning.step import Step
from skfactors.learning.threads import torch_on_one_thread
from skfactors.metrics.reconstruction import explained_share

_WARM_UP_STEPS = 50
# Shares of a fit: until when factors are pointed anew, and from when on steps become smaller.
_LAST_RESEEDING, _FIRST_DECAY = 0.7, 0.3
# One of so many factors is pointed anew in a step, at most.
_RESEEDED_AT_ONCE = 64
_CANDIDATES, _MOST_SHORTENED, _ROUNDING = 2, 4, 1e2
# For so many minibatches any factor may stay silent, however short an epoch is.
_LEAST_PATIENCE = 25
# Of the weight for which a factor may stay silent: when it begins to explain what others leave.
_AUXILIARY_PATIENCE = 0.25
# By how much the penalty grows in a step with twice as many codes as asked for, at most, and thresholds, which are
# there at once.
_STEERING, _NUDGE = 0.03, 0.05
_ROWS_A_TIME = 1024
_MARGINS_LOOKED_AT = 4


@dataclass(frozen=True)
class Pace:
    """
    How large steps are.

    Attributes
    ----------
    rate : float
        The learning rate at its highest.
    first : int
        Steps before this fit.
    total : int or None
        Steps of this fit; None where nobody knows, and then they stay large.
    """

    rate: float
    first: int
    total: int | None

    def share(self, n_steps: int) -> float:
        """Return how much of the fit is over."""
        return 0.0 if self.total is None else min((n_steps - self.first) / self.total, 1.0)

    def at(self, n_steps: int) -> float:
        """Return the learning rate after so many steps: it grows, stays, and falls to zero."""
        warm_up = _WARM_UP_STEPS if self.total is None else max(min(_WARM_UP_STEPS, self.total // 10), 1)
        growing = min((n_steps - self.first + 1) / warm_up, 1) if n_steps < warm_up else 1.0
        return self.rate * growing * min((1 - self.share(n_steps)) / (1 - _FIRST_DECAY), 1)


class AutoencoderStep(Step):
    """
    Learn from a minibatch, steer the penalty, point factors that never fire at what is reconstructed worst.

    Parameters
    ----------
    engine : SparseEngine or DenseEngine
    standardizer : Standardizer
    sample : tuple of ndarray
        Rows that are read, centred and scaled, and their weights: by them the number of codes is made right.
    pace : Pace
    penalty : float
    is_steered : bool
        Whether the penalty is, and the number of codes made right.
    auxk : float
    processes : Processes
    """

    def __init__(
        self, engine, standardizer: Standardizer, sample, pace: Pace, penalty, is_steered, auxk, processes: Processes
    ):
        self.engine, self.standardizer, self.sample, self.pace = engine, standardizer, sample, pace
        self.penalty, self.is_steered, self.auxk, self.processes = penalty, is_steered, auxk, processes
        self.activation = engine.activation
        self.idle_weight = np.zeros(engine.weights.factors.shape[1])

    @property
    def n_steps(self) -> int:
        """Minibatches learned from so far."""
        return int(self.engine.weights.n_steps[0])

    @property
    def _dtype(self):
        return self.sample[0].dtype

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
            Weight of rows for which a factor may stay silent before it is pointed elsewhere.

        Returns
        -------
        dict
            What the step did: `step`, `n_rows`, and over the batch `objective` (weighted mean of ½‖y - ŷ‖², of rows as
            they are scaled), `explained_variance`, `l0`, `n_silent` and `n_reseeded` factors, and `penalty`.
        """
        total = weight.sum()
        X, weight = self.processes.share_of(rows), self.processes.share_of(weight)
        silent = np.flatnonzero(self.idle_weight >= _AUXILIARY_PATIENCE * patience)
        rate = self.pace.at(self.n_steps)
        outcome = self.engine.learn(X, self.standardizer, weight / total, rate, self.penalty, silent, self.auxk)
        of_this_process = (outcome.loss, outcome.n_codes, outcome.size, outcome.squared, len(X), outcome.squares)
        sums = self._sums_of_all(*of_this_process, *outcome.total)
        objective, n_codes, size, unexplained, n_rows, squares, *first_moment = sums
        if not np.isfinite(objective):
            raise_overflow()
        l0 = n_codes / n_rows
        if self.is_steered and self.activation.is_steered:
            wanted = self.activation.n_nonzero_coefs
            excess = float(np.clip(l0 / wanted - 1, -1, 1))
            self.penalty *= float(np.exp(_STEERING * excess))
            self.activation.nudge(self.engine.weights.parameters, _NUDGE * excess, size / max(n_codes, 1))
        variation = squares - sum(value**2 for value in first_moment) / n_rows
        return {
            "step": self.n_steps,
            "n_rows": int(n_rows),
            "objective": float(objective),
            "explained_variance": explained_share(unexplained, variation),
            "l0": l0,
            "n_silent": int((~outcome.fired).sum()),
            "n_reseeded": self._reseed(outcome, total, patience),
            "penalty": float(self.penalty),
        }

    def _sums_of_all(self, *values) -> list[float]:
        return self.processes.sum_(torch.tensor(values, dtype=torch.float64)).tolist()

    def _reseed(self, outcome: Outcome, total: float, patience: float) -> int:
        """Point factors that stay silent at the residuals of the rows that are reconstructed worst."""
        self.idle_weight = np.where(outcome.fired, 0, self.idle_weight + total)
        silent = np.flatnonzero(self.idle_weight >= max(patience, _LEAST_PATIENCE * total))
        if not len(silent) or self.pace.share(self.n_steps) > _LAST_RESEEDING:
            return 0
        # Many at once would all answer to the same rows, and together overshoot.
        most = min(len(silent), -(-len(self.idle_weight) // _RESEEDED_AT_ONCE))
        heard, directions, lengths = self._unexplained(outcome, most)
        silent = silent[: len(directions)]
        self.engine.weights.point(silent, heard, directions, lengths)
        self.idle_weight[silent] = 0
        return len(silent)

    def _unexplained(self, outcome: Outcome, n_directions: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """
        Find what encoders and components are to point at, and how long these encoders may be.

        Components point at the largest residuals y - ŷ, each without what the ones before it explain, and so do
        encoders, but those of a transcoder, which point at the rows themselves. Their length is between what makes the
        code of its own row as large as what is left of it, and what is best for all rows. Left out are residuals that
        point away from their row, where others overshoot.
        """
        rows, left = torch.as_tensor(outcome.rows), -torch.as_tensor(outcome.residual)
        worst = torch.argsort(left.norm(dim=1), descending=True, stable=True)[: _CANDIDATES * n_directions]
        found = torch.cat([left[worst], rows[worst]], dim=1).cpu()
        found = self.processes.gather(found, _CANDIDATES * n_directions).numpy().astype(np.float64)
        left_of, row_of = np.split(found, 2, axis=1)
        smallest = _ROUNDING * torch.finfo(left.dtype).eps * max(np.linalg.norm(left_of, axis=1).max(initial=0), 1)
        heard, directions, lengths = spread(
            left_of, row_of, n_directions, smallest, own_residual=not self.standardizer.predicts
        )
        listens, wanted = (part @ torch.from_numpy(of).to(part).T for part, of in ((rows, heard), (left, directions)))
        listens = listens.clamp_min(0)
        products = torch.stack([(listens * wanted).sum(0), listens.square().sum(0)]).double().cpu()
        along, square = self.processes.sum_(products).numpy()
        # With these, codes would explain most of what is left of the minibatch, if all were kept.
        right = along / np.maximum(square, np.finfo(float).tiny)
        return heard, directions, np.maximum(np.sqrt(lengths * np.maximum(right, 0)), lengths / _MOST_SHORTENED)

    def loss(self, rows: ArrayRows, batch_size: int) -> float:
        """Measure the weighted mean of ½‖y - ŷ‖², with the model as it is."""
        learned = self.learned()
        encoder = Encoder(
            learned["encoder_"],
            learned["encoder_intercept_"],
            self.activation.selection,
            self.activation.n_nonzero_coefs,
            learned.get("threshold_"),
        )
        total = 0.0
        for number, (X, weight) in enumerate(rows.in_order(batch_size)):
            if number % self.processes.size == self.processes.rank:
                X, Y = np.split(X, self.standardizer.widths[:1], axis=1) if self.standardizer.predicts else (X, X)
                codes = encoder.encode(X, "cpu", torch.float32, sparse=True)
                residual = Y - (codes @ learned["components_"] + learned["intercept_"])
                if "skip_" in learned:
                    residual -= X @ learned["skip_"].T
                total += float(np.square(residual, dtype=np.float64).sum(axis=1) @ weight) / 2
        return self._sums_of_all(total)[0] / rows.total_weight

    def learned(self) -> dict[str, np.ndarray]:
        """Return the fitted attributes so far, by name, for rows as they come."""
        weights = self.engine.weights.arrays(*self.engine.weights.names())
        encoder, components = weights["factors"].astype(np.float64)
        parameters, intercept = weights["parameters"], weights["intercept"]
        fitted = self.activation.fitted(encoder, parameters, self._shift(weights))
        mean, scale, unit = self.standardizer.mean, self.standardizer.by_column, self.standardizer.unit
        mean_in, mean_out, scale_in, scale_out = mean, mean, scale, scale
        encoder = fitted["encoder"]
        if self.standardizer.predicts:
            n_read, n_written = self.standardizer.widths
            (mean_in, mean_out), (scale_in, scale_out) = np.split(mean, [n_read]), np.split(scale, [n_read])
            encoder, components, intercept = encoder[:, :n_read], components[:, :n_written], intercept[:n_written]
        encoder = encoder * (scale_in / unit)
        arrays = {
            "components_": components * (unit / scale_out),
            "encoder_": encoder,
            "encoder_intercept_": fitted["bias"] / unit - encoder @ mean_in,
            "intercept_": intercept / scale_out + mean_out,
        }
        if "threshold" in fitted:
            arrays["threshold_"] = fitted["threshold"] / unit
        if "skip" in weights:
            skip = weights["skip"].astype(np.float64)[: len(mean_out), : len(mean_in)]
            arrays["skip_"] = skip * scale_in / scale_out[:, None]
            arrays["intercept_"] = arrays["intercept_"] - arrays["skip_"] @ mean_in
        return {name: np.ascontiguousarray(array, self._dtype) for name, array in arrays.items()}

    @torch_on_one_thread()
    def _shift(self, weights) -> float:
        """Find by how much thresholds must be moved for as many codes, over the sample, as asked for."""
        if not self.is_steered or self.activation.keeps_number:
            return 0.0
        return shift_for(*self.sample, weights["factors"][0], weights["parameters"], self.activation)

    def state(self) -> dict[str, np.ndarray]:
        """Return all else that a later step depends on."""
        return self.engine.weights.arrays() | {
            "idle_weight": self.idle_weight.copy(),
            "penalty": np.array(self.penalty),
            "mean": self.standardizer.mean,
            "scale": np.array(self.standardizer.scale),
        }

    def restore(self, learned: dict[str, np.ndarray], state: dict[str, np.ndarray]) -> None:
        """Take up where these were taken."""
        self.engine.weights.put(state)
        self.idle_weight = state["idle_weight"].copy()
        self.penalty = float(state["penalty"])
        self.standardizer = replace(self.standardizer, mean=state["mean"], scale=state["scale"])

    def status(self, record: dict) -> str:
        """Say how a step went, beside a progress bar."""
        return f"explained {record['explained_variance']:.3f}, L0 {record['l0']:.1f}, silent {record['n_silent']}"


def shift_for(rows, weight, encoder, parameters, activation) -> float:
    """
    Find the margin above which there are as many pre-activations of some rows as an activation is asked for.

    Parameters
    ----------
    rows : ndarray of shape (n_rows, n_features)
    weight : ndarray of shape (n_rows,)
    encoder : ndarray of shape (n_components, n_features)
    parameters : ndarray of shape (n_parameters, n_components)
    activation : Activation

    Returns
    -------
    float
        Halfway to the next margin.
    """
    margins = []
    for start in range(0, len(rows), _ROWS_A_TIME):
        part = torch.from_numpy(rows[start : start + _ROWS_A_TIME])
        Z = torch.addmm(torch.from_numpy(parameters[0]), part, torch.from_numpy(encoder).T)
        margins.append(activation.margins(Z.numpy(), parameters).astype(rows.dtype))
    margins = np.concatenate(margins)
    wanted = activation.n_nonzero_coefs * weight.sum() * (1 - 1e-9)
    # Few of the margins matter, unless weights differ much.
    n_looked_at = min(_MARGINS_LOOKED_AT * activation.n_nonzero_coefs * len(rows), margins.size - 1)
    row, factor = np.nonzero(margins >= -np.partition(-margins, n_looked_at, axis=None)[n_looked_at])
    if weight[row].sum() <= wanted:
        row, factor = np.nonzero(margins == margins)
    found = margins[row, factor]
    order = np.argsort(-found, kind="stable")
    place = int(np.searchsorted(np.cumsum(weight[row][order]), wanted))
    if place + 1 >= len(order):
        return float(margins.min()) - 1.0
    return float(found[order[place]] / 2 + found[order[place + 1]] / 2)
