"""
Memory, disk and processes at growing size: extract, fit and report through a store.

``python -m benchmarks.scale [folder]``, on the demo model and Wikipedia articles; the folder, a temporary one unless
given, takes some 13 GB. Twenty minutes on two cores.
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from benchmarks.coding import machine, process_memory

N_COMPONENTS, ALPHA = 512, 2.0
SIZES = {"1x": 4, "2x": 2, "4x": 1}
RUNS = 3


def extract(folder, size):
    """Extract a share of the corpus."""
    from skfactors import TransformerFeatureExtractor
    from skfactors.datasets import demo_model, load_wikipedia

    texts = load_wikipedia(104)[:: SIZES[size]]
    start = time.perf_counter()
    store = TransformerFeatureExtractor(demo_model()).extract_to(texts, folder / f"store-{size}")
    return {"rows": len(store), "seconds": time.perf_counter() - start}


def fit(folder, size):
    """Learn a dictionary from a store."""
    from skfactors import ActivationStore

    store = ActivationStore(folder / f"store-{size}")
    start = time.perf_counter()
    dictionary = _dictionary().fit(store, sample_weight=store.sample_weight)
    seconds = time.perf_counter() - start
    dictionary.save(folder / f"dictionary-{size}")
    return {"rows": len(store), "seconds": seconds}


def report(folder, size):
    """Report on a dictionary from a store."""
    from skfactors import ActivationStore, FactorReport, SparseDictionary

    store = ActivationStore(folder / f"store-{size}")
    dictionary = SparseDictionary.load(folder / f"dictionary-{size}")
    start = time.perf_counter()
    FactorReport.from_store(store, dictionary).save(folder / f"report-{size}")
    return {"rows": len(store), "seconds": time.perf_counter() - start}


def fit_in_turn(folder, size):
    """Learn from the store and from the same rows in memory, in turn."""
    from skfactors import ActivationStore

    store = ActivationStore(folder / f"store-{size}")
    X = np.asarray(store)
    seconds = {"store": [], "memory": []}
    _dictionary().fit(X[:10_000])
    for _ in range(RUNS):
        for name, rows in (("store", store), ("memory", X)):
            start = time.perf_counter()
            _dictionary().fit(rows)
            seconds[name].append(time.perf_counter() - start)
    return {name: len(X) / float(np.median(times)) for name, times in seconds.items()}


def disk(folder, size):
    """Write and read a store's shards, and copy and read plain files of the same size."""
    from skfactors import ActivationStore
    from skfactors.extraction.store.layout import SHARDS
    from skfactors.extraction.store.shards import write_shard

    store = ActivationStore(folder / f"store-{size}")
    parts = [store.read_shard(number) for number in range(6)]
    megabytes = sum(part.X.nbytes for part in parts) / 1e6
    place = {"block": 0, "n_parts": 6, "texts": "", "n_rowless": 0, "manifest": store._manifest}
    source = folder / "plain"
    np.concatenate([part.X for part in parts]).tofile(source)

    def write_store():
        for number, part in enumerate(parts):
            write_shard(folder, part, part=number, **place)

    def copy_plain():
        with open(source, "rb") as original, open(folder / "copy", "wb") as copy:
            shutil.copyfileobj(original, copy, 16 << 20)
            copy.flush()
            os.fsync(copy.fileno())

    ways = {
        "write shards": write_store,
        "copy a plain file": copy_plain,
        "read shards": lambda: [store.read_shard(number) for number in range(6)],
        "read shuffled": lambda: _read_rows(store, sum(map(len, parts))),
        "read a plain file": source.read_bytes,
    }
    (folder / SHARDS).mkdir(exist_ok=True)
    rates = {name: [] for name in ways}
    for _ in range(RUNS + 1):
        for name, run in ways.items():
            start = time.perf_counter()
            run()
            rates[name].append(megabytes / (time.perf_counter() - start))
    return {name: float(np.median(found[1:])) for name, found in rates.items()} | {"bytes": store.nbytes / len(store)}


def half_precision(folder, size):
    """Tell how many bytes a row takes in half precision."""
    from skfactors import TransformerFeatureExtractor
    from skfactors.datasets import demo_model, load_wikipedia

    extractor = TransformerFeatureExtractor(demo_model())
    store = extractor.extract_to(load_wikipedia(1), folder / "half", dtype="float16")
    return {"bytes": store.nbytes / len(store)}


