"""The metrics as scorers, for `scoring=` in searches and cross-validation.

A scorer is called as ``scorer(estimator, X, y=None)``. The estimator is a fitted dictionary, that is, it has
`transform`, `inverse_transform` and `components_`, or it is a :class:`~sklearn.pipeline.Pipeline` that ends in one.
In a pipeline `X` passes through the steps before the dictionary first, and the rows that come out are what the
score is about: a pipeline that reads texts is scored on their hidden states, however many rows a text has.

In scikit-learn a greater score is a better one. Where the metric itself is better when smaller, the scorer returns
it negated and says so. Matching compares two dictionaries, so :func:`~skfactors.metrics.factor_match` has no scorer.
"""

from typing import Any, NamedTuple

from sklearn.pipeline import Pipeline
from sklearn.utils.validation import check_is_fitted

from skfactors.metrics.amortization import amortization_gap
from skfactors.metrics.description_length import description_length
from skfactors.metrics.reconstruction import explained_variance
from skfactors.metrics.sparsity import dead_fraction, density, l0


def explained_variance_scorer(estimator, X, y=None) -> float:
    """Return the explained variance of the rows that the dictionary codes.

    Parameters
    ----------
    estimator : estimator
        Fitted dictionary, or a pipeline that ends in one.
    X : array-like or list of texts
        What `estimator` transforms.
    y : None
        Ignored.

    Returns
    -------
    float
        :func:`~skfactors.metrics.explained_variance` of what `inverse_transform` makes of the codes.

    Raises
    ------
    TypeError
        If the last estimator is not a dictionary.

    Examples
    --------
    >>> import numpy as np
    >>> from skfactors import SparseDictionary
    >>> from skfactors.metrics import explained_variance_scorer
    >>> X = np.tile(np.eye(3), (20, 1))
    >>> dictionary = SparseDictionary(3, alpha=0.1, random_state=0).fit(X)
    >>> round(explained_variance_scorer(dictionary, X), 3)
    0.985
    """
    coded = _code(estimator, X)
    return explained_variance(coded.rows, coded.dictionary.inverse_transform(coded.codes))


def l0_scorer(estimator, X, y=None) -> float:
    """Return the negated mean number of active factors a row.

    Parameters
    ----------
    estimator : estimator
        Fitted dictionary, or a pipeline that ends in one.
    X : array-like or list of texts
        What `estimator` transforms.
    y : None
        Ignored.

    Returns
    -------
    float
        Minus :func:`~skfactors.metrics.l0` of the codes: greater is sparser.

    Raises
    ------
    TypeError
        If the last estimator is not a dictionary.

    Examples
    --------
    >>> import numpy as np
    >>> from skfactors import SparseDictionary
    >>> from skfactors.metrics import l0_scorer
    >>> X = np.tile(np.eye(3), (20, 1))
    >>> dictionary = SparseDictionary(3, alpha=0.1, random_state=0).fit(X)
    >>> l0_scorer(dictionary, X)
    -1.0
    """
    return -l0(_code(estimator, X).codes)


def density_scorer(estimator, X, y=None) -> float:
    """Return the negated share of rows in which a factor is active, averaged over the factors.

    Parameters
    ----------
    estimator : estimator
        Fitted dictionary, or a pipeline that ends in one.
    X : array-like or list of texts
        What `estimator` transforms.
    y : None
        Ignored.

    Returns
    -------
    float
        Minus the mean :func:`~skfactors.metrics.density`: greater is sparser.

    Raises
    ------
    TypeError
        If the last estimator is not a dictionary.

    Examples
    --------
    >>> import numpy as np
    >>> from skfactors import SparseDictionary
    >>> from skfactors.metrics import density_scorer
    >>> X = np.tile(np.eye(3), (20, 1))
    >>> dictionary = SparseDictionary(3, alpha=0.1, random_state=0).fit(X)
    >>> round(density_scorer(dictionary, X), 3)
    -0.333
    """
    return -float(density(_code(estimator, X).codes).mean())


