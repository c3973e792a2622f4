"""Files as other tools saved them, and what these tools compute from them: see tests/data/of_other_tools."""

import json
from functools import cache
from pathlib import Path

import numpy as np

from skfactors import load_dictionary

FOLDER = Path(__file__).parents[1] / "data" / "of_other_tools"
NAMES = sorted(str(path.parent.relative_to(FOLDER)) for path in FOLDER.glob("*/*/fixture.json"))
# What only whoever saved a file of overcomplete can say.
_TOLD = ("top_k", "running_threshold", "normalization", "delta", "k", "max_iter", "hard")


@cache
def opened(name):
    """Load a file by what the tool itself would have to be told."""
    return opened_anew(name)


def opened_anew(name, **options):
    """Load a file, and tell more than the tool would have to be told."""
    said = json.loads((FOLDER / name / "fixture.json").read_text(encoding="utf-8"))
    if said["peer"] == "overcomplete":
        options |= {option: said[option] for option in _TOLD if option in said} | {"dict_class": said["class"]}
    return load_dictionary(FOLDER / name, **options)


@cache
def reference(name):
    """Return what the tool computes, and the rows, sites and heads side by side."""
    with np.load(FOLDER / name / "reference.npz") as content:
        found = dict(content)
    if "temporal" not in name:
        found["x"] = found["x"].reshape(len(found["x"]), -1)
    return found


def predicted(model, X):
    """Return what a model makes of rows: a reconstruction, or of a transcoder a prediction."""
    return model.predict(X) if hasattr(model, "predict") else model.reconstruct(X)


def assert_close(found, wanted):
    """Compare rows to a hundred-thousandth of their largest value; what is NaN in the tool is zero here."""
    wanted = np.asarray(wanted, np.float64).reshape(np.shape(found)).reshape(-1, np.shape(found)[-1])
    found = np.asarray(found).reshape(wanted.shape)
    undefined = np.isnan(wanted).all(1)
    wanted = np.where(undefined[:, None], 0, wanted)
    difference = np.abs(found - wanted) / (1 + np.abs(wanted).max(1, keepdims=True))
    assert difference.max() <= 1e-5, f"rows differ by up to {difference.max():.1e}"
