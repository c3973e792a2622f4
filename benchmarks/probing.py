"""
113 binary questions about texts, answered by a few factors, and by what is no dictionary.

``python -m benchmarks.probing [--model FOLDER --layer 4] [--tasks FOLDER] [--texts FILE]``; by default a layer of
MPNet, the tasks of the package sae-probes and Wikipedia articles. A folder of tasks has files .csv or .csv.gz with
columns prompt and target, a file of texts one document per line. Two dictionaries of as many factors and as many active
ones learn from one half of the documents; random factors start from the mean of some of the other half. Tasks come in
random order, and each is kept in a file in ``--out``: a run that was stopped goes on, and ``--minutes`` stops one.
``--small`` runs through all of it in some seconds.
"""

import argparse
import itertools
import json
import sys
import time
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
from joblib import Parallel, delayed
from rich.console import Console
from rich.table import Table

from benchmarks.coding import machine
from skfactors import FactorModel, SparseAutoencoder, SparseDictionary, TransformerFeatureExtractor
from skfactors.datasets import demo_wide_encoder, load_probing_tasks, load_wikipedia
from skfactors.evaluations.figures import DICTIONARY, DIFFERENCE
from skfactors.evaluations.probing import Probing, check_tasks, table_of_scores
from skfactors.metrics import explained_variance, l0

K, N_RESAMPLES, N_CONTROL_TEXTS = (1, 2, 5, 16), 1000, 40
LEARNED = {"SparseDictionary": SparseDictionary, "SparseAutoencoder": SparseAutoencoder}


