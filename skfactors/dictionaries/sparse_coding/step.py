"""How a dictionary is learned from a minibatch."""

from dataclasses import replace

import numpy as np
import torch
from scipy.sparse import csr_array

from skfactors.dictionaries.sparse_coding.encoding import Coding
from skfactors.dictionaries.sparse_coding.thresholds import Thresholds
from skfactors.dictionaries.sparse_coding.updates import UPDATES
from skfactors.learning.batches import ArrayRows
from skfactors.learning.processes import Processes
from skfactors.learning.step import Step
from skfactors.learning.threads import torch_on_one_thread
from skfactors.metrics.reconstruction import explained_share


class SparseCodingStep(Step):
    """
    Code a minibatch, update the dictionary, replace factors that never fire.

    Parameters
    ----------
    coding : Coding
    update : str
        Name in `UPDATES`.
    components : ndarray of shape (n_components, n_features)
        Where to start.
    processes : Processes
        They share the rows of every minibatch.
    """

    def __init__(self, coding: Coding, update: str, components: np.ndarray, processes: Processes):
        self.coding = coding
        self.methods = f"{coding.solver} {update}"
        self.processes = processes
        self.components = coding.tensor(components)
        # Sums over many batches are kept in double precision wherever the device has it.
        exact = torch.float32 if torch.device(coding.device).type == "mps" else torch.float64
        self.update = UPDATES[update](*components.shape, dtype=exact, device=coding.device)
        self.idle_weight = torch.zeros(len(components), dtype=exact, device=coding.device)
        self.thresholds = None
        if coding.nested:
            self.thresholds = Thresholds(len(components), coding.alpha, coding.n_nonzero_coefs, coding.group_ends)

    @torch_on_one_thread()
    def learn_from(self, rows: np.ndarray, weight: np.ndarray, patience: float) -> dict:
        """
        Learn from a batch.

        Parameters
        ----------
        rows : ndarray of shape (n_rows, n_features)
            Distinct.
        weight : ndarray of shape (n_rows,)
            Positive.
        patience : float
            Weight of rows for which a factor may stay silent before it is replaced. None may in the very first step,
            whose dictionary is no more than a guess.

        Returns
        -------
        dict
            What the step did: `step`, `n_rows`, and over the batch `objective` (weighted mean), `explained_variance`,
            `l0`, `n_silent` factors, `n_reseeded` factors and `n_open` rows, whose gap stayed above `tol`.
        """
        X, weight = self.coding.rows(self.processes.share_of(rows)), self.coding.tensor(self.processes.share_of(weight))
        if self.thresholds is not None:
            self.thresholds.begin(*self._range_of(X, weight))
        solver = self._solver()
        codes, gaps = _code(solver, X)
        residual, l1_norm, n_active, fired_weight = _summary(X, codes, self.components, weight)
        squared = residual.square().sum(1)
        losses = squared / 2 + solver.alpha * l1_norm
        sums = self._sums_of_all(
            losses @ weight, weight.sum(), n_active, self.coding.n_open(gaps), squared.sum(), *_spread(X)
        )
        loss, total_weight, n_active, n_open, unexplained, n_rows, squares, *first_moment = sums
        if not np.isfinite(loss):
            raise_overflow()
        least = self.coding.least
        if self.n_steps == 0 and 0 < squares < n_rows * least**2:
            raise ValueError(f"the rows of X are shorter than {least:g}, too short to learn from: scale them up.")
        fired_weight = self.processes.sum_(fired_weight.to(self.idle_weight))
        fired = fired_weight > 0
        self.components = self.update.step(self.components, X, codes, weight, self.processes)
        self.n_steps += 1
        if self.thresholds is not None:
            self.thresholds.update(fired_weight.cpu() / total_weight, self.n_steps)
        variation = squares - sum(value**2 for value in first_moment) / n_rows
        return {
            "step": self.n_steps,
            "n_rows": int(n_rows),
            "objective": loss / total_weight,
            "explained_variance": explained_share(unexplained, variation),
            "l0": n_active / n_rows,
            "n_silent": int((~fired).sum()),
            "n_reseeded": self._reseed(fired, residual, total_weight, patience),
            "n_open": int(n_open),
        }

    @torch_on_one_thread()
    def loss(self, rows: ArrayRows, batch_size: int) -> float:
        """
        Measure the weighted mean objective of some rows, coded with the dictionary as it is.

        Parameters
        ----------
        rows : ArrayRows
        batch_size : int
        """
        solver = self._solver()
        total = 0.0
        for number, (X, weight) in enumerate(rows.in_order(batch_size)):
            if number % self.processes.size != self.processes.rank:
                continue
            batch, weight = self.coding.rows(X), self.coding.tensor(weight)
            residual, l1_norm, _, _ = _summary(batch, _code(solver, batch)[0], self.components, weight)
            losses = residual.square().sum(1) / 2 + solver.alpha * l1_norm
            total += (losses @ weight).item()
        (total,) = self._sums_of_all(total)
        # Of a store the rows that are held out may all have no weight.
        return total / rows.total_weight if rows.total_weight else 0.0

    def _solver(self):
        """Prepare the solver for the dictionary as it is."""
        if self.thresholds is None:
            return self.coding.solver_for(self.components)
        return replace(self.coding, threshold=self.thresholds.of_factors()).solver_for(self.components)

    def _range_of(self, X: torch.Tensor, weight: torch.Tensor):
        """Return a correlation that rows hardly exceed, and a function from thresholds to their active factors."""
        squares, n_rows, total_weight = self._sums_of_all(X.square().sum(), len(X), weight.sum())

        def l0_at(threshold):
            codes, _ = _code(replace(self.coding, threshold=threshold).solver_for(self.components), X)
            (n_active,) = self._sums_of_all(_summary(X, codes, self.components, weight)[3].sum())
            return n_active / total_weight

        return 4 * (squares / n_rows) ** 0.5, l0_at

    def _sums_of_all(self, *values) -> list[float]:
        """Add up numbers over all processes."""
        return self.processes.sum_(self.idle_weight.new_tensor([float(value) for value in values])).tolist()

    def _reseed(self, fired, residual, total_weight, patience) -> int:
        """Point factors that stay silent at the residuals of the rows that are reconstructed worst."""
        self.idle_weight = torch.where(fired, 0, self.idle_weight + total_weight)
        silent = self.idle_weight >= (patience if self.n_steps > 1 else 0)
        silent = torch.nonzero(silent & ~fired).ravel()
        if not len(silent):
            return 0
        directions = _worst_reconstructed(residual, len(silent), self.processes)
        silent = silent[: len(directions)]
        self.components[silent] = directions
        self.idle_weight[silent] = 0
        self.update.forget(silent)
        if self.thresholds is not None:
            self.thresholds.forget(silent)
        return len(silent)

    def learned(self) -> dict[str, np.ndarray]:
        """Return the fitted attributes so far, by name."""
        learned = {"components_": self.components.cpu().numpy()}
        return learned if self.thresholds is None else learned | {"threshold_": self.thresholds.of_factors()}

    def state(self) -> dict[str, np.ndarray]:
        """Return all else that a later step depends on."""
        tensors = {"idle_weight": self.idle_weight, "n_steps": torch.tensor(self.n_steps)}
        tensors |= {f"update.{name}": tensor for name, tensor in self.update.state.items()}
        if self.thresholds is not None:
            tensors |= self.thresholds.state
        return {name: tensor.to("cpu", copy=True).numpy() for name, tensor in tensors.items()}

    def restore(self, learned: dict[str, np.ndarray], state: dict[str, np.ndarray]) -> None:
        """Take up where these were taken; what another kind of update left behind is not used."""
        self.components = self.coding.tensor(learned["components_"])
        self.n_steps = int(state["n_steps"])
        self.idle_weight = torch.tensor(state["idle_weight"]).to(self.idle_weight)
        for name, tensor in self.update.state.items():
            if f"update.{name}" in state:
                self.update.state[name] = torch.tensor(state[f"update.{name}"]).to(tensor)
        if self.thresholds is not None:
            self.thresholds.restore(state)

    def status(self, record: dict) -> str:
        """Say how a step went, beside a progress bar."""
        return f"explained {record['explained_variance']:.3f}, L0 {record['l0']:.1f}, silent {record['n_silent']}"


