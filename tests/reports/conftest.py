"""Small corpora with codes full of ties, and stand-ins for an extractor and for dictionaries."""

import re
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from scipy import sparse
from sklearn.base import BaseEstimator
from support.dictionaries import StandInModel, scaled

WORDS = ["left", "Left", "mind", "park", "light", "of", "42", ".", "\N{GRINNING FACE}", "\u05e9\u05dc\u05d5\u05dd"]


class PartTexts:
    """Some documents of a corpus, to be had by their number and in no other way."""

    def __init__(self, texts):
        self._texts = texts

    def __getitem__(self, number):
        return self._texts[number]


class WordExtractor(BaseEstimator):
    """A row for every word and layer: a vector that the word and the layer determine."""

    def __init__(self, layers=(0, 4, 10), words_a_part=7, width=6, verbose=False):
        self.layers = layers
        self.words_a_part = words_a_part
        self.width = width
        self.verbose = verbose

    def iter_extract(self, texts):
        texts = list(texts)
        words = [
            (document, position, *match.span())
            for document, text in enumerate(texts)
            for position, match in enumerate(re.finditer(r"\S+", text))
        ]
        for first in range(0, max(1, len(words)), self.words_a_part):
            yield self._part(words[first : first + self.words_a_part], texts)

    def _part(self, words, texts):
        rows, vectors = [], []
        for document in sorted({word[0] for word in words}):
            for layer in self.layers:
                for number, position, start, end in words:
                    if number == document:
                        rows.append((document, layer, position, 7, start, end))
                        vectors.append(self._vector(texts[document][start:end], layer))
        columns = ["document", "layer", "position", "token_id", "start", "end"]
        provenance = pd.DataFrame(np.array(rows, dtype=np.int64).reshape(-1, 6), columns=columns)
        X = np.array(vectors, dtype=np.float32).reshape(-1, self.width)
        held = PartTexts({word[0]: texts[word[0]] for word in words})
        return SimpleNamespace(X=X, provenance=provenance, texts=held)

    def _vector(self, word, layer):
        seed = [layer, *(ord(character) for character in word)]
        return np.random.default_rng(seed).normal(size=self.width)


@pytest.fixture
def make_extractor():
    return WordExtractor


@pytest.fixture
def make_dictionary():
    return StandInModel


@pytest.fixture(params=["model", "pipeline"])
def fitted_dictionary(request):
    """Return a dictionary of six features with an intercept, bare and behind a scaler."""
    rows = np.random.default_rng(0).normal(1, 2, size=(20, 6))
    return StandInModel().fit(rows) if request.param == "model" else scaled(rows)


@pytest.fixture
def make_corpus():
    """Return a function from a seed to a random corpus: codes (CSR), provenance, texts, X."""

    def make(seed=0, *, n_documents=6, layers=(0, 2, 10), n_components=5, n_words=9, distinct=False):
        rng = np.random.default_rng(seed)
        texts, rows = [], []
        for document in range(n_documents):
            words = rng.choice(WORDS, size=rng.integers(1, n_words + 1))
            text, spans = "", []
            for word in words:
                text += str(rng.choice(["", " ", "  ", "\n"]))
                spans.append((len(text), len(text) + len(word)))
                text += str(word)
            texts.append(text)
            for layer in layers:
                rows += [(document, layer, position, 7, *span) for position, span in enumerate(spans)]
        provenance = pd.DataFrame(rows, columns=["document", "layer", "position", "token_id", "start", "end"])
        if distinct:
            dense = np.maximum(rng.normal(size=(len(rows), n_components)), 0)
        else:
            dense = rng.choice([0, 0, 0, 0.5, 1.0, 1.25], size=(len(rows), n_components))
        dense[:, -1] = 0
        X = rng.normal(size=(len(rows), 3)).astype(np.float32)
        return SimpleNamespace(codes=sparse.csr_array(dense), provenance=provenance, texts=texts, X=X)

    return make
