"""Windows and provenance: every token once, in its place, with its text."""

from types import SimpleNamespace

import numpy as np
import pytest
import tokenizers
from hypothesis import given, settings
from hypothesis import strategies as st
from support.tiny_models import byte_level_tokenizer, word_piece_tokenizer

from skfactors import Activations, TransformerFeatureExtractor
from skfactors.extraction import windows as cutting
from skfactors.extraction.windows import check_windowing, iter_windows

CORPUS = ["the bank of the river was muddy and the left bank was not", "naïve café, 12 km (7 mi)"]
TOKENIZERS = {"word pieces": word_piece_tokenizer(CORPUS), "bytes": byte_level_tokenizer(CORPUS)}

any_text = st.text(st.characters(), max_size=60) | st.lists(st.sampled_from(CORPUS[0].split()), max_size=60).map(
    " ".join
)


@settings(max_examples=60, deadline=None)
@given(
    texts=st.lists(any_text, min_size=1, max_size=4),
    name=st.sampled_from(sorted(TOKENIZERS)),
    max_length=st.integers(9, 24),
    stride=st.integers(0, 6),
    add_special_tokens=st.booleans(),
)
def test_each_token_is_in_one_windows_rows_once_and_in_order(texts, name, max_length, stride, add_special_tokens):
    tokenizer = TOKENIZERS[name]
    options = {"max_length": max_length, "stride": stride, "add_special_tokens": add_special_tokens}
    for document, (text, windows) in enumerate(iter_windows(iter(texts), tokenizer, **options)):
        assert text == texts[document]
        readable = "".join("\ufffd" if "\ud800" <= character <= "\udfff" else character for character in text)
        whole = tokenizer(readable, add_special_tokens=False, return_offsets_mapping=True, split_special_tokens=True)
        ids = [token for window in windows for token in window.row_ids]
        offsets = [tuple(span) for window in windows for span in window.offsets]
        if text.isspace():
            assert not windows
            continue
        assert ids == whole["input_ids"]
        assert offsets == whole["offset_mapping"]
        assert all(len(window.input_ids) <= max_length and window.document == document for window in windows)
        assert [window.position for window in windows] == list(
            np.cumsum([0, *(window.n_rows for window in windows)])[: len(windows)]
        )


@pytest.mark.parametrize(
    "text", ["[SEP] said [CLS]", "tab\there\x00\x07", "\U0001f600\u200d\U0001f680 a\u0301", "\u202eשלום"]
)
def test_offsets_give_the_tokens_text_back_whatever_the_characters(tiny_models, text):
    for path in tiny_models.values():
        acts = TransformerFeatureExtractor(path, layers=1).extract([text])
        covered = np.zeros(len(text), dtype=bool)
        for row in acts.provenance.itertuples():
            assert 0 <= row.start <= row.end <= len(text)
            covered[row.start : row.end] = True
        assert all(covered[i] for i, character in enumerate(text) if character.isalnum())


def test_special_tokens_written_in_a_text_are_only_text(tiny_model):
    acts = TransformerFeatureExtractor(tiny_model, layers=1).extract(["[SEP] of [MASK]"])
    assert acts.tokens()[0] == "["
    assert "".join(acts.tokens()) == "[SEP]of[MASK]"


def test_lone_surrogates_are_read_and_kept_in_the_texts(tiny_model):
    acts = TransformerFeatureExtractor(tiny_model, layers=1).extract(["a \ud800 bank"])
    assert acts.tokens() == ["a", "\ud800", "bank"] or acts.tokens()[-1].endswith("k")
    assert acts.texts[0] == "a \ud800 bank"


@pytest.mark.parametrize(
    ("text", "letters"),
    [("cafe\u0301", "e\u0301"), ("A\u030angstro\u0308m", "o\u0308"), ("\u1112\u1161\u11ab", "\u1112\u1161\u11ab")],
)
def test_no_token_is_a_part_of_a_letter_that_is_written_as_several_characters(tiny_models, text, letters):
    for path in tiny_models.values():
        acts = TransformerFeatureExtractor(path, layers=1).extract([f"the {text} bank"])
        touching = [token for token in acts.tokens() if set(token) & set(letters) - set("the bank")]
        assert touching
        assert all(letters in token for token in touching)


def test_a_window_without_room_for_text_is_refused():
    with pytest.raises(ValueError, match="max_length must be at least 6"):
        check_windowing(TOKENIZERS["word pieces"], max_length=5, stride=3, add_special_tokens=True)


def test_a_text_of_a_million_tokens_is_windowed():
    text = "the bank " * 500_000
    ((_, windows),) = iter_windows([text], TOKENIZERS["word pieces"], max_length=128)
    assert sum(window.n_rows for window in windows) == 1_000_000
    assert tuple(windows[-1].offsets[-1]) == (len(text) - 5, len(text) - 1)


@pytest.mark.filterwarnings("ignore:1 of the texts")
@pytest.mark.parametrize("max_rows", [1, 40, 100, 10_000])
def test_parts_hold_the_rows_of_the_whole_and_no_more_than_asked(tiny_model, texts, max_rows):
    extractor = TransformerFeatureExtractor(tiny_model, layers=[0, 2], max_length=12)
    whole = extractor.extract(texts)
    parts = list(extractor.iter_extract(iter(texts), max_rows=max_rows))
    assert all(len(part) <= max(max_rows, 2 * 12) for part in parts)
    for part in parts:
        assert all(part.texts[document] == texts[document] for document in part.provenance["document"])
    joined = Activations.concat(parts)
    assert joined.texts == texts
    key = ["document", "layer", "position"]
    order = joined.provenance.sort_values(key, kind="stable").index
    expected = whole.provenance.sort_values(key, kind="stable").index
    assert joined.provenance.loc[order].to_numpy().tolist() == whole.provenance.loc[expected].to_numpy().tolist()
    np.testing.assert_allclose(joined.X[order], whole.X[expected], rtol=1e-4, atol=1e-5)
    if max_rows == 10_000:
        assert joined.provenance.equals(whole.provenance)


class LosesWindows:
    """Stops at the end of a text's first window, as the tokenizers of two versions do."""

    def __init__(self, model):
        pass

    def enable_truncation(self, max_length):
        pass

    def encode(self, text):
        return SimpleNamespace(overflowing=[])


def test_a_version_of_tokenizers_that_loses_windows_is_refused(monkeypatch):
    monkeypatch.setattr(tokenizers, "Tokenizer", LosesWindows)
    cutting._check_that_all_windows_come.cache_clear()
    with pytest.raises(RuntimeError, match="loses what comes after the first window of a text: install another"):
        list(iter_windows(["One."], TOKENIZERS["bytes"], max_length=8))
    cutting._check_that_all_windows_come.cache_clear()
