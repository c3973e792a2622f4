import json
import os
import re
import stat

import numpy as np
import pandas as pd
import pytest
from support.explorer_pages import HOSTILE, page_data, report_of_tokens, shade

from skfactors.reports import FactorReport


@pytest.fixture
def report(make_corpus):
    corpus = make_corpus(3, distinct=True)
    components = np.random.default_rng(1).normal(size=(5, 3))
    return FactorReport.from_codes(corpus.codes, corpus, k=3, top=7, components=components)


@pytest.fixture
def page(tmp_path):
    return tmp_path / "factors.html"


def unpacked_contexts(data):
    """The contexts of a page as a table, read entry by entry."""
    held, layers = data["contexts"], data["factors"]["layers"]
    lines, entry = [], 0
    for group, count in enumerate(held["counts"]):
        for rank in range(1, count + 1):
            text = held["text"][entry]
            left, token, right = held["texts"][3 * text : 3 * text + 3]
            place = held["document"][text], held["position"][text]
            factor, slot = divmod(group, len(layers))
            lines.append((factor, layers[slot], rank, held["activation"][entry], token, left, right, *place))
            entry += 1
    return lines


def test_a_page_holds_every_context_of_the_report(report, page):
    report.to_html(page)
    expected = [
        (*line[:3], float(f"{line[3]:.4g}"), *line[4:])
        for line in report.top_contexts().itertuples(index=False, name=None)
    ]
    assert unpacked_contexts(page_data(page)) == expected


def test_a_page_holds_each_text_once(report, page):
    report.to_html(page)
    held = page_data(page)["contexts"]
    places = list(zip(held["document"], held["position"], strict=True))
    assert len(places) == len(set(places)) < len(held["text"])


def test_a_page_holds_the_facts_of_the_summary(report, page):
    report.to_html(page)
    held, summary = page_data(page)["factors"], report.summary()
    assert [held["level_names"][level] for level in held["level"]] == summary["level"].tolist()
    assert held["frequency"] == [float(f"{value:.4g}") for value in summary["frequency"]]
    assert held["peak_layer"][-1] is None
    assert held["clearest"] == report.clearest(5).index.tolist()


def test_a_page_is_the_same_whenever_it_is_written(report, page, tmp_path):
    report.to_html(page)
    report.to_html(tmp_path / "again.html")
    assert page.read_bytes() == (tmp_path / "again.html").read_bytes()


def test_a_page_names_no_other_file_or_address(report, page):
    report.to_html(page)
    text = re.sub(r'(id="data-[^"]+">)[^<]*', r"\1", page.read_text(encoding="utf-8"))
    assert re.findall(r"""(?:src|href)\s*=\s*["'][^"']*["']|url\([^)]*\)|@import""", text) == [
        'href="#title"',
        'href="#view=list"',
        'href="#view=map"',
    ]
    assert set(re.findall(r"https?://[^\"' ]+", text)) == {"http://www.w3.org/2000/svg"}


def test_hostile_text_comes_back_as_it_was_and_is_nowhere_in_the_page_itself(page):
    report_of_tokens(HOSTILE).to_html(page, examples=HOSTILE)
    data = page_data(page)
    *tokens, longest = [line[4] for line in unpacked_contexts(data)]
    assert tokens == HOSTILE[:-1]
    assert longest == "w" * 79 + "…" + "w" * 80
    assert [example["title"] for example in data["examples"]] == HOSTILE
    text = page.read_text(encoding="utf-8")
    assert "window.executed" not in text
    assert text.count("</script>") == len(data) + 2


def test_saliency_is_held_in_the_characters_of_a_browser(page):
    report = report_of_tokens(["\N{GRINNING FACE}x"])
    # The text is "😀x 😀x 😀x".
    shade(report, 0, 0, [(0, 2, -0.25), (3, 4, 0.5), (4, 5, 1.0)], target=1)
    report.to_html(page)
    assert page_data(page)["saliency"] == {"0 0 1": [[0, 3, -0.25], [4, 6, 0.5], [6, 7, 1.0]]}


def test_examples_may_be_strings_and_tables(report, page):
    indexed = pd.DataFrame({"factor": [3]}, index=pd.Index(["left"], name="token"))
    report.to_html(page, examples=["plain", pd.DataFrame({"share": [0.123456]}), indexed])
    assert page_data(page)["examples"] == [
        {"title": "plain", "columns": [], "rows": []},
        {"title": "", "columns": ["share"], "rows": [["0.1235"]]},
        {"title": "", "columns": ["token", "factor"], "rows": [["left", "3"]]},
    ]


@pytest.mark.parametrize(("examples", "named"), [("one text", "list"), ([b"bytes"], r"examples\[0\] is a bytes")])
def test_examples_that_cannot_be_shown_are_named(report, page, examples, named):
    with pytest.raises(TypeError, match=named):
        report.to_html(page, examples=examples)
    assert not page.exists()


def test_a_folder_in_place_of_a_file_is_named(report, tmp_path):
    with pytest.raises(IsADirectoryError, match=re.escape(str(tmp_path))):
        report.to_html(tmp_path)
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("name", ["missing/factors.html", "file/factors.html"])
def test_a_file_in_no_folder_is_named(report, tmp_path, name):
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(OSError, match=re.escape(str(tmp_path / name))):
        report.to_html(tmp_path / name)


def test_a_name_that_the_file_system_refuses_is_named(report, tmp_path):
    path = tmp_path / ("x" * 300)
    with pytest.raises(OSError, match="x{300} cannot be written"):
        report.to_html(path)


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="nothing is read-only to this user")
def test_a_read_only_folder_is_named(report, tmp_path):
    folder = tmp_path / "locked"
    folder.mkdir()
    folder.chmod(stat.S_IRUSR | stat.S_IXUSR)
    with pytest.raises(PermissionError, match=re.escape(str(folder / "factors.html"))):
        report.to_html(folder / "factors.html")


def test_a_page_that_fails_leaves_the_one_before_it(report, page, monkeypatch):
    report.to_html(page)
    before = page.read_bytes()

    def refuse(*arguments):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", refuse)
    with pytest.raises(OSError, match="factors.html cannot be written: No space left"):
        report.to_html(page)
    assert page.read_bytes() == before
    assert os.listdir(page.parent) == [page.name]


def test_the_page_of_a_loaded_report_is_that_of_the_saved_one(report, page, tmp_path):
    report.to_html(page)
    report.save(tmp_path / "report")
    FactorReport.load(tmp_path / "report").to_html(tmp_path / "loaded.html")
    assert (tmp_path / "loaded.html").read_bytes() == page.read_bytes()


def test_page_data_are_json_that_any_parser_reads(report, page):
    report.to_html(page)
    for section in page_data(page).values():
        json.dumps(section, allow_nan=False)
