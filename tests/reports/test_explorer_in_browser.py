"""The explorer in Chromium, opened from disk. Where there is no browser, every test skips and says so."""

import csv
import io
import json
import os
import re
import shutil

import numpy as np
import pandas as pd
import pytest
from support.explorer_pages import HOSTILE, report_of_tokens, report_of_words, shade

from skfactors.reports import FactorReport
from skfactors.reports.explanation import Explanation

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
expect = playwright.expect

TEXTS = [
    "the mind wanders far away",
    "a park of zebras at night",
    "he left early and left well",
    "every mind has a park in it",
    "light falls through the leaves",
    "they left the light on",
]
LAYERS = (0, 2, 4)
N_FACTORS = 8


@pytest.fixture(scope="module")
def browser():
    executable = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if executable is None:
        pytest.skip("no Chromium is installed: apt-get install chromium")
    # Chromium has no sandbox for root.
    arguments = ["--no-sandbox"] if hasattr(os, "geteuid") and os.geteuid() == 0 else []
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=executable, args=arguments)
        yield browser
        browser.close()


@pytest.fixture
def open_page(browser):
    """Return a function that opens a file as a reader would; the test fails on any request, error or dialog."""
    contexts, complaints = [], []

    def open_page(path, hash_="", **options):
        context = browser.new_context(**options)
        contexts.append(context)
        page = context.new_page()
        page.on("request", lambda request: _note_request(request.url, path, complaints))
        page.on("console", lambda message: complaints.append(f"console: {message.text}"))
        page.on("pageerror", lambda error: complaints.append(f"error: {error}"))
        page.on("dialog", lambda dialog: complaints.append(f"dialog: {dialog.message}"))
        page.goto(path.as_uri() + hash_)
        drawn(page)
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert complaints == []


def _note_request(url, path, complaints):
    if url.partition("#")[0] != path.as_uri() and not url.startswith("blob:"):
        complaints.append(f"request: {url}")


def drawn(page):
    page.wait_for_selector("main[aria-busy=false]", state="attached")


def go_to(page, factor):
    page.evaluate(f"location.hash = 'factor={factor}'")
    is_shown(page, factor)


def is_shown(page, factor):
    expect(page).to_have_title(f"Factor {factor}")
    drawn(page)


def shown_factor(page):
    return int(page.text_content("#title").removeprefix("Factor "))


def listed_factors(page):
    return [int(number) for number in page.locator("#list a b").all_text_contents()]


def marked_tokens(page):
    return page.locator("#contexts mark").all_text_contents()


@pytest.fixture(scope="module")
def report():
    """Eight factors of known strengths, peaks and frequencies; the last never fires."""
    n_words = sum(len(text.split()) for text in TEXTS)
    rng = np.random.default_rng(0)
    codes = rng.uniform(0.1, 1, size=(len(LAYERS), n_words, N_FACTORS)) * np.arange(1, N_FACTORS + 1)
    for factor in range(N_FACTORS):
        codes[factor % len(LAYERS), :, factor] *= 10
        codes[:, : 3 * (factor % 4), factor] = 0
    codes[:, :, -1] = 0
    zebras = " ".join(TEXTS).split().index("zebras")
    codes[:, zebras, :] = 0
    codes[:, zebras, 5] = 1000
    components = rng.normal(size=(N_FACTORS, 3))
    return report_of_words(TEXTS, codes, LAYERS, k=4, top=5, components=components)


@pytest.fixture(scope="module")
def file(report, tmp_path_factory):
    path = tmp_path_factory.mktemp("explorer") / "factors.html"
    report.to_html(path)
    return path


def test_a_page_opens_from_disk_and_asks_for_nothing_else(open_page, file, report):
    page = open_page(file)
    assert shown_factor(page) == report.clearest(1).index[0]
    assert page.text_content("#count") == "8 of 8 factors"


def test_contexts_are_those_of_the_report_with_activations_and_the_token_marked(open_page, file, report):
    page = open_page(file, "#factor=5&layer=4")
    expected = report.top_contexts(5, 4)
    assert marked_tokens(page) == expected["token"].tolist()
    assert (
        page.locator("#contexts p").all_text_contents()
        == (expected["left"] + expected["token"] + expected["right"]).tolist()
    )
    shown = [float(text) for text in page.locator("#contexts .activation").all_text_contents()]
    np.testing.assert_allclose(shown, expected["activation"], rtol=5e-3)


def test_search_finds_a_planted_token(open_page, file):
    page = open_page(file)
    page.fill("[name=query]", "ZEBRAS")
    page.select_option("[name=scope]", "tokens")
    assert listed_factors(page) == [5]
    page.click("#list a")
    is_shown(page, 5)
    assert "zebras" in page.text_content("#contexts .found mark")


