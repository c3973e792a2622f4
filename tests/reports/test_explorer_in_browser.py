"""The explorer in Chromium, opened from disk. Where there is no browser, every test skips and says so."""

import csv
import io
import json
import re

import numpy as np
import pandas as pd
import pytest
from support.explorer_pages import HOSTILE, page_data, report_of_tokens, report_of_words, shade

from skfactors.reports import FactorReport
from skfactors.reports.explanation import Explanation
from skfactors.reports.explorer.builder import page_of

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


# Browsers tell a page of some events only when they have time, and unpack data beside it. Here both come late in every
# run, so that a test which reads the page too early fails in each, and not in one of a hundred.
ALL_COMES_LATE = """
    {
        const later = setTimeout, add = EventTarget.prototype.addEventListener, json = Response.prototype.json;
        EventTarget.prototype.addEventListener = function (name, run, ...options) {
            const isLate = ["toggle", "hashchange", "scroll", "resize"].includes(name);
            return add.call(this, name, isLate ? (event) => later(run, 60, event) : run, ...options);
        };
        Response.prototype.json = async function () {
            await new Promise((letGo) => later(letGo, 60));
            return json.call(this);
        };
    }
"""
# What the page puts off waits until the test lets it go on: `waiting` holds it.
LATER_WAITS = """
    window.waiting = [];
    const later = setTimeout;
    window.setTimeout = (run, time) => (time === undefined ? waiting.push(run) : later(run, time));
"""
# The same for sections of data that are unpacked after the test has set `held`.
UNPACKING_WAITS = """
    window.waiting = [];
    window.held = false;
    const json = Response.prototype.json;
    Response.prototype.json = async function () {
        if (held) await new Promise((letGo) => waiting.push(letGo));
        return json.call(this);
    };
"""


@pytest.fixture
def open_page(browser):
    """Return a function that opens a file as a reader would; the test fails on any request, error or dialog."""
    contexts, complaints = [], []

    def open_page(path, hash_="", script="", **options):
        context = browser.new_context(**options)
        context.add_init_script(ALL_COMES_LATE)
        context.add_init_script(script)
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


def enter_on(link):
    """Press Enter on a link, and wait until the page has drawn anew what it stands in."""
    link.evaluate("link => (link.dataset.old = true)")
    link.focus()
    link.press("Enter")
    expect(link.page.locator("[data-old]")).to_have_count(0)
    drawn(link.page)


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
        page.locator("#contexts .excerpt").all_text_contents()
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


def report_of_words_on(planted):
    """Report on factors that each fire on single words of single texts, given as (text, word, factor, activation)."""
    texts = [text for text, *_ in planted]
    words = [(number, word) for number, text in enumerate(texts) for word in text.split()]
    codes = np.zeros((1, len(words), 1 + max(factor for *_, factor, _ in planted)))
    for number, (_, word, factor, activation) in enumerate(planted):
        codes[0, words.index((number, word)), factor] = activation
    return report_of_words(texts, codes, window=6, unique_documents=False)


def test_five_planted_words_are_found_as_whole_words_in_names_then_tokens_then_contexts(open_page, tmp_path):
    planted = ["war", "sun", "art", "ice", "oak"]
    within = ["onwards", "sunday", "artful", "office", "cloak"]
    lines = []
    for word_number, (word, longer) in enumerate(zip(planted, within, strict=True)):
        of_part, of_context, of_token = 3 * word_number, 3 * word_number + 1, 3 * word_number + 2
        # What the word is only a part of fires most and most often: it is still found last.
        lines += [(f"they went {longer} that day", longer, of_part, 9.0)] * 4
        lines += [(f"before {word} ended", "ended", of_context, 5.0)]
        lines += [(f"there was {word} then", word, of_token, 1.0)]
    report_of_words_on(lines).to_html(tmp_path / "planted.html")
    page = open_page(tmp_path / "planted.html", "#factor=0")
    for number, word in enumerate(planted):
        page.fill("[name=query]", word)
        assert listed_factors(page) == [3 * number + 2, 3 * number + 1, 3 * number]
        page.keyboard.press("Enter")
        is_shown(page, 3 * number + 2)
    # A name comes before all tokens.
    go_to(page, 4)
    page.fill("#name", "war and peace")
    page.fill("[name=query]", "war")
    assert listed_factors(page)[:2] == [4, 2]


