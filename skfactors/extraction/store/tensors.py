"""The arrays of a safetensors file, found without a copy, after checking that they lie in it."""

import json
import math
from typing import NamedTuple

import numpy as np

from skfactors.records import ANY, NATURAL, mismatch

# NumPy has no bfloat16: it is the upper half of a float32.
_TYPES = {
    "F64": np.dtype(np.float64),
    "F32": np.dtype(np.float32),
    "F16": np.dtype(np.float16),
    "BF16": np.dtype(np.uint16),
    "I64": np.dtype(np.int64),
    "I32": np.dtype(np.int32),
    "I16": np.dtype(np.int16),
    "U8": np.dtype(np.uint8),
}
_TENSOR = {"dtype": frozenset(_TYPES), "shape": [NATURAL], "data_offsets": [NATURAL]}
_MOST_BYTES_OF_HEADER = 100_000_000


class Tensor(NamedTuple):
    """
    Where an array lies in a file.

    Attributes
    ----------
    kind : str
        Its data type, as safetensors calls it.
    shape : tuple of int
    start : int
        Its first byte in the file.
    """

    kind: str
    shape: tuple[int, ...]
    start: int

    def in_content(self, content) -> np.ndarray:
        """Return the array, which lies in the content of the file."""
        return np.frombuffer(content, _TYPES[self.kind], math.prod(self.shape), self.start).reshape(self.shape)


def find_tensors(file, size: int) -> dict[str, Tensor]:
    """
    Read the header of a safetensors file.

    Parameters
    ----------
    file : file
        At its beginning.
    size : int
        Its bytes.

    Raises
    ------
    ValueError
        If there is none, or arrays would lie outside the file.
    """
    header_size = int.from_bytes(file.read(8), "little")
    if header_size > min(size - 8, _MOST_BYTES_OF_HEADER):
        raise ValueError("it is not a safetensors file: its header would be longer than it is")
    try:
        header = json.loads(file.read(header_size))
    except (RecursionError, ValueError) as error:
        raise ValueError("it is not a safetensors file: its header is not JSON") from error
    problem = mismatch(header, {"__metadata__?": ANY, ...: _TENSOR}, "its header")
    if problem is not None:
        raise ValueError(problem)
    header.pop("__metadata__", None)
    return {name: _tensor(name, entry, 8 + header_size, size) for name, entry in header.items()}


def _tensor(name: str, entry: dict, first: int, size: int) -> Tensor:
    kind, shape, offsets = entry["dtype"], tuple(entry["shape"]), entry["data_offsets"]
    n_bytes = math.prod(shape) * _TYPES[kind].itemsize
    if len(offsets) != 2 or offsets[1] - offsets[0] != n_bytes or first + offsets[1] > size:
        raise ValueError(f"its array {name} does not lie where the header says")
    return Tensor(kind, shape, first + offsets[0])