def test_search_in_contexts_finds_what_stands_beside_a_token(open_page, file, report):
    page = open_page(file)
    page.fill("[name=query]", "of zebras at")
    page.select_option("[name=scope]", "contexts")
    contexts = report.top_contexts()
    whole = contexts["left"] + contexts["token"] + contexts["right"]
    expected = set(contexts["factor"][whole.str.contains("of zebras at")])
    assert set(listed_factors(page)) == expected
    page.fill("[name=query]", "nowhere to be found")
    assert listed_factors(page) == []
    assert page.text_content("#count") == "0 of 8 factors"


def test_what_a_search_finds_most_often_comes_first(open_page, file, report):
    page = open_page(file)
    page.fill("[name=query]", "light")
    page.select_option("[name=scope]", "tokens")
    tokens = report.top_contexts()[["factor", "token"]]
    expected = tokens[tokens["token"].str.contains("light")].groupby("factor").size()
    assert expected.nunique() > 1
    assert [expected[factor] for factor in listed_factors(page)] == sorted(expected, reverse=True)


def test_search_finds_a_factor_by_its_name_and_its_number(open_page, file):
    page = open_page(file, "#factor=3")
    page.fill("#name", "Departures")
    page.fill("[name=query]", "depart")
    page.select_option("[name=scope]", "names")
    assert listed_factors(page) == [3]
    page.select_option("[name=scope]", "all")
    page.fill("[name=query]", "#6")
    assert listed_factors(page) == [6]


@pytest.mark.parametrize(
    ("sort", "key"),
    [
        ("number", lambda summary: summary.index),
        ("strength", lambda summary: -summary["peak_importance"]),
        ("frequency", lambda summary: -summary["frequency"]),
        ("peak", lambda summary: summary["peak_layer"].fillna(99)),
        ("level", lambda summary: summary["level"].map(["low", "mid", "high", "flat"].index)),
    ],
)
def test_the_list_is_sorted_as_asked(open_page, file, report, sort, key):
    page = open_page(file)
    page.select_option("[name=sort]", sort)
    summary = report.summary()
    expected = summary.assign(key=key(summary)).sort_values("key", kind="stable").index.tolist()
    assert listed_factors(page) == expected
    page.check("[name=reversed]")
    assert listed_factors(page) == expected[::-1]


@pytest.mark.parametrize(
    ("field", "value", "test"),
    [
        ("level", "low", lambda row: row.level == "low"),
        ("peak", "2", lambda row: row.peak_layer == 2),
        ("least-frequency", "85", lambda row: row.frequency >= 0.85),
        ("most-frequency", "85", lambda row: row.frequency <= 0.85),
        ("least-strength", "30", lambda row: row.peak_importance >= 30),
        ("most-strength", "30", lambda row: row.peak_importance <= 30),
    ],
)
def test_filters_keep_what_they_say(open_page, file, report, field, value, test):
    page = open_page(file)
    page.click("#filters summary")
    is_choice = page.locator(f"[name={field}]").evaluate("element => element.tagName") == "SELECT"
    (page.select_option if is_choice else page.fill)(f"[name={field}]", value)
    expected = {row.Index for row in report.summary().fillna({"peak_layer": -1}).itertuples() if test(row)}
    assert 0 < len(expected) < N_FACTORS
    assert set(listed_factors(page)) == expected
    page.click("text=Clear all")
    expect(page.locator("#list a")).to_have_count(N_FACTORS)


def test_keys_move_through_the_list(open_page, file):
    page = open_page(file)
    page.select_option("[name=sort]", "number")
    go_to(page, 2)
    page.locator("#title").click()
    for key, expected in (("ArrowRight", 3), ("n", 4), ("p", 3), ("ArrowLeft", 2)):
        page.keyboard.press(key)
        is_shown(page, expected)
    page.keyboard.press("/")
    assert page.evaluate("document.activeElement.name") == "query"
    page.keyboard.type("n")
    assert shown_factor(page) == 2
    page.keyboard.press("Escape")
    page.keyboard.press("s")
    page.wait_for_selector("#contexts.side-by-side")


def test_the_last_factor_has_none_after_it(open_page, file):
    page = open_page(file, "#factor=7")
    page.select_option("[name=sort]", "number")
    page.click("#next")
    assert shown_factor(page) == 7


def test_a_random_factor_is_of_the_level_asked_for(open_page, file, report):
    page = open_page(file, "#factor=7")
    page.select_option("#random-level", "low")
    for _ in range(4):
        before = page.title()
        page.click("#random")
        expect(page).not_to_have_title(before)
        assert report.summary()["level"][shown_factor(page)] == "low"


