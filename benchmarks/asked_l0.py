"""
Codes of a row asked for, and got on held-out rows, by every activation of the autoencoder.

``python -m benchmarks.asked_l0``: rows of the demo model and digits. Other rows, of whatever model, from a file::

    python -m benchmarks.asked_l0 --rows rows.npy

Rows are shuffled, and the last tenth is held out.
"""

import argparse
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table
from sklearn.datasets import load_digits

from benchmarks.autoencoders import real_rows
from benchmarks.coding import machine
from skfactors import SparseAutoencoder
from skfactors.dictionaries import ACTIVATIONS

ASKED = (8, 32, 128)
# Many rows held out, since rows differ much in how many codes they have, and one epoch, so that it takes minutes.
MOST_ROWS, N_COMPONENTS, N_EPOCHS = 45_000, 512, 1
DIGITS = {"n_components": 256, "max_iter": 20, "batch_size": 256}


def measure(X, activation, asked, **parameters):
    """Return what is got on held-out rows, and the explained variance there."""
    X = np.random.default_rng(0).permutation(X)
    n_learned = len(X) - len(X) // 10
    model = SparseAutoencoder(activation=activation, n_nonzero_coefs=asked, random_state=0, **parameters)
    model.fit(X[:n_learned])
    held_out = X[n_learned:]
    return model.transform(held_out).nnz / len(held_out), model.score(held_out)


def all_rows(path):
    """Yield names, rows and settings."""
    settings = {"n_components": N_COMPONENTS, "max_iter": N_EPOCHS}
    if path is not None:
        yield path.stem, np.load(path, mmap_mode="r")[:MOST_ROWS], settings
        return
    yield "digits", load_digits().data.astype(np.float32), DIGITS
    yield "demo model", real_rows(MOST_ROWS), settings


def main():
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=Path, help=".npy file of shape (n_rows, n_features), instead of ours")
    console = Console(width=110)
    console.print(machine())
    for name, X, settings in all_rows(parser.parse_args().rows):
        told = ", ".join(f"{key}={value}" for key, value in settings.items())
        table = Table(title=f"{name}: {len(X):,} rows of {X.shape[1]} features, {told}")
        for heading in ("activation", "asked", "got", "off by", "explained, held out"):
            table.add_column(heading, justify="left" if heading == "activation" else "right")
        for activation in ACTIVATIONS:
            for asked in ASKED:
                got, explained = measure(X, activation, asked, **settings)
                table.add_row(activation, str(asked), f"{got:.2f}", f"{got / asked - 1:+.1%}", f"{explained:.3f}")
            table.add_section()
        console.print(table)


if __name__ == "__main__":
    main()
