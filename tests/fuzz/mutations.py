"""What can befall a file: a registry of mutations."""

import io
import json
import os
import pickle
import shutil
from dataclasses import dataclass
from pathlib import Path
from random import Random

import numpy as np
import pandas as pd
from safetensors import SafetensorError
from safetensors.numpy import load, save


@dataclass(frozen=True)
class Victim:
    """
    A file that something befalls.

    Attributes
    ----------
    folder, file : Path
        Of the kind, and a file in it.
    twin_folder, twin : Path
        Another folder of the kind, and the file that has the place of `file` in it.
    outside : Path
        A folder for what links lead to, and for what a pickle would leave.
    """

    folder: Path
    file: Path
    twin_folder: Path
    twin: Path
    outside: Path


class Left:
    """What makes a folder when it is unpickled."""

    def __init__(self, path: Path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


def flip_bit(rng: Random, victim: Victim) -> str:
    """Flip a single bit; the others here say likewise what they did, or None where they can do nothing."""
    content = bytearray(victim.file.read_bytes())
    bit = rng.randrange(8 * len(content))
    content[bit // 8] ^= 1 << bit % 8
    victim.file.write_bytes(content)
    return f"bit {bit} flipped"


def cut_short(rng, victim):
    size = rng.randrange(victim.file.stat().st_size)
    os.truncate(victim.file, size)
    return f"cut to {size} bytes"


def remove(rng, victim):
    victim.file.unlink()
    return "removed"


def lengthen(rng, victim):
    with open(victim.file, "ab") as file:
        file.write(rng.choice([b"\0", b" ", b"\n", b"{}", bytes(5000)]))
    return "lengthened"


def overwrite(rng, victim):
    content = bytearray(victim.file.read_bytes())
    start, size = rng.randrange(len(content)), rng.randint(1, 64)
    content[start : start + size] = rng.randbytes(len(content[start : start + size]))
    victim.file.write_bytes(content)
    return f"{size} bytes from {start} overwritten"


def replace_by_another_kind(rng, victim):
    content = rng.choice([b"", b"{}", b"[]", b"null", b"PAR1PAR1", b"\x02\0\0\0\0\0\0\0{}", rng.randbytes(99)])
    victim.file.write_bytes(content)
    return f"replaced by {content[:20]!r}"


def replace_by_twin(rng, victim):
    shutil.copyfile(victim.twin, victim.file)
    return "replaced by that of another folder"


def replace_by_neighbour(rng, victim):
    others = [path for path in victim.folder.rglob(f"*{victim.file.suffix}") if path.is_file() and path != victim.file]
    if not others:
        return None
    other = rng.choice(sorted(others))
    shutil.copyfile(other, victim.file)
    return f"replaced by {other.name}"


def replace_folder_by_twin(rng, victim):
    if victim.file.parent == victim.folder:
        return None
    shutil.rmtree(victim.file.parent)
    shutil.copytree(victim.twin.parent, victim.file.parent)
    return "its folder replaced by that of another"


def replace_by_link(rng, victim):
    copy = victim.outside / "copy"
    shutil.copyfile(victim.file, copy)
    to = rng.choice([copy, victim.twin, "/dev/zero", "/dev/tty", "/etc/hostname", "nowhere", victim.file.name, "."])
    victim.file.unlink()
    victim.file.symlink_to(to)
    return f"replaced by a link to {to}"


def replace_by_pipe(rng, victim):
    victim.file.unlink()
    os.mkfifo(victim.file)
    return "replaced by a pipe"


def replace_by_folder(rng, victim):
    victim.file.unlink()
    victim.file.mkdir()
    if rng.random() < 0.5:
        (victim.file / "x").touch()
    return "replaced by a folder"


def replace_by_pickle(rng, victim):
    pickled = pickle.dumps(Left(victim.outside / "unpickled"))
    # As it is, and where NumPy keeps objects.
    array = io.BytesIO()
    np.save(array, np.array([Left(victim.outside / "unpickled")], dtype=object))
    victim.file.write_bytes(rng.choice([pickled, array.getvalue()]))
    return "replaced by a pickle"


def replace_by_giant(rng, victim):
    with open(victim.file, "r+b") as file:
        # In a safetensors file, the length of its header.
        file.write(rng.choice([b"", (2**40 - 8).to_bytes(8, "little")]))
        file.truncate(2**40)
    return "lengthened to 2**40 bytes"


def alter_json(rng, victim):
    try:
        content = json.loads(victim.file.read_bytes())
    except ValueError:
        return None
    content, what = altered(rng, content)
    victim.file.write_bytes(dumped(content))
    return what


def lay_out_json_anew(rng, victim):
    if victim.file.suffix != ".json":
        return None
    content = json.loads(victim.file.read_bytes())
    victim.file.write_bytes(json.dumps(content, indent=rng.choice([None, 1, 7]), sort_keys=rng.random() < 0.5).encode())
    return "laid out anew"


def alter_header(rng, victim):
    if victim.file.suffix != ".safetensors":
        return None
    content = victim.file.read_bytes()
    end = 8 + int.from_bytes(content[:8], "little")
    header, what = altered(rng, json.loads(content[8:end]))
    header = dumped(header)
    victim.file.write_bytes(len(header).to_bytes(8, "little") + header + content[end:])
    return f"header: {what}"


def alter_tensors(rng, victim):
    if victim.file.suffix != ".safetensors":
        return None
    content = victim.file.read_bytes()
    arrays = load(content)
    header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
    name = rng.choice(sorted(arrays))
    new, what = _altered_array(rng, arrays.pop(name))
    other = rng.choice(["x", f"{name}x", *sorted(arrays)])
    arrays |= rng.choice([{name: new}, {name: new}, {name: new}, {}, {other: new}])
    named = "removed" if name not in arrays and other not in arrays else f"as {name if name in arrays else other}"
    try:
        victim.file.write_bytes(save(arrays, header.get("__metadata__")))
    except (SafetensorError, KeyError):
        return None
    return f"tensor {name} {what}, {named}"


def _altered_array(rng, array):
    inside = None
    if array.dtype == np.uint8:
        try:
            inside = json.loads(array.tobytes())
        except ValueError:
            pass
    if inside is not None:
        inside, what = altered(rng, inside)
        return np.frombuffer(dumped(inside), dtype=np.uint8), f"with {what}"
    with np.errstate(all="ignore"):
        choices = _spoilt(rng, array)
    what = rng.choice(sorted(choices))
    return np.ascontiguousarray(choices[what]), what


def _spoilt(rng, array) -> dict[str, np.ndarray]:
    spoilt = array.copy()
    if array.size:
        odd = [0, -1, 2**31 - 1, np.nan, np.inf, 1e300] if array.dtype.kind == "f" else [0, 1, -1, 2**62, 255]
        spoilt.ravel()[rng.randrange(array.size)] = np.array(rng.choice(odd)).astype(array.dtype)
    types = [np.float64, np.float16, np.int64, np.int8, np.bool_, np.complex64]
    return {
        "with one other value": spoilt,
        "of another type": array.astype(rng.choice(types)),
        "one shorter": array[:-1] if array.ndim else array,
        "longer": np.concatenate([array, array]) if array.ndim else array,
        "empty": np.zeros(0, array.dtype),
        "of one dimension more": array[None],
        "flat": array.ravel(),
        "backwards": array[::-1] if array.ndim else array,
    }


def alter_parquet(rng, victim):
    if victim.file.suffix != ".parquet":
        return None
    table = pd.read_parquet(victim.file)
    name = rng.choice(sorted(table))
    other = table[name].astype(str)
    choices = {
        "removed": table.drop(columns=name),
        "of texts": table.assign(**{name: other}),
        "of numbers that are huge": table.assign(**{name: 2**62}),
        "of negative numbers": table.assign(**{name: -1}),
        "of gaps": table.assign(**{name: np.nan}),
        "renamed": table.rename(columns={name: "x"}),
        "one shorter, as all": table[:-1],
        "longer, as all": pd.concat([table, table]),
    }
    what = rng.choice(sorted(choices))
    choices[what].to_parquet(victim.file, index=False)
    return f"column {name} {what}"


# What is to stand in JSON for what `json.dumps` cannot say.
_RAW = {"raw deep": "[" * 100_000 + "]" * 100_000, "raw huge": "1e999", "raw long": "9" * 5000}
_ODD = (
    None,
    True,
    False,
    -1,
    0,
    1,
    7,
    0.5,
    2**31,
    2**63,
    -(2**63),
    10**400,
    1e308,
    float("nan"),
    float("inf"),
    "",
    "x",
)
_ODD += ("x" * 5000, "\ud800", "../x", "/dev/zero", "a\nb", [], [[]], [1], {}, {"x": 1}, *_RAW)


def altered(rng: Random, value) -> tuple[object, str]:
    """Alter JSON somewhere; return it, and what was done."""
    if isinstance(value, str) and value[:1] in ("{", "["):
        try:
            inside, what = altered(rng, json.loads(value))
            return dumped(inside).decode(), f"inside a text: {what}"
        except ValueError:
            pass
    if isinstance(value, (dict, list)) and value and rng.random() < 0.8:
        keys = sorted(value) if isinstance(value, dict) else range(len(value))
        key = rng.choice(keys)
        if rng.random() < 0.7:
            new, what = altered(rng, value[key])
            copy = value.copy()
            copy[key] = new
            return copy, f"[{key!r}] {what}"
        return _altered_container(rng, value, key)
    if type(value) in (int, float) and rng.random() < 0.5:
        new = rng.choice([value + 1, value - 1, -value, value * 1000, float(value), value / 3])
    else:
        new = rng.choice(_ODD)
    return new, f"made {str(new)[:20]!r} of {str(value)[:20]!r}"


def _altered_container(rng, value, key):
    if isinstance(value, list):
        new = rng.choice([value[:-1], value + value[:1], value[:key] + value[key + 1 :], value[::-1]])
        return new, f"made a list of {len(new)} of one of {len(value)}, or turned it"
    others = {name: of for name, of in value.items() if name != key}
    other = rng.choice([*sorted(value), "x"])
    choices = {
        "removed": others,
        "doubled as x": value | {"x": value[key]},
        f"renamed {other}": others | {other: value[key]},
    }
    what = rng.choice(sorted(choices))
    return choices[what], f"[{key!r}] {what}"


def dumped(content) -> bytes:
    """Return JSON as bytes, with what only hand-made JSON holds."""
    text = json.dumps(content)
    for name, raw in _RAW.items():
        text = text.replace(f'"{name}"', raw)
    return text.encode()


BLUNT = (
    cut_short,
    remove,
    lengthen,
    overwrite,
    replace_by_another_kind,
    replace_by_twin,
    replace_by_neighbour,
    replace_folder_by_twin,
    replace_by_link,
    replace_by_pipe,
    replace_by_folder,
    replace_by_pickle,
    replace_by_giant,
    lay_out_json_anew,
)
# What a person can do who also makes the checksums anew.
SUBTLE = (alter_json, alter_json, alter_header, alter_tensors, alter_tensors, alter_parquet)
