"""Planted factors whose tokens have something in common, and rows drawn at random."""

import re
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from scipy import sparse
from support.explorer_pages import report_of_words

from skfactors import SparseDictionary
from skfactors.reports import FactorReport, firing_patterns
from skfactors.reports.contexts import excerpt
from skfactors.reports.counting.tally import Tally
from skfactors.reports.naming import token_name
from skfactors.reports.patterns import is_listed
from skfactors.reports.repetition import is_met_before

PATTERNS = ["repetition", "position", "enumeration", "one token", "numbers", "punctuation", "line breaks"]
NAMES = [*PATTERNS, "words", "noise"]


@pytest.fixture(scope="module")
def planted():
    """Codes, provenance and texts of a corpus in which each factor of `NAMES` does what it is called."""
    random = np.random.default_rng(0)
    texts, rows, codes = [], [], []
    for document in range(60):
        words = [f"w{number}" for number in random.integers(0, 40, 40)]
        first = random.integers(5, 15)
        words[first : first + 7] = ["red", ",", f"w{document}", ",", "blue", "and", "white"]
        places = random.choice(np.arange(23, 40), 7, replace=False)
        for place, word in zip(places, (str(document), "the", "\n", ".", ".", ".", "."), strict=True):
            words[place] = word
        text = " ".join(words)
        texts.append(text)
        for position, match in enumerate(re.finditer(r"\S+|(?<= )\n", text)):
            word, noise = match[0], random.random()
            rows.append((document, 0, position, *match.span()))
            codes.append(
                [
                    word in words[:position] and word.startswith("w"),
                    position in (3, 4),
                    first <= position < first + 7,
                    word == "the",
                    word.isdigit(),
                    word in (".", ","),
                    word == "\n",
                    word.startswith("w") and noise < 0.2,
                    noise < 0.1,
                ]
            )
    provenance = pd.DataFrame(rows, columns=["document", "layer", "position", "start", "end"])
    # A little of everything else, as real codes have it.
    codes = np.array(codes, dtype=float) + 0.05 * (random.random((len(rows), len(NAMES))) < 0.01)
    return codes, provenance, texts


def test_planted_patterns_are_found_as_such(planted):
    found = firing_patterns(*planted)
    assert found["pattern"].tolist() == [*PATTERNS, "", ""]


@pytest.mark.parametrize("window", [0, 1, 3, 10])
def test_a_report_tells_them_too_however_many_words_it_shows(planted, window):
    codes, provenance, texts = planted
    acts = type("Acts", (), {"provenance": provenance, "texts": texts, "X": np.zeros((len(codes), 1))})
    report = FactorReport.from_codes(codes, acts, window=window)
    assert report.summary()["pattern"].tolist() == [*PATTERNS, "", ""]
    pd.testing.assert_frame_equal(report.patterns(), firing_patterns(*planted))


def test_shares_of_a_factor_whose_rows_are_all_drawn_are_counted_exactly(planted):
    codes, provenance, texts = planted
    factor = NAMES.index("one token")
    active = codes[:, factor] > 0
    assert active.sum() <= 100
    tokens = [texts[row.document][row.start : row.end] for row in provenance[active].itertuples()]
    weights = pd.Series(codes[active, factor], index=tokens) / codes[active, factor].sum()
    found = firing_patterns(*planted).loc[factor]
    assert found["one_token"] == pytest.approx(weights["the"].sum())
    assert found["of_kind"] == pytest.approx(weights[[token[0].isalpha() for token in tokens]].sum())


def test_a_factor_that_is_never_or_hardly_active_has_no_pattern(planted):
    codes, provenance, texts = planted
    codes = codes[:, :2] * 0
    codes[:4, 1] = 1
    found = firing_patterns(codes, provenance, texts)
    assert found["pattern"].tolist() == ["", ""] and found["of_kind"].isna().tolist() == [True, False]


@pytest.mark.parametrize(
    ("left", "token", "right", "listed"),
    [
        ("of red, ", "green", ", blue and white", True),
        ("red, green", ",", " blue, white", True),
        ("the Red Sea, the ", "Black", " Sea, and others, too", True),
        ("He was ", "there", ", and then he left.", False),
        ("red, green. ", "Blue", " is left, too.", False),
        ("cats and dogs and ", "mice", " and men", False),
        ("", "alone", "", False),
    ],
)
def test_lists_are_told_by_their_commas(left, token, right, listed):
    assert is_listed(left, token, right) == listed


