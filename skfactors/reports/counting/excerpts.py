"""Excerpts, tuples of what is left of a token, the token, and what is right of it, among other arrays."""

import json

import numpy as np

from skfactors.records import mismatch


def excerpts_to_bytes(excerpts) -> np.ndarray:
    """Return excerpts as the bytes of JSON, ndarray of uint8."""
    return np.frombuffer(json.dumps(excerpts.tolist(), ensure_ascii=True).encode(), dtype=np.uint8)


def excerpts_of(content, n_excerpts, name) -> np.ndarray:
    """
    Return the excerpts that :func:`excerpts_to_bytes` made bytes of.

    Raises
    ------
    ValueError
        If these are no bytes of so many; `name` is for the message.
    """
    try:
        held = json.loads(content.tobytes())
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{name}.excerpts is not the bytes of JSON") from error
    if mismatch(held, [_is_excerpt]) is not None or len(held) != n_excerpts:
        raise ValueError(f"{name}.excerpts contradicts what else it holds")
    excerpts = np.empty(len(held), dtype=object)
    for number, sides in enumerate(held):
        excerpts[number] = tuple(sides)
    return excerpts


def woven(is_new, held, new) -> np.ndarray:
    """Put arrays together, the second where `is_new` says so."""
    array = np.empty(len(is_new), dtype=held.dtype)
    array[~is_new] = held
    array[is_new] = new
    return array


def _is_excerpt(sides) -> bool:
    return type(sides) is list and [*map(type, sides)] == [str, str, str]
