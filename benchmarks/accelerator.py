"""
What a GPU does to reading, coding and learning: whether it is right, and how fast, beside the CPU of the same machine.

``python -m benchmarks.accelerator [--model FOLDER --texts FILE]``; by default the demo model and Wikipedia articles. A
file of texts has one document per line. It takes at most eight minutes on a machine with a GPU; on one without, only
the CPU's cells are filled in. ``--small`` runs through all of it in some seconds.
"""

import argparse
import time
import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from sklearn.exceptions import ConvergenceWarning

from benchmarks.coding import machine
from skfactors import SparseAutoencoder, SparseDictionary, TransformerFeatureExtractor
from skfactors.datasets import demo_model, load_wikipedia
from skfactors.dictionaries.autoencoders.activations import ACTIVATIONS


@dataclass(frozen=True)
class Sizes:
    """How much is done; (factors, alpha) are problems, (activation, dtype, batch size) autoencoders."""

    characters: int = 600_000
    learned_from: int = 40_960
    coded: int = 16_384
    problems: tuple = ((1536, 0.55), (8192, 1.2))
    wide_factors: int = 2_000
    wide_alpha: float = 1.4
    wide_coded: int = 131_072
    compared: int = 4_096
    factors_compared: int = 256
    latents: int = 16_384
    rows_of_latents: int = 131_072
    autoencoders: tuple = (
        ("topk", "float32", 1024),
        ("topk", "float32", 4096),
        ("topk", "bfloat16", 4096),
        ("batch_topk", "float32", 4096),
        ("batch_topk", "bfloat16", 4096),
        ("jump_relu", "float32", 4096),
    )
    autoencoders_on_cpu: tuple = (("topk", "float32", 4096),)
    runs: int = 3


SMALL = Sizes(
    characters=600,
    learned_from=512,
    coded=128,
    problems=((32, 1.0),),
    wide_factors=32,
    wide_coded=256,
    compared=200,
    factors_compared=16,
    latents=64,
    rows_of_latents=512,
    autoencoders=(("topk", "float32", 256),),
    autoencoders_on_cpu=(("topk", "float32", 256),),
    runs=1,
)


def seconds_of(work, runs):
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


def begin_peak(device):
    """Forget how much of a GPU's memory was taken so far."""
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()


def peak_of(device):
    """Say how much of a GPU's memory was taken."""
    return f"{torch.cuda.max_memory_allocated() / 2**30:.1f}" if device == "cuda" else ""


def table_with(title, *headings):
    """Return an empty table."""
    table = Table(title=title)
    for heading in headings:
        table.add_column(heading, justify="right")
    return table


