import io
import unicodedata
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from rich.console import Console

from skfactors.reports import FactorReport, top_contexts
from skfactors.reports.naming import token_name, token_text

BLOB = "ab" * 50_000


def report_of(text, spans):
    """Report on tokens of one text, one factor for each, and a factor that never fires."""
    n = len(spans)
    provenance = pd.DataFrame(spans, columns=["start", "end"]).assign(document=0, layer=0, position=range(n))
    acts = SimpleNamespace(X=np.zeros((n, 1)), provenance=provenance, texts=[text])
    return FactorReport.from_codes(np.eye(n, n + 1), acts)


@pytest.mark.parametrize(
    ("token", "name"),
    [
        (" Left ", "left"),
        ("\n", r"\n"),
        ("\r\n", r"\r \n"),
        ("    ", "space×4"),
        (" ", "space"),
        ("\t\t", r"\t×2"),
        ("\u00a0", "no-break space"),
        ("\u200b", "zero width space"),
        ("\x07", "U+0007"),
        ("", "no text"),
        ("CAFE\u0301", "caf\u00e9"),
    ],
)
def test_every_token_has_a_name_that_can_be_seen(token, name):
    assert token_name(token) == name


def test_factors_of_line_breaks_and_spaces_are_told_from_one_that_never_fires():
    report = report_of("one\n  two", [(0, 3), (3, 4), (4, 6)])
    assert report.summary()["top_tokens"].tolist() == ["one", r"\n", "space×2", ""]
    page = io.StringIO()
    report.show(1, console=Console(file=page, width=80))
    assert r"[\n]" in page.getvalue()


def test_a_token_of_a_whole_file_is_cut_in_the_middle_wherever_it_is_kept(tmp_path):
    report = report_of(f"here {BLOB} ends", [(0, 4), (5, 5 + len(BLOB))])
    token = report.top_contexts(1)["token"][0]
    assert len(token) == 160
    assert token == BLOB[:79] + "…" + BLOB[-80:]
    assert report.top_contexts(1)[["left", "right"]].to_numpy().tolist() == [["here ", " ends"]]
    report.save(tmp_path)
    report.to_html(tmp_path / "page.html")
    assert all(BLOB[:200] not in file.read_text(errors="ignore") for file in tmp_path.iterdir())


@pytest.mark.parametrize(("start", "end"), [(0, 4), (0, 5), (4, 5), (3, 4)])
def test_a_token_that_cuts_a_letter_from_its_marks_is_shown_with_the_whole_letter(start, end):
    text = unicodedata.normalize("NFD", "caf\u00e9 au lait")
    assert token_text(text, start, end).endswith("e\u0301")


def test_sides_begin_after_the_whole_letter():
    text = "e\u0301t"
    provenance = pd.DataFrame({"document": [0], "layer": 0, "position": 0, "start": 0, "end": 1})
    context = top_contexts([[1.0]], provenance, [text]).iloc[0]
    assert (context["token"], context["right"]) == ("e\u0301", "t")
