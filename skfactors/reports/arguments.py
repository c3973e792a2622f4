"""Checks of what a report is asked for."""

from functools import partial
from numbers import Integral

import numpy as np
from sklearn.utils import check_scalar

from skfactors.dictionaries.adapters import reconstruction_of
from skfactors.dictionaries.one_place import model_of_one_place, predicts


def check_parameters(k, top, window, unique_documents):
    """
    Return the parameters of a report by name, as plain Python values.

    Raises
    ------
    TypeError, ValueError
        If one is of the wrong type or out of range.
    """
    return {
        "k": int(check_scalar(k, "k", Integral, min_val=1)),
        "top": int(check_scalar(top, "top", Integral, min_val=1)),
        "window": int(check_scalar(window, "window", Integral, min_val=0)),
        "unique_documents": bool(unique_documents),
    }


def check_model(dictionary):
    """Return what codes the rows of a report; of a crosscoder, say how to report on its codes."""
    return model_of_one_place(
        dictionary,
        instead="code them yourself, and report on the codes at one place without dictionary=, as with "
        "FactorReport.from_codes(crosscoder.transform(acts.side_by_side()), acts.at(layer=...))",
    )


def reconstruction_by(model):
    """Return what reconstructs rows from them and their codes; None of a transcoder, which predicts other rows."""
    return None if predicts(model) else partial(reconstruction_of, model)


def check_known(asked, known, name):
    """
    Return the asked factors or layers as a list.

    Parameters
    ----------
    asked : int or sequence of int
    known : sequence of int
        Those there are, ascending.
    name : str
        What they are, such as "factor" or "layer".

    Raises
    ------
    TypeError, ValueError
        If one is not an integer, or there is none of that number.
    """
    numbers = np.atleast_1d(np.asarray(asked, dtype=object)).tolist()
    there_are = f"{name}s from 0 to {known[-1]}" if isinstance(known, range) and known else _listed(known, name)
    for number in numbers:
        if not isinstance(number, Integral) or isinstance(number, bool):
            raise TypeError(f"{name}={number!r} is not an integer; there are {there_are}.")
        if number not in known:
            raise ValueError(f"there is no {name} {number}; there are {there_are}.")
    return [int(number) for number in numbers]


def _listed(known, name):
    return f"{name}s {', '.join(map(str, known))}" if known else "none"
