"""Rows as the pandas frame that `set_output` asks for, where scikit-learn cannot know the index."""

import pandas as pd
from sklearn.utils._set_output import _get_output_config


def framed(estimator, X, texts, provenance=None):
    """
    Put rows into a DataFrame if the estimator's output is set to pandas.

    Parameters
    ----------
    estimator : transformer
    X : ndarray of shape (n_rows, n_features)
    texts : iterable of str
        What the rows were made of. The index of a Series names the documents.
    provenance : DataFrame of length n_rows, default=None
        Columns `document`, `layer` and `position`; without it, there is a row for each text.

    Returns
    -------
    ndarray or DataFrame of shape (n_rows, n_features)
    """
    if _get_output_config("transform", estimator)["dense"] != "pandas":
        return X
    names = texts.index if isinstance(texts, pd.Series) else None
    if provenance is None:
        return pd.DataFrame(X, index=names, columns=estimator.get_feature_names_out())
    index = provenance[["document", "layer", "position"]]
    if names is not None:
        index = index.assign(document=names.to_numpy()[index["document"]])
    return pd.DataFrame(X, index=pd.MultiIndex.from_frame(index), columns=estimator.get_feature_names_out())
