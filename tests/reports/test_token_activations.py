"""Activations on the other tokens of a context, against a search through all rows."""

import re
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from scipy import sparse
from support.explorer_pages import report_of_words

from skfactors.reports import FactorReport

TEXTS = ["left of the park there is light", "the mind left the \N{GRINNING FACE} park by night", "light"]


def shaded(contexts, shades):
    """By context, the texts of the shaded tokens and their activations."""
    whole = (contexts["left"] + contexts["token"] + contexts["right"]).tolist()
    found = [[] for _ in whole]
    for line, start, end, activation in shades.itertuples(index=False):
        found[line].append((whole[line][start:end], activation))
    return found


def searched(contexts, codes):
    """The same, by looking at every word of the text on either side of the token."""
    words = [text.split() for text in TEXTS]
    first = np.cumsum([0, *map(len, words)])
    found = []
    for context in contexts.itertuples():
        layer = codes[context.layer]
        window = range(context.position - 2, context.position + 3)
        beside = [place for place in window if 0 <= place < len(words[context.document]) and place != context.position]
        held = [
            (words[context.document][place], layer[first[context.document] + place, context.factor]) for place in beside
        ]
        found.append([(word, float(f"{activation:.4g}")) for word, activation in held if activation > 0])
    return found


@pytest.fixture(scope="module")
def codes():
    rng = np.random.default_rng(0)
    n_words = sum(len(text.split()) for text in TEXTS)
    return rng.uniform(size=(2, n_words, 3)) * (rng.uniform(size=(2, n_words, 3)) < 0.6)


@pytest.mark.parametrize("make", [np.asarray, sparse.csr_array])
def test_other_tokens_on_which_a_factor_is_active_are_those_that_a_search_finds(codes, make):
    provenance = pd.DataFrame(
        [
            (document, layer, position, *word.span())
            for layer in (0, 1)
            for document, text in enumerate(TEXTS)
            for position, word in enumerate(re.finditer(r"\S+", text))
        ],
        columns=["document", "layer", "position", "start", "end"],
    )
    acts = SimpleNamespace(provenance=provenance, texts=TEXTS, X=np.zeros((len(provenance), 2)))
    report = FactorReport.from_codes(make(np.concatenate(codes)), acts, window=2, k=4)
    for contexts, of in ((report.top_contexts(), "top"), (report.sampled_contexts(), "samples")):
        assert shaded(contexts, report.token_activations(of)) == searched(contexts, codes)


def test_tokens_around_one_that_is_only_a_mark_are_where_they_stand():
    text = "ab cde\N{COMBINING ACUTE ACCENT} fgh"
    spans = [(0, 2), (3, 4), (4, 5), (5, 6), (6, 7), (8, 11)]
    provenance = pd.DataFrame(spans, columns=["start", "end"]).assign(document=0, layer=0, position=range(6))
    acts = SimpleNamespace(provenance=provenance, texts=[text], X=np.zeros((6, 1)))
    report = FactorReport.from_codes(np.array([[1.0], [1], [1], [1], [5], [1]]), acts, k=1)
    assert report.top_contexts()["token"].tolist() == ["e\N{COMBINING ACUTE ACCENT}"]
    beside = [(text[start:end], 1.0) for start, end in spans if (start, end) != (6, 7)]
    assert shaded(report.top_contexts(), report.token_activations()) == [beside]
    assert shaded(report.sampled_contexts(), report.token_activations("samples"))[0] == beside


def test_token_activations_of_a_loaded_report_are_those_of_the_saved_one(codes, tmp_path):
    report = report_of_words(TEXTS, codes, (0, 1), window=2, k=4)
    report.save(tmp_path)
    for of in ("top", "samples"):
        assert len(report.token_activations(of))
        pd.testing.assert_frame_equal(FactorReport.load(tmp_path).token_activations(of), report.token_activations(of))
    with pytest.raises(ValueError, match="of='all' must be 'top' or 'samples'"):
        report.token_activations("all")
