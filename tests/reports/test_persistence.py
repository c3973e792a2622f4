import csv
import json
import os

import numpy as np
import pandas as pd
import pytest

from skfactors.records import sealed
from skfactors.reports import FactorReport

HOSTILE = [
    '=HYPERLINK("http://x")',
    "+1",
    "-1",
    "@SUM(A1)",
    " =1+1",
    "[red]markup[/]",
    "<script>alert('x')</script>",
    "line\nbreak",
    'tab\tand, comma "quotes"',
    "\ud800 lone \udfff",
    "\u05e9\u05dc\u05d5\u05dd \U0001f600",
    "w" * 3000,
]


@pytest.fixture
def report(make_corpus):
    corpus = make_corpus(5, distinct=True)
    return FactorReport.from_codes(corpus.codes, corpus, k=3, top=7, components=np.ones((5, 3)) / 3)


@pytest.fixture
def hostile_report(make_corpus):
    provenance = pd.DataFrame(
        {
            "document": range(len(HOSTILE)),
            "layer": 0,
            "position": 0,
            "start": 0,
            "end": [len(text) for text in HOSTILE],
        }
    )

    class Acts:
        texts = [text + text for text in HOSTILE]
        X = np.zeros((len(HOSTILE), 1))

    Acts.provenance = provenance
    return FactorReport.from_codes(np.eye(len(HOSTILE)), Acts)


def test_a_loaded_report_equals_the_saved_one_to_the_last_bit(report, tmp_path):
    report.save(tmp_path / "made" / "on the way")
    loaded = FactorReport.load(str(tmp_path / "made" / "on the way"))

    assert loaded == report
    assert loaded.totals == report.totals
    for method in ("top_contexts", "importance_by_layer", "summary", "clearest"):
        expected = getattr(report, method)()
        pd.testing.assert_frame_equal(getattr(loaded, method)(), expected, check_exact=True)


def test_hostile_text_comes_back_as_it_was(hostile_report, tmp_path):
    hostile_report.save(tmp_path)
    loaded = FactorReport.load(tmp_path)
    assert loaded == hostile_report
    assert loaded.top_contexts()["token"].tolist()[:-1] == HOSTILE[:-1]


def test_the_report_file_is_plain_ascii_json(hostile_report, tmp_path):
    hostile_report.save(tmp_path)
    content = json.loads((tmp_path / "report.json").read_bytes().decode("ascii"))
    assert content["totals"]["n_documents"] == len(HOSTILE)


def test_spreadsheet_tables_hold_the_numbers_and_all_rows(report, tmp_path):
    report.save(tmp_path)
    importance = pd.read_csv(tmp_path / "importance.csv", index_col="factor")
    np.testing.assert_allclose(importance.to_numpy(), report.importance_by_layer().to_numpy(), rtol=1e-12)
    assert len(pd.read_csv(tmp_path / "contexts.csv")) == len(report.top_contexts())
    summary = pd.read_csv(tmp_path / "summary.csv", index_col="factor")
    assert summary["level"].tolist() == report.summary()["level"].tolist()
    assert list(summary.columns) == list(report.summary().columns)


def test_no_cell_of_a_spreadsheet_begins_a_formula(hostile_report, tmp_path):
    hostile_report.save(tmp_path)
    for name in ("contexts.csv", "summary.csv"):
        with open(tmp_path / name, encoding="utf-8", newline="") as file:
            lines = list(csv.DictReader(file))
        assert len(lines) == len(HOSTILE)
        for line in lines:
            assert not any(cell.lstrip().startswith(tuple("=+-@")) for cell in line.values())
    tokens = [line["top_tokens"] for line in lines]
    assert tokens[1:3] == ["'+1", "'-1"]


def test_characters_that_utf8_cannot_hold_are_escaped_in_spreadsheets(hostile_report, tmp_path):
    hostile_report.save(tmp_path)
    assert r"\ud800 lone \udfff" in (tmp_path / "contexts.csv").read_text(encoding="utf-8")


def test_saving_again_replaces_the_report_and_leaves_nothing_else(report, hostile_report, tmp_path):
    hostile_report.save(tmp_path)
    report.save(tmp_path)
    assert FactorReport.load(tmp_path) == report
    assert sorted(os.listdir(tmp_path)) == [
        "contexts.csv",
        "importance.csv",
        "report.json",
        "summary.csv",
        "tally.safetensors",
    ]


def test_a_save_that_fails_leaves_the_report_before_it(report, tmp_path):
    report.save(tmp_path)
    broken = FactorReport.load(tmp_path)
    broken.totals["l0"] = object()
    with pytest.raises(TypeError):
        broken.save(tmp_path)
    assert FactorReport.load(tmp_path) == report
    assert len(os.listdir(tmp_path)) == 5


