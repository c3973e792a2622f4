"""Files of installed packages."""

import importlib.util
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from skfactors.files import checksum


def file_in_package(module: str, name: str, install: str) -> Path:
    """
    Find a file of an installed package without importing the package, which may take seconds.

    Parameters
    ----------
    module : str
        The name that the package is imported by.
    name : str
        The file's path inside the package.
    install : str
        The command that installs the package.

    Returns
    -------
    Path

    Raises
    ------
    ModuleNotFoundError
        If the package is not installed.
    FileNotFoundError
        If it has no such file.
    """
    spec = importlib.util.find_spec(module)
    if spec is None or not spec.submodule_search_locations:
        raise ModuleNotFoundError(
            f"{Path(name).name} is read from the package {module}, which is not installed. Run `{install}`.",
            name=module,
        )
    path = Path(next(iter(spec.submodule_search_locations)), name)
    if not path.is_file():
        raise FileNotFoundError(
            f"The installed package {module} lacks {path}. Run `{install} --force-reinstall --no-deps`."
        )
    return path


def check_sha256(path: Path, sha256: str, install: str) -> None:
    """
    Check that a file of a package is the one that this library knows.

    Raises
    ------
    RuntimeError
        If it is another.
    """
    found = checksum(path)
    if found != sha256:
        raise RuntimeError(
            f"{path} was altered or cut short: its sha256 is {found}, not {sha256}. "
            f"Reinstall the package: `{install} --force-reinstall --no-deps`."
        )


@contextmanager
def named_damage(path: Path, remedy: str) -> Iterator:
    """
    Name the file and what to do in whatever is raised by reading a damaged one.

    Parameters
    ----------
    path : Path
    remedy : str
        A command.

    Raises
    ------
    RuntimeError
        For any error.
    """
    try:
        yield
    except (ImportError, MemoryError):
        raise
    # Whatever decompressors and parsers make of damage.
    except Exception as error:
        reason = f"{type(error).__name__}: {error}".splitlines()[0]
        raise RuntimeError(f"{path} was altered or cut short ({reason}). Run `{remedy}`.") from error
