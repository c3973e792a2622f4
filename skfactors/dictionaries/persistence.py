"""A fitted dictionary as a folder: config.json, and dictionary.safetensors beside it. Nothing is ever unpickled."""

import hashlib
import json
from pathlib import Path

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load, save

from skfactors.files import read_member, replace_files
from skfactors.records import ANY, NATURAL, check_schema, damaged, read_json, sealed, unsealed

CONFIG = "config.json"
REMEDY = "Save the dictionary again, or copy the folder anew."
_TENSORS = "dictionary.safetensors"
_SEAL = "sha256_of_this"
_SCHEMA_1 = {
    "format": int,
    "sha256": str,
    "skfactors": str,
    "estimator": str,
    "parameters": {...: ANY},
    "fitted": {...: ANY},
}
_SCHEMA_2 = _SCHEMA_1 | {"module?": str}
_SCHEMA_3 = _SCHEMA_1 | {"module": str, "size": NATURAL, "arrays": {...: {"shape": [NATURAL], "dtype": str}}}
# A model may have gained a parameter from one format to the next: the fourth is that of group_sizes and alpha_.
_SCHEMAS = {1: _SCHEMA_1, 2: _SCHEMA_2, 3: _SCHEMA_3, 4: _SCHEMA_3}
FORMAT = max(_SCHEMAS)
FILES = (CONFIG, _TENSORS)


def write_dictionary(path, config: dict, arrays: dict[str, np.ndarray]) -> None:
    """
    Write configuration and arrays, in place of what the folder held of them: all or nothing.

    Parameters
    ----------
    path : path-like
        A folder, made if need be.
    config : dict
        `skfactors`, `estimator`, `module`, `parameters` and `fitted`, of what JSON can hold.
    arrays : dict of str to ndarray
    """
    tensors = save({name: np.asarray(array, order="C") for name, array in arrays.items()})
    record = {
        "format": FORMAT,
        "sha256": hashlib.sha256(tensors).hexdigest(),
        "size": len(tensors),
        "arrays": _described(arrays),
    }
    content = json.dumps(sealed(record | config, _SEAL), indent=2, allow_nan=False).encode()
    replace_files(path, {_TENSORS: tensors}, CONFIG, content)


def read_dictionary(path) -> tuple[dict, dict[str, np.ndarray]]:
    """
    Read what :func:`write_dictionary` wrote. Where another process writes meanwhile, it is the old or the new one.

    Returns
    -------
    config : dict
    arrays : dict of str to ndarray

    Raises
    ------
    FileNotFoundError
        If one of the two files is missing.
    ValueError
        If one is damaged, or of a format that this version does not know.
    """
    folder, seen = Path(path), None
    while True:
        stamp = _stamp(folder)
        config = _read_config(folder)
        try:
            tensors = read_member(folder, _TENSORS, config.get("size"), config["sha256"], remedy=REMEDY)
            return config, _arrays(folder, tensors, config.get("arrays"))
        except (FileNotFoundError, ValueError):
            # Another process may have saved between the two; one that has not leaves the same record for good.
            if seen == stamp == _stamp(folder):
                raise
            seen = stamp


def mismatch_of_arrays(arrays: dict[str, np.ndarray], listed: dict) -> str | None:
    """
    Say where fitted arrays do not fit what a model lists; None where they do.

    Parameters
    ----------
    arrays : dict of str to ndarray
    listed : dict of str to tuple or int
        Shapes, of numbers or of names that stand for the same number everywhere; ``(int, *shape)`` for whole numbers,
        and ``int`` for a single one. A name that ends in ``?`` may be missing.
    """
    known = {name.removesuffix("?"): shape for name, shape in listed.items()}
    missing = [name for name in listed if not name.endswith("?") and name not in arrays]
    unknown = sorted(set(arrays) - set(known))
    if missing or unknown:
        return f"it lacks the array {missing[0]}" if missing else f"it has the array {unknown[0]}, which is not known"
    sizes = {}
    for name in sorted(known.keys() & arrays.keys(), key=lambda name: (name != "components_", name)):
        array, shape = arrays[name], (int,) if known[name] is int else known[name]
        is_whole = shape[:1] == (int,)
        shape = shape[1:] if is_whole else shape
        if len(shape) == array.ndim:
            # A name that is new stands for what is found first.
            pairs = zip(shape, array.shape, strict=True)
            shape = tuple(sizes.setdefault(of, found) if isinstance(of, str) else of for of, found in pairs)
        if array.dtype.kind not in ("iu" if is_whole else "f") or array.shape != shape:
            return f"its array {name} is of {array.dtype} and shape {array.shape}, and not of shape {shape}"
        if not np.isfinite(array).all() or (is_whole and (array < 0).any()):
            return f"its array {name} holds values that are NaN, infinite or negative"
    return None


def _read_config(folder: Path) -> dict:
    path = folder / CONFIG
    try:
        config = read_json(path, folder, remedy=REMEDY)
    except FileNotFoundError as error:
        raise FileNotFoundError(f"{str(folder)!r} is not a saved dictionary: it holds no {CONFIG}.") from error
    version = config.get("format") if isinstance(config, dict) else None
    if type(version) is int and version > FORMAT:
        raise ValueError(f"{str(folder)!r} has format {version}; this version reads {FORMAT}: update skfactors.")
    # Format 1 had no checksum of the configuration itself.
    if version != 1:
        unsealed(path, config, name=_SEAL, remedy=REMEDY)
    if type(version) is not int or version not in _SCHEMAS:
        raise damaged(path, f"its format is {version!r}", REMEDY)
    check_schema(path, config, _SCHEMAS[version], remedy=REMEDY)
    return config


def _arrays(folder: Path, tensors: bytes, described: dict | None) -> dict[str, np.ndarray]:
    path = folder / _TENSORS
    try:
        arrays = load(tensors)
    except (SafetensorError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise damaged(path, f"it holds no arrays: {' '.join(str(error).split())}", REMEDY) from error
    if described is not None and _described(arrays) != described:
        raise damaged(path, f"its arrays are not those that {CONFIG} names", REMEDY)
    return arrays


def _described(arrays: dict[str, np.ndarray]) -> dict:
    return {name: {"shape": list(array.shape), "dtype": str(array.dtype)} for name, array in sorted(arrays.items())}


def _stamp(folder: Path) -> tuple | None:
    """Tell the record of one save from that of another."""
    try:
        found = (folder / CONFIG).stat()
    except OSError:
        return None
    return found.st_ino, found.st_mtime_ns
