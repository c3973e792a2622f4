"""A fitted dictionary as a folder: config.json, and dictionary.safetensors beside it. Nothing is ever unpickled."""

import hashlib
import json
from pathlib import Path

import numpy as np
from safetensors.numpy import load, save

from skfactors.files import replaced_file

_CONFIG = "config.json"
_TENSORS = "dictionary.safetensors"
FILES = (_CONFIG, _TENSORS)
_FORMAT = 2
_READ = (1, 2)
_REMEDY = "Save the dictionary again, or copy the folder anew."


def write_dictionary(path, config: dict, arrays: dict[str, np.ndarray]) -> None:
    """
    Write configuration and arrays.

    Parameters
    ----------
    path : path-like
        A folder, made if need be. What it held of these two files is replaced.
    config : dict
        Anything JSON can hold.
    arrays : dict of str to ndarray
    """
    folder = Path(path)
    folder.mkdir(parents=True, exist_ok=True)
    tensors = save({name: np.asarray(array, order="C") for name, array in arrays.items()})
    config = {"format": _FORMAT, "sha256": hashlib.sha256(tensors).hexdigest(), **config}
    config["sha256_of_this"] = _checksum_of(config)
    # The configuration, which vouches for the tensors, comes last: a write that is cut off is seen by its checksum.
    for name, content in ((_TENSORS, tensors), (_CONFIG, json.dumps(config, indent=2).encode())):
        with replaced_file(folder / name) as file:
            file.write(content)


def read_dictionary(path) -> tuple[dict, dict[str, np.ndarray]]:
    """
    Read what :func:`write_dictionary` wrote.

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
    folder = Path(path)
    for name in (_CONFIG, _TENSORS):
        if not (folder / name).is_file():
            raise FileNotFoundError(f"{str(folder)!r} is not a saved dictionary: it holds no {name}.")
    try:
        config = json.loads((folder / _CONFIG).read_bytes())
        version, checksum = config["format"], config["sha256"]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise ValueError(f"{str(folder / _CONFIG)!r} is damaged: {error}. {_REMEDY}") from error
    if version not in _READ:
        raise ValueError(f"{str(folder)!r} has format {version!r}; this version reads {_FORMAT}: update skfactors.")
    # Format 1 had no checksum of the configuration itself.
    if version > 1 and config.pop("sha256_of_this", None) != _checksum_of(config):
        raise ValueError(f"{str(folder / _CONFIG)!r} was altered: its checksum is not that of its content. {_REMEDY}")
    missing = [name for name in ("estimator", "parameters", "fitted") if name not in config]
    if missing:
        raise ValueError(f"{str(folder / _CONFIG)!r} is damaged: it lacks {', '.join(missing)}. {_REMEDY}")
    tensors = (folder / _TENSORS).read_bytes()
    if hashlib.sha256(tensors).hexdigest() != checksum:
        raise ValueError(
            f"{str(folder / _TENSORS)!r} was cut short or altered: its checksum is not the one in {_CONFIG}. {_REMEDY}"
        )
    return config, load(tensors)


def _checksum_of(config: dict) -> str:
    return hashlib.sha256(json.dumps(config, sort_keys=True).encode()).hexdigest()