def dead_fraction_scorer(estimator, X, y=None) -> float:
    """Return the negated share of factors that are active in none of the rows.

    Parameters
    ----------
    estimator : estimator
        Fitted dictionary, or a pipeline that ends in one.
    X : array-like or list of texts
        What `estimator` transforms.
    y : None
        Ignored.

    Returns
    -------
    float
        Minus :func:`~skfactors.metrics.dead_fraction` of the codes: greater means fewer idle factors.

    Raises
    ------
    TypeError
        If the last estimator is not a dictionary.

    Examples
    --------
    >>> import numpy as np
    >>> from skfactors import SparseDictionary
    >>> from skfactors.metrics import dead_fraction_scorer
    >>> X = np.tile(np.eye(3), (20, 1))
    >>> dictionary = SparseDictionary(3, alpha=0.1, random_state=0).fit(X)
    >>> round(dead_fraction_scorer(dictionary, X[:2]), 3)
    -0.333
    """
    return -dead_fraction(_code(estimator, X).codes)


def description_length_scorer(estimator, X, y=None) -> float:
    """Return the negated bits a row that it takes to send the rows through their factors.

    Parameters
    ----------
    estimator : estimator
        Fitted dictionary whose `inverse_transform` is ``codes @ components_``, or a pipeline that ends in one.
    X : array-like or list of texts
        What `estimator` transforms.
    y : None
        Ignored.

    Returns
    -------
    float
        Minus :func:`~skfactors.metrics.description_length` at its default precision: greater is shorter.

    Raises
    ------
    TypeError
        If the last estimator is not a dictionary.

    Examples
    --------
    >>> import numpy as np
    >>> from skfactors import SparseDictionary
    >>> from skfactors.metrics import description_length_scorer
    >>> X = np.tile(np.eye(3), (20, 1))
    >>> dictionary = SparseDictionary(3, alpha=0.1, random_state=0).fit(X)
    >>> round(description_length_scorer(dictionary, X), 1)
    -15.6
    """
    coded = _code(estimator, X)
    return -description_length(coded.rows, coded.codes, coded.dictionary.components_)


def amortization_gap_scorer(estimator, X, y=None) -> float:
    """Return the negated share by which the objective of the codes exceeds that of the best codes.

    Parameters
    ----------
    estimator : estimator
        Fitted dictionary with parameters `alpha` and, if codes may be negative, ``positive_code=False``; or a pipeline
        that ends in one.
    X : array-like or list of texts
        What `estimator` transforms.
    y : None
        Ignored.

    Returns
    -------
    float
        Minus :func:`~skfactors.metrics.amortization_gap`: 0 where codes are exact.

    Raises
    ------
    TypeError
        If the last estimator is not a dictionary, or has no `alpha`.

    Examples
    --------
    >>> import numpy as np
    >>> from skfactors import SparseDictionary
    >>> from skfactors.metrics import amortization_gap_scorer
    >>> X = np.tile(np.eye(3), (20, 1))
    >>> dictionary = SparseDictionary(3, alpha=0.1, random_state=0).fit(X)
    >>> abs(round(amortization_gap_scorer(dictionary, X), 3))
    0.0
    """
    coded = _code(estimator, X)
    dictionary = coded.dictionary
    if not hasattr(dictionary, "alpha"):
        raise TypeError(f"{type(dictionary).__name__} has no penalty alpha that its codes could be judged by.")
    positive = getattr(dictionary, "positive_code", True)
    return -amortization_gap(coded.rows, coded.codes, dictionary.components_, dictionary.alpha, positive=positive)


SCORERS = {
    "explained_variance": explained_variance_scorer,
    "l0": l0_scorer,
    "density": density_scorer,
    "dead_fraction": dead_fraction_scorer,
    "description_length": description_length_scorer,
    "amortization_gap": amortization_gap_scorer,
}


class _Coded(NamedTuple):
    """Rows, the dictionary that codes them, and the codes."""

    rows: Any
    dictionary: Any
    codes: Any


def _code(estimator, X):
    """Find the dictionary at the end of `estimator`, the rows that reach it, and their codes."""
    rows, dictionary = X, estimator
    while isinstance(dictionary, Pipeline):
        if len(dictionary) > 1:
            rows = dictionary[:-1].transform(rows)
        dictionary = dictionary[-1]
    _require_dictionary(dictionary)
    return _Coded(rows, dictionary, dictionary.transform(rows))


def _require_dictionary(dictionary):
    lacking = [name for name in ("transform", "inverse_transform", "components_") if not hasattr(dictionary, name)]
    if lacking == ["components_"]:
        check_is_fitted(dictionary)
    if lacking:
        raise TypeError(
            f"{type(dictionary).__name__} has no {' and no '.join(lacking)}; score a dictionary, such as "
            "SparseDictionary, or a pipeline whose last step is one."
        )
