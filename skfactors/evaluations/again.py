"""Whether a dictionary is learned again from another seed, or from other rows."""

import numpy as np
import pandas as pd
from scipy.optimize import linear_sum_assignment
from sklearn.base import clone
from sklearn.cluster import MiniBatchKMeans
from sklearn.metrics.pairwise import cosine_similarity
from sklearn.utils import check_array

from skfactors.compose import weights_for
from skfactors.dictionaries import as_factor_model
from skfactors.dictionaries.adapters import steps_of
from skfactors.dictionaries.predicting import PredictorMixin
from skfactors.dictionaries.rows import check_weight
from skfactors.evaluations.figures import DICTIONARY, K_MEANS, Figures
from skfactors.evaluations.frozen import has_signs
from skfactors.metrics import factor_match

_ALIKE = 0.9
_ROWS_CODED = 4096


def stability(dictionary, X, *, sample_weight=None, n_resamples=1000, random_state=0) -> pd.DataFrame:
    """
    Tell how many factors come back when a dictionary is learned again, from another seed and from other rows.

    Parameters
    ----------
    dictionary : FactorModel or estimator
        Fitted or not: copies of it are fitted, with seeds of their own. It, or a step of a pipeline, has a parameter
        `random_state`.
    X : array-like of shape (n_rows, n_features)
        Rows to learn from, in the order of their texts, so that the halves are of different texts.
    sample_weight : array-like of shape (n_rows,), default=None
        Weights of the rows, if the dictionary is learned with some.
    n_resamples : int, default=1000
        Of the bootstrap for intervals, over pairs of factors.
    random_state : int, default=0
        The first seed; the second is the next number. Either half has its own, too.

    Returns
    -------
    DataFrame
        Columns as :func:`ground_truth` has them. Two fits are matched factor by factor; measures are the mean cosine of
        the pairs, of signed codes the mean absolute one, and the share above 0.9, between two seeds on all rows
        (`cosine_seeds`, `above_0.9_seeds`) and between the halves of the rows (`cosine_halves`, `above_0.9_halves`).
        Controls are "k-means", the directions of as many centres of clusters, and "random factors".

    Raises
    ------
    TypeError, ValueError
        If there are too few rows, or they have another width than those that the dictionary was fitted to; or it has no
        `random_state`, begins with components that are given, which would come back whatever it learns, or is a
        transcoder, which is learned from pairs of rows.

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
    seeds_of(dictionary)
    n_features = getattr(dictionary, "n_features_in_", None)
    X = check_array(X, dtype=(np.float32, np.float64), ensure_min_samples=4)
    if n_features not in (None, X.shape[1]):
        raise ValueError(
            f"The dictionary was learned from rows of {n_features} features, and X has {X.shape[1]}: it would learn "
            "something else."
        )
    weights = check_weight(None if sample_weight is None else np.asarray(sample_weight[:]), X)
    every, first_half, second_half = slice(None), slice(len(X) // 2), slice(len(X) // 2, None)
    figures = Figures(n_resamples, random_state)
    # With one seed, what a fit begins with would come back, whatever it learns.
    for name, parts in {"seeds": (every, every), "halves": (first_half, second_half)}.items():
        sets = [(X[part], weights[part], random_state + number) for number, part in enumerate(parts)]
        fits = [_learned(dictionary, *of) for of in sets]
        learned, n_components = [fit.components_ for fit in fits], len(fits[0].components_)
        match = _match_of_signed if has_signs(fits[0].transform(X[:_ROWS_CODED])) else _match
        centres = [_centres(n_components, *of) for of in sets]
        random = np.random.default_rng(random_state).standard_normal((2, n_components, X.shape[1]))
        for scored, of in {DICTIONARY: learned, K_MEANS: centres, "random factors": random}.items():
            cosines = match(*of)
            figures.add(f"cosine_{name}", scored, cosines)
            figures.add(f"above_{_ALIKE}_{name}", scored, cosines > _ALIKE)
    return figures.table()


def seeds_of(dictionary) -> list[str]:
    """
    List the parameters that seed a dictionary, or steps of a pipeline.

    Raises
    ------
    TypeError, ValueError
        If there is none, the dictionary begins with components that are given, or it is learned from more than rows.
    """
    if any(isinstance(step, PredictorMixin) for step in steps_of(dictionary)):
        raise TypeError("a transcoder is learned from pairs of rows, and here there are rows of one place only.")
    names = _named(dictionary, "random_state")
    if not names:
        raise ValueError(f"{type(dictionary).__name__} has no random_state: there is no other seed to learn from.")
    given = [name for name in _named(dictionary, "dict_init") if np.ndim(dictionary.get_params()[name])]
    if given:
        raise ValueError(
            f"{given[0]} has components to begin with, which would come back whatever is learned: leave it out."
        )
    return names


def _named(dictionary, parameter) -> list[str]:
    """List what a parameter is called in a dictionary, or in steps of a pipeline."""
    return [name for name in dictionary.get_params() if name.split("__")[-1] == parameter]


def _learned(dictionary, X, weights, seed):
    again = clone(dictionary).set_params(
        **dict.fromkeys(seeds_of(dictionary), seed), **dict.fromkeys(_named(dictionary, "checkpoint_dir"))
    )
    return as_factor_model(again.fit(X, **weights_for(again, weights)))


def _match(first, second) -> np.ndarray:
    """Return the cosine of each pair of factors."""
    return factor_match(first, second, return_matching=True)[3]


def _match_of_signed(first, second) -> np.ndarray:
    """Return the absolute cosine of each pair of factors, of which a direction and its opposite are one."""
    cosines = np.abs(cosine_similarity(first, second))
    return cosines[linear_sum_assignment(cosines, maximize=True)]


def _centres(n_clusters, X, weights, seed):
    kmeans = MiniBatchKMeans(n_clusters, n_init=1, random_state=seed)
    return kmeans.fit(X - X.mean(axis=0, dtype=np.float64), sample_weight=weights).cluster_centers_
