"""Codes and reconstructions of rows, for whatever reads a dictionary: plain arrays, each row coded once."""

import numpy as np
from scipy.sparse import issparse
from sklearn import config_context

from skfactors.dictionaries.adapters import OtherModel, PipelineModel
from skfactors.dictionaries.base import FactorModel


def codes_of(model, X):
    """
    Code rows, whatever output scikit-learn is set to.

    Parameters
    ----------
    model : FactorModel, PipelineModel or OtherModel
        As :func:`~skfactors.dictionaries.adapters.as_factor_model` returns it.
    X : ndarray of shape (n_rows, n_features)

    Returns
    -------
    sparse array or ndarray of shape (n_rows, n_components)
    """
    with config_context(transform_output="default"):
        codes = model.transform(X)
    return codes if issparse(codes) else np.asarray(codes)


def reconstruction_of(model, X, codes):
    """
    Reconstruct rows whose codes are known, without coding them again where codes are all that decides it.

    Parameters
    ----------
    model : FactorModel, PipelineModel or OtherModel
    X : ndarray of shape (n_rows, n_features)
    codes : sparse array or ndarray of shape (n_rows, n_components)
        Those of X.

    Returns
    -------
    ndarray of shape (n_rows, n_features)
    """
    with config_context(transform_output="default"):
        return model.inverse_transform(codes) if _codes_suffice(model) else model.reconstruct(X)


def _codes_suffice(model) -> bool:
    """Return whether `reconstruct` is nothing but codes and then `inverse_transform`."""
    if isinstance(model, PipelineModel):
        return _codes_suffice(model.model)
    return type(model).reconstruct in (FactorModel.reconstruct, OtherModel.reconstruct)
