"""
What the experiments share
==========================

The command line, a corpus in two halves, a dictionary learned on one of them and kept in a folder, and tables and
figures.
"""

import argparse
import hashlib
import json
from copy import copy
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from rich.box import MARKDOWN
from rich.console import Console
from rich.table import Table

from skfactors import FactorReport, SparseDictionary, TransformerFeatureExtractor
from skfactors.datasets import demo_model, load_wikipedia
from skfactors.metrics import l0

CHARACTERS_A_DOCUMENT = 8_000
WIDEST_TABLE = 400


def make_parser(description, *, one_dictionary=True):
    """
    Make a parser of the arguments that experiments share.

    Parameters
    ----------
    description : str
    one_dictionary : bool, default=True
        Whether there is one dictionary, whose size and penalty are arguments.

    Returns
    -------
    argparse.ArgumentParser
    """
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--model", help="name on the Hugging Face hub or local folder (default: the demo model)")
    parser.add_argument("--texts", type=Path, help="text file, one document per line (default: Wikipedia articles)")
    if one_dictionary:
        parser.add_argument("--n-components", type=int, default=2048, help="number of factors (default: %(default)s)")
        parser.add_argument(
            "--penalty",
            type=float,
            default=0.1,
            help="sparsity penalty as a share of the root mean square length of a hidden state (default: %(default)s)",
        )
    parser.add_argument(
        "--n-rows", type=int, default=150_000, help="hidden states to learn from (default: %(default)s)"
    )
    parser.add_argument("--out", type=Path, default=Path("experiments"), help="folder (default: %(default)s)")
    return parser


def make_extractor(arguments, layers="all"):
    """
    Open the model that the arguments name.

    Parameters
    ----------
    arguments : argparse.Namespace
    layers : "all", int or list of int, default="all"

    Returns
    -------
    TransformerFeatureExtractor
    """
    return TransformerFeatureExtractor(arguments.model or demo_model(), layers=layers)


def read_halves(arguments):
    """
    Read the corpus and deal its documents out, one to this half, the next to the other.

    Parameters
    ----------
    arguments : argparse.Namespace

    Returns
    -------
    first, second : list of str
        The opening of each document, at most 8,000 characters of it.
    """
    if arguments.texts is None:
        documents = load_wikipedia()
    else:
        documents = [line for line in arguments.texts.read_text(encoding="utf-8").splitlines() if line.strip()]
    openings = [document[:CHARACTERS_A_DOCUMENT] for document in documents]
    return openings[::2], openings[1::2]


def sample_rows(extractor, texts, n_rows, seed=0):
    """
    Extract hidden states and keep some of them, chosen at random from all layers alike.

    Parameters
    ----------
    extractor : TransformerFeatureExtractor
    texts : list of str
    n_rows : int
        How many to keep; all, if there are no more.
    seed : int, default=0

    Returns
    -------
    X : ndarray of shape (n_kept, hidden_size)
    sample_weight : ndarray of shape (n_kept,)
        1/√count of the token in all the texts.
    """
    acts = extractor.extract(texts)
    chosen = np.random.default_rng(seed).permutation(len(acts))[:n_rows]
    return acts.X[chosen], acts.sample_weight[chosen]


def typical_length(X):
    """Return the root mean square length of the rows of X."""
    return float(np.sqrt(np.mean(np.square(X, dtype=np.float64).sum(axis=1))))


def learn_dictionary(X, sample_weight, arguments, *, penalty=None, seed=0, n_epochs=1):
    """
    Learn factors of rows, with a penalty in units of their length.

    Parameters
    ----------
    X : ndarray of shape (n_rows, hidden_size)
    sample_weight : ndarray of shape (n_rows,)
    arguments : argparse.Namespace
    penalty : float, default=None
        Other than ``arguments.penalty``.
    seed : int, default=0
    n_epochs : int, default=1

    Returns
    -------
    SparseDictionary
    """
    penalty = arguments.penalty if penalty is None else penalty
    dictionary = SparseDictionary(
        min(arguments.n_components, len(X)), alpha=penalty * typical_length(X), max_iter=n_epochs, random_state=seed
    )
    return dictionary.fit(X, sample_weight=sample_weight)


