import json

import pandas as pd
import pytest

from skfactors.evaluations import EvaluationReport
from skfactors.records import sealed

FACTS = {
    "model": "<b>model</b>",
    "dictionary": "0f",
    "n_components": 8,
    "n_texts": 20,
    "n_resamples": 100,
    "random_state": 0,
    "skfactors": "0.1",
}
DIFFERENCE = ["difference", "difference_low", "difference_high"]
NAMES = ["evaluation", "measure", "scored", "value", "low", "high", *DIFFERENCE, "n_units", "inside", "note"]
NAN = float("nan")


@pytest.fixture
def report():
    rows = [
        ("core", "mcc", "dictionary", 4.0, 3.9, 4.1, NAN, NAN, NAN, 20, "random factors", ""),
        ("core", "mcc", "random factors", 4.05, 3.95, 4.15, -0.05, -0.062, 0.013, 20, "", ""),
        ("loss_recovered", "kl", "dictionary", 0.1, NAN, NAN, NAN, NAN, NAN, 3, "", "3 units; an interval needs 5"),
        ("loss_recovered", "kl", "random factors", 0.4, NAN, NAN, -0.3, NAN, NAN, 3, "", ""),
    ]
    return EvaluationReport(pd.DataFrame(rows, columns=NAMES), FACTS)


def test_it_is_loaded_as_it_was_saved(report, tmp_path):
    report.save(tmp_path / "evaluation")
    assert EvaluationReport.load(tmp_path / "evaluation") == report


def test_one_that_was_saved_without_differences_is_loaded(report, tmp_path):
    report.save(tmp_path)
    file = tmp_path / "evaluation.json"
    content = json.loads(file.read_text())
    del content["sha256"]
    content["format_version"] = 1
    for name in DIFFERENCE:
        del content["table"][name]
    file.write_text(json.dumps(sealed(content)))
    loaded = EvaluationReport.load(tmp_path)
    assert loaded.table[DIFFERENCE].isna().all(axis=None)
    pd.testing.assert_frame_equal(loaded.table.drop(columns=DIFFERENCE), report.table.drop(columns=DIFFERENCE))
    assert "3.900 to 4.100" in repr(loaded)


def test_differences_are_in_every_view(report):
    for view in (repr(report), report._repr_html_()):
        assert "-0.062 to +0.013" in view
        assert "-0.300" in view


def test_a_spreadsheet_holds_the_table(report, tmp_path):
    report.to_csv(tmp_path / "table.csv")
    pd.testing.assert_frame_equal(
        pd.read_csv(tmp_path / "table.csv", keep_default_na=True).fillna({"inside": "", "note": ""}), report.table
    )


def test_a_figure_that_a_control_reaches_is_marked_in_every_view(report):
    for view in (repr(report), report._repr_html_()):
        assert view.count("like random factors") == 1


def test_what_is_not_compared_is_not_said_to_be_told_apart(report):
    lacking = "No figure of the dictionary is compared with a control: figures, controls or intervals are lacking."
    assert "1 of 2 figures of the dictionary are compared with controls; 1 lies within a control's interval" in repr(
        report
    )
    assert lacking in repr(EvaluationReport(report.table[2:], FACTS))
    # Without controls there is nothing to be told apart from; nor is a figure that there is none of.
    alone = report.table[report.table["scored"] == "dictionary"].assign(inside="")
    nothing = report.table.assign(value=report.table["value"].where(report.table["scored"] != "dictionary"), inside="")
    assert lacking in repr(EvaluationReport(alone, FACTS)) and lacking in repr(EvaluationReport(nothing, FACTS))
    equal = report.table.assign(measure="l0", inside="")
    assert lacking in repr(EvaluationReport(equal, FACTS))
    far = report.table[:2].assign(inside="")
    assert "1 of 1 figures of the dictionary are compared with controls; none lies within an interval" in repr(
        EvaluationReport(far, FACTS)
    )


def test_facts_that_a_report_lacks_are_named(report):
    with pytest.raises(ValueError, match="facts lacks skfactors"):
        EvaluationReport(report.table, {name: fact for name, fact in FACTS.items() if name != "skfactors"})
    with pytest.raises(ValueError, match="table lacks note"):
        EvaluationReport(report.table.drop(columns="note"), FACTS)


def test_what_could_not_be_loaded_again_is_refused(report):
    with pytest.raises(ValueError, match="facts has 'comment', which is not known here: leave it out"):
        EvaluationReport(report.table, FACTS | {"comment": "mine"})
    with pytest.raises(ValueError, match="table has 'comment', which is not known here: leave it out"):
        EvaluationReport(report.table.assign(comment="mine"), FACTS)


def test_the_page_loads_nothing_and_escapes_names(report, tmp_path):
    report.to_html(tmp_path / "page.html")
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert "default-src 'none'" in page
    assert "&lt;b&gt;model&lt;/b&gt;" in page and "<b>" not in page


def test_show_prints_measures_and_intervals(report, capsys):
    report.show()
    printed = capsys.readouterr().out
    assert "3.900 to 4.100" in printed
    assert "nan" not in printed


@pytest.mark.parametrize("width", [80, 100, 120])
def test_a_terminal_shows_every_figure_whole(report, width, monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", str(width))
    names = {"mcc": "recovered_from_zero", "random factors": "projections on principal components"}
    table = report.table.replace({"measure": names, "scored": names, "inside": names})
    table.loc[1, DIFFERENCE] = [-0.05, -0.062, -0.013]
    EvaluationReport(table, FACTS).show()
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= width
    ends = dict(zip("┏┃┡│├└", "┓┃┩│┤┘", strict=True))
    assert all(line[-1] == ends[line[0]] for line in lines if line[0] in ends)
    assert sum("-0.062 to -0.013" in line for line in lines) == 1
    assert sum("3.900 to 4.100" in line for line in lines) == 1


def test_a_table_of_before_there_were_differences_can_be_shown(report):
    of_before = EvaluationReport(report.table.drop(columns=DIFFERENCE), FACTS)
    assert of_before.table.columns.tolist() == report.table.columns.tolist()
    assert "3.900 to 4.100" in repr(of_before)


def test_an_altered_file_is_refused(report, tmp_path):
    report.save(tmp_path)
    file = tmp_path / "evaluation.json"
    file.write_text(file.read_text().replace("4.05", "9.05"))
    with pytest.raises(ValueError, match="cut short or altered"):
        EvaluationReport.load(tmp_path)


def test_columns_that_differ_in_length_are_refused(report, tmp_path):
    report.save(tmp_path)
    file = tmp_path / "evaluation.json"
    content = json.loads(file.read_text())
    del content["sha256"]
    content["table"]["value"].pop()
    file.write_text(json.dumps(sealed(content)))
    with pytest.raises(ValueError, match="its columns differ in length"):
        EvaluationReport.load(tmp_path)


def test_a_folder_without_an_evaluation_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError):
        EvaluationReport.load(tmp_path)
