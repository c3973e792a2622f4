"""Warnings that point at the user's own line, however deep in the package they arise."""

import sys
import warnings

# What stands between a user's line and this package: wrappers, pipelines and searches, and what those run on.
_BETWEEN = {"skfactors", "sklearn", "joblib", "contextlib", "functools", "concurrent", "threading"}


def warn_caller(message: str, category: type[Warning] = UserWarning) -> None:
    """
    Warn, and name the first line on the way out that is neither of this package nor of what may stand before it.

    Parameters
    ----------
    message : str
    category : type of Warning, default=UserWarning
    """
    frame = sys._getframe(1)
    while frame.f_back is not None and _package_of(frame) in _BETWEEN:
        frame = frame.f_back
    warnings.warn_explicit(
        message,
        category,
        filename=frame.f_code.co_filename,
        lineno=frame.f_lineno,
        module=frame.f_globals.get("__name__"),
        registry=frame.f_globals.setdefault("__warningregistry__", {}),
    )


def _package_of(frame) -> str:
    return frame.f_globals.get("__name__", "").partition(".")[0]
