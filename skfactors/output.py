"""Output as `set_output` and `set_config` ask for it, and without regard to them where the package reads its own."""

import pandas as pd
from sklearn.utils._set_output import _get_output_config


def framed(estimator, X, texts, places=None):
    """
    Put rows into a DataFrame if the estimator's output is set to pandas, where scikit-learn cannot know the index.

    Parameters
    ----------
    estimator : transformer
    X : ndarray of shape (n_rows, n_features)
    texts : iterable of str
        What the rows were made of. The index of a Series names the documents.
    places : DataFrame of length n_rows, default=None
        What becomes the index, with a column `document`; without it, there is a row for each text.

    Returns
    -------
    ndarray or DataFrame of shape (n_rows, n_features)
    """
    if _get_output_config("transform", estimator)["dense"] != "pandas":
        return X
    names = texts.index if isinstance(texts, pd.Series) else None
    if places is None:
        return pd.DataFrame(X, index=names, columns=estimator.get_feature_names_out())
    if names is not None:
        places = places.assign(document=names.to_numpy()[places["document"]])
    return pd.DataFrame(X, index=pd.MultiIndex.from_frame(places), columns=estimator.get_feature_names_out())


def with_plain_output(estimator):
    """
    Return an estimator whose `transform` gives arrays, whatever output is asked of this one.

    Parameters
    ----------
    estimator : transformer

    Returns
    -------
    transformer
        The same, or a copy that shares everything with it except for the output.
    """
    if _get_output_config("transform", estimator)["dense"] == "default":
        return estimator
    plain = twin_of(estimator)
    plain._sklearn_output_config = {"transform": "default"}
    return plain


def twin_of(estimator):
    """Return another object of an estimator's class that shares its attributes, open models included."""
    twin = object.__new__(type(estimator))
    vars(twin).update(vars(estimator))
    return twin


def as_array(values):
    """Return an array, dense or sparse, where a transformer may have made a DataFrame."""
    return values.to_numpy() if hasattr(values, "to_numpy") else values


def without_feature_names(estimator):
    """Return a twin of an estimator that has not learned names of features, and so does not ask arrays for them."""
    twin = twin_of(estimator)
    vars(twin).pop("feature_names_in_", None)
    return twin