def raise_overflow():
    """Refuse rows and weights that are in order one by one, and together are not."""
    raise ValueError(
        "sums of rows and their weights overflow: scale the rows down, divide the weights by the largest, or set "
        "dtype='float64'."
    )


def _code(solver, X: torch.Tensor):
    """Code rows to a CSR array on a CPU, to a tensor elsewhere; return codes and gaps."""
    if len(X) == 0:
        # Of a batch with fewer rows than processes, some processes have none.
        codes = X.new_zeros(0, len(solver.components))
        return (csr_array(codes.numpy()) if X.device.type == "cpu" else codes), X.new_zeros(0)
    return solver.solve_sparse(X) if X.device.type == "cpu" else solver.solve(X)


def _summary(X: torch.Tensor, codes, components: torch.Tensor, weight: torch.Tensor):
    """Return residuals, L1 norms of codes, the number of active factors, and the weight of each factor's rows."""
    if isinstance(codes, torch.Tensor):
        active = codes != 0
        return X - codes @ components, codes.abs().sum(1), int(active.sum()), weight @ active.to(weight)
    residual = X - torch.from_numpy(codes @ components.numpy())
    of_codes = np.repeat(weight.numpy(), np.diff(codes.indptr))
    fired_weight = torch.from_numpy(np.bincount(codes.indices, of_codes, minlength=len(components)))
    return residual, torch.from_numpy(abs(codes).sum(axis=1)), codes.nnz, fired_weight


def _spread(X: torch.Tensor) -> list[float]:
    """Return the number of rows, the sum of their squares and, feature by feature, of their values."""
    exact = X.double() if X.device.type != "mps" else X
    return [len(X), exact.square().sum().item(), *exact.sum(0).tolist()]


def _worst_reconstructed(residual: torch.Tensor, n_rows: int, processes: Processes) -> torch.Tensor:
    """Return the directions of the largest residuals, leaving out those that are only rounding."""
    worst = residual[residual.norm(dim=1).argsort(descending=True, stable=True)[:n_rows]]
    worst = processes.gather(worst, n_rows)
    norms, order = worst.norm(dim=1).sort(descending=True, stable=True)
    rounding = 1e2 * torch.finfo(residual.dtype).eps
    chosen = order[norms > rounding * norms[:1].clamp_min(1)][:n_rows]
    return worst[chosen] / worst[chosen].norm(dim=1, keepdim=True)