def test_a_fragment_restores_factor_and_layer(open_page, file, report):
    page = open_page(file, "#factor=4&layer=2")
    assert shown_factor(page) == 4
    assert page.text_content("#layers [aria-current]") == "2"
    assert marked_tokens(page) == report.top_contexts(4, 2)["token"].tolist()
    page.click("#layers >> text=side by side")
    page.wait_for_selector("#contexts.side-by-side")
    again = open_page(file, "#" + page.url.partition("#")[2])
    assert again.locator("#contexts h3").all_text_contents() == ["Layer 0", "Layer 2", "Layer 4"]
    assert marked_tokens(again) == report.top_contexts(4)["token"].tolist()
    page.go_back()
    page.wait_for_selector("#contexts:not(.side-by-side)")


@pytest.mark.parametrize(
    "hash_", ["#factor=99", "#factor=-1", "#factor=x&layer=y", "#layer=7", "#<script>", "#factor="]
)
def test_a_fragment_that_leads_nowhere_opens_the_first_factor(open_page, file, report, hash_):
    assert shown_factor(open_page(file, hash_)) == report.clearest(1).index[0]


def test_a_point_of_the_curve_leads_to_its_layer(open_page, file):
    page = open_page(file, "#factor=1")
    page.click("#importance a[aria-label='Layer 4']")
    expect(page.locator("#layers [aria-current]")).to_have_text("4")


def test_the_histogram_counts_the_rows_in_which_the_factor_is_active(open_page, file, report):
    page = open_page(file, "#factor=6&layer=0")
    histogram = report.histogram().query("factor == 6 and layer == 0")
    assert page.text_content("#histogram-caption") == f"Activations in layer 0: {histogram['count'].sum()} rows"
    assert page.locator("#histogram .bar").count() == len(histogram)


@pytest.mark.parametrize("by", ["direction", "contexts"])
def test_factors_near_this_one_are_links_to_them(open_page, file, report, by):
    page = open_page(file, "#factor=2")
    near = report.neighbours(by).query("factor == 2")
    assert page.locator(f"#near-{by} a b").all_text_contents() == near["neighbour"].astype(str).tolist()
    page.locator(f"#near-{by} a").first.click()
    is_shown(page, near["neighbour"].iloc[0])


def test_names_survive_export_and_import(open_page, file, tmp_path):
    page = open_page(file, "#factor=3")
    page.fill("#name", "</script> & \u05e9\u05dc\u05d5\u05dd \U0001f600")
    page.click("#menu summary")
    with page.expect_download() as download:
        page.click("#export-names")
    download.value.save_as(tmp_path / "names.json")
    assert json.loads((tmp_path / "names.json").read_text(encoding="utf-8"))["names"] == {
        "3": "</script> & \u05e9\u05dc\u05d5\u05dd \U0001f600"
    }
    other = open_page(file, "#factor=3")
    assert other.input_value("#name") == ""
    other.set_input_files("#import-names", tmp_path / "names.json")
    expect(other.locator("#message")).to_have_text("Imported names: 1.")
    assert other.input_value("#name") == "</script> & \u05e9\u05dc\u05d5\u05dd \U0001f600"


def test_names_are_in_the_page_that_is_saved_with_them(open_page, file, tmp_path):
    page = open_page(file, "#factor=3")
    page.fill("#name", "</script><script>window.executed = true</script> $& \\u")
    page.click("#menu summary")
    for number in (1, 2):
        with page.expect_download() as download:
            page.click("#save-page")
        saved = tmp_path / f"saved{number}.html"
        download.value.save_as(saved)
        page = open_page(saved, "#factor=3")
        page.click("#menu summary")
        assert page.input_value("#name") == "</script><script>window.executed = true</script> $& \\u"
        assert page.evaluate("window.executed") is None
    assert (tmp_path / "saved1.html").read_bytes() == (tmp_path / "saved2.html").read_bytes()


