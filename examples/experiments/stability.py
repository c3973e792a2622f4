"""
Are the same factors found again?
=================================

A dictionary is learned three times: twice on one half of the corpus with different seeds, and once on the other half,
with yet another seed.
The factors of two runs are paired as well as they can be; the table has the mean cosine of the pairs and the share of
pairs above 0.9. The same for the centres of k-means and for the decoder of a TopK autoencoder, as many of each, and
for random directions, whose cosines are what chance and pairing alone achieve.

    python examples/experiments/stability.py

Non-negative matrix factorisation, the remaining classic, does not apply: hidden states are signed.
"""

import numpy as np
import pandas as pd
import torch
from common import learn_dictionary, make_extractor, make_parser, print_table, read_halves, sample_rows, save_figure
from sklearn.cluster import MiniBatchKMeans

from skfactors.metrics import factor_match, l0

ALIKE = 0.9
N_EPOCHS = 4


class TopKAutoencoder(torch.nn.Module):
    """
    An autoencoder that keeps the k largest activations of a row.

    Parameters
    ----------
    X : Tensor of shape (n_rows, n_features)
        Rows whose mean is subtracted first.
    n_components, k : int
    """

    def __init__(self, X, n_components, k):
        super().__init__()
        self.k = k
        self.center = torch.nn.Parameter(X.mean(0))
        self.decoder = torch.nn.Parameter(torch.nn.functional.normalize(torch.randn(n_components, X.shape[1])))
        self.encoder = torch.nn.Parameter(self.decoder.detach().clone())

    def forward(self, X):
        """Reconstruct rows."""
        largest = ((X - self.center) @ self.encoder.T).topk(self.k)
        codes = torch.zeros(len(X), len(self.encoder)).scatter(1, largest.indices, largest.values.relu())
        return self.center + codes @ self.decoder


def train_autoencoder(X, n_components, k, *, seed=0, n_epochs=N_EPOCHS, batch_size=512, learning_rate=2e-3):
    """
    Train a TopK autoencoder.

    Parameters
    ----------
    X : ndarray of shape (n_rows, n_features)
    n_components, k, seed, n_epochs, batch_size : int
    learning_rate : float

    Returns
    -------
    ndarray of shape (n_components, n_features)
        The decoder's directions.
    """
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        X = torch.tensor(X)
        model = TopKAutoencoder(X, n_components, k)
        optimizer = torch.optim.Adam(model.parameters(), lr=learning_rate)
        for _ in range(n_epochs):
            for rows in torch.randperm(len(X)).split(batch_size):
                optimizer.zero_grad()
                (model(X[rows]) - X[rows]).square().sum(1).mean().backward()
                optimizer.step()
                with torch.no_grad():
                    model.decoder.copy_(torch.nn.functional.normalize(model.decoder))
    return model.decoder.detach().numpy()


def compare(name, learn, first, second):
    """
    Learn on the first half with two seeds and on the second half with a third, and match what was found.

    Parameters
    ----------
    name : str
    learn : callable
        From `(rows, seed)` to directions, an ndarray of shape (n_components, n_features).
    first, second : object
        What `learn` takes as rows.

    Returns
    -------
    dict
        A row of the table.
    cosines : list of ndarray
        Of the pairs: between seeds, and between halves.
    """
    reference = learn(first, 0)
    cosines = [factor_match(reference, other, return_matching=True)[3] for other in (learn(first, 1), learn(second, 2))]
    row = {"what": name}
    for comparison, values in zip(("seeds", "halves"), cosines, strict=True):
        row[f"two {comparison}: mean cosine"] = float(values.mean())
        row[f"share above {ALIKE} ({comparison})"] = float((values > ALIKE).mean())
    return row, cosines


def main():
    """Compare seeds and halves of every method."""
    parser = make_parser("Stability.")
    parser.set_defaults(n_components=512, n_rows=60_000)
    arguments = parser.parse_args()
    extractor = make_extractor(arguments)
    first, second = (sample_rows(extractor, half, arguments.n_rows) for half in read_halves(arguments))
    X, sample_weight = first
    n_components = min(arguments.n_components, len(X), len(second[0]))
    mean = X.mean(axis=0)
    k = max(1, round(l0(learn_dictionary(*first, arguments).transform(X[:2000]))))
    print(f"{len(X):,} rows in each half, {(X < 0).mean():.0%} of their entries negative; {k} active factors per row")

    def centers(rows, seed):
        return MiniBatchKMeans(n_components, random_state=seed, batch_size=4096, n_init=1).fit(rows[0]).cluster_centers_

    methods = {
        "SparseDictionary": lambda rows, seed: (
            learn_dictionary(*rows, arguments, seed=seed, n_epochs=N_EPOCHS).components_
        ),
        "k-means, centres": centers,
        "k-means, centres less the mean": lambda rows, seed: centers(rows, seed) - mean,
        "TopK autoencoder": lambda rows, seed: train_autoencoder(rows[0], n_components, k, seed=seed),
        "random directions": lambda _, seed: np.random.default_rng(seed).standard_normal((n_components, X.shape[1])),
    }
    results = {name: compare(name, learn, first, second) for name, learn in methods.items()}
    print_table(f"{n_components} factors found again", pd.DataFrame([row for row, _ in results.values()]))

    def draw(figure):
        for axes, number, title in zip(
            figure.subplots(1, 2, sharey=True), (0, 1), ("two seeds", "two halves"), strict=True
        ):
            for name, (_, cosines) in results.items():
                axes.plot(np.linspace(0, 1, n_components), np.sort(cosines[number])[::-1], label=name)
            axes.axhline(ALIKE, color="gray", linewidth=0.5)
            axes.set(title=title, xlabel="share of pairs", ylabel="cosine at least")
        axes.legend(loc="upper left", bbox_to_anchor=(1, 1))

    save_figure(arguments, "stability", draw, figsize=(10, 4))


if __name__ == "__main__":
    main()