def test_of_factors_found_alike_the_one_that_is_found_more_often_comes_first(open_page, tmp_path):
    lines = [("a light here", "light", 0, 9.0), ("a light there", "light", 1, 1.0), ("one light more", "light", 1, 1.0)]
    report_of_words_on(lines).to_html(tmp_path / "light.html")
    page = open_page(tmp_path / "light.html")
    page.fill("[name=query]", "light")
    assert listed_factors(page) == [1, 0]


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


def test_an_address_with_a_range_and_a_second_factor_that_there_are_none_of_shows_the_first(open_page, file):
    page = open_page(file, "#factor=1&range=999&beside=99")
    assert shown_factor(page) == 1 and page.locator("#contexts section").count() == 1
    assert "none lies in this range" in page.text_content("#contexts")


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


def test_the_longest_name_counts_characters_as_a_report_does(open_page, file, tmp_path):
    name = 200 * "\N{GRINNING FACE}"
    (tmp_path / "named.html").write_text(page_of(page_data(file), {3: name}), encoding="utf-8")
    page = open_page(tmp_path / "named.html", "#factor=3")
    assert page.input_value("#name") == name and page.text_content("#message") == ""


@pytest.mark.parametrize("names", [{3: "x" * 201}, {99: "x"}, {3: 5}, ["x"]])
def test_a_page_whose_names_are_none_opens_without_them_and_says_so(open_page, file, tmp_path, names):
    (tmp_path / "named.html").write_text(page_of(page_data(file), names), encoding="utf-8")
    page = open_page(tmp_path / "named.html", "#factor=3")
    assert shown_factor(page) == 3 and page.input_value("#name") == ""
    expect(page.locator("#message")).to_contain_text("The names in this page are left out: ")
    page.click("#next")
    expect(page.locator("#message")).to_have_text("")


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
    expect(page.locator("#list")).to_be_visible()
    assert not page.is_visible("#title")
    page.locator("#list a").first.click()
    expect(page.locator("#title")).to_be_visible()


def test_back_on_a_phone_leads_from_a_factor_to_the_list_and_forward_again(open_page, file):
    page = open_page(file, viewport={"width": 390, "height": 844})
    assert page.is_visible("#list")
    page.fill("[name=query]", "light")
    page.locator("#list a").nth(1).click()
    expect(page.locator("#title")).to_be_visible()
    opened = page.text_content("#title")
    page.go_back()
    expect(page.locator("#list")).to_be_visible()
    assert page.input_value("[name=query]") == "light"
    page.go_forward()
    expect(page.locator("#title")).to_have_text(opened)
    expect(page.locator("#title")).to_be_visible()


def test_search_filters_theme_and_view_are_in_the_address(open_page, file):
    page = open_page(file, "#factor=2")
    page.fill("[name=query]", "light & <b>")
    page.fill("[name=query]", "light")
    page.select_option("[name=scope]", "contexts")
    page.select_option("[name=sort]", "number")
    page.check("[name=reversed]")
    page.click("#theme")
    page.locator("#histogram a").last.click()
    page.wait_for_selector("#contexts .placed")
    again = open_page(file, "#" + page.url.partition("#")[2])
    assert again.url == page.url
    for what in ("#list", "#ranges [aria-current]", "#contexts"):
        assert again.inner_text(what) == page.inner_text(what)
    for page in (page, again):
        assert page.input_value("[name=query]") == "light" and page.is_checked("[name=reversed]")
        assert page.get_attribute("html", "data-theme") == "dark"
    again.click("#to-map")
    expect(again.locator("#map")).to_be_visible()
    expect(open_page(file, "#" + again.url.partition("#")[2]).locator("#map canvas")).to_be_visible()


def test_an_address_put_into_a_tab_that_shows_the_page_is_followed_in_all_that_it_names(open_page, file):
    page = open_page(file, "#factor=1&scope=contexts&reversed=on")
    page.goto(file.as_uri() + "#factor=2&query=light&sort=number&theme=dark&shade=activation")
    is_shown(page, 2)
    assert page.input_value("[name=query]") == "light" and page.input_value("[name=sort]") == "number"
    assert page.input_value("[name=scope]") == "contexts" and page.is_checked("[name=reversed]")
    assert page.get_attribute("html", "data-theme") == "dark"
    assert {"query=light", "theme=dark", "shade=activation"} <= set(page.url.partition("#")[2].split("&"))
    assert len(listed_factors(page)) < N_FACTORS


