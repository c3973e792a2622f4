"""
Rows coded a second, and how exactly, by our solvers and their peers, on real activations in one run.

``python -m benchmarks.coding``; SPAMS takes part where it is installed (``pip install spams-bin``). Below the table is
the peak memory of coding many rows.
"""

import platform
import subprocess
import sys
import tempfile
import time
import warnings
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from sklearn.decomposition import sparse_encode
from sklearn.exceptions import ConvergenceWarning

from skfactors import SparseDictionary, TransformerFeatureExtractor
from skfactors.datasets import demo_model, load_wikipedia
from skfactors.datasets.packages import file_in_package
from skfactors.dictionaries.sparse_coding.encoding import row_gaps
from skfactors.dictionaries.sparse_coding.solvers import SOLVERS

N_ROWS, N_COMPONENTS, TOL, RUNS = 2048, 1536, 1e-4, 5


def real_rows(n_rows):
    """Return rows of the demo model's hidden states, all layers, at random from Wikipedia articles."""
    texts = [article[: 40 + n_rows // 14] for article in load_wikipedia(40)]
    return at_random(TransformerFeatureExtractor(demo_model()).extract(texts).X, n_rows)


def news_rows(n_rows):
    """Return rows of every second layer, at random from news articles: the Lee background corpus."""
    file = file_in_package("gensim", "test/test_data/lee_background.cor", 'pip install "gensim>=4.4,<5"')
    texts = file.read_text(encoding="utf-8").splitlines()[:60]
    return at_random(TransformerFeatureExtractor(demo_model(), layers=[0, 2, 4, 6]).extract(texts).X, n_rows)


def at_random(X, n_rows):
    """Return some rows."""
    return X[np.random.default_rng(0).permutation(len(X))[:n_rows]]


def problem_of(rows):
    """Return rows to code and a dictionary learned from the others."""
    dictionary = SparseDictionary(N_COMPONENTS, alpha=0.8, max_iter=1, random_state=0).fit(rows[N_ROWS:])
    return rows[:N_ROWS], dictionary.components_


# Where rows come from, how many a dictionary is learned from, and the penalties that they are coded with. The solver
# was made on the first set; the second shows what it does on rows that it was not made on.
SETS = {
    "Wikipedia, layers 0 to 6": (real_rows, 20_000, (0.55, 1.2)),
    "news, layers 0, 2, 4, 6": (news_rows, 30_000, (0.6, 1.2)),
}


def ours(name):
    """Return a function that codes with one of our solvers."""

    def code(X, components, alpha):
        solver = SOLVERS[name](torch.from_numpy(components), alpha=alpha, positive=True, tol=TOL, max_iter=5000)
        return solver.solve_sparse(torch.from_numpy(X))[0]

    return code


def paper_fista(X, components, alpha):
    """Code by the paper's procedure: 500 steps of plain FISTA from zero, no stopping test."""
    X, components = torch.tensor(X), torch.tensor(components)
    step = 1 / torch.linalg.eigvalsh(components @ components.T)[-1]
    codes = ahead = torch.zeros(len(X), len(components))
    momentum = 1.0
    for _ in range(500):
        previous = codes
        codes = (ahead + step * ((X - ahead @ components) @ components.T - alpha)).clamp_min(0)
        following = (1 + (1 + 4 * momentum**2) ** 0.5) / 2
        ahead, momentum = codes + (momentum - 1) / following * (codes - previous), following
    return codes.numpy()


def scikit_learn(X, components, alpha):
    """Code by scikit-learn's coordinate descent."""
    return sparse_encode(X, components, algorithm="lasso_cd", alpha=alpha, positive=True, max_iter=1000)


def spams(X, components, alpha):
    """Code by SPAMS."""
    import spams

    arguments = np.asfortranarray(X.T), np.asfortranarray(components.T)
    threads = torch.get_num_threads()
    codes = spams.lasso(*arguments, lambda1=alpha, mode=2, pos=True, cholesky=True, numThreads=threads)
    return np.asarray(codes.T.todense())


def installed(package):
    """Return a package's version, or None."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def machine():
    """Say where and with what the figures are made."""
    packages = ("numpy", "scipy", "scikit-learn", "torch", "transformers", "numba", "spams-bin")
    versions = ", ".join(f"{name} {installed(name)}" for name in packages if installed(name))
    return f"{platform.processor() or platform.machine()}, {torch.get_num_threads()} threads; {versions}"


def timed(coders, X, components, alpha):
    """Return the seconds of several runs of each coder, in turn so that a slow minute is everybody's, and its codes."""
    seconds, codes = {name: [] for name in coders}, {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        for run in range(RUNS + 1):
            for name, (code, n_rows) in coders.items():
                start = time.perf_counter()
                codes[name] = code(X[:n_rows], components, alpha)
                # The first run loads and compiles.
                if run > 0:
                    seconds[name].append(time.perf_counter() - start)
    return seconds, codes


def memory_of_transform():
    """Return the most memory, in MB, that coding 200,000 rows with 2,000 factors takes above the rows; on Linux."""
    rows = real_rows(20_000)
    dictionary = SparseDictionary(2000, alpha=1.2, max_iter=1, random_state=0).fit(rows)
    with tempfile.TemporaryDirectory() as folder:
        dictionary.save(f"{folder}/dictionary")
        np.save(f"{folder}/rows.npy", rows)
        command = [sys.executable, "-m", "benchmarks.coding", "--memory", folder]
        return float(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


def print_memory_of_transform(folder):
    """Do it in this process, which has done nothing else."""
    dictionary = SparseDictionary.load(f"{folder}/dictionary")
    rows = np.load(f"{folder}/rows.npy")
    X = np.resize(rows, (200_000, rows.shape[1]))
    dictionary.transform(X[:1])  # what is loaded the first time is not counted
    before = process_memory("VmRSS")
    dictionary.transform(X)
    print(process_memory("VmHWM") - before)


def process_memory(field):
    """Return a field of the process's status, in MB: VmRSS for what it holds, VmHWM for the most it has held."""
    status = Path("/proc/self/status").read_text()
    return int(status.split(f"{field}:")[1].split()[0]) / 1024


def table_of(name, coders, X, components, alphas):
    """Time the coders on a set of rows, and make a table of it."""
    table = Table(
        title=f"{name}: {N_COMPONENTS} factors, {X.shape[1]} features, float32, non-negative codes, tol={TOL:g}, "
        f"medians of {RUNS} runs in turn"
    )
    for heading in ("solver", "alpha", "L0", "rows/s", "active_set is", "mean gap", "worst gap"):
        table.add_column(heading, justify="left" if heading == "solver" else "right")
    for alpha in alphas:
        seconds, codes_by = timed(coders, X, components, alpha)
        rates = {coder: n_rows / np.median(seconds[coder]) for coder, (_, n_rows) in coders.items()}
        for coder, rate in rates.items():
            codes, n_rows = codes_by[coder], coders[coder][1]
            gaps = row_gaps(X[:n_rows], codes, components, alpha, positive=True)
            l0 = np.count_nonzero(codes.toarray() if hasattr(codes, "toarray") else codes) / n_rows
            ratio = "" if coder == "active_set" else f"{rates['active_set'] / rate:.1f} x"
            table.add_row(
                coder, f"{alpha:g}", f"{l0:.1f}", f"{rate:,.0f}", ratio, f"{gaps.mean():.1e}", f"{gaps.max():.1e}"
            )
        table.add_section()
    return table


def main():
    """Print a table of each set."""
    console = Console(width=110)
    console.print(machine())
    # Coders, and on how many rows they are timed: the slow ones on fewer.
    coders = {"active_set": (ours("active_set"), N_ROWS), "fista": (ours("fista"), 1024)}
    coders |= {"the paper's FISTA, 500 steps": (paper_fista, 256), "scikit-learn lasso_cd": (scikit_learn, 128)}
    if installed("spams-bin"):
        coders["SPAMS lasso(cholesky=True)"] = (spams, N_ROWS)
    for name, (rows_of, n_to_learn_from, alphas) in SETS.items():
        X, components = problem_of(rows_of(n_to_learn_from + N_ROWS))
        console.print(table_of(name, coders, X, components, alphas))
    console.print(f"transform of 200,000 rows with 2,000 factors: {memory_of_transform():.0f} MB above the input")


if __name__ == "__main__":
    if "--memory" in sys.argv:
        print_memory_of_transform(sys.argv[-1])
    else:
        main()
