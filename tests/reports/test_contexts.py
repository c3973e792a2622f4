import time

import numpy as np
import pandas as pd
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from scipy import sparse

from skfactors.reports import top_contexts
from skfactors.reports.contexts import excerpt

COLUMNS = ["factor", "layer", "rank", "activation", "token", "left", "right", "document", "position"]


def slow_left(text, start, window):
    """Try every offset from far to near and take the first that meets the rules."""
    if window == 0:
        return ""
    limit = max(0, start - 16 * window)
    for offset in range(limit, start):
        opens_word = not text[offset].isspace() and (offset == 0 or text[offset - 1].isspace())
        if opens_word and len(text[offset:start].split()) <= window:
            return text[offset:start]
    has_space = any(character.isspace() for character in text[limit:start])
    return "" if has_space else text[limit:start]


def slow_right(text, end, window):
    return slow_left(text[::-1], len(text) - end, window)[::-1]


def slow_top_contexts(codes, provenance, texts, k, by_layer, window, unique_documents):
    codes = np.asarray(codes.todense() if sparse.issparse(codes) else codes)
    lists = {}
    for factor in range(codes.shape[1]):
        for row in range(codes.shape[0]):
            if codes[row, factor] > 0:
                place = provenance.iloc[row]
                key = (factor, int(place["layer"])) if by_layer else (factor,)
                lists.setdefault(key, []).append((float(codes[row, factor]), row))
    lines = []
    for key in sorted(lists):
        entries = sorted(lists[key], key=lambda entry: (-entry[0], entry[1]))
        seen, rank = set(), 0
        for activation, row in entries:
            place = {name: int(value) for name, value in provenance.iloc[row].items()}
            if (unique_documents and place["document"] in seen) or rank == k:
                continue
            seen.add(place["document"])
            rank += 1
            text, start, end = texts[place["document"]], place["start"], place["end"]
            lines.append(
                (
                    key[0],
                    place["layer"],
                    rank,
                    activation,
                    text[start:end],
                    slow_left(text, start, window),
                    slow_right(text, end, window),
                    place["document"],
                    place["position"],
                )
            )
    return lines


def as_lines(contexts):
    return [tuple(line) for line in contexts.itertuples(index=False)]


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("by_layer", [True, False])
@pytest.mark.parametrize("unique_documents", [True, False])
def test_contexts_are_those_that_plain_loops_find(make_corpus, seed, by_layer, unique_documents):
    corpus = make_corpus(seed)
    arguments = {"k": 3, "by_layer": by_layer, "window": 2, "unique_documents": unique_documents}

    contexts = top_contexts(corpus.codes, corpus.provenance, corpus.texts, **arguments)

    assert list(contexts.columns) == COLUMNS
    assert as_lines(contexts) == slow_top_contexts(corpus.codes, corpus.provenance, corpus.texts, **arguments)


def test_dense_codes_give_the_same_contexts_as_sparse_ones(make_corpus):
    corpus = make_corpus(1)
    sparse_contexts = top_contexts(corpus.codes, corpus.provenance, corpus.texts)
    dense_contexts = top_contexts(corpus.codes.toarray(), corpus.provenance, corpus.texts)
    pd.testing.assert_frame_equal(sparse_contexts, dense_contexts)


def test_duplicate_entries_of_a_sparse_array_are_added_and_the_array_stays_as_it_was(make_corpus):
    corpus = make_corpus(1, n_documents=1)
    n_rows = len(corpus.provenance)
    row_ends = np.array([0] + [2] * n_rows)
    codes = sparse.csr_array((np.array([1.0, 2.0]), np.array([0, 0]), row_ends), shape=(n_rows, 1))

    contexts = top_contexts(codes, corpus.provenance, corpus.texts)

    assert contexts["activation"].tolist() == [3.0]
    assert codes.data.tolist() == [1.0, 2.0]


def test_only_activations_above_zero_are_contexts(make_corpus):
    corpus = make_corpus(2)
    contexts = top_contexts(-corpus.codes, corpus.provenance, corpus.texts)
    assert len(contexts) == 0
    assert list(contexts.columns) == COLUMNS


def test_texts_are_asked_for_by_document_number_only(make_corpus):
    corpus = make_corpus(3)

    class Numbered:
        def __getitem__(self, number):
            assert type(number) is int
            return corpus.texts[number - 1000]

    moved = corpus.provenance.assign(document=corpus.provenance["document"] + 1000)
    contexts = top_contexts(corpus.codes, moved, Numbered())
    assert contexts["token"].tolist() == top_contexts(corpus.codes, corpus.provenance, corpus.texts)["token"].tolist()


