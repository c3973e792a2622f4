"""Names that a report was given."""

import json

import pandas as pd
import pytest

from skfactors import FactorReport

HOSTILE = "[red]x[/] <script>alert(1)</script> {{script}} \u202e\x1b[31m"


@pytest.fixture
def report(make_corpus):
    corpus = make_corpus()
    return FactorReport.from_codes(corpus.codes, corpus)


@pytest.mark.parametrize("kind", [dict, pd.Series, lambda names: pd.DataFrame({"name": names})])
def test_names_are_in_the_summary(report, kind):
    assert report.summary()["name"].tolist() == [""] * 5
    report.add_names(kind({1: " a river ", 4: "numbers"}))
    assert report.summary()["name"].tolist() == ["", "a river", "", "", "numbers"]


def test_names_that_the_page_exported_are_taken(report, tmp_path):
    file = tmp_path / "factor-names.json"
    file.write_text(json.dumps({"format": "skfactors factor names", "names": {"1": "a river"}}))
    assert report.add_names(file).summary()["name"][1] == "a river"


def test_an_empty_name_takes_the_name_away(report):
    assert report.add_names({1: "a river"}).add_names({1: ""}).summary()["name"][1] == ""


def test_names_are_saved(report, tmp_path):
    report.add_names({4: HOSTILE, 1: "a river"}).save(tmp_path)
    loaded = FactorReport.load(tmp_path)
    assert loaded == report and loaded.summary()["name"].tolist() == report.summary()["name"].tolist()
    assert loaded != FactorReport.load(tmp_path).add_names({4: "other"})


def test_merged_reports_have_the_names_of_all(make_corpus):
    corpus = make_corpus()
    halves = [corpus.provenance["document"] < 3, corpus.provenance["document"] >= 3]
    parts = []
    for half in halves:
        of = type(corpus)(provenance=corpus.provenance[half.to_numpy()], texts=corpus.texts, X=corpus.X[half])
        parts.append(FactorReport.from_codes(corpus.codes[half.to_numpy()], of))
    parts[0].add_names({2: "first", 3: "old"})
    parts[1].add_names({1: "second", 3: "new"})
    assert FactorReport.merge(parts).summary()["name"].tolist() == ["", "second", "first", "new", ""]


def test_a_name_is_text_in_the_terminal_and_in_html(report, capsys):
    report.add_names({0: HOSTILE})
    report.show(0)
    shown = capsys.readouterr().out
    assert "[red]x[/] <script>" in shown and "\x1b" not in shown and "\u202e" not in shown
    assert "<script>" not in report._repr_html_() and "&lt;script&gt;" in report._repr_html_()


def test_the_page_has_the_names_and_no_name_ends_its_element(report, tmp_path):
    report.add_names({0: HOSTILE, 2: "rivers"}).to_html(tmp_path / "page.html")
    page = (tmp_path / "page.html").read_text()
    (held,) = (line for line in page.splitlines() if line.startswith('<script type="application/json"'))
    held = held.removeprefix('<script type="application/json" id="names">').removesuffix("</script>")
    assert json.loads(held) == {"0": report.summary()["name"][0], "2": "rivers"} and "<" not in held


@pytest.mark.parametrize(
    ("names", "error", "said"),
    [
        ({5: "x"}, ValueError, "there is no factor 5"),
        ({"1": "x"}, TypeError, "factor='1' is not an integer"),
        ({1: None}, TypeError, "the name of factor 1 is None"),
        ({1: "x" * 201}, ValueError, "more than 200 characters"),
        (["x"], TypeError, "names is of type list"),
    ],
)
def test_names_that_are_none_are_refused(report, names, error, said):
    with pytest.raises(error, match=said):
        report.add_names(names)
    assert report.summary()["name"].eq("").all()


@pytest.mark.parametrize(
    "content", ['{"names": {"1": "x"}}', "[]", '{"format": "skfactors factor names", "names": {"1": 5}}', "{"]
)
def test_a_file_that_holds_no_names_is_named(report, tmp_path, content):
    (tmp_path / "names.json").write_text(content)
    with pytest.raises(ValueError, match="names.json' is damaged: .* Export the names again"):
        report.add_names(tmp_path / "names.json")
