"""Warnings that point at the line of the user's that caused them."""

import inspect
import os
import warnings
from importlib.util import find_spec
from pathlib import Path

# Packages that stand between a user's line and a warning.
_BETWEEN = tuple(f"{Path(find_spec(name).origin).parent}{os.sep}" for name in ("skfactors", "sklearn", "joblib"))


def warn_caller(message: str, category: type[Warning] = UserWarning) -> None:
    """
    Warn at the nearest line that is in neither this package nor scikit-learn.

    Parameters
    ----------
    message : str
    category : type of Warning, default=UserWarning
    """
    level, frame = 1, inspect.currentframe()
    while frame.f_back is not None and frame.f_code.co_filename.startswith(_BETWEEN):
        level, frame = level + 1, frame.f_back
    warnings.warn(message, category, stacklevel=level)
