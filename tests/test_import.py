"""Importing the package brings little along: each public name loads when it is first asked for."""

import pkgutil
import subprocess
import sys
from importlib import import_module

import pytest

HEAVY = ("matplotlib", "numba", "torch", "transformers")
LAZY = (
    "skfactors",
    "skfactors.datasets",
    "skfactors.dictionaries",
    "skfactors.evaluations",
    "skfactors.extraction",
    "skfactors.metrics",
    "skfactors.reports",
)


def printed_by(code):
    done = subprocess.run(
        [sys.executable, "-c", f"import sys; sys.path[:] = {sys.path!r}\n{code}"], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


@pytest.mark.parametrize("package", LAZY)
def test_a_package_is_imported_without_what_is_heavy(package):
    assert not set(printed_by(f"import {package}; print(*sys.modules)")) & {*HEAVY, "pandas", "scipy", "rich"}


def test_numbers_of_arrays_need_no_torch():
    code = """
from skfactors.metrics import SCORERS, best_below_l0, dead_fraction, density, description_length, explained_variance
from skfactors.metrics import factor_match, l0, sparsest_within
print(*sys.modules)
"""
    assert not set(printed_by(code)) & set(HEAVY)


@pytest.mark.parametrize("arguments", [["--help"], ["fit", "--help"]])
def test_help_on_the_commands_needs_nothing_heavy(arguments):
    code = f"""
from skfactors.commands import main
try:
    main({arguments!r})
except SystemExit:
    print(*sys.modules)
"""
    assert not set(printed_by(code)) & set(HEAVY)


@pytest.mark.parametrize("package", LAZY)
def test_dir_and_all_name_what_can_be_had(package):
    code = f"import {package}; print(*dir({package}), '|', *{package}.__all__)"
    directory, _, public = " ".join(printed_by(code)).partition("|")
    assert set(public.split()) <= set(directory.split())
    module = import_module(package)
    for name in module.__all__:
        assert getattr(module, name) is not None
    exec(f"from {package} import *", {})
    with pytest.raises(AttributeError, match=f"module '{package}' has no attribute 'nothing'"):
        module.nothing  # noqa: B018


@pytest.mark.parametrize("package", LAZY)
def test_no_module_hides_a_public_name(package):
    module = import_module(package)
    # Importing a module sets it on its package, over whatever had its name.
    assert not {found.name for found in pkgutil.iter_modules(module.__path__)} & set(module.__all__)
