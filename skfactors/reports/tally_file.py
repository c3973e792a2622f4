"""What a report was counted from, as one checksummed safetensors file. Nothing is ever unpickled."""

import hashlib
import json
from pathlib import Path

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from skfactors.files import replaced_file
from skfactors.reports.accumulator import ReportAccumulator

FORMAT = "skfactors report tally"
FORMAT_VERSION = 1


def write_tally(path, tally, **facts) -> str:
    """
    Write a tally.

    Parameters
    ----------
    path : path-like
        The file. It is replaced as a whole, or stays as it was.
    tally : ReportAccumulator
    **facts
        What else the file is to say, anything JSON can hold.

    Returns
    -------
    str
        The checksum of what was written.
    """
    description, arrays = tally.state()
    arrays = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
    content = json.dumps({"format": FORMAT, "format_version": FORMAT_VERSION, "tally": description, "facts": facts})
    checksum = _checksum(content, arrays)
    with replaced_file(path) as file:
        file.write(save(arrays, metadata={"content": content, "sha256": checksum}))
    return checksum


def read_tally(path, *, remedy) -> tuple[ReportAccumulator, dict, str]:
    """
    Read what :func:`write_tally` wrote.

    Parameters
    ----------
    path : path-like
    remedy : str
        What to do where the file is no good, for the message.

    Returns
    -------
    tally : ReportAccumulator
    facts : dict
    checksum : str

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If it is cut short, altered, or of a format that this version does not read.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path} does not exist.")
    try:
        with safe_open(path, framework="np") as file:
            metadata = file.metadata() or {}
            arrays = {name: file.get_tensor(name) for name in file.keys()}
        content, checksum = metadata["content"], metadata["sha256"]
    except (SafetensorError, KeyError, ValueError, TypeError, OverflowError) as error:
        raise ValueError(f"{path} was cut short or altered ({error}); {remedy}.") from error
    if _checksum(content, arrays) != checksum:
        raise ValueError(f"{path} was altered: its checksum is not that of its content; {remedy}.")
    content = json.loads(content)
    if content.get("format") != FORMAT or content.get("format_version") != FORMAT_VERSION:
        raise ValueError(
            f"{path} holds {content.get('format')!r} of version {content.get('format_version')!r}; this version of "
            f"skfactors reads {FORMAT!r} of version {FORMAT_VERSION}; {remedy}."
        )
    return ReportAccumulator.from_state(content["tally"], arrays), content["facts"], checksum


def _checksum(content, arrays):
    digest = hashlib.sha256(content.encode("utf-8", "surrogatepass"))
    for name in sorted(arrays):
        array = arrays[name]
        digest.update(f"\n{name} {array.dtype.str} {array.shape}\n".encode("utf-8", "surrogatepass"))
        digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()