def table_of_differences(model, texts, rows, sizes):
    """Compare what each path gives on the GPU with what it gives on the CPU."""
    device = device_names()[0]
    table = table_with(f"{device} beside the CPU", "what", "measure", "figure")
    gpu, cpu = (TransformerFeatureExtractor(model, device=name).extract(texts[:8]).X for name in (device, "cpu"))
    table.add_row("reading", "largest difference / largest value", f"{abs(gpu - cpu).max() / abs(cpu).max():.0e}")
    n_factors, k = sizes.factors_compared, min(16, sizes.factors_compared // 2)
    settings = {"max_iter": 1, "random_state": 0, "batch_size": 512}
    for name, own in (("penalty", {"alpha": 1.0}), ("pursuit", {"n_nonzero_coefs": k}), ("refit", {"debias": True})):
        dictionary, other = (
            SparseDictionary(n_factors, device=where, **settings | own).fit(rows) for where in (device, "cpu")
        )
        codes = dictionary.transform(rows)
        on_cpu = dictionary.set_params(device="cpu").transform(rows)
        worst = abs(dictionary.inverse_transform(codes) - dictionary.inverse_transform(on_cpu)).max() / abs(rows).max()
        table.add_row(f"codes by {name}", "largest difference of reconstructions / largest value", f"{worst:.0e}")
        if name == "penalty":
            table.add_row("codes by penalty", "worst gap", f"{dictionary.duality_gap(rows, codes).max():.0e}")
        explained = dictionary.score(rows) - other.score(rows)
        table.add_row(f"dictionary by {name}", "explained variance, less the CPU's", f"{explained:+.4f}")
    for name in ACTIVATIONS:
        of = {"activation": name, "n_nonzero_coefs": k, "max_iter": 2, "random_state": 0}
        autoencoder, other = (SparseAutoencoder(n_factors, device=where, **of).fit(rows) for where in (device, "cpu"))
        codes = autoencoder.transform(rows)
        on_cpu = autoencoder.set_params(device="cpu").transform(rows)
        share = abs((codes != 0) - (on_cpu != 0)).sum() / codes.nnz
        table.add_row(f"{name} codes", "share that only one of them has", f"{share:.0e}")
        explained = autoencoder.score(rows) - other.score(rows)
        table.add_row(f"{name} autoencoder", "explained variance, less the CPU's", f"{explained:+.4f}")
    return table


def table_of_reading(model, texts):
    """Time extraction on each device."""
    table = table_with("extraction: all layers, float32", "device", "tokens/s", "rows/s", "peak GB")
    for device in device_names():
        begin_peak(device)
        extractor = TransformerFeatureExtractor(model, device=device, batch_size=128)
        seconds, acts = seconds_of(lambda extractor=extractor: extractor.extract(texts), runs=1)
        n_layers = acts.provenance["layer"].nunique()
        rates = (f"{len(acts) / n_layers / seconds:,.0f}", f"{len(acts) / seconds:,.0f}")
        table.add_row(device, *rates, peak_of(device))
    return table


def real_rows(model, texts, sizes):
    """Return hidden states of all layers, in random order, and those of two layers of each token side by side."""
    acts = TransformerFeatureExtractor(model, batch_size=128).extract(texts)
    rng = np.random.default_rng(0)
    rows = acts.X[rng.permutation(len(acts.X))[: sizes.coded + sizes.learned_from]]
    layer = acts.provenance["layer"].to_numpy()
    last = layer.max()
    wide = np.concatenate(
        [
            np.concatenate([acts.X[layer == one], acts.X[layer == other]], axis=1)
            for one, other in ((last - 1, last), (last // 2, last // 2 + 1))
        ]
    )
    return rows, wide[rng.permutation(len(wide))]


def table_of_dictionaries(rows, sizes):
    """Time learning and coding on each device."""
    held_out, learned_from = rows[: sizes.coded], rows[sizes.coded :]
    table = table_with(
        f"SparseDictionary, {rows.shape[1]} features, float32, batch_size=2048, "
        f"{len(learned_from):,} rows learned from (tol=1e-2) and {len(held_out):,} coded (tol=1e-4)",
        *("factors", "alpha", "device", "learned rows/s", "explained", "L0", "coded rows/s", "worst gap", "peak GB"),
    )
    for n_components, alpha in sizes.problems:
        for device in device_names():
            begin_peak(device)
            dictionary = SparseDictionary(
                n_components, alpha=alpha, max_iter=1, tol=1e-2, random_state=0, device=device, batch_size=2048
            )
            learning, _ = seconds_of(lambda dictionary=dictionary: dictionary.fit(learned_from), runs=1)
            table.add_row(
                f"{n_components:,}",
                f"{alpha:g}",
                device,
                f"{len(learned_from) / learning:,.0f}",
                *cells_of_coding(dictionary.set_params(tol=1e-4), held_out, sizes),
                peak_of(device),
            )
        table.add_section()
    return table


def cells_of_coding(dictionary, rows, sizes):
    """Time coding; return explained variance, L0, rows a second and the worst gap."""
    seconds, codes = seconds_of(lambda: dictionary.transform(rows), sizes.runs)
    gap = dictionary.duality_gap(rows, codes).max()
    score = dictionary.score(rows[: sizes.coded])
    return f"{score:.3f}", f"{codes.nnz / len(rows):.1f}", f"{len(rows) / seconds:,.0f}", f"{gap:.0e}"


def table_of_wide_codes(wide, sizes):
    """Time exact codes of rows of two layers side by side."""
    rows = wide[: sizes.wide_coded]
    table = table_with(
        f"exact codes: {wide.shape[1]} features, {sizes.wide_factors:,} factors, alpha {sizes.wide_alpha:g}, "
        f"{len(rows):,} rows, tol=1e-4",
        *("device", "explained", "L0", "coded rows/s", "worst gap", "peak GB"),
    )
    settings = {"alpha": sizes.wide_alpha, "max_iter": 1, "tol": 1e-2, "random_state": 0, "batch_size": 2048}
    dictionary = SparseDictionary(sizes.wide_factors, device=device_names()[0], **settings)
    dictionary.fit(wide[: sizes.learned_from])
    for device in device_names():
        begin_peak(device)
        dictionary.set_params(device=device, tol=1e-4)
        n_rows = len(rows) if device == "cuda" else sizes.coded
        table.add_row(device, *cells_of_coding(dictionary, rows[:n_rows], sizes), peak_of(device))
    return table


def table_of_autoencoders(wide, sizes):
    """Time the learning of autoencoders on each device: what comes before the first step, and the steps."""
    rows, held_out = wide[: sizes.rows_of_latents], wide[-sizes.compared :]
    table = table_with(
        f"SparseAutoencoder, {wide.shape[1]} features, {sizes.latents:,} latents, n_nonzero_coefs=32, "
        f"{len(rows):,} rows",
        *("device", "activation", "dtype", "batch", "start s", "steps rows/s", "explained", "L0", "peak GB"),
    )
    settings = {"cuda": sizes.autoencoders, "cpu": sizes.autoencoders_on_cpu}
    for device, activation, dtype, batch_size in ((name, *of) for name in device_names() for of in settings[name]):
        begin_peak(device)
        of = {"activation": activation, "dtype": dtype, "batch_size": batch_size, "n_nonzero_coefs": 32}
        model = SparseAutoencoder(sizes.latents, random_state=0, device=device, **of)
        start = time.perf_counter()
        model.partial_fit(rows[: sizes.latents])
        begun = time.perf_counter()
        learned_from = rows if device == "cuda" else rows[: sizes.latents]
        model.partial_fit(learned_from)
        seconds = time.perf_counter() - begun
        codes = model.transform(held_out)
        rate = len(learned_from) / seconds
        started = begun - start - sizes.latents / rate
        l0, explained = codes.nnz / len(held_out), model.score(held_out)
        figures = (f"{started:.1f}", f"{rate:,.0f}", f"{explained:.3f}", f"{l0:.1f}", peak_of(device))
        table.add_row(device, activation, dtype, f"{batch_size:,}", *figures)
    return table


def profile_of(work):
    """Say where the time of work on the GPU goes."""
    from torch.profiler import ProfilerActivity, profile

    work()
    with profile(activities=[ProfilerActivity.CPU, ProfilerActivity.CUDA]) as seen:
        work()
    return seen.key_averages().table(sort_by="self_cuda_time_total", row_limit=20, max_name_column_width=50)


def profiles(rows, wide, sizes):
    """Yield where the time goes when a dictionary learns and codes, and when an autoencoder learns."""
    settings = {"max_iter": 1, "tol": 1e-2, "random_state": 0, "batch_size": 2048}
    dictionary = SparseDictionary(1536, alpha=0.55, **settings)
    yield "learning a dictionary", profile_of(lambda: dictionary.fit(rows))
    yield "coding", profile_of(lambda: dictionary.set_params(tol=1e-4).transform(rows))
    for activation, dtype, batch_size in sizes.autoencoders:
        of = {"activation": activation, "dtype": dtype, "batch_size": batch_size, "n_nonzero_coefs": 32}
        model = SparseAutoencoder(sizes.latents, dict_init="random", random_state=0, **of)
        steps = wide[: 16 * batch_size]
        yield f"steps of {activation}, {dtype}, {batch_size}", profile_of(lambda: model.partial_fit(steps))


def main(arguments=None):
    """Print the tables."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", help="a folder; the demo model by default")
    parser.add_argument("--texts", type=Path, help="a file, one document per line; Wikipedia articles by default")
    parser.add_argument("--small", action="store_true", help="run through all of it quickly")
    parser.add_argument("--profile", action="store_true", help="show where the time on the GPU goes, and nothing else")
    parser.add_argument("--tables", nargs="+", help="some of the tables alone: differences reading dictionaries ...")
    options = parser.parse_args(arguments)
    warnings.simplefilter("ignore", ConvergenceWarning)
    sizes = SMALL if options.small else Sizes()
    model = options.model or demo_model()
    texts = options.texts.read_text().splitlines() if options.texts else load_wikipedia()
    texts = [text[:8000] for text in texts]
    texts = texts[: 1 + np.searchsorted(np.cumsum([len(text) for text in texts]), sizes.characters)]
    console = Console(width=140)
    console.print(machine())
    if torch.cuda.is_available():
        console.print(torch.cuda.get_device_name(), f"torch {torch.__version__}")
    began = time.perf_counter()
    rows, wide = real_rows(model, texts, sizes)
    if options.profile:
        for name, table in profiles(rows, wide, sizes):
            print(name, table, sep="\n")
        return
    tables = {
        "differences": lambda: table_of_differences(model, texts, rows[: sizes.compared], sizes),
        "reading": lambda: table_of_reading(model, texts),
        "dictionaries": lambda: table_of_dictionaries(rows, sizes),
        "wide": lambda: table_of_wide_codes(wide, sizes),
        "autoencoders": lambda: table_of_autoencoders(wide, sizes),
    }
    for name in options.tables or tables:
        console.print(tables[name]())
    console.print(f"{time.perf_counter() - began:.0f} s in all")


if __name__ == "__main__":
    main()
