"""Whether a dictionary is learned again from another seed, or from other rows."""

import numpy as np
import pandas as pd
from sklearn.base import clone
from sklearn.cluster import MiniBatchKMeans
from sklearn.utils import check_array

from skfactors.dictionaries import as_factor_model
from skfactors.evaluations.figures import DICTIONARY, Figures
from skfactors.metrics import factor_match

_ALIKE = 0.9


def stability(dictionary, X, *, n_resamples=1000, random_state=0) -> pd.DataFrame:
    """
    Tell how many factors come back when a dictionary is learned again, from another seed and from other rows.

    Parameters
    ----------
    dictionary : FactorModel or estimator
        Fitted or not: copies of it are fitted, with seeds of their own. It has a parameter `random_state`.
    X : array-like of shape (n_rows, n_features)
        Rows to learn from, in the order of their texts, so that the halves are of different texts.
    n_resamples : int, default=1000
        Of the bootstrap for intervals, over pairs of factors.
    random_state : int, default=0
        The first seed; the second is the next number.

    Returns
    -------
    DataFrame
        Columns as :func:`ground_truth` has them. Two fits are matched factor by factor; measures are the mean cosine of
        the pairs and the share above 0.9, between two seeds on all rows (`cosine_seeds`, `above_0.9_seeds`) and between
        the halves of the rows (`cosine_halves`, `above_0.9_halves`). Controls are "k-means", the directions of as many
        centres of clusters, and "random factors".

    Raises
    ------
    ValueError
        If there are too few rows, or the dictionary has no `random_state`.

    See Also
    --------
    skfactors.metrics.factor_match : Matches two dictionaries.

    Examples
    --------
    >>> import numpy as np
    >>> from skfactors import SparseDictionary
    >>> from skfactors.evaluations import stability
    >>> X = np.random.default_rng(0).random((200, 6))
    >>> table = stability(SparseDictionary(n_components=8, n_nonzero_coefs=2), X, n_resamples=100)
    >>> table["scored"].unique().tolist()
    ['dictionary', 'k-means', 'random factors']
    """
    if "random_state" not in dictionary.get_params():
        raise ValueError(f"{type(dictionary).__name__} has no random_state: there is no other seed to learn from.")
    X = check_array(X, dtype=(np.float32, np.float64), ensure_min_samples=4)
    half, seeds = len(X) // 2, (random_state, random_state + 1)
    pairs = {"seeds": ((X, seeds[0]), (X, seeds[1])), "halves": ((X[:half], seeds[0]), (X[half:], seeds[0]))}
    figures = Figures(n_resamples, random_state)
    for name, (first, second) in pairs.items():
        learned = [_components(dictionary, rows, seed) for rows, seed in (first, second)]
        n_components = len(learned[0])
        centres = [_centres(n_components, rows, seed) for rows, seed in (first, second)]
        random = np.random.default_rng(random_state).standard_normal((2, n_components, X.shape[1]))
        for scored, of in {DICTIONARY: learned, "k-means": centres, "random factors": random}.items():
            cosines = factor_match(*of, return_matching=True)[3]
            figures.add(f"cosine_{name}", scored, cosines)
            figures.add(f"above_{_ALIKE}_{name}", scored, cosines > _ALIKE)
    return figures.table()


def _components(dictionary, X, seed):
    return as_factor_model(clone(dictionary).set_params(random_state=seed).fit(X)).components_


def _centres(n_clusters, X, seed):
    kmeans = MiniBatchKMeans(n_clusters, n_init=1, random_state=seed)
    return kmeans.fit(X - X.mean(axis=0)).cluster_centers_
