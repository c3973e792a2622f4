"""
Factors of first letters and of articles in SmolLM2, learned with exact codes and with an encoder, beside controls.

``python -m benchmarks.absorption`` takes some ten minutes of CPU time, most of it the language model's.
"""

import argparse

from rich.console import Console

from benchmarks.coding import machine
from skfactors import SparseAutoencoder, SparseDictionary, TransformerFeatureExtractor
from skfactors.datasets import demo_language_model, load_wikipedia
from skfactors.evaluations import absorption, frozen_control, targeted_perturbation

LAYER, N_NONZERO_COEFS = 3, 16
N_ARTICLES, N_CLASSES, N_PASSAGES, N_CHARACTERS = 60, 8, 20, 400


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--n-components", type=int, default=2048, help="factors (%(default)s)")
    parser.add_argument("--learned-from", type=int, default=44, help="articles (%(default)s)")
    parser.add_argument("--asked-about", type=int, default=N_ARTICLES, help="articles (%(default)s)")
    arguments = parser.parse_args()
    Console().print(machine())
    articles = load_wikipedia(N_ARTICLES + arguments.learned_from)
    extractor = TransformerFeatureExtractor(
        demo_language_model(), site="block_output", layers=[LAYER], drop_outliers=10, verbose=True
    )
    rows = extractor.extract([article[:3500] for article in articles[N_ARTICLES:]]).X
    how = {"n_nonzero_coefs": N_NONZERO_COEFS, "random_state": 0, "verbose": True}
    dictionary = SparseDictionary(arguments.n_components, **how).fit(rows)
    autoencoder = SparseAutoencoder(arguments.n_components, **how).fit(rows)
    controls = {
        "autoencoder": autoencoder,
        "frozen decoder": frozen_control(autoencoder, rows),
        "random factors": None,
        "hidden dimensions": None,
    }
    asked = articles[: arguments.asked_about]
    openings = [article[:1500] for article in asked]
    print(absorption(extractor, dictionary, openings, controls=controls).to_string(index=False))
    long_enough = [article for article in asked if len(article) >= N_PASSAGES * N_CHARACTERS][:N_CLASSES]
    starts = range(0, N_PASSAGES * N_CHARACTERS, N_CHARACTERS)
    passages = [article[start : start + N_CHARACTERS] for article in long_enough for start in starts]
    labels = [number for number in range(len(long_enough)) for _ in starts]
    print(targeted_perturbation(extractor, dictionary, passages, labels, controls=controls).to_string(index=False))


if __name__ == "__main__":
    main()
