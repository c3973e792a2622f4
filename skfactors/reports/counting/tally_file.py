"""What a report was counted from, as one checksummed safetensors file. Nothing is ever unpickled."""

import hashlib
import json
from contextlib import ExitStack, contextmanager
from fractions import Fraction
from pathlib import Path

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load, save

from skfactors.files import held_lock, is_read_only, read_plain, remove_leftovers, replaced_file
from skfactors.records import check_schema, damaged
from skfactors.reports.counting.checks import check_array
from skfactors.reports.counting.samples import empty_samples
from skfactors.reports.counting.sums import DIGIT_BITS
from skfactors.reports.counting.surroundings import shade_table
from skfactors.reports.counting.tally import ORIGIN, PARAMETERS, Tally

FORMAT = "skfactors report tally"
FORMAT_VERSION = 3

_FACTS = ({}, {"run": str, "n_shards_done": range(1, 2**62)})
_TALLY = {"n_components": range(1, 2**62), "parameters": PARAMETERS, **ORIGIN}
_OF_FIRST_VERSION = {name: schema for name, schema in _TALLY.items() if name != "corpus"}
_SUMS_OF_FIRST_VERSION = ("sums", "squares", "squared_residual")
_LARGEST_PLACE = 64
_FIRST_WITH_SAMPLES = 3


def tally_bytes(tally, **facts) -> bytes:
    """
    Return what a file of a tally holds.

    Parameters
    ----------
    tally : Tally
    **facts
        What else the file is to say, anything JSON can hold.

    Returns
    -------
    bytes
    """
    description, arrays = tally.state()
    arrays = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
    content = json.dumps({"format": FORMAT, "format_version": FORMAT_VERSION, "tally": description, "facts": facts})
    return save(arrays, metadata={"content": content, "sha256": _checksum(content, arrays)})


def read_tally(path, folder=None, *, remedy) -> tuple[Tally, dict, str]:
    """
    Read a file of a tally.

    Parameters
    ----------
    path : path-like
    folder : path-like, default=None
        Where it must lie, links followed.
    remedy : str
        What to do about a bad file, for the message: a sentence.

    Returns
    -------
    tally : Tally
    facts : dict
    checksum : str
        Of what was written.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If it is cut short, altered, or of a format that this version does not read.
    """
    try:
        content = read_plain(path, folder)
    except ValueError as error:
        raise ValueError(f"{error}. {remedy}") from error
    return parsed_tally(path, content, remedy=remedy)


def parsed_tally(path, content, *, remedy) -> tuple[Tally, dict, str]:
    """Return what :func:`tally_bytes` put into some bytes, as :func:`read_tally` does; `path` is for messages."""
    try:
        arrays = load(content)
        metadata = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])["__metadata__"]
        described, checksum = metadata["content"], metadata["sha256"]
    except (SafetensorError, KeyError, ValueError, TypeError, RecursionError, OverflowError) as error:
        raise ValueError(f"{str(path)!r} was cut short or altered: {error!r}. {remedy}") from error
    if _checksum(described, arrays) != checksum:
        raise ValueError(f"{str(path)!r} was cut short or altered: its checksum is not that of its content. {remedy}")
    try:
        described = json.loads(described)
    except (ValueError, RecursionError) as error:
        raise damaged(path, repr(error), remedy) from error
    version = described.get("format_version") if isinstance(described, dict) else None
    if type(version) is not int or version not in range(1, FORMAT_VERSION + 1) or described.get("format") != FORMAT:
        raise ValueError(
            f"{str(path)!r} is no {FORMAT!r} of a version up to {FORMAT_VERSION}, which this version of skfactors "
            f"reads. {remedy}"
        )
    of_tally = _OF_FIRST_VERSION if version == 1 else _TALLY
    schema = {"format": str, "format_version": int, "tally": of_tally, "facts": _FACTS}
    check_schema(path, described, schema, remedy=remedy)
    try:
        if version == 1:
            described["tally"]["corpus"] = None
            arrays = _with_variance(arrays)
        if version < _FIRST_WITH_SAMPLES:
            arrays |= {f"samples.{name}": array for name, array in empty_samples().items()}
            arrays |= {f"contexts.shades.{name}": column for name, column in shade_table([]).items()}
        return Tally.from_state(described["tally"], arrays), described["facts"], checksum
    except ValueError as error:
        raise damaged(path, str(error), remedy) from error