@pytest.mark.parametrize(
    ("text", "token", "met"),
    [
        ("Bank of the bank", "bank", True),
        ("banks of the bank", "bank", False),
        ("riverbank, and a bank", "bank", False),
        ("working and playing", "ing", True),
        ("an ing is playing", "ing", False),
        ("x. y.", ".", True),
        ("a \n b \n", "\n", False),
        ("bank" + 2000 * " " + "bank", "bank", False),
    ],
)
def test_a_token_is_met_before_as_the_same_whole_or_piece(text, token, met):
    end = text.rindex(token) + len(token)
    assert is_met_before(text, end - len(token), end) == met


def test_word_pieces_are_told_by_a_report_that_shows_no_words_around_them():
    spans = [(start, start + 2) for start in range(0, 60, 2)]
    provenance = pd.DataFrame(spans, columns=["start", "end"]).assign(document=0, layer=0, position=range(30))
    text = "undoingreplay " * 5
    codes = np.array([[float(0 < start % 14 < 10)] for start, _ in spans])
    acts = SimpleNamespace(provenance=provenance, texts=[text], X=np.zeros((30, 1)))
    assert FactorReport.from_codes(codes, acts, window=0).patterns()["kind"].tolist() == ["word pieces"]


@pytest.mark.parametrize("window", [0, 1, 2, 5, 12])
def test_sampled_contexts_have_the_words_of_the_window(large, window):
    report = FactorReport.from_codes(large.codes, large, window=window)
    places = large.provenance.set_index(["document", "layer", "position"])[["start", "end"]]
    contexts = report.sampled_contexts()
    for row in contexts.itertuples():
        start, end = places.loc[row.document, row.layer, row.position]
        assert (row.left, row.token, row.right) == excerpt(large.texts[row.document], start, end, window)
    lengths = contexts[["left", "token", "right"]].map(len).sum(axis=1)
    shades = report.token_activations("samples")
    assert (shades["start"] < shades["end"]).all() and (shades["end"] <= lengths[shades["line"]].to_numpy()).all()


def tally_of(corpus, rows=slice(None)):
    tally = Tally(corpus.codes.shape[1], k=3, top=5, window=4, unique_documents=True)
    for part in np.array_split(np.arange(corpus.codes.shape[0])[rows], 3):
        tally.add(corpus.codes[part], corpus.provenance.iloc[part], corpus.texts)
    return tally


@pytest.fixture
def large(make_corpus):
    return make_corpus(3, n_documents=150, n_words=12, distinct=True)


def test_the_same_rows_are_drawn_however_the_corpus_is_divided(large):
    whole = Tally(large.codes.shape[1], k=3, top=5, window=4, unique_documents=True)
    whole.add(large.codes, large.provenance, large.texts)
    half = large.codes.shape[0] // 2
    merged = tally_of(large, slice(half, None))
    merged.merge(tally_of(large, slice(half)))
    for tally in (tally_of(large), merged):
        pd.testing.assert_frame_equal(tally.samples(), whole.samples())


def test_rows_that_are_drawn_are_active_rows_as_they_are(large):
    samples = tally_of(large).samples()
    samples = samples[samples["factor"] < 5]
    rows = large.provenance.reset_index().set_index(["document", "layer", "position"])["index"]
    at = rows.loc[list(samples[["document", "layer", "position"]].itertuples(index=False, name=None))].to_numpy()
    dense = large.codes.toarray()
    np.testing.assert_array_equal(samples["activation"], dense[at, samples["factor"]])
    assert samples.groupby("factor").size().tolist() == np.minimum((dense > 0).sum(axis=0), 100)[:4].tolist()