def test_names_are_still_there_when_the_page_is_opened_again(open_page, file):
    page = open_page(file, "#factor=3")
    page.fill("#name", "leaving")
    page.reload()
    drawn(page)
    assert page.input_value("#name") == "leaving"


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"no json", "cannot be imported"),
        (b"{}", "it holds no factor names"),
        (b'{"format": "skfactors factor names", "names": {"99": "x"}}', "there is no factor 99"),
        (b'{"format": "skfactors factor names", "names": {"1": 5}}', "the name of factor 1 is no text"),
        (b'{"format": "skfactors factor names", "names": {"1": "a", "01": "b"}}', "there is no factor 01"),
        (b'{"format": "skfactors factor names", "names": {"1": "a", "1": "b"}}', "it names a factor twice"),
        (b'{"format": "skfactors factor names", "names": {"1": "%s"}}' % (b"a" * 201), "more than 200 characters"),
        (b'{"format": "skfactors factor names", "names": ["a", "b"]}', "it holds no names by factor"),
        (b'{"format": "skfactors factor names", "names": "ab"}', "it holds no names by factor"),
    ],
)
def test_a_file_without_names_of_these_factors_is_refused(open_page, file, content, said):
    page = open_page(file, "#factor=1")
    page.set_input_files("#import-names", {"name": "names.json", "mimeType": "", "buffer": content})
    expect(page.locator("#message")).to_contain_text(said)
    assert page.input_value("#name") == ""


def test_marks_that_turn_the_line_are_taken_out_of_imported_names(open_page, file):
    page = open_page(file, "#factor=1")
    content = b'{"format": "skfactors factor names", "names": {"1": "a\\u202eb"}}'
    page.set_input_files("#import-names", {"name": "names.json", "mimeType": "", "buffer": content})
    expect(page.locator("#message")).to_have_text("Imported names: 1.")
    assert page.input_value("#name") == "a\ufffdb"


def test_names_that_a_spreadsheet_could_run_are_copied_as_text(open_page, file):
    page = open_page(file, "#factor=1", permissions=["clipboard-read", "clipboard-write"])
    page.fill("#name", "a; =1+1\t@x, well-known")
    page.click("#menu summary")
    page.click("#copy-list")
    expect(page.locator("#message")).to_contain_text("Copied")
    lines = csv.DictReader(io.StringIO(page.evaluate("navigator.clipboard.readText()")))
    assert {line["factor"]: line["name"] for line in lines}["1"] == "a; '=1+1\t'@x, well-known"


def test_the_policy_lets_no_form_be_sent_and_no_address_be_turned(open_page, file):
    page = open_page(file)
    policy = page.get_attribute("meta[http-equiv]", "content")
    assert policy.startswith("default-src 'none'") and "form-action 'none'; base-uri 'none'" in policy


def test_contexts_are_copied_as_csv(open_page, file, report):
    page = open_page(file, "#factor=5&layer=0", permissions=["clipboard-read", "clipboard-write"])
    page.click("#copy-contexts")
    expect(page.locator("#message")).to_have_text("Copied the contexts.")
    lines = list(csv.DictReader(io.StringIO(page.evaluate("navigator.clipboard.readText()"))))
    expected = report.top_contexts(5, 0)
    assert list(lines[0]) == list(expected.columns)
    assert [line["token"] for line in lines] == expected["token"].tolist()


def test_light_and_dark_follow_the_system_and_the_button(open_page, file):
    background = "getComputedStyle(document.body).backgroundColor"
    light = open_page(file, color_scheme="light")
    dark = open_page(file, color_scheme="dark")
    assert light.evaluate(background) != dark.evaluate(background)
    expected = dark.evaluate(background)
    light.click("#theme")
    assert light.evaluate(background) == expected


def test_nothing_is_wider_than_a_phone(open_page, file):
    page = open_page(file, "#factor=2&layer=all", viewport={"width": 360, "height": 740})
    assert page.evaluate("document.documentElement.scrollWidth") == 360
    assert page.is_visible("#title") and not page.is_visible("#list")
    page.click("#to-list")
    assert page.is_visible("#list") and not page.is_visible("#title")
    page.locator("#list a").first.click()
    assert page.is_visible("#title")


def test_hostile_text_is_shown_and_executes_nothing(open_page, tmp_path):
    path = tmp_path / "hostile.html"
    report_of_tokens(HOSTILE).to_html(path, examples=HOSTILE)
    page = open_page(path)
    for factor, token in enumerate(HOSTILE):
        go_to(page, factor)
        # A browser shows a lone surrogate as the replacement character, and of a long token the beginning.
        expected = token.encode("utf-16", "replace" if "\ud800" in token else "surrogatepass").decode("utf-16")
        shown = page.text_content("#contexts mark").replace("\ufffd", "?")
        assert shown.startswith(expected[:79]) or re.sub(r"[^ a-z]", "", shown) == " lone "
    assert page.evaluate("window.executed") is None
    assert page.locator("img, iframe, object, main script, aside script, [onerror]").count() == 0


def test_hostile_text_widens_nothing(open_page, tmp_path):
    path = tmp_path / "hostile.html"
    report_of_tokens(HOSTILE).to_html(path)
    page = open_page(path, f"#factor={len(HOSTILE) - 1}", viewport={"width": 360, "height": 740})
    assert page.evaluate("document.documentElement.scrollWidth") == 360
    assert len(page.text_content("#contexts mark")) == 160


