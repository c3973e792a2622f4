"""
What a GPU does to reading, coding and learning: seconds on it and on the CPU of the same machine, in one run.

``python -m benchmarks.accelerator [--model FOLDER --texts FILE]``; by default the demo model and Wikipedia
articles. A file of texts has one document per line.
"""

import argparse
import time
import warnings
from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from sklearn.exceptions import ConvergenceWarning

from benchmarks.coding import machine
from skfactors import SparseDictionary, TransformerFeatureExtractor
from skfactors.datasets import demo_model, load_wikipedia

# (factors, alpha, rows coded on the GPU, rows coded on the CPU)
PROBLEMS = ((512, 1.0), (1536, 0.55), (1536, 1.2), (8192, 1.2))
RUNS = 3


def seconds_of(work, runs=RUNS):
    """Return the median seconds of some runs, after one that loads and compiles, and what the last returned."""
    taken = []
    for _ in range(runs + 1):
        start = time.perf_counter()
        result = work()
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        taken.append(time.perf_counter() - start)
    return float(np.median(taken[1:])), result


def device_names():
    """Return what is compared, by torch's name: the GPU where there is one, and the CPU."""
    return (["cuda"] if torch.cuda.is_available() else []) + ["cpu"]


def table_of_reading(model, texts):
    """Time extraction on each device."""
    table = Table(title="extraction: all layers, float32")
    for heading in ("device", "tokens/s", "rows/s"):
        table.add_column(heading, justify="right")
    for device in device_names():
        n_texts = len(texts) if device == "cuda" else max(len(texts) // 10, 1)
        extractor = TransformerFeatureExtractor(model, device=device, batch_size=128)
        seconds, acts = seconds_of(lambda: extractor.extract(texts[:n_texts]), runs=1)
        n_layers = acts.provenance["layer"].nunique()
        table.add_row(device, f"{len(acts) / n_layers / seconds:,.0f}", f"{len(acts) / seconds:,.0f}")
    return table


def table_of_dictionaries(rows):
    """Time learning and coding on each device."""
    table = Table(
        title=f"SparseDictionary, {rows.shape[1]} features, float32, tol=1e-4 in coding, medians of {RUNS} runs"
    )
    for heading in (
        "factors",
        "alpha",
        "device",
        "learned rows/s",
        "explained",
        "L0",
        "coded rows/s",
        "worst gap",
        "peak GB",
    ):
        table.add_column(heading, justify="right")
    learned_from, held_out = rows[4096:], rows[:4096]
    for n_components, alpha in PROBLEMS:
        for device in device_names():
            if device == "cuda":
                torch.cuda.reset_peak_memory_stats()
            n_learned = len(learned_from) if device == "cuda" else min(len(learned_from), 20_480)
            dictionary = SparseDictionary(
                n_components, alpha=alpha, max_iter=1, tol=1e-2, random_state=0, device=device, batch_size=2048
            )
            learning, _ = seconds_of(lambda: dictionary.fit(learned_from[:n_learned]), runs=1)
            dictionary.set_params(tol=1e-4)
            coding, codes = seconds_of(lambda: dictionary.transform(held_out))
            gap = dictionary.duality_gap(held_out, codes).max()
            peak = torch.cuda.max_memory_allocated() / 2**30 if device == "cuda" else 0
            table.add_row(
                f"{n_components:,}",
                f"{alpha:g}",
                device,
                f"{n_learned / learning:,.0f}",
                f"{dictionary.score(held_out):.3f}",
                f"{codes.nnz / len(held_out):.1f}",
                f"{len(held_out) / coding:,.0f}",
                f"{gap:.0e}",
                f"{peak:.1f}",
            )
        table.add_section()
    return table


def profile_of_coding(rows):
    """Say where the time of coding on the GPU goes."""
    from torch.profiler import ProfilerActivity, profile

    dictionary = SparseDictionary(
        1536, alpha=0.55, max_iter=1, tol=1e-2, random_state=0, device="cuda", batch_size=2048
    )
    dictionary.fit(rows[:40_960]).set_params(tol=1e-4)
    dictionary.transform(rows[:4096])
    with profile(activities=[ProfilerActivity.CPU, ProfilerActivity.CUDA]) as seen:
        dictionary.transform(rows[:4096])
    return seen.key_averages().table(sort_by="self_cuda_time_total", row_limit=14, max_name_column_width=50)


def main():
    """Print the tables."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", help="a folder; the demo model by default")
    parser.add_argument("--texts", type=Path, help="a file, one document per line; Wikipedia articles by default")
    parser.add_argument("--profile", action="store_true", help="show where the time of coding on the GPU goes")
    options = parser.parse_args()
    warnings.simplefilter("ignore", ConvergenceWarning)
    model = options.model or demo_model()
    texts = options.texts.read_text().splitlines() if options.texts else load_wikipedia()
    console = Console(width=120)
    console.print(machine())
    if torch.cuda.is_available():
        console.print(torch.cuda.get_device_name(), f"torch {torch.__version__}")
    console.print(table_of_reading(model, texts))
    X = TransformerFeatureExtractor(model, batch_size=128).extract([text[:8000] for text in texts]).X
    rows = X[np.random.default_rng(0).permutation(len(X))[: 4096 + 200_704]]
    console.print(table_of_dictionaries(rows))
    if options.profile:
        print(profile_of_coding(rows))


if __name__ == "__main__":
    main()