@given(st.text(alphabet="ab \n\u00a0\u3042\U0001f600", max_size=90), st.data(), st.integers(0, 3))
def test_excerpts_follow_the_rules_that_trying_every_offset_checks(text, data, window):
    start = data.draw(st.integers(0, len(text)))
    end = data.draw(st.integers(start, len(text)))

    left, token, right = excerpt(text, start, end, window)

    assert token == text[start:end]
    assert left == slow_left(text, start, window)
    assert right == slow_right(text, end, window)


@given(st.text(max_size=60), st.data(), st.integers(0, 2))
@example("\ud800 x \udfff", None, 1)
def test_excerpts_are_substrings_within_both_limits(text, data, window):
    start = 3 if data is None else data.draw(st.integers(0, len(text)))
    left, token, right = excerpt(text, start, start, window)
    assert text[:start].endswith(left) and text[start:].startswith(right)
    assert max(len(left), len(right)) <= 16 * window
    assert max(len(left.split()), len(right.split())) <= window


def test_a_context_cut_by_the_character_limit_begins_and_ends_with_whole_words():
    text = "x" * 30 + " near TOKEN next " + "y" * 30
    start = text.index("TOKEN")
    assert excerpt(text, start, start + 5, 2) == ("near ", "TOKEN", " next")


def test_writing_without_spaces_is_bounded_by_characters():
    left, token, right = excerpt("\u3042" * 500, 200, 201, 2)
    assert (len(left), token, len(right)) == (32, "\u3042", 32)


def test_pieces_of_the_tokens_own_word_meet_it():
    assert excerpt("an unbelievable tale", 5, 11, 1) == ("un", "believ", "able")


def test_an_excerpt_of_a_long_text_does_not_read_all_of_it():
    text = "some words " * 200_000
    begin = time.perf_counter()
    for start in range(1_000_000, 1_002_000):
        excerpt(text, start, start + 4, 10)
    # Splitting the text once takes longer than this allows for one excerpt, a hundred times over.
    assert time.perf_counter() - begin < 4


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"k": 0}, ValueError, "k == 0"),
        ({"window": -1}, ValueError, "window == -1"),
        ({"k": 2.5}, TypeError, "k must be"),
        ({"texts": "one string"}, TypeError, "texts is one string"),
        ({"codes": np.full((1, 2), np.nan)}, ValueError, "2 NaN or infinite"),
        ({"codes": np.ones((2, 2))}, ValueError, "2 rows and provenance has"),
        ({"codes": np.ones(3)}, ValueError, "must be a 2D array"),
        ({"codes": np.array([["a"]])}, ValueError, "real numbers"),
    ],
)
def test_bad_arguments_are_named(make_corpus, change, error, message):
    corpus = make_corpus(0, n_documents=2)
    arguments = {"codes": corpus.codes, "provenance": corpus.provenance, "texts": corpus.texts} | change
    with pytest.raises(error, match=message):
        top_contexts(**arguments)


def test_provenance_without_a_column_is_refused_by_name(make_corpus):
    corpus = make_corpus(0)
    with pytest.raises(ValueError, match="lacks the columns \\['start'\\]"):
        top_contexts(corpus.codes, corpus.provenance.drop(columns="start"), corpus.texts)


def test_rows_of_several_sites_are_refused_since_layers_would_mix_them(make_corpus):
    corpus = make_corpus()
    one_site = corpus.provenance.assign(site=pd.Categorical(["mlp_output"] * len(corpus.provenance)))
    assert len(top_contexts(corpus.codes, one_site, corpus.texts))
    several = corpus.provenance.assign(site=np.where(corpus.provenance["layer"] == 0, "hidden_states", "mlp_output"))
    with pytest.raises(ValueError, match=r"sites 'hidden_states', 'mlp_output'.*at\(site="):
        top_contexts(corpus.codes, several, corpus.texts)


def test_provenance_that_is_not_of_integers_is_refused(make_corpus):
    corpus = make_corpus(0)
    provenance = corpus.provenance.assign(start=corpus.provenance["start"] + 0.5)
    with pytest.raises(ValueError, match="'start' holds float64"):
        top_contexts(corpus.codes, provenance, corpus.texts)
