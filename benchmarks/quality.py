"""
Held-out explained variance at equal sparsity: a TopK sparse autoencoder, pursuit, and L1 codes, plain and refitted.

``python -m benchmarks.quality``: all learn from the same rows of real activations in one run.
"""

import time

import numpy as np
import torch
from rich.console import Console
from rich.table import Table

from benchmarks.coding import machine, real_rows
from skfactors import SparseDictionary
from skfactors.metrics import explained_variance, l0

N_ROWS, N_HELD_OUT = 51_200, 4096
# Factors, active factors, epochs of learning by pursuit, and the penalty that leaves about as many active.
SETTINGS = ((512, 13, 3, 1.0), (2048, 32, 1, 0.65))
# Of the autoencoder.
LEARNING_RATE, BATCH_SIZE, PATIENCE, LEAST_GAIN, MOST_EPOCHS = 2e-3, 512, 3, 5e-4, 200
IDLE_ROWS_OF_THE_DEAD, AUXILIARY_WEIGHT, N_AUXILIARY = 20_000, 1 / 32, 64


class TopKAutoencoder(torch.nn.Module):
    """Gao et al. (2024): the k largest pre-activations, tied at first, with an auxiliary loss that revives the dead."""

    def __init__(self, X, n_components, k):
        super().__init__()
        directions = torch.randn(n_components, X.shape[1])
        self.decoder = torch.nn.Parameter(directions / directions.norm(dim=1, keepdim=True))
        self.encoder = torch.nn.Parameter(self.decoder.detach().clone())
        self.bias = torch.nn.Parameter(torch.zeros(n_components))
        self.center = torch.nn.Parameter(X.mean(0))
        self.k = k
        self.register_buffer("idle_rows", torch.zeros(n_components))

    def forward(self, X):
        """Return reconstructions and codes."""
        potential = (X - self.center) @ self.encoder.T + self.bias
        codes = keep_largest(potential, self.k)
        return self.center + codes @ self.decoder, codes, potential

    def loss(self, X):
        """Squared error of a batch, and of what the dead could add."""
        reconstruction, codes, potential = self(X)
        self.idle_rows = torch.where((codes > 0).any(0), 0, self.idle_rows + len(X))
        error = X - reconstruction
        loss = error.square().sum(1).mean()
        dead = self.idle_rows > IDLE_ROWS_OF_THE_DEAD
        if dead.any():
            revived = keep_largest(potential[:, dead], min(N_AUXILIARY, int(dead.sum()))) @ self.decoder[dead]
            loss = loss + AUXILIARY_WEIGHT * (error.detach() - revived).square().sum(1).mean()
        return loss


def keep_largest(values, k):
    """Zero all but the k largest positive values of each row."""
    largest = values.topk(k, dim=1)
    return torch.zeros_like(values).scatter(1, largest.indices, largest.values.relu())


def train_autoencoder(X, held_out, n_components, k):
    """Train until held-out explained variance stops improving, then once more at a tenth of the rate."""
    torch.manual_seed(0)
    X, held_out_rows = torch.tensor(X), torch.tensor(held_out)
    model = TopKAutoencoder(X, n_components, k)
    best, best_codes, n_epochs = 0.0, None, 0
    for rate in (LEARNING_RATE, LEARNING_RATE / 10):
        optimizer = torch.optim.Adam(model.parameters(), lr=rate)
        n_worse = 0
        while n_worse < PATIENCE and n_epochs < MOST_EPOCHS:
            for rows in torch.randperm(len(X)).split(BATCH_SIZE):
                optimizer.zero_grad()
                model.loss(X[rows]).backward()
                optimizer.step()
                with torch.no_grad():
                    model.decoder /= model.decoder.norm(dim=1, keepdim=True)
            n_epochs += 1
            with torch.no_grad():
                reconstruction, codes, _ = model(held_out_rows)
            explained = explained_variance(held_out, reconstruction.numpy())
            n_worse = n_worse + 1 if explained < best + LEAST_GAIN else 0
            if explained > best:
                best, best_codes = explained, codes.numpy()
    return best, l0(best_codes), f"{n_epochs} epochs"


def learn(X, held_out, n_components, **settings):
    """Learn a dictionary by this package; return it and what it explains."""
    dictionary = SparseDictionary(n_components, random_state=0, **settings).fit(X)
    return dictionary, *explains(dictionary, held_out)


def explains(dictionary, held_out):
    """Return held-out explained variance and active factors."""
    codes = dictionary.transform(held_out)
    return explained_variance(held_out, dictionary.inverse_transform(codes)), l0(codes)


def main():
    """Print the table."""
    console = Console(width=110)
    console.print(machine())
    rows = real_rows(N_ROWS + N_HELD_OUT)
    X, held_out = np.ascontiguousarray(rows[N_HELD_OUT:]), rows[:N_HELD_OUT]
    learn(X[:4096], held_out[:64], 64, n_nonzero_coefs=2)
    table = Table(title=f"{len(X):,} rows of {X.shape[1]} features, {len(held_out):,} held out")
    for heading in ("factors", "learned by", "active", "explained, held out", "seconds", ""):
        table.add_column(heading, justify="left" if heading in ("learned by", "") else "right")

    def add(n_components, name, explained, active, seconds, note=""):
        time_taken = f"{seconds:.1f}" if seconds is not None else ""
        table.add_row(f"{n_components:,}", name, f"{active:.1f}", f"{explained:.4f}", time_taken, note)

    for n_components, k, n_epochs, alpha in SETTINGS:
        start = time.perf_counter()
        explained, active, note = train_autoencoder(X, held_out, n_components, k)
        theirs = time.perf_counter() - start
        add(n_components, "TopK autoencoder, AuxK", explained, active, theirs, note)
        start = time.perf_counter()
        _, ours, active = learn(X, held_out, n_components, n_nonzero_coefs=k, max_iter=n_epochs)
        seconds = time.perf_counter() - start
        note = f"{ours - explained:+.4f}, 1/{theirs / seconds:.1f} of its time"
        add(n_components, f"n_nonzero_coefs={k}, epochs: {n_epochs}", ours, active, seconds, note)
        start = time.perf_counter()
        dictionary, plain, active = learn(X, held_out, n_components, alpha=alpha)
        add(n_components, f"alpha={alpha:g}, epochs: 2", plain, active, time.perf_counter() - start)
        refitted, active = explains(dictionary.set_params(debias=True), held_out)
        add(n_components, "  with debias=True", refitted, active, None, f"{refitted - plain:+.4f}")
        table.add_section()
    console.print(table)


if __name__ == "__main__":
    main()
