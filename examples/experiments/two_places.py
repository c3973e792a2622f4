"""
What one place in a model says of another, and what finetuning has changed
==========================================================================

A transcoder predicts what an MLP writes from what it reads; beside it stand ridge regression, which is dense and
linear, and an autoencoder of what is written, which sees it. A crosscoder of a model and its finetuned twin tells the
factors that both have from those of one alone, by latent scaling. As a control stands a pair that differs in nothing
but noise: the model itself, twice.

    python examples/experiments/two_places.py
"""

import argparse

import numpy as np
import pandas as pd
from sklearn.linear_model import Ridge

from skfactors import Crosscoder, SparseAutoencoder, Transcoder, TransformerFeatureExtractor
from skfactors.datasets import demo_model, demo_model_pair, load_topics
from skfactors.metrics import explained_variance

NOISE = 0.1


def rows_of(model, texts, layer, sites="hidden_states"):
    """Return the rows of each site of a layer, the same tokens in the same order."""
    extractor = TransformerFeatureExtractor(model, layers=[layer], site=sites)
    activations = extractor.extract(texts)
    named = [sites] if isinstance(sites, str) else sites
    return [np.asarray(activations.at(site=site, layer=layer)) for site in named]


def halves(rows):
    """Split rows into those to learn from and those to measure on: whole texts, as they come in order."""
    n_learned_from = len(rows) * 3 // 4
    return rows[:n_learned_from], rows[n_learned_from:]


def of_an_mlp(texts, options):
    """Tabulate how much of what an MLP writes is told by what it reads."""
    read, written = rows_of(demo_model(), texts, options.layer, ["mlp_input", "mlp_output"])
    (X, held_out), (Y, wanted) = halves(read), halves(written)
    settings = {"n_components": options.n_components, "max_iter": options.max_iter, "random_state": 0}
    predicted = Ridge(1.0).fit(X, Y).predict(held_out)
    rows = [("ridge regression, dense", explained_variance(wanted, predicted), np.nan)]
    for name, model in {
        "Transcoder": Transcoder(**settings),
        "Transcoder, with a skip": Transcoder(**settings, skip=True),
    }.items():
        model.fit(X, Y)
        rows.append((name, model.score(held_out, wanted), model.transform(held_out).nnz / len(held_out)))
    model = SparseAutoencoder(**settings).fit(Y)
    rows.append(
        ("SparseAutoencoder of what is written", model.score(wanted), model.transform(wanted).nnz / len(wanted))
    )
    return pd.DataFrame(rows, columns=["model", "R²", "codes a token"])


def of_a_pair(texts, options):
    """Tabulate which factors of two models are of one alone."""
    base, finetuned = (rows_of(model, texts, options.pair_layer)[0] for model in demo_model_pair())
    rng = np.random.default_rng(0)
    noise = NOISE * np.sqrt(((base - base.mean(0)) ** 2).mean())
    twice = [base + noise * rng.standard_normal(base.shape).astype(base.dtype) for _ in range(2)]
    rows = []
    for name, pair in {"model and finetuned twin": (base, finetuned), "model twice, with noise": twice}.items():
        X, held_out = halves(np.hstack(pair))
        for seed in (0, 1):
            crosscoder = Crosscoder(options.n_components, n_sites=2, max_iter=options.max_iter, random_state=seed).fit(
                X
            )
            table = crosscoder.latent_scaling(held_out)
            active = np.unique(crosscoder.transform(held_out).indices)
            of_one = table[table.specificity > 0.5]
            by_norm = table[(table.site != table.own_site) & (table.relative_norm < 0.5) & table.factor.isin(active)]
            counts = [int((of_one.site == site).sum()) for site in (0, 1)]
            rows.append(
                (name, seed, crosscoder.score(held_out), len(active), *counts, len(active) - sum(counts), len(by_norm))
            )
    columns = ["pair", "seed", "R²", "active factors", "of the first", "of the second", "shared", "of one by norm"]
    return pd.DataFrame(rows, columns=columns)


def main():
    """Print both tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--n-texts", type=int, default=800, help="news articles to read the first paragraph of")
    parser.add_argument("--n-components", type=int, default=1024, help="factors")
    parser.add_argument("--max-iter", type=int, default=5, help="epochs")
    parser.add_argument("--layer", type=int, default=4, help="whose MLP is taken apart")
    parser.add_argument("--pair-layer", type=int, default=10, help="in which the two models are compared")
    options = parser.parse_args()
    articles = np.random.default_rng(0).permutation(np.array(load_topics().data, dtype=object))
    # What comes after the headline says what the article is about.
    texts = [article.split("\n\n")[1] for article in articles[: options.n_texts]]
    for title, tabulate in {"An MLP": of_an_mlp, "A pair of models": of_a_pair}.items():
        print(
            f"\n{title}\n\n{tabulate(texts, options).to_string(index=False, float_format='{:.3f}'.format)}", flush=True
        )


if __name__ == "__main__":
    main()