def test_every_active_row_is_drawn_as_often_as_the_others():
    codes = sparse.csr_array(np.ones((400, 60)))
    provenance = pd.DataFrame({"document": 0, "layer": 0, "position": range(400), "start": 0, "end": 1})
    tally = Tally(60, k=1, top=1, window=0, unique_documents=True)
    tally.add(codes, provenance, ["x"])
    samples = tally.samples().query("factor < 60")
    counts = np.bincount(samples["position"], minlength=400)
    # Of 60 factors a quarter: 15, with a standard deviation of 3.4.
    assert counts.sum() == 6000 and counts.min() > 1 and counts.max() < 30
    assert counts.std() == pytest.approx(np.sqrt(60 * 0.25 * 0.75), rel=0.15)


def test_sampled_contexts_are_sorted_into_tenths(large):
    report = FactorReport.from_codes(large.codes, large)
    contexts = report.sampled_contexts(1)
    assert (np.diff(contexts["activation"]) <= 0).all()
    assert contexts["quantile"].value_counts().tolist() == [10] * 10
    assert contexts["quantile"].is_monotonic_decreasing
    for _, draws in contexts.groupby("quantile")["draw"]:
        assert sorted(draws) == list(range(1, 11))


@pytest.mark.parametrize(
    ("activations", "quantiles"),
    [([2], [10]), ([1, 3, 2], [10, 7, 4]), ([1, 1, 1, 1], [10, 8, 5, 3]), (range(1, 13), [10, 10, 9, 8, 7, 6])],
)
def test_the_strongest_of_few_contexts_is_of_the_strongest_tenth(activations, quantiles):
    report = report_of_words([" ".join("x" * len(activations))], np.array(activations, dtype=float).reshape(1, -1, 1))
    assert report.sampled_contexts(0)["quantile"].tolist()[: len(quantiles)] == quantiles


def test_coverage_is_the_share_of_the_drawn_rows_on_top_tokens(large):
    report = FactorReport.from_codes(large.codes, large)
    summary = report.summary()
    contexts = report.sampled_contexts(0)
    tokens = summary["top_tokens"][0].split(", ")
    is_top = contexts["token"].str.lower().isin(tokens)
    assert summary["coverage"][0] == pytest.approx(is_top.mean())
    weighted = contexts["activation"][is_top].sum() / contexts["activation"].sum()
    assert summary["activation_coverage"][0] == pytest.approx(weighted)
    assert np.isnan(summary["coverage"][4])


def test_what_is_told_of_real_factors_by_drawn_rows_is_near_what_all_rows_say(demo_activations):
    acts = demo_activations
    dictionary = SparseDictionary(128, n_nonzero_coefs=6, max_iter=1, random_state=0).fit(acts.X)
    codes = dictionary.transform(acts.X).toarray()
    report = FactorReport.from_codes(codes, acts, dictionary=dictionary)
    names = [token_name(token) for token in acts.tokens()]
    errors, n_told = [], 0
    for factor, row in report.summary().iterrows():
        weights = codes[:, factor]
        is_top = np.isin(names, row["top_tokens"].split(", "))
        if 0 < (weights > 0).sum():
            errors.append(row["coverage"] - is_top[weights > 0].mean())
        if row["pattern"] == "punctuation":
            without_letters = [not any(map(str.isalnum, name)) for name in names]
            assert weights[without_letters].sum() > 0.65 * weights.sum()
            n_told += 1
        if row["pattern"] == "one token":
            assert pd.Series(weights).groupby(names).sum().max() > 0.65 * weights.sum()
            n_told += 1
    assert np.abs(errors).max() < 0.2 and np.abs(errors).mean() < 0.05
    assert n_told > 0


@pytest.mark.parametrize("density", [1.0, 0.3, 0.05])
def test_noise_has_no_pattern_however_few_kinds_of_tokens_there_are(density):
    """Each character is a token, so that nearly every one was met before, and some rare ones were not."""
    rng = np.random.default_rng(0)
    letters, shares = np.arange(97, 97 + 40), 1 / np.arange(1, 41) ** 1.5
    texts = ["".join(map(chr, rng.choice(letters, 1200, p=shares / shares.sum()))) for _ in range(30)]
    places = [(document, 0, place, place, place + 1) for document in range(30) for place in range(1200)]
    places = pd.DataFrame(places, columns=["document", "layer", "position", "start", "end"])
    codes = rng.exponential(size=(len(places), 30)) * (rng.random((len(places), 30)) < density)
    assert (firing_patterns(codes, places, texts)["pattern"] == "repetition").mean() <= 1 / 30
