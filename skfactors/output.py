"""Rows as the pandas frame that `set_output` asks for, where scikit-learn cannot know the index."""

import pandas as pd
from sklearn.utils._set_output import _get_output_config


def framed(estimator, X, texts, places=None):
    """
    Put rows into a DataFrame if the estimator's output is set to pandas.

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
