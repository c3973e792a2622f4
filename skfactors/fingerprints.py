"""Digests of what decides a result: equal for equal content, whatever type it comes in, and different otherwise."""

import hashlib
import json
from collections.abc import Mapping, Sequence, Set
from functools import partial
from numbers import Integral, Real
from os import PathLike, fspath

import numpy as np
import scipy.sparse
from sklearn.base import BaseEstimator

# Attributes of estimators that decide no number.
_SAY_NOTHING_OF_OUTPUT = {"feature_names_in_", "n_features_in_", "n_jobs", "verbose"}


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


def name_of(thing) -> str:
    """Return the full name of a class or function."""
    return f"{thing.__module__}.{getattr(thing, '__qualname__', type(thing).__qualname__)}"


def fitted_state(estimator) -> dict:
    """Return the parameters of an estimator and all that it has learned, private parts included, by name."""
    parameters = estimator.get_params(deep=False) if hasattr(estimator, "get_params") else {}
    return {
        name: value
        for name, value in (parameters | vars(estimator)).items()
        if name not in _SAY_NOTHING_OF_OUTPUT and not name.startswith("_sklearn")
    }


def _described(value):
    if value is None or isinstance(value, (bool, str)):
        return value
    if isinstance(value, (Integral, np.bool_)):
        return bool(value) if isinstance(value, np.bool_) else int(value)
    if isinstance(value, Real):
        # 1 and 1.0 are one parameter.
        return int(value) if float(value).is_integer() else ["float", float(value).hex()]
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
        return ["estimator", name_of(type(value)), _described(fitted_state(value))]
    if isinstance(value, type) or callable(value):
        return _described_function(value)
    if scipy.sparse.issparse(value):
        csr = scipy.sparse.csr_array(value)
        return ["sparse", list(csr.shape), *(_described(part) for part in (csr.indptr, csr.indices, csr.data))]
    if isinstance(value, Sequence):
        return ["sequence", [_described(item) for item in value]]
    return _described_array(value)


def _described_function(function):
    """Describe a function by its name; one without a name that can be imported by what it does, too."""
    if isinstance(function, partial):
        return ["partial", *(_described(part) for part in (function.func, function.args, function.keywords))]
    description = ["name", name_of(function)]
    code = getattr(function, "__code__", None)
    if code is None or "<" not in description[1]:
        return description
    cells = [cell.cell_contents for cell in function.__closure__ or ()]
    return [*description, _described_code(code), _described([function.__defaults__, function.__kwdefaults__, cells])]


def _described_code(code) -> list:
    constants = [_described_code(one) if hasattr(one, "co_code") else repr(one) for one in code.co_consts]
    return [code.co_code.hex(), list(code.co_names), constants]


def _described_array(value):
    """Describe a NumPy array, and whatever becomes one: DataFrames, Series, tensors."""
    if hasattr(value, "detach"):
        value = value.detach().cpu()
        value = value.float().numpy() if value.element_size() == 2 else value.numpy()
    if not isinstance(value, np.ndarray):
        if not hasattr(value, "__array__"):
            raise TypeError(f"no fingerprint can be made of {type(value).__name__}: pass an array, a number or a str.")
        value = np.asarray(value)
    if value.dtype == object:
        return ["objects", list(value.shape), [_described(item) for item in value.ravel().tolist()]]
    value = np.ascontiguousarray(value, dtype=value.dtype.newbyteorder("="))
    return ["array", list(value.shape), value.dtype.str, hashlib.sha256(value).hexdigest()]
