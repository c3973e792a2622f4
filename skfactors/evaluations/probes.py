"""Linear probes on hidden states, and what factors add to states."""

from numbers import Integral

import numpy as np
import torch
from pandas import isna
from pandas.api.types import is_scalar
from scipy import sparse
from sklearn.linear_model import LogisticRegression
from sklearn.utils import check_scalar

from skfactors.codes import check_codes
from skfactors.interventions.factors import Factors

# Of logistic regression on rows of mean squared length 1.
_C = 10.0
_MOST_STEPS = 1000


def checked_labels(labels) -> np.ndarray:
    """
    Return labels as an array.

    Raises
    ------
    ValueError
        If one is None or NaN, or a collection, or two of different types, such as 1 and "1", are written alike.
    """
    labels = list(labels)
    for number, label in enumerate(labels):
        if not is_scalar(label):
            raise ValueError(f"The label of text {number} is {label!r}: each text is of one class, a number or a name.")
        if isna(label):
            raise ValueError(f"The label of text {number} is {label}: leave out texts without a class.")
    found = np.asarray(labels)
    if len(np.unique(found)) != len(set(labels)):
        raise ValueError("Some labels of different types, such as 1 and '1', are written alike: make all of one type.")
    return found


def checked_numbers(numbers, name: str) -> tuple[int, ...]:
    """
    Return one number or several as a tuple.

    Raises
    ------
    TypeError, ValueError
        If one is no int or not positive, or there is none.
    """
    numbers = (numbers,) if isinstance(numbers, Integral) else tuple(numbers)
    if not numbers:
        raise ValueError(f"{name} is empty: give one number or more.")
    for number in numbers:
        check_scalar(number, name, Integral, min_val=1)
    return numbers


def learn_probe(X, is_in) -> LogisticRegression:
    """Learn to tell rows of a class from others, both counting as much."""
    return LogisticRegression(C=_C, class_weight="balanced", max_iter=_MOST_STEPS).fit(X, is_in)


def dense_probes(X, members) -> tuple[np.ndarray, np.ndarray]:
    """
    Learn a probe for each of several classes.

    Parameters
    ----------
    X : ndarray of shape (n_rows, n_features)
    members : ndarray of bool of shape (n_rows, n_classes)
        Which rows are in which class.

    Returns
    -------
    directions : ndarray of shape (n_classes, n_features)
    offsets : ndarray of shape (n_classes,)
        A row is taken to be in a class where ``X @ directions.T + offsets`` is positive.

    Raises
    ------
    ValueError
        If the rows are all the same.
    """
    mean = X.mean(axis=0)
    scale = np.sqrt(((X - mean) ** 2).sum(axis=1).mean())
    if not scale > 0:
        raise ValueError("The hidden states of these texts are all the same: no probe can tell classes apart.")
    probes = [learn_probe((X - mean) / scale, is_in) for is_in in members.T]
    directions = np.concatenate([probe.coef_ for probe in probes]) / scale
    return directions, np.concatenate([probe.intercept_ for probe in probes]) - directions @ mean


def additions(model, X) -> sparse.csr_array:
    """
    Tell by how much of each component the factors of a row add to it.

    Parameters
    ----------
    model : FactorModel, PipelineModel or OtherModel
    X : ndarray of shape (n_rows, n_features)

    Returns
    -------
    csr_array of float64 of shape (n_rows, n_components)
        The codes; of a dictionary that scales each row, as they count in the row as it was.
    """
    codes = sparse.csr_array(check_codes(model.transform(X)), dtype=np.float64)
    sizes = Factors(model, torch.device("cpu")).sizes(torch.as_tensor(np.array(X, dtype=np.float32)))
    return codes if isinstance(sizes, float) else sparse.csr_array(codes * np.asarray(sizes, dtype=np.float64))


def halved(labels, random_state) -> np.ndarray:
    """
    Choose every other one of those with a label, in random order.

    Returns
    -------
    ndarray of bool of shape (n_labels,)
    """
    order = np.random.default_rng(random_state).permutation(len(labels))
    order = order[np.argsort(labels[order], kind="stable")]
    chosen = np.zeros(len(labels), dtype=bool)
    chosen[order[::2]] = True
    return chosen


def left_out(classes, is_known, *, at_least: int) -> str:
    """
    Say which classes are left out since their probes fail; where too few are left, leave out all.

    Parameters
    ----------
    classes : ndarray of shape (n_classes,)
    is_known : ndarray of bool of shape (n_classes,)
        Changed in place.
    at_least : int
        How many classes must be left for a figure to mean anything.

    Returns
    -------
    str
        A note; an empty one where none is left out.
    """
    names = ", ".join(map(str, classes[~is_known]))
    if is_known.sum() < at_least:
        is_known[:] = False
        return "means nothing: probes fail on the hidden states themselves"
    return f"without {names}, whose probes fail on the hidden states themselves" if names else ""
