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

# (factors, alpha)
PROBLEMS = ((512, 1.0), (1536, 0.55), (1536, 1.2), (8192, 1.2))
ROWS_LEARNED_FROM, ROWS_CODED, RUNS = 40_960, 16_384, 3
CHARACTERS_READ = 500_000


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
        extractor = TransformerFeatureExtractor(model, device=device, batch_size=128)
        seconds, acts = seconds_of(lambda: extractor.extract(texts), runs=1)
        n_layers = acts.provenance["layer"].nunique()
        table.add_row(device, f"{len(acts) / n_layers / seconds:,.0f}", f"{len(acts) / seconds:,.0f}")
    return table


def real_rows(model, texts):
    """Return rows to code and rows to learn from: hidden states of all layers, in random order."""
    X = TransformerFeatureExtractor(model, batch_size=128).extract(texts).X
    rows = X[np.random.default_rng(0).permutation(len(X))[: ROWS_CODED + ROWS_LEARNED_FROM]]
    return rows[:ROWS_CODED], rows[ROWS_CODED:]


def table_of_dictionaries(held_out, learned_from, devices):
    """Time learning and coding on each device."""
    table = Table(
        title=f"SparseDictionary, {held_out.shape[1]} features, float32, batch_size=2048, "
        f"{len(learned_from):,} rows learned from (tol=1e-2) and {len(held_out):,} coded (tol=1e-4)"
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
    for n_components, alpha in PROBLEMS:
        for device in devices:
            if device == "cuda":
                torch.cuda.reset_peak_memory_stats()
            dictionary = SparseDictionary(
                n_components, alpha=alpha, max_iter=1, tol=1e-2, random_state=0, device=device, batch_size=2048
            )
            learning, _ = seconds_of(lambda: dictionary.fit(learned_from), runs=1)
            dictionary.set_params(tol=1e-4)
            coding, codes = seconds_of(lambda: dictionary.transform(held_out))
            gap = dictionary.duality_gap(held_out, codes).max()
            peak = torch.cuda.max_memory_allocated() / 2**30 if device == "cuda" else 0
            table.add_row(
                f"{n_components:,}",
                f"{alpha:g}",
                device,
                f"{len(learned_from) / learning:,.0f}",
                f"{dictionary.score(held_out):.3f}",
                f"{codes.nnz / len(held_out):.1f}",
                f"{len(held_out) / coding:,.0f}",
                f"{gap:.0e}",
                f"{peak:.1f}",
            )
        table.add_section()
    return table


def profile_of(work):
    """Say where the time of work on the GPU goes."""
    from torch.profiler import ProfilerActivity, profile

    work()
    with profile(activities=[ProfilerActivity.CPU, ProfilerActivity.CUDA]) as seen:
        work()
    return seen.key_averages().table(sort_by="self_cuda_time_total", row_limit=14, max_name_column_width=50)


def main():
    """Print the tables."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", help="a folder; the demo model by default")
    parser.add_argument("--texts", type=Path, help="a file, one document per line; Wikipedia articles by default")
    parser.add_argument("--profile", action="store_true", help="show where the time on the GPU goes")
    options = parser.parse_args()
    warnings.simplefilter("ignore", ConvergenceWarning)
    model = options.model or demo_model()
    texts = options.texts.read_text().splitlines() if options.texts else load_wikipedia()
    texts = [text[:8000] for text in texts]
    texts = texts[: np.searchsorted(np.cumsum([len(text) for text in texts]), CHARACTERS_READ)]
    console = Console(width=120)
    console.print(machine())
    if torch.cuda.is_available():
        console.print(torch.cuda.get_device_name(), f"torch {torch.__version__}")
    console.print(table_of_reading(model, texts))
    held_out, learned_from = real_rows(model, texts)
    console.print(table_of_dictionaries(held_out, learned_from, device_names()))
    if options.profile:
        dictionary = SparseDictionary(1536, alpha=0.55, max_iter=1, tol=1e-2, random_state=0, batch_size=2048)
        print("learning", profile_of(lambda: dictionary.fit(learned_from)), sep="\n")
        print("coding", profile_of(lambda: dictionary.set_params(tol=1e-4).transform(held_out)), sep="\n")


if __name__ == "__main__":
    main()
