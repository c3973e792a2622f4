"""
Agreement and cost of the saliency methods, and the levels that follow from them, on the demo model and real text.

``python -m benchmarks.saliency [--contexts 16] [--factors 60]`` takes some minutes on a processor.
"""

import argparse
import itertools
import time

import numpy as np
from rich.console import Console
from rich.table import Table
from scipy.stats import spearmanr

from benchmarks.coding import machine
from skfactors import FactorReport, SparseDictionary, TransformerFeatureExtractor
from skfactors.datasets import demo_model, load_wikipedia
from skfactors.reports import context_span
from skfactors.reports.saliency import iter_saliency

N_COMPONENTS, ALPHA, N_ARTICLES, N_LEARNED_FROM, MAX_LENGTH, N_SAMPLES = 300, 1.0, 60, 25, 34, 1000
EXAMPLES_A_LEVEL = 10


def measured(extractor, dictionary, texts, contexts):
    """Return by run its saliencies by context, and its seconds a context."""
    runs = {"lime": ("lime", 0), "lime, another seed": ("lime", 1), "occlusion": ("occlusion", 0)}
    saliencies, seconds = {}, {}
    for name, (method, seed) in (runs | {"gradient": ("gradient", 0)}).items():
        start = time.perf_counter()
        found = iter_saliency(
            extractor, dictionary, texts, contexts, method=method, n_samples=N_SAMPLES, random_state=seed
        )
        saliencies[name] = dict(found)
        seconds[name] = (time.perf_counter() - start) / len(contexts)
    return saliencies, seconds


def agreement(one, other):
    """Median rank correlation, share of contexts with the same strongest token, and with spans two apart at most."""
    pairs = [(one[number], other[number]) for number in one]
    rank = np.nanmedian([spearmanr(a, b).statistic for a, b in pairs if a.std() and b.std()])
    strongest = np.mean([a.argmax() == b.argmax() for a, b in pairs])
    spans = np.mean([abs(context_span(a) - context_span(b)) <= 2 for a, b in pairs])
    return f"{rank:.2f}", f"{strongest:.0%}", f"{spans:.0%}"


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--contexts", type=int, default=16, help="contexts to compare the methods on")
    parser.add_argument("--factors", type=int, default=60, help="factors to find the levels of")
    arguments = parser.parse_args()
    console = Console()
    console.print(machine())
    texts = [article[:1500] for article in load_wikipedia(N_ARTICLES)]
    extractor = TransformerFeatureExtractor(demo_model(), layers="all", max_length=MAX_LENGTH)
    acts = extractor.extract(texts[:N_LEARNED_FROM])
    dictionary = SparseDictionary(N_COMPONENTS, alpha=ALPHA, random_state=0).fit(acts, sample_weight=acts.sample_weight)
    extractor.set_params(max_length=64)
    report = FactorReport.from_texts(extractor, dictionary, texts)
    summary = report.summary()

    factors = np.random.default_rng(0).permutation(summary.index[summary["peak_layer"].fillna(0) > 0])
    start = time.perf_counter()
    report.add_saliency(factors=factors[: arguments.factors].tolist(), k=2, method="occlusion", verbose=True)
    summary = report.summary().loc[sorted(factors[: arguments.factors])]
    console.print(f"{len(summary)} factors, occlusion in 2 contexts each: {time.perf_counter() - start:.0f} s")
    console.print(
        "spans, by quarters: " + ", ".join(f"{x:g}" for x in summary["span"].quantile([0, 0.25, 0.5, 0.75, 1]))
    )
    for level, share in summary["level"].value_counts(normalize=True).items():
        examples = summary[summary["level"] == level].head(EXAMPLES_A_LEVEL)
        console.print(f"{level}: {share:.0%}")
        for row in examples.itertuples():
            console.print(
                f"  {row.Index:>4}  layer {row.peak_layer}  span {row.span:g}  {row.top_tokens}", markup=False
            )

    extractor.set_params(max_length=MAX_LENGTH)
    contexts = report.top_contexts().query("rank == 1")
    contexts = contexts[contexts["layer"] == contexts["factor"].map(report.summary()["peak_layer"])]
    contexts = contexts[contexts["layer"] > 0].sample(arguments.contexts, random_state=0)
    saliencies, seconds = measured(extractor, dictionary, texts, contexts)
    table = Table(title=f"{len(contexts)} contexts of {MAX_LENGTH - 2} tokens, {N_SAMPLES} samples for LIME")
    for heading in ("methods", "rank correlation", "same strongest token", "spans at most 2 apart"):
        table.add_column(heading)
    for one, other in itertools.combinations(saliencies, 2):
        table.add_row(f"{one} / {other}", *agreement(saliencies[one], saliencies[other]))
    console.print(table)
    for name, taken in seconds.items():
        console.print(f"{name}: {taken:.3f} s a context, 1/{seconds['lime'] / taken:.0f} of LIME's")


if __name__ == "__main__":
    main()
