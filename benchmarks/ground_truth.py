"""
Which of known sparse features a dictionary finds, at one number of active factors a row: ours, and peers.

``python -m benchmarks.ground_truth``: our own methods on 4,096 features in 256 dimensions. For the others, from this
environment where it has them, or from environments of their own (see ``benchmarks.autoencoders``)::

    python -m benchmarks.ground_truth --peers peers/bin/python --seeds 5

Each run is printed and kept in a file (``--results``) as soon as it is over: the same command goes on after it was cut.
Another seed is another set of features, of rows, and another start. ``--configuration small`` has 2,048 features in 192
dimensions; ``paper`` is that of SynthSAEBench (arXiv 2602.14687), 16,384 in 768. ``--device cuda`` learns on a GPU what
can; pursuits run on all cores. ``--small`` runs through all of it in some seconds.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from scipy import sparse, stats

from benchmarks import autoencoder_peers
from benchmarks.autoencoder_peers import GROUPS
from benchmarks.autoencoders import peers_of
from benchmarks.coding import machine
from skfactors import SparseAutoencoder, SparseDictionary
from skfactors.dictionaries import ACTIVATIONS
from skfactors.evaluations import make_superposition, random_control
from skfactors.evaluations.truth import matched
from skfactors.metrics import explained_variance, l0

HELD_OUT_FROM = 2**40
MEASURES = ("f1", "mcc", "explained_variance", "l0", "cpu", "seconds")


@dataclass(frozen=True)
class Configuration:
    """Features, rows, and dictionaries to find them with."""

    n_features: int
    n_dims: int
    n_components: int
    l0: int
    n_rows: int
    n_epochs: int
    n_held_out: int = 10_000
    features: dict = field(default_factory=dict)


# Trees are fewer and lower where there are fewer features, so that rows have about as many features as factors asked
# for: 13, 25 and 28.
CONFIGURATIONS = {
    "small": Configuration(2048, 192, 512, 13, 118_000, 10, features={"n_roots": 32, "depth": 2}),
    "medium": Configuration(4096, 256, 1024, 25, 200_000, 5, features={"n_roots": 128, "depth": 1}),
    "paper": Configuration(16_384, 768, 4096, 25, 400_000, 5),
}
MINIATURE = Configuration(64, 16, 16, 3, 3_000, 1, 500, {"n_roots": 2, "depth": 1, "rank": 2})


def make_rows(truth, n_rows, first_row=0):
    """Make rows on all cores; return them, and which features are active in each."""
    size = -(-n_rows // (8 * (os.cpu_count() or 1)) // 256) * 256
    starts = range(0, n_rows, max(size, 256))

    def part(start):
        return truth.sample(min(starts.step, n_rows - start), first_row=first_row + start)

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        parts = list(pool.map(part, starts))
    return np.concatenate([X for X, _ in parts]), sparse.vstack([active for _, active in parts], format="csr")


def at_l0(dictionary, X, asked):
    """Set the penalty at which rows have so many active factors, for their codes alone."""
    low, high = dictionary.alpha / 8, dictionary.alpha * 8
    for _ in range(12):
        dictionary.set_params(alpha=float(np.sqrt(low * high)))
        low, high = (dictionary.alpha, high) if l0(dictionary.transform(X)) > asked else (low, dictionary.alpha)
    return dictionary


def by_penalty(X, size, seed, device):
    """Learn with the penalty that gives so many factors a row, found on some of the rows."""
    dictionary = SparseDictionary(size.n_components, alpha=1.0, random_state=seed, device=device, debias=True)
    some = X[: max(20 * 1024, 2 * size.n_components)]
    for _ in range(3):
        at_l0(dictionary.fit(some), some[:2048], size.l0)
    return at_l0(dictionary.fit(X), X[:2048], size.l0)


def dictionary(X, size, seed, device, **settings):
    """Learn with a number of factors a row."""
    settings = {"n_nonzero_coefs": size.l0, "random_state": seed, "device": device} | settings
    return SparseDictionary(size.n_components, **settings).fit(X)


def autoencoder(X, size, seed, device, **settings):
    """Learn an autoencoder."""
    settings = {
        "n_nonzero_coefs": size.l0,
        "random_state": seed,
        "device": device,
        "max_iter": size.n_epochs,
    } | settings
    return SparseAutoencoder(size.n_components, **settings).fit(X)


OURS = {
    "SparseDictionary, pursuit": dictionary,
    "SparseDictionary, nested": partial(dictionary, group_sizes=(1 / 8,) * 8, max_iter=4),
    "SparseDictionary, penalty": by_penalty,
    "SparseAutoencoder, batch_topk, nested": partial(autoencoder, activation="batch_topk", group_sizes=GROUPS),
    "SparseAutoencoder, topk, nested": partial(autoencoder, activation="topk", group_sizes=GROUPS),
    **{f"SparseAutoencoder, {name}": partial(autoencoder, activation=name) for name in ACTIVATIONS},
}


def figures(components, codes, reconstructed, held_out, active):
    """Return what is told of a dictionary."""
    _, cosines, f1 = matched(components, sparse.csr_array(codes), active[0], active[1])
    return {
        "f1": float(f1.mean()),
        "mcc": float(cosines.mean()),
        "explained_variance": float(explained_variance(held_out, reconstructed)),
        "l0": float(l0(codes)),
    }


def run_ours(learn, X, held_out, active, size, seed, device):
    """Return what one of our methods took and found."""
    start, cpu = time.perf_counter(), time.process_time()
    model = learn(X, size, seed, device)
    taken = {"seconds": time.perf_counter() - start, "cpu": time.process_time() - cpu}
    codes = model.transform(held_out)
    return figures(model.components_, codes, model.inverse_transform(codes), held_out, active) | taken


def run_random(X, held_out, active, size, seed, device):
    """Return what random factors find, coded by pursuit."""
    model = SparseDictionary(size.n_components, n_nonzero_coefs=size.l0, max_iter=1, random_state=seed)
    control = random_control(model.fit(X[: max(size.n_components, 1024)]), random_state=seed)
    codes = control.transform(held_out)
    of = {"seconds": 0.0, "cpu": 0.0}
    return figures(control[-1].components_, codes, control.inverse_transform(codes), held_out, active) | of


def run_peer(name, X, held_out, active, size, seed, device, python=None):
    """Return what a peer took and found, in this interpreter or in its own."""
    n_steps = size.n_epochs * len(X) // autoencoder_peers.BATCH_SIZE
    if python is None:
        learn = autoencoder_peers.installed()[name][1]
        rows = (torch.from_numpy(array).to(device) for array in (X, held_out))
        *found, taken = autoencoder_peers.learn_by(learn, *rows, size.n_components, size.l0, n_steps, seed)
        return figures(*(array.cpu().numpy() for array in found), held_out, active) | taken
    with tempfile.TemporaryDirectory() as folder:
        np.save(f"{folder}/learned.npy", X)
        np.save(f"{folder}/held_out.npy", held_out)
        numbers = map(str, (size.n_components, size.l0, size.n_epochs * len(X), seed))
        command = [python, autoencoder_peers.__file__, name, folder, *numbers, device]
        run = subprocess.run(command, capture_output=True, text=True)
        if run.returncode:
            raise RuntimeError(f"{name} failed in {python}:\n{run.stderr[-2000:]}")
        found = np.load(f"{folder}/found.npz")
        taken = json.loads(run.stdout.splitlines()[-1])
        told = figures(found["components"], found["codes"], found["reconstructed"], held_out, active)
        return told | {name: taken[name] for name in ("seconds", "cpu")}


def methods_of(pythons, chosen):
    """Return all that can be run, by name."""
    methods = {"random factors": run_random}
    methods |= {name: partial(run_ours, learn) for name, learn in OURS.items()}
    methods |= {name: partial(run_peer, name) for name in autoencoder_peers.installed()}
    for python in pythons:
        methods |= {name: partial(run_peer, name, python=python) for name in peers_of(python)}
    return {name: run for name, run in methods.items() if not chosen or any(part in name for part in chosen)}


def table_of(runs, title):
    """Return the mean over seeds of each figure, and how far its 95 % interval reaches where there are several."""
    table = Table(title=title)
    for heading in ("learned by", "seeds", "F1", "MCC", "explained variance", "L0", "CPU s", "seconds"):
        table.add_column(heading, justify="left" if heading == "learned by" else "right")
    for name in dict.fromkeys(run["method"] for run in runs):
        of = [run for run in runs if run["method"] == name]
        cells = []
        for measure in MEASURES:
            values = np.array([run[measure] for run in of])
            digits = 3 if measure in MEASURES[:3] else 1
            cell = f"{values.mean():.{digits}f}"
            if len(values) > 1 and digits == 3:
                cell += f" ± {stats.t.ppf(0.975, len(values) - 1) * stats.sem(values):.3f}"
            cells.append(cell)
        table.add_row(name, str(len(of)), *cells)
    return table


def main():
    """Print each run, and the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--configuration", choices=CONFIGURATIONS, default="medium")
    parser.add_argument("--small", action="store_true", help="a miniature, to see whether all of it runs")
    parser.add_argument("--seeds", type=int, default=1, help="how many, from 0")
    parser.add_argument("--rows", type=int, help="how many rows are learned from")
    parser.add_argument("--epochs", type=int, help="of the autoencoders")
    parser.add_argument("--methods", nargs="*", help="parts of names: run only these")
    parser.add_argument("--peers", nargs="*", default=[], metavar="PYTHON", help="interpreters that have the peers")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--results", type=Path, help="a file that runs are added to, and those in it not made again")
    options = parser.parse_args()
    console = Console(width=130)
    console.print(machine())
    name = "miniature" if options.small else options.configuration
    size = MINIATURE if options.small else CONFIGURATIONS[name]
    changes = {"n_rows": options.rows, "n_epochs": options.epochs}
    size = Configuration(**vars(size) | {key: value for key, value in changes.items() if value is not None})
    about = {"configuration": name, "n_rows": size.n_rows, "n_epochs": size.n_epochs, "device": options.device}
    runs = []
    if options.results and options.results.exists():
        runs = [json.loads(line) for line in options.results.read_text().splitlines()]
        runs = [run for run in runs if about.items() <= run.items()]
    methods = methods_of(options.peers, options.methods)
    for seed in range(options.seeds):
        missing = [method for method in methods if (method, seed) not in {(run["method"], run["seed"]) for run in runs}]
        if not missing:
            continue
        truth = make_superposition(size.n_features, size.n_dims, random_state=seed, **size.features)
        X, of_rows = make_rows(truth, size.n_rows)
        held_out, active = make_rows(truth, size.n_held_out, HELD_OUT_FROM)
        console.print(f"seed {seed}: {of_rows.nnz / len(X):.1f} features a row")
        for method in missing:
            try:
                found = methods[method](X, held_out, (truth.features_, active), size, seed, options.device)
            except Exception as error:
                # A peer that does not run here keeps nobody else from it.
                if method in OURS:
                    raise
                console.print(f"seed {seed}, {method} failed: {error!r}"[:400], soft_wrap=True)
                continue
            runs.append(about | {"method": method, "seed": seed} | found)
            if options.results:
                with options.results.open("a") as file:
                    file.write(json.dumps(runs[-1]) + "\n")
            told = ", ".join(f"{measure} {found[measure]:.3f}" for measure in MEASURES)
            console.print(f"seed {seed}, {method}: {told}", soft_wrap=True)
    settings = f"{size.n_features:,} features in {size.n_dims} dimensions, {size.n_components:,} factors, L0 {size.l0}"
    epochs = f"{size.n_epochs} epochs of autoencoders, {size.n_held_out:,} rows held out"
    console.print(table_of(runs, f"{settings}, {size.n_rows:,} rows, {epochs}"))


if __name__ == "__main__":
    sys.exit(main())
