"""The page of an evaluation in Chromium, opened from disk. Where there is no browser, every test skips and says so."""

import pandas as pd
import pytest
from support.explorer_pages import HOSTILE

from skfactors.evaluations import EvaluationReport

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")

NAMES = ("evaluation", "measure", "scored", "value", "low", "high")
NAMES += ("difference", "difference_low", "difference_high", "n_units", "inside", "note")
NAN = float("nan")
# Columns of pandas hold no lone surrogates.
TEXTS = [text for text in HOSTILE if "\ud800" not in text]


@pytest.fixture(scope="module")
def page_file(tmp_path_factory):
    """A page on which every name that somebody else can choose is a hostile one."""
    rows = []
    for number, text in enumerate(TEXTS):
        rows += [
            ("core", f"measure_{number}", "dictionary", 0.5, 0.4, 0.6, NAN, NAN, NAN, 20, text, ""),
            ("core", f"measure_{number}", text, 0.5, 0.3, 0.7, 0.0, -0.1, 0.1, 20, "", text),
            (
                "core",
                f"measure_{number}",
                "random factors",
                NAN,
                NAN,
                NAN,
                NAN,
                NAN,
                NAN,
                3,
                "",
                "3 units; an interval needs 5",
            ),
        ]
    facts = {"model": HOSTILE[0], "dictionary": "0f" * 32, "n_components": 8, "n_texts": 20}
    facts |= {"n_resamples": 100, "random_state": 0, "skfactors": "0.1"}
    path = tmp_path_factory.mktemp("page") / "evaluation.html"
    EvaluationReport(pd.DataFrame(rows, columns=NAMES), facts).to_html(path)
    return path


@pytest.fixture
def open_page(browser, page_file):
    """Return a function that opens the page; the test fails on any request, error or dialog."""
    contexts, complaints = [], []

    def open_page(**options):
        context = browser.new_context(**options)
        contexts.append(context)
        page = context.new_page()
        page.on("request", lambda request: request.url == page_file.as_uri() or complaints.append(request.url))
        page.on("console", lambda message: complaints.append(message.text))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("dialog", lambda dialog: complaints.append(dialog.message))
        page.goto(page_file.as_uri())
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert complaints == []


def test_names_are_shown_and_never_run(open_page):
    page = open_page()
    assert page.evaluate("window.executed === undefined")
    assert page.locator("h1").inner_text() == f"8 factors of {HOSTILE[0]}, on 20 texts"
    assert page.locator("script, img").count() == 0


def test_figures_that_a_control_reaches_are_marked(open_page):
    assert open_page().locator("tr.dictionary mark").count() == len(TEXTS)


@pytest.mark.parametrize("width", [390, 1200])
def test_nothing_is_wider_than_the_screen(open_page, width):
    page = open_page(viewport={"width": width, "height": 800})
    assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_colours_follow_the_system(open_page):
    colours = [
        open_page(color_scheme=scheme).evaluate("getComputedStyle(document.body).backgroundColor")
        for scheme in ("light", "dark")
    ]
    assert colours == ["rgb(247, 247, 245)", "rgb(21, 23, 26)"]