def test_500_tab_presses_reach_main_and_leave_it(open_page, tmp_path):
    codes = np.random.default_rng(0).uniform(size=(2, 12, 300))
    report_of_words(["a few words to fire on", "and six more words of another"], codes, (0, 2)).to_html(
        tmp_path / "many.html"
    )
    page = open_page(tmp_path / "many.html")
    inside = []
    for _ in range(500):
        page.keyboard.press("Tab")
        inside.append(page.evaluate("Boolean(document.activeElement.closest('main'))"))
        if inside[-2:] == [True, False]:
            break
    assert any(inside) and not inside[-1]


def test_a_reader_without_a_mouse_searches_opens_reads_and_keeps_the_focus(open_page, file, report):
    page = open_page(file, "#factor=7")
    focused = "document.activeElement.{}"
    page.keyboard.press("/")
    page.keyboard.type("zebras")
    page.keyboard.press("Enter")
    is_shown(page, 5)
    expect(page.locator("#announcement")).to_contain_text("Factor 5, ")
    page.fill("[name=query]", "")
    page.keyboard.press("Escape")
    assert page.evaluate(focused.format("id")) == "title"
    # Through the list with arrows; the row that has the focus opens with Enter and keeps it.
    page.locator("#list a[tabindex='0']").focus()
    for key, place in (("End", -1), ("Home", 0), ("ArrowDown", 1)):
        page.keyboard.press(key)
        assert int(page.evaluate(focused.format("dataset.factor"))) == listed_factors(page)[place]
    page.keyboard.press("Enter")
    is_shown(page, listed_factors(page)[1])
    assert int(page.evaluate(focused.format("dataset.factor"))) == listed_factors(page)[1]
    # What is drawn anew keeps the focus: layers, bars, contexts.
    for within in ("#layers a:not([aria-current])", "#histogram a", "#ranges a"):
        link = page.locator(within).first
        key = link.get_attribute("data-key")
        enter_on(link)
        expect(page.locator(":focus")).to_have_attribute("data-key", key)
    page.locator("#contexts summary").first.focus()
    page.keyboard.press("Enter")
    expect(page.locator("#contexts details p").first).to_contain_text("Document")
    # Where a link has gone, the heading has the focus.
    enter_on(page.locator("#near-direction a").first)
    expect(page.locator("#title")).to_be_focused()


@pytest.mark.parametrize("width", [1360, 390])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing(open_page, report, tmp_path, width, scheme):
    axe = pytest.importorskip(
        "axe_playwright_python.sync_playwright", reason="axe-playwright-python is not installed"
    ).Axe()
    path = tmp_path / "factors.html"
    shade(report, 5, 0, [(0, 4, -0.5), (9, 11, 1.0)], target=1)
    report.to_html(path, examples=[explained()])
    report._tables.saliency.clear()
    for hash_ in (
        "#factor=5&layer=0&query=of",
        "#factor=2&beside=3&range=all",
        "#factor=2&layer=all",
        "#view=list",
        "#view=map",
    ):
        page = open_page(path, hash_, viewport={"width": width, "height": 844}, color_scheme=scheme)
        if hash_ == "#view=list":
            page.click("#filters summary")
            page.click("#menu summary")
        if "layer=0" in hash_:
            page.locator("#contexts summary").first.click()
            page.locator("#examples button").first.click()
        results = axe.run(page)
        assert [
            (one["id"], one["nodes"][0]["html"][:200], one["nodes"][0]["any"][:1])
            for one in results.response["violations"]
        ] == []


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
    assert page.locator("img, iframe, object, main script, #aside script, [onerror]").count() == 0


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
    assert page.text_content("#contexts .excerpt") == TEXTS[1]
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


def explained():
    frame = pd.DataFrame({"position": [0], "token": ["park"], "layer": [2], "factor": [6], "activation": [1.5]})
    frame["top_tokens"] = ["<b>park</b>, parks"]
    states = pd.DataFrame({"position": [0], "token": ["park"], "layer": [2], "unexplained": [0.25]})
    return Explanation("park", frame, states)


