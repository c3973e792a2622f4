"""
Sparse autoencoders learned from a million rows, by us and by their own libraries, in turn on the same rows.

``python -m benchmarks.autoencoders``: our figures alone. For the others, in an environment of their own::

    python -m venv peers
    peers/bin/pip install torch overcomplete sae-lens dictionary-learning eai-sparsify
    python -m benchmarks.autoencoders --peers peers/bin/python

Several environments may be given, where packages do not fit together; each runs the peers that it can import. With
them, or with ``--reach``, it is also measured how long our shortest fit takes that explains more, held out, than the
best of them does in the end.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from benchmarks.coding import machine
from skfactors import SparseAutoencoder, TransformerFeatureExtractor
from skfactors.datasets import demo_model, load_wikipedia

N_COMPONENTS, K, N_HELD_OUT, RUNS, LAYERS = 2048, 32, 8192, 3, (0, 2, 4, 6)
ROWS_SEEN = 1_000_000
OURS = ("topk", "batch_topk", "jump_relu", "gated", "relu")
PEERS = Path(__file__).with_name("autoencoder_peers.py")


def real_rows(n_rows=90_000):
    """Return rows of some layers of the demo model, at random from Wikipedia articles."""
    texts = [article[:1200] for article in load_wikipedia()]
    X = TransformerFeatureExtractor(demo_model(), layers=list(LAYERS)).extract(texts).X
    return X[np.random.default_rng(0).permutation(len(X))[:n_rows]]


def ours(X, activation, rows_seen):
    """Learn by our own means, from so many rows."""
    n_epochs = max(round(rows_seen / len(X)), 1)
    settings = {"activation": activation, "n_nonzero_coefs": K, "max_iter": n_epochs, "random_state": 0}
    return SparseAutoencoder(N_COMPONENTS, **settings).fit(X)


def run_ours(X, held_out, activation, rows_seen):
    """Return what one run took and reached."""
    start, cpu = time.perf_counter(), time.process_time()
    model = ours(X, activation, rows_seen)
    seconds, cpu = time.perf_counter() - start, time.process_time() - cpu
    codes = model.transform(held_out)
    return {
        "rows": sum(record["n_rows"] for record in model.history_),
        "seconds": seconds,
        "cpu": cpu,
        "explained_variance": model.score(held_out),
        "l0": codes.nnz / len(held_out),
        "dead": float(np.mean(np.bincount(codes.indices, minlength=N_COMPONENTS) == 0)),
    }


def shortest_better(X, held_out, activation, explained_variance, most_rows):
    """Return the run of the fewest epochs that explains more of the rows held out; None if none does."""
    for n_epochs in range(1, max(round(most_rows / len(X)), 1) + 1):
        run = run_ours(X, held_out, activation, n_epochs * len(X))
        if run["explained_variance"] > explained_variance:
            return run | {"epochs": n_epochs}
    return None


def run_peer(python, name, folder, rows_seen):
    """Return what one run of a peer took and reached, in its own environment."""
    command = [python, str(PEERS), name, folder, str(N_COMPONENTS), str(K), str(rows_seen)]
    run = subprocess.run(command, capture_output=True, text=True)
    if run.returncode:
        raise RuntimeError(f"{name} failed in {python}:\n{run.stderr[-2000:]}")
    return json.loads(run.stdout.splitlines()[-1])


def peers_of(python):
    """List the peers that an environment can run, and their versions."""
    listed = subprocess.run([python, str(PEERS), "list"], capture_output=True, text=True, check=True)
    return json.loads(listed.stdout.splitlines()[-1])


def main():
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peers", nargs="*", default=[], metavar="PYTHON", help="interpreters that have the peers")
    parser.add_argument("--rows", help="a .npy file of rows, instead of those of the demo model")
    parser.add_argument("--seen", type=int, default=ROWS_SEEN, help="how many rows are learned from")
    parser.add_argument("--runs", type=int, default=RUNS)
    parser.add_argument("--activations", nargs="*", default=OURS)
    parser.add_argument("--reach", type=float, help="an explained variance to reach, instead of the best peer's")
    options = parser.parse_args()
    console = Console(width=120)
    console.print(machine())
    rows = np.load(options.rows) if options.rows else real_rows()
    held_out, X = rows[:N_HELD_OUT], np.ascontiguousarray(rows[N_HELD_OUT:])
    # Compiles.
    ours(X[:N_COMPONENTS], "topk", 1)
    results = {}
    with tempfile.TemporaryDirectory() as folder:
        np.save(f"{folder}/learned.npy", X)
        np.save(f"{folder}/held_out.npy", held_out)
        runs = {
            f"skfactors, {name}": lambda name=name: run_ours(X, held_out, name, options.seen)
            for name in options.activations
        }
        for python in options.peers:
            for name, version in peers_of(python).items():
                runs[f"{version}, {name}"] = lambda python=python, name=name: run_peer(
                    python, name, folder, options.seen
                )
        for _ in range(options.runs):
            for name, run in runs.items():
                results.setdefault(name, []).append(run())
                # A run that fails later takes none of these along.
                console.print(f"{name}: {json.dumps(results[name][-1])}", soft_wrap=True)
    settings = f"{X.shape[1]} wide, {N_COMPONENTS:,} latents, k = {K}, {len(held_out):,} rows held out"
    table = Table(title=f"{settings}, medians of {options.runs} runs in turn")
    for heading in ("learned by", "rows/s", "rows/CPU s", "seconds", "explained variance", "L0", "dead"):
        table.add_column(heading, justify="left" if heading == "learned by" else "right")
    medians = {
        name: {key: float(np.median([run[key] for run in found])) for key in found[0]}
        for name, found in results.items()
    }
    for name, median in medians.items():
        table.add_row(
            name,
            f"{median['rows'] / median['seconds']:,.0f}",
            f"{median['rows'] / median['cpu']:,.0f}",
            f"{median['seconds']:.1f}",
            f"{median['explained_variance']:.3f}",
            f"{median['l0']:.1f}",
            f"{median['dead']:.1%}",
        )
    console.print(table)
    peers = {name: median for name, median in medians.items() if not name.startswith("skfactors")}
    best = max(peers, key=lambda name: peers[name]["explained_variance"], default=None)
    reach = options.reach or (peers[best]["explained_variance"] if best else None)
    for activation in options.activations if reach else ():
        run = shortest_better(X, held_out, activation, reach, options.seen)
        found = f"no fit of {options.seen:,} rows does"
        if run is not None:
            reached = f"{run['explained_variance']:.3f} in {run['epochs']} epochs"
            found = f"{reached}, {run['seconds']:.1f} s, {run['cpu']:.1f} CPU s"
        of_peer = f" ({best}: {peers[best]['seconds']:.1f} s, {peers[best]['cpu']:.1f} CPU s)" if best else ""
        console.print(f"skfactors, {activation}, to explain more than {reach:.3f}{of_peer}: {found}", soft_wrap=True)


if __name__ == "__main__":
    sys.exit(main())
