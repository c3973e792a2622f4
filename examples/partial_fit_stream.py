"""
Learn from a stream
===================

Texts of any number, hidden states never all in memory: `iter_extract` reads a generator part by part, and `partial_fit`
learns from each part once. The held-out score shows the dictionary growing better.
"""

from rich.console import Console

from skfactors import SparseDictionary, TransformerFeatureExtractor
from skfactors.datasets import demo_model, load_wikipedia


def stream(articles):
    """Yield paragraphs one by one, as a file, a queue or a data set would."""
    for article in articles:
        yield from (paragraph for paragraph in article.split("\n\n") if len(paragraph) > 200)


console = Console()
articles = load_wikipedia(16)
extractor = TransformerFeatureExtractor(demo_model(), layers=[2, 4, 6])
held_out = extractor.extract([article[:1000] for article in articles[12:]])

dictionary = SparseDictionary(256, random_state=0)
for acts in extractor.iter_extract(stream(articles[:12]), max_rows=20_000):
    dictionary.partial_fit(acts, sample_weight=acts.sample_weight)
    last = dictionary.history_[-1]
    console.print(
        f"after {int(acts.provenance['document'].iloc[-1]) + 1:4d} paragraphs, {dictionary.n_steps_:3d} steps: "
        f"held-out explained variance {dictionary.score(held_out):.3f}, L0 {last['l0']:.1f}",
        highlight=False,
    )
