"""
The explorer of large reports: how large their files are, how long they take to write, and how soon they can be read.

``python -m benchmarks.explorer``; times in the browser where Chromium is installed. The texts are Wikipedia's.
Where the factors fire is drawn at random, so that they share few contexts: a learned dictionary's file is smaller. Most
fire on a word beside as well, so that there are tokens to shade.
"""

import os
import re
import shutil
import tempfile
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
from playwright.sync_api import sync_playwright
from rich.console import Console
from rich.table import Table
from scipy import sparse

from benchmarks.coding import machine
from skfactors import FactorReport
from skfactors.datasets import load_wikipedia

K, WIDTH, ENTRIES_A_GROUP, RUNS = 20, 384, 60, 3
MOST_MILLISECONDS = 300_000
# Factors, layers, and the seconds and megabytes that are allowed.
REPORTS = ((2000, range(7), 3, 25), (16_384, range(1), 5, 60))


def large_report(n_factors, layers):
    """Report on factors that fire at random on the words of Wikipedia articles, cut into documents of some words."""
    rng = np.random.default_rng(0)
    articles = load_wikipedia()
    texts = [article[start : start + 2000] for article in articles for start in range(0, len(article), 2000)]
    words = [
        (document, position, *word.span())
        for document, text in enumerate(texts)
        for position, word in enumerate(re.finditer(r"\S+", text))
    ]
    words = pd.DataFrame(words, columns=["document", "position", "start", "end"])
    provenance = pd.concat([words.assign(layer=layer) for layer in layers], ignore_index=True)
    n_entries = n_factors * ENTRIES_A_GROUP * len(layers)
    rows, factors = rng.integers(len(provenance), size=n_entries), rng.integers(n_factors, size=n_entries)
    beside = np.minimum(rows + rng.integers(1, 4, size=n_entries), len(provenance) - 1)
    places = np.concatenate([rows, beside]), np.tile(factors, 2)
    codes = sparse.csr_array((rng.gamma(2, size=2 * n_entries), places), shape=(len(provenance), n_factors))
    acts = SimpleNamespace(provenance=provenance, texts=texts, X=np.zeros((1, WIDTH)))
    return FactorReport.from_codes(codes, acts, k=K)


def seconds_in_browser(path, browser):
    """Return the seconds from opening a page to its first factor with contexts, and to a search through all texts."""
    # Else the page's policy forbids to ask again and again whether its texts are folded.
    page = browser.new_page(bypass_csp=True)
    start = time.perf_counter()
    page.goto(path.as_uri(), wait_until="commit")
    page.wait_for_selector("main[aria-busy=false]", timeout=MOST_MILLISECONDS)
    first_view = time.perf_counter() - start
    # A search through all contexts is possible once their texts are folded.
    page.fill("[name=query]", "philosophy")
    page.wait_for_function("found.texts !== null", timeout=MOST_MILLISECONDS)
    search_ready = time.perf_counter() - start
    version = browser.version
    page.close()
    return first_view, search_ready, version


def browser_times(path):
    """Return the times of several openings and the browser's version; None where there is no browser."""
    executable = shutil.which("chromium") or shutil.which("google-chrome")
    if executable is None:
        return None
    arguments = ["--no-sandbox"] if hasattr(os, "geteuid") and os.geteuid() == 0 else []
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=executable, args=arguments)
        times = [seconds_in_browser(path, browser) for _ in range(RUNS)]
        browser.close()
    return times


def main():
    """Print a table for each report."""
    console = Console(width=110)
    console.print(machine())
    for n_factors, layers, seconds_allowed, megabytes_allowed in REPORTS:
        report = large_report(n_factors, layers)
        contexts = len(report.top_contexts()) + len(report.sampled_contexts().query("draw <= 2"))
        shaded = len(report.token_activations())
        table = Table(title=f"{report!r}; {contexts:,} contexts; {shaded:,} shaded tokens beside the strongest")
        for heading in ("", "measured", "allowed"):
            table.add_column(heading, justify="right" if heading else "left")
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "factors.html"
            start = time.perf_counter()
            report.to_html(path, layout=np.random.default_rng(0).normal(size=(n_factors, 2)))
            table.add_row("writing the file", f"{time.perf_counter() - start:.1f} s", "")
            table.add_row("size of the file", f"{path.stat().st_size / 1e6:.1f} MB", f"{megabytes_allowed} MB")
            times = browser_times(path)
        if times is None:
            console.print("No Chromium is installed: times in the browser are not measured.")
        else:
            for place, what in enumerate(("first view", "search through all contexts")):
                seconds = [run[place] for run in times]
                allowed = f"{seconds_allowed} s" if place == 0 else ""
                table.add_row(f"{what}, Chromium {times[0][2]}", ", ".join(f"{run:.2f} s" for run in seconds), allowed)
        console.print(table)


if __name__ == "__main__":
    main()