def test_a_missing_report_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="report.json"):
        FactorReport.load(tmp_path)


@pytest.mark.parametrize("share", [0.0, 0.3, 0.999])
def test_a_file_cut_short_is_named(report, tmp_path, share):
    report.save(tmp_path)
    file = tmp_path / "report.json"
    content = file.read_bytes()
    file.write_bytes(content[: int(share * len(content))])
    with pytest.raises(ValueError, match="report.json' is damaged: it is not JSON.*Save the report again"):
        FactorReport.load(tmp_path)


@pytest.mark.parametrize("content", [b"[]", b"{}", b'"text"', b'{"format": "another"}'])
def test_another_file_by_that_name_is_refused(tmp_path, content):
    (tmp_path / "report.json").write_bytes(content)
    with pytest.raises(ValueError, match="report.json' does not hold a factor report"):
        FactorReport.load(tmp_path)


@pytest.mark.parametrize("content", [b"\xff\xfe\x00binary", b"[" * 200_000])
def test_a_file_that_is_no_json_is_refused(tmp_path, content):
    (tmp_path / "report.json").write_bytes(content)
    with pytest.raises(ValueError, match="report.json"):
        FactorReport.load(tmp_path)


def test_a_later_format_is_refused_by_its_number(report, tmp_path):
    report.save(tmp_path)
    file = tmp_path / "report.json"
    content = json.loads(file.read_text())
    file.write_text(json.dumps(content | {"format_version": 99}))
    with pytest.raises(ValueError, match="report.json' holds a report of format version 99"):
        FactorReport.load(tmp_path)


def as_before(content, version=2):
    """Return a report as a version wrote it that had no checksum, or none of the files beside it."""
    old = {name: value for name, value in content.items() if name not in ("sha256", "origin", "files")}
    old |= {"format_version": version, "tally": None}
    return old if version == 2 else sealed(old)


def altered(content, *path, value):
    inside = content
    for step in path[:-1]:
        inside = inside[step]
    if value is None:
        del inside[path[-1]]
    else:
        inside[path[-1]] = value
    return content


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (["contexts", "token"], None),
        (["contexts", "factor", 0], 1.5),
        (["contexts", "factor", 0], 99),
        (["contexts", "activation", 0], "high"),
        (["contexts"], []),
        (["contexts", "left"], []),
        (["importance"], [[1.0]]),
        (["importance", 0], [1.0]),
        (["active_rows", 0, 0], -1),
        (["activation_sums", 0, 0], float("inf")),
        (["active_rows", 0, 0], 10**30),
        (["totals", "layers"], None),
        (["totals", "layers"], [0, 2]),
        (["parameters"], []),
        (["histogram"], None),
        (["histogram", "count"], []),
        (["histogram", "bin", 0], 40),
        (["histogram", "layer", 0], 77),
        (["directions", "neighbour", 0], 5),
        (["directions", "similarity", 0], "near"),
    ],
)
def test_a_damaged_report_without_a_checksum_is_refused(report, tmp_path, path, value):
    report.save(tmp_path)
    file = tmp_path / "report.json"
    content = altered(as_before(json.loads(file.read_text())), *path, value=value)
    file.write_text(json.dumps(content))
    with pytest.raises(ValueError, match="report.json' is damaged"):
        FactorReport.load(tmp_path)


def test_a_report_without_a_checksum_loads_as_versions_before_saved_it(report, tmp_path):
    report.save(tmp_path)
    file = tmp_path / "report.json"
    file.write_text(json.dumps(as_before(json.loads(file.read_text()))))
    assert FactorReport.load(tmp_path) == report


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (["contexts", "token", 0], "another"),
        (["contexts", "activation", 0], 7.5),
        (["activation_sums", 0, 0], -1.0),
        (["importance", 0, 0], 1e300),
        (["totals", "explained_variance"], 0.99),
        (["parameters", "k"], 4),
        (["histogram", "count", 0], 1_000_000),
        (["origin", "corpus"], "another"),
        (["files", "tally.safetensors", "sha256"], "0" * 64),
        (["sha256"], None),
    ],
)
def test_a_report_that_was_edited_is_refused(report, tmp_path, path, value):
    report.save(tmp_path)
    file = tmp_path / "report.json"
    file.write_text(json.dumps(altered(json.loads(file.read_text()), *path, value=value)))
    with pytest.raises(ValueError, match="report.json' is damaged: it was cut short or altered, its checksum"):
        FactorReport.load(tmp_path)


def test_a_report_that_was_only_laid_out_anew_loads(report, tmp_path):
    report.save(tmp_path)
    file = tmp_path / "report.json"
    file.write_text(json.dumps(json.loads(file.read_text()), indent=2))
    assert FactorReport.load(tmp_path) == report
