import csv
import json
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from skfactors.records import sealed
from skfactors.reports import FactorReport, persistence

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
    later = ("sha256", "names", "samples", "shades", "sample_shades", "layout", "outputs")
    later += () if version == 4 else ("origin", "files")
    old = {name: value for name, value in content.items() if name not in later}
    old |= {"format_version": version} | ({} if version == 4 else {"tally": None})
    return old if version == 2 else sealed(old)


def without_later_tables(report):
    """Return a report with the tables that earlier versions had."""
    return FactorReport(replace(report._tables, samples=None, layout=None))


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
    loaded = FactorReport.load(tmp_path)
    assert loaded == without_later_tables(report)
    assert loaded.summary()["coverage"].isna().all() and loaded.sampled_contexts().empty and loaded.patterns().empty


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


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (["totals", "n_components"], 2**31),
        (["totals", "n_components"], True),
        (["totals", "n_rows"], 1),
        (["totals", "n_tokens"], 1),
        (["totals", "l0"], 0.0),
        (["totals", "dead_fraction"], 1.0),
        (["totals", "explained_variance"], 1.5),
        (["totals", "layers"], [2, 0, 10]),
        (["parameters", "k"], 1),
        (["contexts", "activation", 0], 0.0),
        (["contexts", "rank", 0], 2),
        (["contexts", "layer", 0], 10),
        (["contexts", "position", 0], "0"),
        (["active_rows", 0, 0], 1.0),
        (["activation_sums", 0, 4], 1.0),
        (["activation_sums", 0, 0], 1),
        (["histogram", "count", 0], 2**60),
        (["directions", "similarity", 0], 2.0),
        (["saliency"], [{}]),
        (["saliency"], {}),
        (["outputs"], {"speaks_for": ["a"] * 5}),
        (["outputs"], {"speaks_for": ["a"] * 5, "speaks_against": ["b"] * 4}),
        (["outputs"], {"speaks_for": ["a"] * 5, "speaks_against": ["b"] * 5, "loss_effect": ["0"] * 5}),
        (["origin"], {"corpus": None}),
        (["files", "../tally.safetensors"], {"bytes": 1, "sha256": ""}),
        (["samples", "factor", 0], 1),
        (["samples", "activation", 0], 0.0),
        (["samples", "met_before", 0], 1),
        (["samples", "layer", 0], 99),
        (["names", "factor"], [1]),
        (["names"], {"factor": [1, 0], "name": ["a", "b"]}),
        (["names"], {"factor": [99], "name": ["a"]}),
        (["names"], {"factor": [0], "name": [""]}),
        (["new"], 1),
    ],
)
def test_a_report_that_contradicts_itself_is_refused_though_its_checksum_is_right(report, tmp_path, path, value):
    report.save(tmp_path)
    file = tmp_path / "report.json"
    content = altered(json.loads(file.read_text()), *path, value=value)
    del content["sha256"]
    file.write_text(json.dumps(sealed(content)))
    with pytest.raises(ValueError, match="report.json' is damaged: .*Save the report again"):
        FactorReport.load(tmp_path)


@pytest.mark.parametrize("version", [2, 3, 4])
def test_a_report_of_an_earlier_version_has_no_keys_of_a_later_one(report, tmp_path, version):
    report.save(tmp_path)
    file = tmp_path / "report.json"
    content = json.loads(file.read_text())
    old = as_before(content, version)
    file.write_text(json.dumps(old))
    assert FactorReport.load(tmp_path) == without_later_tables(report)
    old.pop("sha256", None)
    newer = "outputs" if version == 4 else "origin"
    old[newer] = content[newer]
    file.write_text(json.dumps(old if version == 2 else sealed(old)))
    with pytest.raises(ValueError, match="report.json' is damaged"):
        FactorReport.load(tmp_path)
    file.write_text(json.dumps(content | {"format_version": version}))
    with pytest.raises(ValueError, match="report.json' is damaged"):
        FactorReport.load(tmp_path)