def test_an_explained_text_comes_first_and_leads_to_its_factors(open_page, report, tmp_path):
    report.to_html(tmp_path / "explained.html", examples=[explained()])
    page = open_page(tmp_path / "explained.html", "#factor=1")
    expect(page.locator("#examples td").nth(1)).to_have_text("6 1.5 <b>park</b>25% left")
    assert page.locator("main > *").first.get_attribute("id") == "examples"
    page.click("#examples button")
    expect(page.locator("#examples .answer")).to_contain_text("Strongest in this token: 6 ")
    page.click("#examples .answer a")
    is_shown(page, 6)


def test_of_an_explained_text_negative_codes_count_by_their_size(open_page, file, report, tmp_path):
    frame = pd.DataFrame({"position": [0, 0, 1, 1], "token": ["a", "a", "park", "park"], "layer": 2})
    frame = frame.assign(factor=[1, 2, 1, 3], activation=[-5.0, 1.0, 2.0, -3.0], top_tokens="x")
    states = pd.DataFrame({"position": [0, 1], "token": ["a", "park"], "layer": 2, "unexplained": 0.25})
    report.to_html(tmp_path / "explained.html", examples=[Explanation("a park", frame, states)])
    page = open_page(tmp_path / "explained.html")
    assert page.locator("#examples .answer small").all_text_contents() == [" -5.00", " -3.00", " 1.00"]
    page.locator("#examples .token").last.click()
    assert page.locator("#examples .answer small").all_text_contents() == [" -3.00", " 2.00"]


def test_contexts_from_the_whole_range_are_two_of_each_tenth_that_the_report_drew(open_page, file, report):
    page = open_page(file, "#factor=5&range=all")
    expected = report.sampled_contexts(5).query("draw <= 2")
    assert marked_tokens(page) == expected["token"].tolist()
    layers = page.locator("#contexts summary small").all_text_contents()
    assert layers == [f"layer {layer}" for layer in expected["layer"]]
    assert page.locator("#contexts .tenth").count() == expected["quantile"].nunique() == 10


def test_a_bar_of_the_histogram_shows_contexts_of_its_range(open_page, file, report):
    page = open_page(file, "#factor=6&layer=0")
    tallest = report.histogram().query("factor == 6 and layer == 0").sort_values("count").iloc[-1]
    page.locator(f"#histogram a[aria-label$=': {int(tallest['count'])} rows']").first.click()
    page.wait_for_selector("#contexts .placed")
    shown = [float(text) for text in page.locator("#contexts .activation").all_text_contents()]
    assert shown and all(tallest["lower"] * 0.99 <= activation <= tallest["upper"] * 1.01 for activation in shown)


def test_two_factors_are_shown_side_by_side(open_page, file, report):
    page = open_page(file, "#factor=2")
    page.fill("#beside", "5")
    page.keyboard.press("Enter")
    page.wait_for_selector("#contexts.side-by-side")
    peaks = report.summary()["peak_layer"]
    expected = [token for factor in (2, 5) for token in report.top_contexts(factor, peaks[factor])["token"]]
    assert marked_tokens(page) == expected
    page.click("text=Close")
    page.wait_for_selector("#contexts:not(.side-by-side)")


def test_a_context_names_other_factors_than_that_of_its_column(open_page, tmp_path):
    report_of_words(["alpha one beta"], np.array([[[0, 0], [5.0, 4.0], [0, 0]]])).to_html(tmp_path / "two.html")
    page = open_page(tmp_path / "two.html", "#factor=0&beside=1")
    for column, other in ((0, "1 one"), (1, "0 one")):
        context = page.locator("#contexts section").nth(column).locator("details")
        context.locator("summary").click()
        expect(context.locator("p a")).to_have_text([other])


def test_a_context_names_other_factors_before_the_texts_can_be_searched(open_page, large_file):
    page = open_page(large_file, "#factor=0&layer=0", script=LATER_WAITS)
    page.locator("#contexts summary").first.click()
    expect(page.locator("#contexts details p a").first).to_be_visible()
    named = {int(text.split()[0]) for text in page.locator("#contexts details p a").all_text_contents()}
    assert named and 0 not in named


def test_tokens_beside_the_marked_one_are_shaded_by_how_active_the_factor_is_on_them(open_page, tmp_path):
    codes = np.array([0, 1.0, 4.0, 0, 2.0]).reshape(1, 5, 1)
    report_of_words(["none weak strong none half"], codes).to_html(tmp_path / "shaded.html")
    page = open_page(tmp_path / "shaded.html")
    assert page.text_content("#contexts mark") == "strong"
    shaded = page.locator("#contexts .shaded")
    assert shaded.all_text_contents() == ["weak", "half"]
    assert [one.get_attribute("title") for one in shaded.all()] == ["25 %", "50 %"]