def parsed():
    """Return the arguments."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", help="a folder (default: MPNet)")
    parser.add_argument("--layer", type=int, default=4)
    parser.add_argument("--tasks", type=Path, help="a folder (default: the package's)")
    parser.add_argument("--texts", type=Path, help="a file (default: Wikipedia)")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--out", type=Path, default=Path("probing"), help="a folder (default: %(default)s)")
    parser.add_argument("--n-components", type=int, default=4096)
    parser.add_argument("--n-nonzero-coefs", type=int, default=16)
    parser.add_argument("--n-rows", type=int, default=100_000, help="to learn from (default: %(default)s)")
    parser.add_argument("--epochs", type=int, default=1, help="of the dictionary (default: %(default)s)")
    parser.add_argument("--autoencoder-epochs", type=int, default=4)
    parser.add_argument(
        "--n-train", type=int, default=1024, help="texts of a task to learn from (default: %(default)s)"
    )
    parser.add_argument("--n-test", type=int, default=1024, help="texts of a task to score on (default: %(default)s)")
    parser.add_argument("--characters", type=int, default=256, help="of a text that are read (default: %(default)s)")
    parser.add_argument("--pooling", default="mean")
    parser.add_argument("--minutes", type=float, default=float("inf"), help="after which no task is begun")
    parser.add_argument("--jobs", type=int, default=1, help="processes that fit probes (default: %(default)s)")
    parser.add_argument("--small", action="store_true")
    options = parser.parse_args()
    if options.small:
        options.n_components, options.n_nonzero_coefs, options.n_rows, options.layer = 32, 4, 1000, 1
        options.autoencoder_epochs = 1
    return options


def read_texts(options):
    """Return documents to learn from and others."""
    if options.small:
        texts = [f"The {thing} is {number} years old, and so is the house." for number in range(60) for thing in "abc"]
    elif options.texts is None:
        texts = load_wikipedia()
    else:
        texts = [line for line in options.texts.read_text(encoding="utf-8").splitlines() if line.strip()]
    return texts[::2], [text[:1000] for text in texts[1::2]][:N_CONTROL_TEXTS]


def read_tasks(options):
    """Return tasks in random order, their texts cut short, by name."""
    if options.small:
        pairs = itertools.combinations(("river", "bank", "left", "park"), 2)
        labels = np.repeat([0, 1], 20)
        tasks = {
            " or ".join(pair): ([f"The {word} of {n}." for word in pair for n in range(20)], labels) for pair in pairs
        }
    elif options.tasks is None:
        tasks = load_probing_tasks()
    else:
        read = partial(pd.read_csv, dtype={"prompt": str}, keep_default_na=False)
        tables = {file.name.partition(".csv")[0]: read(file) for file in sorted(options.tasks.glob("*.csv*"))}
        tasks = {name: (table["prompt"].tolist(), table["target"]) for name, table in tables.items()}
    names = np.random.default_rng(0).permutation(list(tasks)).tolist()
    cut = {name: ([text[: options.characters] for text in tasks[name][0]], tasks[name][1]) for name in names}
    return check_tasks(cut, options.n_train, options.n_test, 0)


def learned(options, extractor, texts):
    """Return the dictionaries, learned or, where an earlier run of the same settings has been here, loaded."""
    folders = {name: options.out / name for name in LEARNED}
    if not all(folder.exists() for folder in folders.values()):
        rows = extractor.extract(texts).X
        rows = rows[np.random.default_rng(0).permutation(len(rows))[: options.n_rows]]
        epochs = {"SparseDictionary": options.epochs, "SparseAutoencoder": options.autoencoder_epochs}
        for name, estimator in LEARNED.items():
            settings = {"n_nonzero_coefs": options.n_nonzero_coefs, "max_iter": epochs[name], "device": options.device}
            estimator(options.n_components, random_state=0, **settings).fit(rows).save(folders[name])
    return {name: FactorModel.load(folder).set_params(device=options.device) for name, folder in folders.items()}


def check_settings(options):
    """Refuse a folder that a run of other settings has filled."""
    settings = {name: str(of) for name, of in vars(options).items() if name not in ("out", "device", "jobs", "minutes")}
    options.out.mkdir(parents=True, exist_ok=True)
    file = options.out / "settings.json"
    if not file.exists():
        file.write_text(json.dumps(settings), encoding="utf-8")
    elif json.loads(file.read_text(encoding="utf-8")) != settings:
        sys.exit(f"{file} tells of a run with other settings: give another --out.")


def kept(file, probing, features, task):
    """Score a task, and keep the scores in its file."""
    scores = probing.scores(features, task)
    record = json.dumps([[k, name, score] for (k, name), score in scores.items()])
    file.with_suffix(".part").write_text(record, encoding="utf-8")
    file.with_suffix(".part").replace(file)


def probe_all(options, probing, extractor, coders, tasks):
    """Score the tasks that have no file yet, as far as time allows, and return the scores of all that have one."""
    folder, end = options.out / "tasks", time.monotonic() + 60 * options.minutes
    folder.mkdir(exist_ok=True)
    files = {name: folder / f"{name}.json" for name in tasks}
    left = (name for name in tasks if not files[name].exists())
    Parallel(n_jobs=options.jobs, pre_dispatch="1.5*n_jobs")(
        delayed(kept)(files[name], probing, probing.features(extractor, coders, tasks[name].texts), tasks[name])
        for name in itertools.takewhile(lambda _: time.monotonic() < end, left)
    )
    records = [json.loads(file.read_text(encoding="utf-8")) for file in files.values() if file.exists()]
    return [pd.Series({(k, of): score for k, of, score in record}) for record in records]


def cell(value, low, high, sign=""):
    """Write a figure with its interval."""
    return f"{value:{sign}.3f} ({low:{sign}.3f} to {high:{sign}.3f})"


def print_tables(console, scores, n_tasks):
    """Print AUCs, and for each dictionary what it has more than others, task by task."""
    others = [name for name in scores[0].index.get_level_values(1).unique() if name not in LEARNED]
    figures = {}
    for name in LEARNED:
        own = (of.drop(LEARNED.keys() - {name}, level=1).rename({name: DICTIONARY}, level=1) for of in scores)
        figures[name] = table_of_scores(own, N_RESAMPLES, 0).set_index(["measure", "scored"])
    table = table_with(f"mean AUC over {len(scores)} of {n_tasks} tasks, with 95 % intervals over tasks", "features")
    for name in [*LEARNED, *others]:
        of, row = (figures[name], DICTIONARY) if name in LEARNED else (figures["SparseDictionary"], name)
        table.add_row(name, *(cell(*of.loc[(f"auc_{k}", row), ["value", "low", "high"]]) for k in K))
    console.print(table)
    for name, of in figures.items():
        table = table_with(f"{name}: its AUC less that of others, mean of the tasks' differences", "less that of")
        for other in others:
            table.add_row(other, *(cell(*of.loc[(f"auc_{k}", other), list(DIFFERENCE)], "+") for k in K))
        console.print(table)
        for k in K:
            inside = of.loc[f"auc_{k}", DICTIONARY].inside or "none"
            console.print(f"{name}, k = {k}: its AUC is inside the intervals of: {inside}", soft_wrap=True)


def table_with(title, heading):
    """Return an empty table with a column for each number of features."""
    table = Table(title=title)
    for name in (heading, *(f"k = {k}" for k in K)):
        table.add_column(name, no_wrap=True)
    return table


def main():
    """Print the tables."""
    options, console = parsed(), Console(width=170, highlight=False)
    check_settings(options)
    console.print(machine())
    model = options.model or demo_wide_encoder()
    extractor = TransformerFeatureExtractor(model, layers=[options.layer], device=options.device, batch_size=64)
    tasks, (texts, control_texts) = read_tasks(options), read_texts(options)
    dictionaries = learned(options, extractor, texts)
    rows = extractor.extract(control_texts).X
    console.print(
        f"{Path(model).name}, layer {options.layer}, {rows.shape[1]} wide; {options.n_components:,} factors, learned "
        f"from {options.n_rows:,} rows; at most {options.n_train:,} texts of a task to learn from and "
        f"{options.n_test:,} to score on, {options.characters} characters of each; {options.pooling} over tokens",
        soft_wrap=True,
    )
    for name, dictionary in dictionaries.items():
        codes = dictionary.transform(rows)
        explained = explained_variance(rows, dictionary.inverse_transform(codes))
        console.print(f"{name}: explained variance {explained:.3f}, L0 {l0(codes):.1f}, on {len(rows):,} other rows")
    probing = Probing(None, None, options.pooling, K, 0)
    coders = {name: dictionary.transform for name, dictionary in dictionaries.items()}
    coders |= probing.controls(extractor, dictionaries["SparseDictionary"], control_texts, ["random factors"])
    scores = probe_all(options, probing, extractor, coders, tasks)
    if scores:
        print_tables(console, scores, len(tasks))
    else:
        console.print(f"0 of {len(tasks)} tasks are done.")


if __name__ == "__main__":
    sys.exit(main())