@pytest.mark.parametrize("name", ["report.json", "tally.safetensors"])
def test_a_flipped_bit_gives_an_error_or_the_very_same_report(report, tmp_path, name):
    report.save(tmp_path)
    file = tmp_path / name
    content = file.read_bytes()
    for bit in np.random.default_rng(0).integers(0, 8 * len(content), 60).tolist():
        flipped = bytearray(content)
        flipped[bit // 8] ^= 1 << bit % 8
        file.write_bytes(flipped)
        try:
            assert FactorReport.load(tmp_path) == report
        except ValueError as error:
            assert name in str(error)


@pytest.mark.parametrize("name", ["report.json", "tally.safetensors"])
@pytest.mark.parametrize("put", [os.mkfifo, lambda path: path.symlink_to("/dev/zero"), Path.mkdir])
def test_what_is_no_plain_file_is_refused_at_once(report, tmp_path, name, put):
    report.save(tmp_path)
    (tmp_path / name).unlink()
    put(tmp_path / name)
    with pytest.raises((ValueError, OSError), match=name):
        FactorReport.load(tmp_path)


def stopped_after(monkeypatch, n_steps):
    replace = os.replace

    def step(*paths):
        nonlocal n_steps
        if n_steps == 0:
            raise KeyboardInterrupt
        n_steps -= 1
        replace(*paths)

    monkeypatch.setattr(os, "replace", step)


@pytest.mark.parametrize("n_steps", range(9))
def test_a_save_that_is_stopped_leaves_the_old_report_or_the_new_one(
    report, hostile_report, tmp_path, monkeypatch, n_steps
):
    hostile_report.save(tmp_path)
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        stopped_after(patch, n_steps)
        report.save(tmp_path)
    found, _ = persistence.read_report(tmp_path, whole=True)
    expected = report if n_steps > 4 else hostile_report
    assert FactorReport(found) == FactorReport.merge([FactorReport.load(tmp_path)]) == expected
    report.save(tmp_path)
    assert len(os.listdir(tmp_path)) == 5


def test_a_report_that_is_saved_while_it_is_read_is_read_as_a_whole(report, hostile_report, tmp_path, monkeypatch):
    hostile_report.save(tmp_path)
    read_member = persistence.read_member

    def saved_meanwhile(*arguments, **options):
        monkeypatch.setattr(persistence, "read_member", read_member)
        report.save(tmp_path)
        return read_member(*arguments, **options)

    monkeypatch.setattr(persistence, "read_member", saved_meanwhile)
    loaded = FactorReport.load(tmp_path)
    assert loaded == FactorReport.merge([loaded]) == report


def test_all_files_are_compared_with_the_report_where_it_is_to_be_whole(report, tmp_path):
    report.save(tmp_path)
    for name in ("summary.csv", "tally.safetensors"):
        content = (tmp_path / name).read_bytes()
        (tmp_path / name).write_bytes(content[:-1])
        with pytest.raises(ValueError, match=name):
            persistence.read_report(tmp_path, whole=True)
        (tmp_path / name).write_bytes(content)
    persistence.read_report(tmp_path, whole=True)


def test_what_the_report_is_of_is_known_without_the_tally(report, tmp_path):
    report.save(tmp_path)
    (tmp_path / "tally.safetensors").unlink()
    assert FactorReport.load(tmp_path).origin == report.origin
    assert len(report.origin["dictionary"]) == 32


@pytest.mark.parametrize(
    ("name", "found"),
    [("config.json", "a dictionary, which FactorModel.load opens"), ("manifest.json", "a store"), ("x", "no report")],
)
def test_a_folder_of_another_kind_is_named(tmp_path, name, found):
    (tmp_path / name).write_text("{}")
    with pytest.raises(FileNotFoundError, match=f"report.json' does not exist: the folder holds {found}"):
        FactorReport.load(tmp_path)


def test_a_file_in_place_of_the_folder_is_named(report, tmp_path):
    report.save(tmp_path)
    with pytest.raises(NotADirectoryError, match="report.json' is a file; load the folder"):
        FactorReport.load(tmp_path / "report.json")
