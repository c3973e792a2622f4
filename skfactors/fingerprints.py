"""Digests of what decides a result: equal for equal content, whatever type it comes in, and different otherwise."""

import hashlib
import json
from collections.abc import Mapping, Sequence, Set
from numbers import Integral, Real
from os import PathLike, fspath

import numpy as np
import scipy.sparse
from sklearn.base import BaseEstimator


def fingerprint(content) -> str:
    """
    Digest content.

    Parameters
    ----------
    content : None, bool, number, str, bytes, path, array, DataFrame, tensor, sparse array, random state or estimator
        Or a mapping, sequence or set of such. What has a `fingerprint` of its own, a method or a string, is told by it.

    Returns
    -------
    str
        32 hexadecimal digits.

    Raises
    ------
    TypeError
        If a part is of another type: what cannot be told apart must not be taken for equal.
    """
    described = json.dumps(_described(content), separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(described.encode()).hexdigest()[:32]


def fitted_state(estimator) -> dict:
    """Return the parameters of an estimator, and its public fitted attributes, by name."""
    fitted = {name: value for name, value in vars(estimator).items() if name.endswith("_") and not name.startswith("_")}
    return estimator.get_params(deep=False) | fitted


def _described(value):
    if value is None or isinstance(value, (bool, str)):
        return value
    if isinstance(value, (Integral, np.bool_)):
        return bool(value) if isinstance(value, np.bool_) else int(value)
    if isinstance(value, Real):
        return ["float", float(value).hex()]
    if isinstance(value, bytes):
        return ["bytes", hashlib.sha256(value).hexdigest()]
    if isinstance(value, PathLike):
        return ["path", fspath(value)]
    if isinstance(value, np.random.RandomState):
        return ["RandomState", _described(list(value.get_state()))]
    own = getattr(value, "fingerprint", None)
    if own is not None and not isinstance(value, type):
        return ["fingerprint", own() if callable(own) else own]
    if isinstance(value, Mapping):
        return ["mapping", sorted(([_described(key), _described(item)] for key, item in value.items()), key=json.dumps)]
    if isinstance(value, Set):
        return ["set", sorted((_described(item) for item in value), key=json.dumps)]
    if isinstance(value, BaseEstimator):
        return ["estimator", type(value).__name__, _described(fitted_state(value))]
    if isinstance(value, type) or callable(value):
        return ["name", f"{value.__module__}.{value.__qualname__}"]
    if scipy.sparse.issparse(value):
        csr = scipy.sparse.csr_array(value)
        return ["sparse", list(csr.shape), *(_described(part) for part in (csr.indptr, csr.indices, csr.data))]
    if isinstance(value, Sequence):
        return ["sequence", [_described(item) for item in value]]
    return _described_array(value)


def _described_array(value):
    """Describe a NumPy array, and whatever becomes one: DataFrames, Series, tensors."""
    if hasattr(value, "detach"):
        value = value.detach().cpu().numpy()
    if not isinstance(value, np.ndarray):
        if not hasattr(value, "__array__"):
            raise TypeError(f"no fingerprint can be made of {type(value).__name__}: pass an array, a number or a str.")
        value = np.asarray(value)
    if value.dtype == object:
        return ["objects", list(value.shape), [_described(item) for item in value.ravel().tolist()]]
    return ["array", list(value.shape), value.dtype.str, hashlib.sha256(np.ascontiguousarray(value)).hexdigest()]