def test_a_point_of_the_map_leads_to_its_factor(open_page, file):
    page = open_page(file, "#view=map")
    page.locator("#map canvas").focus()
    before = page.text_content("#map-label")
    for key in ("ArrowLeft", "ArrowUp", "ArrowRight", "ArrowDown"):
        page.keyboard.press(key)
    expect(page.locator("#map-label")).not_to_have_text(before)
    factor = int(page.text_content("#map-label").split()[0])
    page.keyboard.press("Enter")
    is_shown(page, factor)
    expect(page.locator("article")).to_be_visible()


def test_the_map_opens_at_the_factor_that_is_shown(open_page, file):
    page = open_page(file, "#factor=1&view=map")
    expect(page.locator("#map-label")).to_contain_text("1 ")
    go_to(page, 5)
    page.keyboard.press("m")
    expect(page.locator("#map-label")).to_contain_text("5 ")
    page.locator("#map canvas").focus()
    page.keyboard.press("Enter")
    is_shown(page, 5)


def test_nobody_points_at_a_map_before_it_is_here(open_page, file):
    page = open_page(file, "#factor=1&view=map")
    expect(page.locator("#map-label")).to_contain_text("1 ")
    where = page.locator("#map canvas").bounding_box()
    page = open_page(file, "#factor=1", script=UNPACKING_WAITS)
    page.evaluate("held = true")
    page.keyboard.press("m")
    expect(page.locator("article")).to_be_hidden()
    for share in (0.4, 0.5, 0.6):
        page.mouse.move(where["x"] + share * where["width"], where["y"] + share * where["height"])
    page.evaluate("waiting.forEach((letGo) => letGo())")
    expect(page.locator("#map-label")).to_contain_text("1 ")
    expect(page.locator("#map canvas")).to_be_visible()


def test_left_and_right_scroll_the_table_of_a_text_and_leave_the_factor(open_page, report, tmp_path):
    wide = pd.DataFrame({f"a wide column {number}": ["some text"] for number in range(40)})
    report.to_html(tmp_path / "wide.html", examples=[wide])
    page = open_page(tmp_path / "wide.html", "#factor=3")
    table = page.locator("#examples .scrolled")
    table.focus()
    page.keyboard.press("ArrowRight")
    expect(table).not_to_have_js_property("scrollLeft", 0)
    assert shown_factor(page) == 3


def test_a_page_without_a_map_says_so(open_page, file, tmp_path):
    (tmp_path / "none.html").write_text(page_of(page_data(file) | {"map": None}, {}), encoding="utf-8")
    page = open_page(tmp_path / "none.html", "#view=map")
    expect(page.locator("#map-legend")).to_have_text("There is no map: the report was made without the dictionary.")


@pytest.fixture(scope="module")
def large_file(file, tmp_path_factory):
    """A page of 1,600 factors and more than 5,000 texts: those of the small one again and again."""
    sections, times = page_data(file), 200
    of_all = ("layers", "level_names", "edges")
    for name in sections.keys() - {"map", "saliency", "examples"}:
        sections[name] = {
            key: column * times if isinstance(column, list) and key not in of_all else column
            for key, column in sections[name].items()
        }
    n_factors = N_FACTORS * times
    sections["factors"] |= {"n_factors": n_factors, "clearest": list(range(n_factors))}
    assert len(sections["contexts"]["document"]) > 5000
    path = tmp_path_factory.mktemp("explorer") / "large.html"
    path.write_text(page_of(sections | {"map": None}, {}), encoding="utf-8")
    return path


def test_of_many_factors_only_rows_near_those_in_sight_are_drawn(open_page, large_file):
    page = open_page(large_file)
    assert page.text_content("#count") == "1,600 of 1,600 factors"
    assert 5 < page.locator("#list li").count() < 50


def test_a_factor_is_shown_before_many_texts_can_be_searched(open_page, large_file):
    page = open_page(large_file, "#query=wanders&scope=contexts", script=LATER_WAITS)
    assert len(marked_tokens(page)) > 0
    expect(page.locator("#count")).to_have_text("0 of 1,600 factors")
    page.evaluate("waiting.splice(0).forEach(run => run())")
    expect(page.locator("#count")).not_to_have_text("0 of 1,600 factors")