def kept_dictionary(arguments, extractor, texts, *, penalty=None, seed=0, sample=sample_rows):
    """
    Learn a dictionary on texts, or load it if an earlier run with the same settings has.

    Parameters
    ----------
    arguments : argparse.Namespace
    extractor : TransformerFeatureExtractor
    texts : list of str
    penalty, seed
        As in :func:`learn_dictionary`.
    sample : callable, default=sample_rows
        Stands in for :func:`sample_rows`, for callers that learn several dictionaries of the same rows.

    Returns
    -------
    SparseDictionary

    Notes
    -----
    It is kept in ``arguments.out / "dictionaries"``, in a folder named by what it was learned from and how.
    """
    settings = {
        "model": extractor.model,
        "layers": str(extractor.layers),
        "texts": texts,
        "n_components": arguments.n_components,
        "n_rows": arguments.n_rows,
        "penalty": arguments.penalty if penalty is None else penalty,
        "seed": seed,
    }
    folder = arguments.out / "dictionaries" / digest(json.dumps(settings))
    if folder.exists():
        return SparseDictionary.load(folder)
    rows = sample(extractor, texts, arguments.n_rows)
    dictionary = learn_dictionary(*rows, arguments, penalty=penalty, seed=seed)
    folder.parent.mkdir(parents=True, exist_ok=True)
    dictionary.save(folder)
    return dictionary


def random_dictionary(dictionary, X, seed=0):
    """
    Make a dictionary of random directions, as large as another and as sparse on the same rows.

    Parameters
    ----------
    dictionary : SparseDictionary
    X : ndarray of shape (n_rows, hidden_size)
    seed : int, default=0

    Returns
    -------
    SparseDictionary
        Its `alpha` is the one, found by bisection, at which it has as many active factors per row.
    """
    directions = np.random.default_rng(seed).standard_normal(dictionary.components_.shape)
    random = copy(dictionary)
    random.components_ = (directions / np.linalg.norm(directions, axis=1, keepdims=True)).astype(np.float32)
    wanted = l0(dictionary.transform(X))
    lower, upper = 1e-3 * dictionary.alpha, 10 * dictionary.alpha
    for _ in range(10):
        random.alpha = float(np.sqrt(lower * upper))
        if l0(random.transform(X)) > wanted:
            lower = random.alpha
        else:
            upper = random.alpha
    return random


def kept_report(arguments, extractor, dictionary, texts, **settings):
    """
    Report on factors, or load the report if an earlier run has made it.

    Parameters
    ----------
    arguments : argparse.Namespace
    extractor : TransformerFeatureExtractor
    dictionary : SparseDictionary
    texts : list of str
    **settings
        Of :meth:`FactorReport.from_texts`.

    Returns
    -------
    FactorReport
    """
    content = [digest(dictionary.components_), dictionary.alpha, extractor.model, extractor.max_length, texts, settings]
    folder = arguments.out / "reports" / digest(json.dumps(content))
    if folder.exists():
        return FactorReport.load(folder)
    report = FactorReport.from_texts(extractor, dictionary, texts, **settings)
    report.save(folder)
    return report


def digest(content):
    """Return a short name for a text or an array."""
    content = content.encode() if isinstance(content, str) else np.ascontiguousarray(content).tobytes()
    return hashlib.sha256(content).hexdigest()[:16]


def print_table(title, frame, decimals=2):
    """
    Print a table in Markdown.

    Parameters
    ----------
    title : str
    frame : DataFrame
        Its index is left out.
    decimals : int, default=2
        Of floats; NaN is an empty cell.
    """
    table = Table(box=MARKDOWN)
    for name, column in frame.items():
        table.add_column(str(name), justify="right" if column.dtype.kind in "iuf" else "left", no_wrap=True)
    for row in frame.itertuples(index=False):
        table.add_row(*(cell_text(value, decimals) for value in row))
    console = Console(width=WIDEST_TABLE, markup=False, highlight=False)
    console.print(f"{title}:")
    console.print(table)


def cell_text(value, decimals=2):
    """Write a value as a table shows it."""
    if isinstance(value, (float, np.floating)):
        return "" if np.isnan(value) else f"{value:.{decimals}f}"
    return f"{value:,}" if isinstance(value, (int, np.integer)) else str(value)


def save_figure(arguments, name, draw, **size):
    """
    Draw a figure and write it as PNG, where matplotlib is installed.

    Parameters
    ----------
    arguments : argparse.Namespace
    name : str
        Of the file, without its ending.
    draw : callable
        Takes the figure.
    **size
        `figsize` of the figure.
    """
    if find_spec("matplotlib") is None:
        print("matplotlib is not installed, so there is no figure.")
        return
    from matplotlib.figure import Figure

    figure = Figure(layout="constrained", **size)
    draw(figure)
    arguments.out.mkdir(parents=True, exist_ok=True)
    path = arguments.out / f"{name}.png"
    figure.savefig(path, dpi=100)
    print(f"The figure is {path}")


def of_layer(acts, layer):
    """Return the rows of one layer as Activations."""
    return acts[(acts.provenance["layer"] == layer).to_numpy()]