def fit_together(folder, size):
    """Learn from a store, alone or as one of several processes, with one thread each."""
    import torch

    from skfactors import ActivationStore

    torch.set_num_threads(1)
    store = ActivationStore(folder / f"store-{size}")
    dictionary = _dictionary(batch_size=4096)
    dictionary.fit(store[:20_000].X)
    start = time.perf_counter()
    dictionary.fit(store)
    n_processes = os.environ.get("WORLD_SIZE", "1")
    if os.environ.get("RANK", "0") == "0":
        np.save(folder / f"components-{n_processes}.npy", dictionary.components_)
    return {"rows": len(store), "seconds": time.perf_counter() - start}


def _dictionary(**parameters):
    from skfactors import SparseDictionary

    return SparseDictionary(N_COMPONENTS, alpha=ALPHA, max_iter=1, random_state=0, device="cpu", **parameters)


def _read_rows(store, n_rows):
    for rows, _ in store.iter_shuffled(1024, np.random.RandomState(0)):
        n_rows -= len(rows)
        if n_rows <= 0:
            return


STAGES = {stage.__name__: stage for stage in (extract, fit, report, fit_in_turn, disk, half_precision, fit_together)}


def run_stage(stage, folder, size, n_processes=1, **environment):
    """Run a stage in a process of its own; return what it found, with the peak of its memory."""
    together = ["-m", "torch.distributed.run", "--nproc-per-node", str(n_processes)] if n_processes > 1 else []
    command = [sys.executable, *together, "-m", "benchmarks.scale", str(folder), "--stage", stage, size]
    environment = {"HF_HUB_OFFLINE": "1"} | dict(os.environ) | environment
    printed = subprocess.run(command, capture_output=True, text=True, env=environment)
    if printed.returncode:
        raise RuntimeError(f"{stage} failed:\n{printed.stderr}")
    return json.loads(printed.stdout.splitlines()[-1])


def main():
    """Print the tables, or run one stage."""
    if "--stage" in sys.argv:
        stage, size = sys.argv[-2:]
        found = STAGES[stage](Path(sys.argv[1]), size)
        print(json.dumps(found | {"peak": process_memory("VmHWM")}), flush=True)
    elif len(sys.argv) > 1:
        Path(sys.argv[1]).mkdir(exist_ok=True)
        print_tables(Path(sys.argv[1]))
    else:
        with tempfile.TemporaryDirectory(prefix="skfactors-scale-") as folder:
            print_tables(Path(folder))


def print_tables(folder):
    """Run every stage in the folder."""
    console = Console(width=110)
    console.print(machine())
    table = Table("", title="peak memory of the process (MB), and rows per second")
    for heading in ("rows", "extract", "rows/s", "fit", "rows/s", "report", "rows/s"):
        table.add_column(heading, justify="right")
    peaks = []
    for size in SIZES:
        found = {stage: run_stage(stage, folder, size) for stage in ("extract", "fit", "report")}
        peaks.append([of_stage["peak"] for of_stage in found.values()])
        cells = [(f"{of['peak']:,.0f}", f"{of['rows'] / of['seconds']:,.0f}") for of in found.values()]
        table.add_row(size, f"{found['fit']['rows']:,}", *(cell for pair in cells for cell in pair))
    table.add_row("4x / 1x", "", *(cell for ratio in np.divide(peaks[-1], peaks[0]) for cell in (f"{ratio:.2f}", "")))
    console.print(table)

    rates = run_stage("fit_in_turn", folder, "1x")
    console.print(
        f"fit from the store {rates['store']:,.0f} rows/s, from memory {rates['memory']:,.0f}: "
        f"{rates['store'] / rates['memory']:.2f} x"
    )

    found = run_stage("disk", folder, "1x")
    table = Table("way", "MB/s", title="six shards of float32, warm")
    for name in ("write shards", "copy a plain file", "read shards", "read shuffled", "read a plain file"):
        table.add_row(name, f"{found[name]:,.0f}")
    console.print(table)
    half = run_stage("half_precision", folder, "1x")
    console.print(f"bytes on disk a row: {found['bytes']:,.0f} in float32, {half['bytes']:,.0f} in float16")

    one_thread = {"OMP_NUM_THREADS": "1", "NUMBA_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    seconds = {n: [] for n in (1, 2)}
    for _ in range(RUNS):
        for n_processes, times in seconds.items():
            times.append(run_stage("fit_together", folder, "1x", n_processes, **one_thread)["seconds"])
    alone, together = (float(np.median(times)) for times in seconds.values())
    one, two = (np.load(folder / f"components-{n}.npy") for n in (1, 2))
    console.print(
        f"two processes of one thread against one: {alone:.1f} s / {together:.1f} s = {alone / together:.2f} x; "
        f"components differ by {abs(one - two).max():.1e} at most"
    )


if __name__ == "__main__":
    main()
