"""JSON that says what other files are: sealed by a checksum, and checked by a schema before anything relies on it."""

import hashlib
import json
import sys
from pathlib import Path

from skfactors.files import read_plain

# Beyond this, nothing that this package writes.
_MOST_BYTES = 2**31
NATURAL = range(2**62)
ANY = object()


def digest(content) -> str:
    """Return the SHA-256 of anything that JSON can hold, whatever the order of its keys."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def sealed(content: dict, name: str = "sha256") -> dict:
    """Add the checksum of a record to it, under a name."""
    return content | {name: digest(content)}


def read_json(path, folder=None, *, remedy: str):
    """
    Read a JSON file.

    Parameters
    ----------
    path : path-like
    folder : path-like, default=None
        Where it must lie, links followed.
    remedy : str
        What to do where it is damaged, for the message: a sentence.

    Returns
    -------
    object

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If it is not a plain file, or does not hold JSON; NaN and Infinity are not JSON.
    """
    path = Path(path)
    try:
        if path.is_file() and path.stat().st_size > _MOST_BYTES:
            raise ValueError(f"{str(path)!r} is larger than any that skfactors writes")
        return json.loads(read_plain(path, folder).decode("utf-8"), parse_constant=_refuse_constant)
    except FileNotFoundError:
        raise
    except RecursionError as error:
        raise damaged(path, "it is nested too deeply", remedy) from error
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise damaged(path, f"it is not JSON: {error}", remedy) from error
    except ValueError as error:
        raise damaged(path, str(error), remedy) from error


def read_sealed(path, folder=None, *, name: str = "sha256", remedy: str) -> dict:
    """
    Read what :func:`sealed` made and a file kept.

    Returns
    -------
    dict
        Without the checksum.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If it was altered.
    """
    content = read_json(path, folder, remedy=remedy)
    unsealed(path, content, name=name, remedy=remedy)
    return content


def unsealed(path, content, *, name: str = "sha256", remedy: str) -> None:
    """
    Take the checksum off a record, in place, after comparing it.

    Raises
    ------
    ValueError
        If it is not that of the content.
    """
    if not isinstance(content, dict):
        raise damaged(path, f"it holds a {type(content).__name__}", remedy)
    try:
        if content.pop(name, None) == digest(content):
            return
    except (RecursionError, ValueError):
        pass
    raise damaged(path, "it was cut short or altered, its checksum is not that of its content", remedy)


def damaged(path, reason: str, remedy: str) -> ValueError:
    """Return the error that says that a file is bad and what to do."""
    return ValueError(f"{str(path)!r} is damaged: {reason}. {remedy}")


def check_schema(path, content, schema, *, remedy: str) -> None:
    """
    Check what was read against what it should be.

    Parameters
    ----------
    path : path-like
        For the message.
    content : object
        From JSON.
    schema : type, None, range, frozenset, tuple, list, dict, callable or `ANY`
        A type stands for values of it (``float`` for any finite number, ``int`` not for bools), a range for integers in
        it, a frozenset for its elements, a tuple for what fits one of its schemas, a list of one schema for lists of
        what fits it, a dict for dicts with these keys and no others: a key that ends in ``?`` may be missing, the key
        ``...`` stands for any other. A callable says itself whether a value fits.
    remedy : str
        What to do where it does not fit, for the message: a sentence.

    Raises
    ------
    ValueError
        Naming what is wrong.
    """
    problem = mismatch(content, schema)
    if problem is not None:
        raise damaged(path, problem, remedy)


def mismatch(value, schema, where: str = "it") -> str | None:
    """Say where a value does not fit a schema; None where it does."""
    if schema is ANY:
        return None
    if isinstance(schema, tuple):
        problems = [mismatch(value, one, where) for one in schema]
        return None if None in problems else min(problems, key=len)
    if isinstance(schema, dict):
        return _mismatch_of_dict(value, schema, where)
    if isinstance(schema, list):
        if not isinstance(value, list):
            return f"{where} is {_shortened(value)} and not a list"
        found = (mismatch(item, schema[0], f"{where}[{number}]") for number, item in enumerate(value))
        return next((problem for problem in found if problem is not None), None)
    return None if _fits(value, schema) else f"{where} is {_shortened(value)}"


def _mismatch_of_dict(value, schema: dict, where: str) -> str | None:
    if not isinstance(value, dict):
        return f"{where} is {_shortened(value)} and not a mapping"
    known = {name.removesuffix("?"): of for name, of in schema.items() if name is not ...}
    missing = [name for name in schema if name is not ... and not name.endswith("?") and name not in value]
    if missing:
        return f"{where} lacks {', '.join(missing)}"
    for name, item in value.items():
        if name not in known and ... not in schema:
            return f"{where} has {name!r}, which is not known here"
        problem = mismatch(item, known.get(name, schema.get(...)), f"{where}: {name}")
        if problem is not None:
            return problem
    return None


def _fits(value, schema) -> bool:
    if schema is None:
        return value is None
    if schema is float:
        # Of an integer too large for a float, Python cannot say whether it is finite.
        return type(value) in (int, float) and abs(value) <= sys.float_info.max
    if isinstance(schema, type):
        return type(value) is schema
    if isinstance(schema, range):
        return type(value) is int and value in schema
    if isinstance(schema, frozenset):
        return isinstance(value, (str, int, float, bool, type(None))) and value in schema
    return schema(value)


def _shortened(value) -> str:
    text = repr(value) if not isinstance(value, (list, dict)) else f"a {type(value).__name__}"
    return text if len(text) <= 40 else f"{text[:40]}…"


def _refuse_constant(name: str):
    raise ValueError(f"it holds {name}, which is not a number")