def test_every_token_of_hostile_texts_can_be_found(open_page, tmp_path):
    path = tmp_path / "hostile.html"
    report_of_tokens(HOSTILE).to_html(path)
    page = open_page(path)
    for query, factor in (("<img src=x", 2), ("WINDOW.executed=TRUE", 6), ("w" * 70, 13), ("\u05dc\u05d5", 8)):
        page.fill("[name=query]", query)
        assert listed_factors(page) == [factor]


def test_a_factor_that_never_fires_says_so(open_page, file):
    page = open_page(file, "#factor=7")
    assert "never fires" in page.text_content("#facts")
    assert "not active in this layer" in page.text_content("#contexts")


def test_a_report_of_one_layer_one_document_and_one_factor_opens(open_page, tmp_path):
    report_of_words(["alone"], np.ones((1, 1, 1)), layers=(3,)).to_html(tmp_path / "one.html")
    page = open_page(tmp_path / "one.html")
    assert marked_tokens(page) == ["alone"]
    assert page.locator("#layers a").all_text_contents() == ["3"]
    page.click("#random")
    page.click("#next")
    assert shown_factor(page) == 0


def test_a_report_in_which_nothing_fires_opens(open_page, tmp_path):
    report_of_words(["nothing here"], np.zeros((1, 2, 3))).to_html(tmp_path / "none.html")
    page = open_page(tmp_path / "none.html")
    assert page.text_content("#count") == "3 of 3 factors"
    page.click("#random")
    drawn(page)


def test_tokens_are_shaded_by_saliency_where_there_is_some(open_page, report, tmp_path):
    report.save(tmp_path / "report")
    report = FactorReport.load(tmp_path / "report")
    start = TEXTS[1].index("of")
    shade(report, 5, 0, [(start, start + 2, -0.5), (start + 3, start + 9, 1.0)], target=1)
    report.to_html(tmp_path / "shaded.html")
    page = open_page(tmp_path / "shaded.html", "#factor=5&layer=0")
    assert page.locator("#contexts .shaded").all_text_contents() == ["of", "zebras"]
    assert page.text_content("#contexts p") == TEXTS[1]
    colours = page.locator("#contexts .shaded").evaluate_all(
        "all => all.map(one => getComputedStyle(one).backgroundColor)"
    )
    assert len(set(colours)) == 2


def test_examples_are_shown_as_text_and_tables(open_page, report, tmp_path):
    report.to_html(tmp_path / "examples.html", examples=["<b>mine</b>", report.summary()])
    page = open_page(tmp_path / "examples.html")
    page.wait_for_selector("#examples td")
    assert page.locator("#examples p").first.text_content() == "<b>mine</b>"
    assert page.locator("#examples tbody tr").count() == N_FACTORS


def test_the_page_of_the_demo_model_is_searched_for_a_word_of_its_corpus(open_page, demo_activations, tmp_path):
    from skfactors import SparseDictionary

    dictionary = SparseDictionary(64, alpha=1.0, max_iter=1, random_state=0).fit(demo_activations)
    codes = dictionary.transform(demo_activations)
    report = FactorReport.from_codes(codes, demo_activations, k=5, components=dictionary.components_)
    report.to_html(tmp_path / "demo.html")
    word = report.top_contexts()["token"].loc[lambda tokens: tokens.str.len() > 6].iloc[0]
    page = open_page(tmp_path / "demo.html")
    page.fill("[name=query]", word)
    page.select_option("[name=scope]", "tokens")
    tokens = report.top_contexts()[["factor", "token"]]
    expected = tokens["factor"][tokens["token"].str.lower().str.contains(word.lower(), regex=False)].nunique()
    assert page.text_content("#count") == f"{expected} of 64 factors"


def test_an_explained_text_links_to_its_factors(open_page, report, tmp_path):
    frame = pd.DataFrame({"position": [0], "token": ["park"], "layer": [2], "factor": [6], "activation": [1.5]})
    frame["top_tokens"] = ["<b>park</b>, parks"]
    states = pd.DataFrame({"position": [0], "token": ["park"], "layer": [2], "unexplained": [0.25]})
    report.to_html(tmp_path / "explained.html", examples=[Explanation("park", frame, states)])
    page = open_page(tmp_path / "explained.html", "#factor=1")
    expect(page.locator("#examples td").nth(1)).to_have_text("6 1.5 <b>park</b>25% left")
    page.click("#examples td a")
    is_shown(page, 6)
