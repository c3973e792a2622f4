"""Files of other tools, read strictly: what is missing, unknown or of another shape is an error that names it."""

import io
import json
import pickle
from collections.abc import Callable
from pathlib import Path

import numpy as np

from skfactors.files import read_plain
from skfactors.records import mismatch

POSITIVE = range(1, 2**62)
_MISSING = object()
_TENSORS = {".safetensors", ".pt", ".npz"}
# Where some tools put the tensors.
SUBFOLDERS = ("checkpoints",)


class Files:
    """
    The files that a dictionary consists of.

    Parameters
    ----------
    where : str
        For messages.
    names : list of str
        Of all that is there.
    fetch : callable
        From a name to the path of the file, which may have to be downloaded first.
    chosen : str, default=None
        The one file of tensors that was asked for.
    ignore : tuple of str, default=()
        Keys of configurations and names of tensors that need not be known.

    Attributes
    ----------
    names : list of str
    """

    def __init__(
        self, where, names: list[str], fetch: Callable[[str], Path], chosen=None, ignore: tuple[str, ...] = ()
    ):
        self.where, self.chosen, self.ignore = where, chosen, tuple(ignore)
        # Of tensors, the file that was chosen hides all others.
        self.names = sorted(name for name in names if chosen in (None, name) or Path(name).suffix not in _TENSORS)
        self._fetch, self._read = fetch, {}

    @classmethod
    def at(cls, path: Path, ignore: tuple[str, ...] = ()):
        """
        Find them in a folder; of the tensors only those of one file, where that file is given.

        Parameters
        ----------
        path : Path
            A folder or a file.
        ignore : tuple of str, default=()

        Returns
        -------
        Files
        """
        folder = path if path.is_dir() else path.parent
        if folder != path and folder.name in SUBFOLDERS:
            folder = folder.parent
        found = [one for part in ("", *SUBFOLDERS) for one in (folder / part).glob("*") if not one.is_dir()]
        names = [one.relative_to(folder).as_posix() for one in found]
        chosen = None if path.is_dir() else path.relative_to(folder).as_posix()
        return cls(str(path), names, folder.joinpath, chosen, ignore)

    def __contains__(self, name: str) -> bool:
        return name in self.names

    def matching(self, pattern) -> dict[int, str]:
        """Return the files that a regular expression matches, by the number that it finds in their names."""
        found = ((pattern.fullmatch(name), name) for name in self.names)
        return {int(match[1]): name for match, name in found if match}

    def path(self, name: str) -> Path:
        """Return where a file lies, after it was downloaded where need be."""
        if name not in self.names:
            raise FileNotFoundError(f"{self.where!r} holds no {name}; it holds {', '.join(self.names) or 'nothing'}.")
        return self._fetch(name)

    def json(self, name: str) -> "Fields":
        """Read a configuration of JSON; constants that JSON does not have are damage."""
        return self._once(name, self._fields_of_json)

    def yaml(self, name: str) -> "Fields":
        """Read a configuration of YAML, plain values only."""
        return self._once(name, self._fields_of_yaml)

    def tensors(self, name: str) -> "Tensors":
        """
        Read tensors of safetensors, of NumPy's .npz or of torch's .pt; no code that a file may hold is run.

        Parameters
        ----------
        name : str

        Returns
        -------
        Tensors
        """
        return Tensors(self._path_for_messages(name), self.content(name), self.ignore)

    def content(self, name: str) -> dict:
        """Return what a file of tensors holds, unchecked: torch tensors by name, and with .pt what else was saved."""
        return self._once(name, self._load)

    def _load(self, name):
        content, kind = self._bytes(name), Path(name).suffix
        try:
            found = _READERS[kind](content)
        except Exception as error:
            first_line, *_ = str(error).splitlines() or [type(error).__name__]
            runs_code = isinstance(error, pickle.UnpicklingError) or "allow_pickle" in first_line
            reason = (
                "it would run code when it is opened, which tensors do not need"
                if runs_code
                else f"it was cut short or altered ({first_line})"
            )
            raise ValueError(f"{self._path_for_messages(name)} is not read: {reason}.") from error
        if not isinstance(found, dict):
            raise ValueError(f"{self._path_for_messages(name)} holds a {type(found).__name__}, not tensors by name.")
        return found

    def _fields_of_json(self, name):
        def refuse(constant):
            raise ValueError(f"it holds {constant}")

        return self._fields(name, lambda content: json.loads(content, parse_constant=refuse))

    def _fields_of_yaml(self, name):
        import yaml

        return self._fields(name, yaml.safe_load)

    def _fields(self, name, parse):
        try:
            content = parse(self._bytes(name).decode())
        except (ValueError, RecursionError) as error:
            raise ValueError(f"{self._path_for_messages(name)} is damaged: {error}.") from error
        except Exception as error:
            if type(error).__module__.partition(".")[0] != "yaml":
                raise
            raise ValueError(f"{self._path_for_messages(name)} is damaged: {error}.") from error
        return Fields(self._path_for_messages(name), content, self.ignore)

    def _bytes(self, name):
        return read_plain(self.path(name))

    def _once(self, name, read):
        if name not in self._read:
            self._read[name] = read(name)
        return self._read[name]

    def _path_for_messages(self, name):
        return f"{name!r} of {self.where!r}"