class KeptTally:
    """
    What an unfinished report on a store has counted so far, as one file.

    Parameters
    ----------
    folder : path-like
        Reports that differ in anything that decides their content have files of their own in it.
    run : str
        Fingerprint of the report.
    expected : dict
        Of a tally of this report: `dictionary`, `corpus` and `parameters`.
    n_shards : int
        That the report is on.
    """

    def __init__(self, folder, run, expected, n_shards):
        self.path = Path(folder) / f"report-{run[:16]}.safetensors"
        self.run, self.expected, self.n_shards = run, expected, n_shards
        remove_leftovers(folder)

    def read(self):
        """
        Return the tally and how many shards it covers; None and 0 where nothing was kept.

        Raises
        ------
        ValueError
            If the file is damaged, or of another report.
        """
        try:
            tally, facts, _ = read_tally(self.path, remedy="Delete it to begin the report anew.")
        except FileNotFoundError:
            return None, 0
        others = [name for name, value in self.expected.items() if getattr(tally, name) != value]
        if others or facts.get("run") != self.run or facts["n_shards_done"] > self.n_shards:
            raise ValueError(
                f"{str(self.path)!r} is of another report: it has another {others[0] if others else 'list of shards'}. "
                "Delete it to begin the report anew."
            )
        return tally, facts["n_shards_done"]

    @contextmanager
    def held(self):
        """
        Keep other processes from counting the same report meanwhile: they wait, and say for what.

        Raises
        ------
        OSError
            If nothing can be written there.
        """
        with ExitStack() as stack:
            try:
                self.path.parent.mkdir(parents=True, exist_ok=True)
                doing = f"counts the same report, with the checkpoint {str(self.path)!r}"
                stack.enter_context(held_lock(self.path.with_suffix(".lock"), doing))
            except OSError as error:
                if not is_read_only(error):
                    raise
                reason = "it cannot be written, and holds no report that was finished: pass another checkpoint_dir"
                raise type(error)(error.errno, reason, str(self.path)) from error
            yield

    def write(self, tally, n_shards_done):
        """Keep what was counted."""
        with replaced_file(self.path) as file:
            file.write(tally_bytes(tally, run=self.run, n_shards_done=n_shards_done))


def _with_variance(arrays):
    """Return arrays of the first version of the format with sums of :class:`VarianceSums` in place of exact digits."""
    of_variance = {name: array for name, array in arrays.items() if name.startswith("reconstruction.")}
    n_features = of_variance.get("reconstruction.sums.digits", np.empty((0, 0))).shape[-1]
    widths = dict(zip(_SUMS_OF_FIRST_VERSION, (n_features, n_features, 2), strict=True))
    shapes = {"n_rows": (1,)}
    for name, width in widths.items():
        shapes |= {f"{name}.lowest": (1,), f"{name}.digits": (None, width)}
    if {f"reconstruction.{name}" for name in shapes} != set(of_variance) or n_features % 2:
        raise ValueError("it lacks, or has besides, sums of the reconstruction")
    for name, shape in shapes.items():
        check_array(f"reconstruction.{name}", of_variance[f"reconstruction.{name}"], np.int64, shape)
    if any(abs(int(of_variance[f"reconstruction.{name}.lowest"][0])) > _LARGEST_PLACE for name in widths):
        raise ValueError("reconstruction counts digits that no number has")
    return {name: array for name, array in arrays.items() if name not in of_variance} | _variance_of_first_version(
        arrays
    )


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
