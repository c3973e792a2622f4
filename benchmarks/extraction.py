"""
Word pieces per second: the extractor, a bare loop over the same windows, and the padded loop that people write.

``python -m benchmarks.extraction``, on texts of mixed length.
"""

import time

import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from transformers import AutoModel, AutoTokenizer

from benchmarks.coding import machine
from skfactors import TransformerFeatureExtractor
from skfactors.datasets import demo_model, load_topics, load_wikipedia
from skfactors.extraction.sites import SITES

MAX_LENGTH, BATCH_SIZE, RUNS = 128, 32, 5


def mixed_texts():
    """Return headlines and first paragraphs of news, and pieces of articles up to a window long, in no order."""
    rng = np.random.default_rng(0)
    news = [part for article in load_topics().data[::7] for part in article.split("\n\n")[:2]]
    pieces = [article[: int(rng.integers(40, 700))] for article in load_wikipedia(104)]
    texts = news + pieces
    return [texts[place] for place in rng.permutation(len(texts))]


def padded_loop(model, tokenizer, texts):
    """Pad every batch to its longest text, in the order of the texts."""
    n_tokens = 0
    for start in range(0, len(texts), BATCH_SIZE):
        batch = texts[start : start + BATCH_SIZE]
        inputs = tokenizer(batch, padding=True, truncation=True, max_length=MAX_LENGTH, return_tensors="pt")
        with torch.no_grad():
            states = torch.stack(model(**inputs, output_hidden_states=True).hidden_states)
        kept = inputs["attention_mask"].bool()
        n_tokens += len(states[:, kept].reshape(-1, states.shape[-1]).numpy()) // len(states)
    return n_tokens


def bare_loop(model, windows, rows=None):
    """Run the model over windows sorted by length, and keep nothing, or all hidden states in an array of rows."""
    by_length, n_kept = sorted(windows, key=len, reverse=True), 0
    for start in range(0, len(by_length), BATCH_SIZE):
        batch = by_length[start : start + BATCH_SIZE]
        input_ids = torch.zeros(len(batch), max(map(len, batch)), dtype=torch.long)
        mask = torch.zeros_like(input_ids)
        for row, window in enumerate(batch):
            input_ids[row, : len(window)], mask[row, : len(window)] = torch.tensor(window), 1
        with torch.inference_mode():
            states = model(input_ids=input_ids, attention_mask=mask, output_hidden_states=True).hidden_states
        if rows is not None:
            for of_layer in states:
                kept = of_layer[mask.bool()].numpy()
                rows[n_kept : n_kept + len(kept)] = kept
                n_kept += len(kept)
        del states


def main():
    """Print the table."""
    console = Console(width=110)
    console.print(machine())
    texts, path = mixed_texts(), str(demo_model())
    model, tokenizer = AutoModel.from_pretrained(path).eval(), AutoTokenizer.from_pretrained(path)
    windows = tokenizer(texts, truncation=True, max_length=MAX_LENGTH)["input_ids"]
    texts = [text for text, window in zip(texts, windows, strict=True) if len(window) < MAX_LENGTH]
    windows = [window for window in windows if len(window) < MAX_LENGTH]
    n_tokens = sum(map(len, windows))
    shape = (n_tokens * (model.config.num_hidden_layers + 1), model.config.hidden_size)
    extractor = TransformerFeatureExtractor(path, max_length=MAX_LENGTH, batch_size=BATCH_SIZE)
    of_sites = TransformerFeatureExtractor(
        path, site=list(SITES[1:]), layers=[1, 4], max_length=MAX_LENGTH, batch_size=BATCH_SIZE
    )
    ways = {
        "bare loop, the same windows by length": lambda: bare_loop(model, windows),
        # What the memory of the result costs alone: on some virtual machines touching it takes longer than filling it.
        "bare loop that keeps the rows": lambda: bare_loop(model, windows, np.empty(shape, dtype=np.float32)),
        "TransformerFeatureExtractor.extract": lambda: extractor.extract(texts),
        "the same, of six sites in two layers": lambda: of_sites.extract(texts),
        "padded loop, in order": lambda: padded_loop(model, tokenizer, texts),
    }
    for run in ways.values():
        run()
    # In turn, so that a slow minute of the machine is everybody's.
    seconds = {name: [] for name in ways}
    for _ in range(RUNS):
        for name, run in ways.items():
            start = time.perf_counter()
            run()
            seconds[name].append(time.perf_counter() - start)
    table = Table(title=f"{len(texts):,} texts of {min(map(len, windows))} to {max(map(len, windows))} word pieces")
    for heading in ("way", "word pieces/s", "of the bare loop's time", "extract takes"):
        table.add_column(heading, justify="left" if heading == "way" else "right")
    bare, ours = np.median(next(iter(seconds.values()))), np.median(seconds["TransformerFeatureExtractor.extract"])
    for name, times in seconds.items():
        taken = np.median(times)
        table.add_row(name, f"{n_tokens / taken:,.0f}", f"{taken / bare:.2f}", f"{ours / taken:.2f} x its time")
    console.print(table)


if __name__ == "__main__":
    main()
