"""
Time until a dictionary is as good on held-out rows as one of SPAMS or scikit-learn, on real activations in one run.

``python -m benchmarks.learning``; SPAMS takes part where it is installed (``pip install spams-bin``).
"""

import time
import warnings

import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from sklearn.decomposition import MiniBatchDictionaryLearning
from sklearn.exceptions import ConvergenceWarning

from benchmarks.coding import installed, machine, real_rows
from skfactors import SparseDictionary
from skfactors.dictionaries.sparse_coding.objective import objective
from skfactors.dictionaries.sparse_coding.solvers import SOLVERS

N_COMPONENTS, ALPHA, N_HELD_OUT, SPAMS_BATCHES, SCIKIT_LEARN_ROWS, RUNS = 512, 1.0, 2048, 100, 10_000, 5
ROWS_LEARNED_FROM = (
    1024,
    2048,
    4096,
    8192,
    10_240,
    12_288,
    16_384,
    24_576,
    30_720,
    36_864,
    38_912,
    40_960,
    43_008,
    51_200,
)


def held_out_objective(X, components):
    """Mean objective of rows coded exactly, in double precision."""
    X, components = torch.tensor(X, dtype=torch.float64), torch.tensor(components, dtype=torch.float64)
    solver = SOLVERS["active_set"](components, alpha=ALPHA, positive=True, tol=1e-8, max_iter=5000)
    return objective(X, solver.solve(X)[0], components, ALPHA).mean().item()


def ours(X):
    """Learn from each row once. Learning is not helped by codes that are more exact than this."""
    settings = {"alpha": ALPHA, "batch_size": 768, "max_iter": 1, "tol": 1e-2, "random_state": 0}
    return SparseDictionary(N_COMPONENTS, **settings).fit(X).components_


def spams(X):
    """Learn by SPAMS from batches of 512."""
    from spams import trainDL

    settings = {"lambda1": ALPHA, "mode": 2, "posAlpha": True, "posD": False, "batchsize": 512, "verbose": False}
    threads = torch.get_num_threads()
    return trainDL(np.asfortranarray(X.T), K=N_COMPONENTS, iter=SPAMS_BATCHES, numThreads=threads, **settings).T


def scikit_learn(X):
    """Learn by scikit-learn for an epoch."""
    settings = {"alpha": ALPHA, "max_iter": 1, "fit_algorithm": "cd", "positive_code": True, "batch_size": 512}
    learner = MiniBatchDictionaryLearning(N_COMPONENTS, random_state=0, n_jobs=-1, **settings)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return learner.fit(X[:SCIKIT_LEARN_ROWS]).components_


def timed(learners):
    """Learn by each in turn, RUNS times; return for each the components and the median of the seconds taken."""
    components, seconds = {}, {name: [] for name in learners}
    for _ in range(RUNS):
        for name, (learn, X) in learners.items():
            start = time.perf_counter()
            components[name] = learn(X)
            seconds[name].append(time.perf_counter() - start)
    return {name: (components[name], float(np.median(seconds[name]))) for name in learners}


def main():
    """Print the table."""
    console = Console(width=110)
    console.print(machine())
    rows = real_rows(SPAMS_BATCHES * 512 + N_HELD_OUT)
    X, held_out = np.ascontiguousarray(rows[N_HELD_OUT:]), rows[:N_HELD_OUT]
    ours(X[:1024])
    peers = {f"scikit-learn, {SCIKIT_LEARN_ROWS:,} rows once": (scikit_learn, X)}
    if installed("spams-bin"):
        peers[f"SPAMS, {SPAMS_BATCHES} batches of 512"] = (spams, X)
    found = timed({n_rows: (ours, X[:n_rows]) for n_rows in ROWS_LEARNED_FROM} | peers)
    progress = []
    for n_rows in ROWS_LEARNED_FROM:
        components, seconds = found[n_rows]
        progress.append((held_out_objective(held_out, components), seconds, n_rows))
    settings = f"{N_COMPONENTS} factors, alpha={ALPHA:g}, {len(held_out):,} held-out rows"
    table = Table(title=f"{settings}, medians of {RUNS} runs in turn")
    for heading in ("learned by", "seconds", "held-out objective", "we are there after", "of its time", "rows"):
        table.add_column(heading, justify="left" if heading == "learned by" else "right")
    for name in peers:
        components, seconds = found[name]
        target = held_out_objective(held_out, components)
        ahead = ("never", "", "")
        for value, sooner, n_rows in reversed(progress):
            if value <= target:
                ahead = (f"{sooner:.2f} s", f"1/{seconds / sooner:.1f}", f"{n_rows:,}")
        table.add_row(name, f"{seconds:.2f}", f"{target:.3f}", *ahead)
    table.add_section()
    for value, seconds, n_rows in progress:
        table.add_row(f"we, {n_rows:,} rows once", f"{seconds:.2f}", f"{value:.3f}")
    console.print(table)


if __name__ == "__main__":
    main()
