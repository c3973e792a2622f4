"""The metrics as scorers, for `scoring=` in searches and cross-validation.

A scorer is called as ``scorer(estimator, X, y=None)``. The estimator is a fitted dictionary, that is, a FactorModel or
another estimator with `transform`, `inverse_transform` and `components_`, or it is a
:class:`~sklearn.pipeline.Pipeline` that ends in one. A pipeline whose steps can all be undone (`inverse_transform`),
such as scalers, is scored on the rows that it is given. Where a step cannot be undone, as one that reads texts, the
score is about the rows that reach the dictionary, however many rows a text has.

In scikit-learn a greater score is a better one. Where the metric itself is better when smaller, the scorer returns
it negated and says so. Matching compares two dictionaries, so :func:`~skfactors.metrics.factor_match` has no scorer.
"""

from sklearn.pipeline import make_pipeline
from sklearn.utils import get_tags

from skfactors.dictionaries.adapters import as_factor_model, reconstruction_of, steps_of
from skfactors.metrics.bits import description_length
from skfactors.metrics.reconstruction import explained_variance
from skfactors.metrics.sparsity import dead_fraction, density, l0
from skfactors.output import as_array, with_plain_output


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
        :func:`~skfactors.metrics.explained_variance` of the rows as the dictionary reconstructs them.

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
    rows, model = _rows_and_model(estimator, X)
    return explained_variance(rows, model.reconstruct(rows))


def l0_scorer(estimator, X, y=None) -> float:
    """Return the negated mean number of active factors per row.

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
    return -l0(_codes(estimator, X))


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
    return -float(density(_codes(estimator, X)).mean())


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
    return -dead_fraction(_codes(estimator, X))


def description_length_scorer(estimator, X, y=None) -> float:
    """Return the negated bits per row that it takes to send the rows through their factors.

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
    rows, model = _rows_and_model(estimator, X)
    codes = model.transform(rows)
    return -description_length(rows, codes, model.components_, reconstruction=reconstruction_of(model, rows, codes))


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

    Notes
    -----
    In a pipeline, penalty and objective are those of the rows that reach the dictionary, after every step.

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
    # It brings torch and the compiled solvers along.
    from skfactors.metrics.amortization import amortization_gap

    rows, model = _rows_and_model(estimator, X, alone=True)
    dictionary = steps_of(estimator)[-1]
    if not hasattr(dictionary, "alpha"):
        raise TypeError(f"{type(dictionary).__name__} has no penalty alpha that its codes could be judged by.")
    return -amortization_gap(
        rows,
        model.transform(rows),
        model.components_,
        dictionary.alpha_ if dictionary.alpha == "auto" else dictionary.alpha,
        positive=getattr(dictionary, "positive_code", True),
        intercept=model.intercept_,
    )


SCORERS = {
    "explained_variance": explained_variance_scorer,
    "l0": l0_scorer,
    "density": density_scorer,
    "dead_fraction": dead_fraction_scorer,
    "description_length": description_length_scorer,
    "amortization_gap": amortization_gap_scorer,
}


def _codes(estimator, X):
    rows, model = _rows_and_model(estimator, X)
    return model.transform(rows)


def _rows_and_model(estimator, X, *, alone=False):
    """Return the rows that a score is about, and the model that codes them: with the steps before it, or `alone`."""
    *before, last = steps_of(estimator)
    if not alone and all(map(_can_be_undone, before)):
        return X, as_factor_model(make_pipeline(*before, last))
    model = as_factor_model(last)
    for step in before:
        X = as_array(with_plain_output(step).transform(X))
    return X, model


def _can_be_undone(step) -> bool:
    # Vectorizers have an inverse_transform that gives words.
    return hasattr(step, "inverse_transform") and get_tags(step).input_tags.two_d_array
