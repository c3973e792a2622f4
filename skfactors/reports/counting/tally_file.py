"""What a report was counted from, as one checksummed safetensors file. Nothing is ever unpickled."""

import hashlib
import json
import time
from fractions import Fraction
from pathlib import Path

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from skfactors.files import UNFINISHED, replaced_file
from skfactors.reports.counting.sums import DIGIT_BITS
from skfactors.reports.counting.tally import Tally

FORMAT = "skfactors report tally"
FORMAT_VERSION = 2
ABANDONED_AFTER_SECONDS = 3600


def write_tally(path, tally, **facts) -> str:
    """
    Write a tally.

    Parameters
    ----------
    path : path-like
        The file. It is replaced as a whole, or stays as it was.
    tally : Tally
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


def read_tally(path, *, remedy) -> tuple[Tally, dict, str]:
    """
    Read what :func:`write_tally` wrote.

    Parameters
    ----------
    path : path-like
    remedy : str
        What to do about a bad file, for the message.

    Returns
    -------
    tally : Tally
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
    version = content.get("format_version")
    if content.get("format") != FORMAT or version not in (1, FORMAT_VERSION):
        raise ValueError(
            f"{path} holds {content.get('format')!r} of version {version!r}; this version of skfactors reads "
            f"{FORMAT!r} up to version {FORMAT_VERSION}; {remedy}."
        )
    if version == 1:
        content["tally"]["corpus"] = None
        arrays |= _variance_of_first_version(arrays)
    return Tally.from_state(content["tally"], arrays), content["facts"], checksum


class KeptTally:
    """
    What an unfinished report on a store has counted so far, as one file.

    Parameters
    ----------
    folder : path-like
        Made if need be. Reports that differ in anything that decides their content have files of their own in it.
    run : str
        Fingerprint of the report.
    """

    def __init__(self, folder, run):
        self.path = Path(folder) / f"report-{run[:16]}.safetensors"
        self.run = run
        self.path.parent.mkdir(parents=True, exist_ok=True)
        for left_over in self.path.parent.glob(f".{self.path.name}.*{UNFINISHED}"):
            _remove_if_abandoned(left_over)

    def read(self):
        """
        Return the tally and how many shards it covers; None and 0 where nothing was kept.

        Raises
        ------
        ValueError
            If the file is damaged.
        """
        if not self.path.is_file():
            return None, 0
        tally, facts, _ = read_tally(self.path, remedy="delete it to begin the report anew")
        if facts["run"] != self.run:
            raise ValueError(f"{self.path} is the checkpoint of another report; pass another checkpoint_dir.")
        return tally, facts["n_shards_done"]

    def write(self, tally, n_shards_done):
        """Keep what was counted."""
        write_tally(self.path, tally, run=self.run, n_shards_done=n_shards_done)


def _remove_if_abandoned(file):
    """Remove an unfinished file, unless another process may still be writing it."""
    try:
        if time.time() - file.stat().st_mtime > ABANDONED_AFTER_SECONDS:
            file.unlink()
    except FileNotFoundError:
        # Its writer has finished it, or another process has removed it.
        return


def _variance_of_first_version(arrays):
    """Return the sums of :class:`VarianceSums` from the exact digits that the first version of the format held."""

    def exact(name):
        lowest, digits = int(arrays[f"reconstruction.{name}.lowest"][0]), arrays[f"reconstruction.{name}.digits"]
        unit = Fraction(2) ** (DIGIT_BITS * lowest)
        totals = [
            unit * sum(digit << (DIGIT_BITS * i) for i, digit in enumerate(column)) for column in digits.T.tolist()
        ]
        # Of each number what is above zero, then what is below it.
        return [above - below for above, below in zip(totals[::2], totals[1::2], strict=True)]

    n_rows = int(arrays["reconstruction.n_rows"][0])
    divisor = max(n_rows, 1)
    sums, squares, unexplained = exact("sums"), exact("squares"), sum(exact("squared_residual"))
    variation = sum(squares) - sum(total**2 for total in sums) / divisor
    return {
        "variance.n_rows": np.array([n_rows]),
        "variance.mean": np.array([float(total / divisor) for total in sums]),
        "variance.sums": np.array([float(variation), float(unexplained)]),
    }


def _checksum(content, arrays):
    digest = hashlib.sha256(content.encode("utf-8", "surrogatepass"))
    for name in sorted(arrays):
        array = arrays[name]
        digest.update(f"\n{name} {array.dtype.str} {array.shape}\n".encode("utf-8", "surrogatepass"))
        digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()