class Fields:
    """
    Keys and values of a configuration, each taken once.

    Parameters
    ----------
    where : str
        For messages.
    content : dict
    ignore : tuple of str, default=()
        Keys that need not be known.
    """

    def __init__(self, where: str, content: dict, ignore: tuple[str, ...] = ()):
        if not isinstance(content, dict):
            raise ValueError(f"{where} is damaged: it holds a {type(content).__name__}, not keys and values.")
        self.where, self.content, self._ignore = where, content, ignore
        self._left = dict(content)

    def __contains__(self, name: str) -> bool:
        return name in self.content

    def take(self, name: str, schema, default=_MISSING):
        """
        Return the value of a key.

        Parameters
        ----------
        name : str
        schema : object
            What it must be, as :func:`skfactors.records.mismatch` has it.
        default : object
            Where there is no such key, or it holds None; without one, the key must be there.

        Returns
        -------
        object

        Raises
        ------
        ValueError
            If it is missing or something else.
        """
        value = self._left.pop(name, self.content.get(name))
        if value is None and default is not _MISSING:
            return default
        if name not in self.content:
            raise ValueError(f"{self.where} has no {name!r}.")
        problem = mismatch(value, schema, name)
        if problem is not None:
            known = f"; known are {', '.join(sorted(map(str, schema)))}" if isinstance(schema, frozenset) else ""
            raise ValueError(f"{self.where} is not read: {problem}{known}.")
        return value

    def part(self, name: str) -> "Fields":
        """Return the keys and values that a key holds."""
        return Fields(f"{name!r} in {self.where}", self.take(name, dict), self._ignore)

    def drop(self, *names: str) -> None:
        """Leave out keys that say nothing about codes."""
        for name in names:
            self._left.pop(name, None)

    def change(self, **changes) -> None:
        """Give keys other values, as if the file had them, before any is taken."""
        self.content |= changes
        self._left = dict(self.content)

    def finish(self) -> None:
        """
        Make sure that nothing is left.

        Raises
        ------
        ValueError
            If there are keys that nobody has asked for: they may change codes.
        """
        _refuse_unknown(self.where, self._left, self._ignore)


class Tensors:
    """
    Tensors by name, each taken once and checked, as arrays of float32.

    Parameters
    ----------
    where : str
        For messages.
    content : dict of str to Tensor
    ignore : tuple of str, default=()
        Names that need not be known.
    """

    def __init__(self, where: str, content: dict, ignore: tuple[str, ...] = ()):
        import torch

        odd = [name for name, value in content.items() if not isinstance(value, torch.Tensor)]
        if odd:
            raise ValueError(f"{where} is not read: {', '.join(map(repr, odd))} is no tensor.")
        self.where, self._content, self._left, self._ignore = where, content, set(content), ignore
        self.sizes = {}

    def __contains__(self, name: str) -> bool:
        return name in self._content

    @property
    def names(self) -> list[str]:
        """All that there are."""
        return sorted(self._content)

    def take(self, name: str, *shape: int | str, finite: bool = True) -> np.ndarray:
        """
        Return a tensor.

        Parameters
        ----------
        name : str
        *shape : int or str
            How large it must be. A name stands for a size that is the same wherever it occurs.
        finite : bool, default=True
            Whether NaN and infinite values are refused.

        Returns
        -------
        ndarray of float32
            Half precision is widened.

        Raises
        ------
        ValueError
            If it is missing, of another shape, or holds NaN or infinite values.
        """
        import torch

        if name not in self._content:
            raise ValueError(f"{self.where} has no tensor {name!r}; it has {', '.join(sorted(self._content))}.")
        self._left.discard(name)
        tensor = self._content[name].detach()
        wanted = [self.sizes.get(size, size) if isinstance(size, str) else size for size in shape]
        found = tuple(tensor.shape)
        if len(found) != len(wanted) or any(
            not isinstance(size, str) and size != of for size, of in zip(wanted, found, strict=True)
        ):
            text = ", ".join(map(str, wanted))
            raise ValueError(f"{self.where} is not read: {name} has shape {found} instead of ({text}).")
        self.sizes |= {size: of for size, of in zip(shape, found, strict=True) if isinstance(size, str)}
        values = tensor.to(
            torch.promote_types(tensor.dtype, torch.float32) if tensor.is_floating_point() else torch.float64
        )
        values = values.to(torch.float32).numpy()
        n_bad = values.size - np.count_nonzero(np.isfinite(values))
        if n_bad and finite:
            raise ValueError(f"{self.where} is not read: {name} holds {n_bad} NaN or infinite values.")
        return values

    def number(self, name: str) -> float:
        """Return a tensor of one number, with all its digits."""
        self.take(name)
        return self._content[name].item()

    def finish(self) -> None:
        """
        Make sure that nothing is left.

        Raises
        ------
        ValueError
            If there are tensors that nobody has asked for: they may change codes.
        """
        _refuse_unknown(self.where, self._left, self._ignore)


def _refuse_unknown(where, names, ignore):
    unknown = sorted(set(names) - set(ignore))
    if unknown:
        raise ValueError(
            f"{where} is not read: {', '.join(unknown)} is not known here and may change codes. If you know that it "
            f"does not, pass ignore={unknown!r}."
        )


def _load_safetensors(content):
    from safetensors.torch import load

    return load(content)


def _load_torch(content):
    import torch

    return torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)


def _load_numpy(content):
    import torch

    with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
        return {
            name: torch.from_numpy(np.ascontiguousarray(arrays[name]).reshape(arrays[name].shape)) for name in arrays
        }


_READERS = {".safetensors": _load_safetensors, ".pt": _load_torch, ".npz": _load_numpy}
