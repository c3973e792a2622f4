import io
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from rich.cells import cell_len
from rich.console import Console

from skfactors.reports import FactorReport
from skfactors.reports.display import context_line, same_decimals, visible

HOSTILE = [
    "[red]markup[/]",
    "[/]",
    "[link=file:///etc]x[/link]",
    "<script>alert('x')</script>",
    "\"quoted\" & 'quoted'",
    "line\nbreak\r\n\tand tab",
    "\x1b[31mescape\x07 bell\x00 null",
    "\N{FAMILY}\U0001f468\u200d\U0001f469\u200d\U0001f467 \U0001f1fa\U0001f1f3",
    "\u05e9\u05dc\u05d5\u05dd \u202eright to left",
    "\ud800 lone \udfff",
    "w" * 5000,
    "\u3042" * 300,
    "",
]


def report_on(texts, unique_documents=True):
    """A report with a factor for each text, active on the token that is the text's middle word or the whole of it."""
    corpus = [f"before it {text} after it" for text in texts]
    n = len(texts)
    provenance = pd.DataFrame(
        {
            "document": range(n),
            "layer": [0, 2] * (n // 2) + [0] * (n % 2),
            "position": 2,
            "start": 10,
            "end": [10 + len(text) for text in texts],
        }
    )
    acts = SimpleNamespace(provenance=provenance, texts=corpus, X=np.zeros((n, 1)))
    codes = np.diag(np.arange(1.0, n + 1))
    return FactorReport.from_codes(codes, acts, unique_documents=unique_documents)


def shown(report, factor, width=100, **arguments):
    file = io.StringIO()
    report.show(factor, console=Console(file=file, width=width), **arguments)
    return file.getvalue()


@pytest.mark.parametrize("width", [40, 100])
@pytest.mark.parametrize("number", range(len(HOSTILE)))
def test_hostile_text_stays_text_on_one_line_of_the_consoles_width(number, width):
    output = shown(report_on(HOSTILE), number, width)
    lines = output.splitlines()
    assert not set(output) & set("\x1b\x07\x00\r\t\u202e\ud800\udfff")
    assert max(cell_len(line) for line in lines) <= width
    assert sum("before it" in line for line in lines) == 1
    assert len(lines) <= 12
    output.encode("utf-8")


@pytest.mark.parametrize("text", ["[red]markup[/]", "[/]", "<script>alert('x')</script>", "\U0001f600"])
def test_text_that_looks_like_markup_is_printed_as_it_is(text):
    assert text in shown(report_on([text, "other"]), 0)


def test_hostile_text_is_escaped_in_the_notebooks_overview():
    page = report_on(HOSTILE)._repr_html_()
    assert "<script" not in page
    assert "&lt;script&gt;" in page
    assert not set(page) & set("\x1b\x07\x00\n\ud800\udfff\u202e")


def test_the_overview_shows_the_clearest_factors(make_corpus):
    corpus = make_corpus(6)
    report = FactorReport.from_codes(corpus.codes, corpus)
    page = report._repr_html_()
    assert "5 factors, layers 0, 2, 10; 6 documents" in page
    assert page.count("<tr>") == 1 + len(report.clearest(10))


def test_a_factor_is_shown_with_its_facts_curve_and_contexts(make_corpus):
    corpus = make_corpus(6, n_documents=12, distinct=True)
    report = FactorReport.from_codes(corpus.codes, corpus)
    facts, contexts = report.summary().loc[1], report.top_contexts(1)

    output = shown(report, 1)

    assert f"Factor 1  {facts['level']}  peak at layer {facts['peak_layer']}" in output
    assert f"active in {facts['frequency']:.2%} of rows" in output
    for value in same_decimals(report.importance_by_layer().loc[1]):
        assert value in output
    strongest = contexts.loc[contexts["activation"].idxmax()]
    first = output.splitlines()[output.splitlines().index(next(x for x in output.splitlines() if "context" in x)) + 1]
    assert first.split()[:2] == [f"{strongest['activation']:.2f}", str(strongest["layer"])]
    assert f"[{strongest['token']}]" in first


def body(output):
    lines = output.splitlines()
    return lines[next(number for number, line in enumerate(lines) if line.startswith("activation")) + 1 :]


def test_contexts_are_the_strongest_over_all_layers_each_document_once(make_corpus):
    corpus = make_corpus(6, n_documents=12, distinct=True)
    report = FactorReport.from_codes(corpus.codes, corpus)
    best = report.top_contexts(1).groupby("document")["activation"].max().sort_values(ascending=False)
    lines = body(shown(report, 1, n=5))
    assert [line.split()[0] for line in lines] == same_decimals(best.head(5))


def test_contexts_can_be_of_one_layer_only(make_corpus):
    corpus = make_corpus(6, n_documents=12)
    report = FactorReport.from_codes(corpus.codes, corpus)
    assert {line.split()[1] for line in body(shown(report, 1, layer=2))} == {"2"}


def test_a_place_active_in_several_layers_is_shown_once_even_where_documents_repeat():
    provenance = pd.DataFrame(
        {"document": 0, "layer": [0, 2, 0], "position": [0, 0, 1], "start": [0, 0, 4], "end": [3, 3, 7]}
    )
    acts = SimpleNamespace(provenance=provenance, texts=["one two"], X=np.zeros((3, 1)))
    report = FactorReport.from_codes(np.array([[1.0], [3.0], [2.0]]), acts, unique_documents=False)
    assert [line.split()[0] for line in body(shown(report, 0))] == ["3.00", "2.00"]


def test_a_factor_that_never_fires_says_so(make_corpus):
    corpus = make_corpus(6)
    output = shown(FactorReport.from_codes(corpus.codes, corpus), 4)
    assert "Factor 4  flat" in output
    assert "not active here" in output


def test_many_layers_wrap_within_the_width():
    n_layers = 40
    provenance = pd.DataFrame({"document": 0, "layer": range(n_layers), "position": 0, "start": 0, "end": 3})
    acts = SimpleNamespace(provenance=provenance, texts=["one two"], X=np.zeros((n_layers, 1)))
    output = shown(FactorReport.from_codes(np.arange(1.0, 41.0)[:, None], acts), 0, width=80)
    assert max(map(cell_len, output.splitlines())) <= 80
    assert sum("importance" in line for line in output.splitlines()) == 4


@pytest.mark.parametrize(
    ("arguments", "error"),
    [({"factor": 99}, ValueError), ({"factor": 0, "n": 0}, ValueError), ({"factor": 0, "layer": 7}, ValueError)],
)
def test_show_refuses_what_there_is_none_of(make_corpus, arguments, error):
    corpus = make_corpus(6)
    report = FactorReport.from_codes(corpus.codes, corpus)
    with pytest.raises(error):
        report.show(**arguments)


@pytest.mark.parametrize("left", ["short ", "a much longer left context that does not fit ", "\u3042" * 60, ""])
def test_the_token_begins_at_the_same_cell_whatever_is_left_of_it(left):
    line = context_line(left, "token", " and what follows it on the right", 60, marked=True)
    before = line.plain[: line.plain.index("[token]")]
    assert cell_len(before) == 29 - 1
    assert line.cell_len <= 60


def test_colours_set_the_token_apart_where_there_are_any():
    file = io.StringIO()
    console = Console(file=file, width=100, force_terminal=True, color_system="standard")
    report_on(["token", "other"]).show(0, console=console)
    assert "\x1b[" in file.getvalue()
    assert "[token]" not in file.getvalue()


def test_visible_text_keeps_letters_emoji_and_joiners():
    kept = "\u05e9\u05dc\u05d5\u05dd \U0001f468\u200d\U0001f469 caf\u00e9 \u0645\u06cc\u200c\u0634\u0648\u062f"
    assert visible(kept) == kept
    assert visible("a\nb\tc\x00d\ud800e\u202ef") == "a b c\ufffdd\ufffde\ufffdf"


def test_numbers_side_by_side_have_equally_many_decimals():
    assert same_decimals([12.345, 0.1]) == ["12.3", "0.1"]
    assert same_decimals([0.001234, 0.0]) == ["0.00123", "0.00000"]
    assert same_decimals([0.0, 0.0]) == ["0", "0"]
    assert same_decimals([123456.7]) == ["123457"]
