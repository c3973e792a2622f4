"""Public names that load when they are first asked for, so that importing a package is quick."""

import sys
from importlib import import_module


def attach(package: str, homes: dict[str, str]):
    """
    Make `__getattr__` and `__dir__` for a package whose public names live in other modules.

    Parameters
    ----------
    package : str
        The package's `__name__`.
    homes : dict of str to str
        For each public name the module that it is defined in.

    Returns
    -------
    __getattr__, __dir__ : callable
    """

    def __getattr__(name):
        if name not in homes:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        value = getattr(import_module(homes[name]), name)
        setattr(sys.modules[package], name, value)
        return value

    def __dir__():
        return sorted({*vars(sys.modules[package]), *homes})

    return __getattr__, __dir__
