"""Rows against Hugging Face called directly, one window at a time, without padding."""

import numpy as np
import pytest
import torch
from transformers import AutoModel, AutoTokenizer

from skfactors import TransformerFeatureExtractor

ARCHITECTURES = ["bert", "gpt2", "llama", "t5"]


def direct_rows(path, texts, layers, max_length, stride):
    """(document, layer, position) -> (hidden state, token id, start, end), each token from its first window."""
    tokenizer = AutoTokenizer.from_pretrained(path)
    model = AutoModel.from_pretrained(path).eval()
    model = model.get_encoder() if model.config.is_encoder_decoder else model
    rows = {}
    for document, text in enumerate(texts):
        encoded = tokenizer(
            text,
            truncation=True,
            max_length=max_length,
            stride=stride,
            return_overflowing_tokens=True,
            return_offsets_mapping=True,
            return_special_tokens_mask=True,
        )
        n_seen = 0
        for window, ids in enumerate(encoded["input_ids"] if text else []):
            with torch.no_grad():
                states = model(input_ids=torch.tensor([ids]), output_hidden_states=True).hidden_states
            special = encoded["special_tokens_mask"][window]
            of_text = [place for place in range(len(ids)) if not special[place]]
            first = max(n_seen - stride, 0) if window else 0
            for position, place in enumerate(of_text, start=first):
                if position < n_seen:
                    continue
                n_seen += 1
                for layer in layers:
                    rows[document, layer, position] = (
                        states[layer][0, place].numpy(),
                        ids[place],
                        *encoded["offset_mapping"][window][place],
                    )
    return rows


@pytest.mark.filterwarnings("ignore:1 of the texts")
@pytest.mark.parametrize("batch_size", [1, 3, 32])
@pytest.mark.parametrize(("max_length", "stride"), [(60, 0), (16, 0), (16, 5)])
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_every_row_is_the_models_own_hidden_state(tiny_models, texts, architecture, max_length, stride, batch_size):
    path = tiny_models[architecture]
    extractor = TransformerFeatureExtractor(
        path, layers=[2, 0], max_length=max_length, stride=stride, batch_size=batch_size
    )
    acts = extractor.extract(texts)
    expected = direct_rows(path, texts, [2, 0], max_length, stride)
    assert list(acts.provenance[["document", "layer", "position"]].itertuples(index=False, name=None)) == sorted(
        expected, key=lambda row: (row[0], [2, 0].index(row[1]), row[2])
    )
    for x, row in zip(acts.X, acts.provenance.itertuples(index=False), strict=True):
        state, token_id, start, end = expected[row.document, row.layer, row.position]
        assert np.linalg.norm(x - state) <= 1e-4 * np.linalg.norm(state)
        assert (row.token_id, row.start, row.end) == (token_id, start, end)


@pytest.mark.filterwarnings("ignore:1 of the texts")
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_the_side_that_the_tokenizer_pads_changes_nothing(tiny_models, texts, architecture, tmp_path):
    path = tiny_models[architecture]
    reference = TransformerFeatureExtractor(path).extract(texts)
    for side in ("left", "right"):
        AutoModel.from_pretrained(path).save_pretrained(tmp_path / side)
        AutoTokenizer.from_pretrained(path, padding_side=side).save_pretrained(tmp_path / side)
        assert AutoTokenizer.from_pretrained(tmp_path / side).padding_side == side
        acts = TransformerFeatureExtractor(str(tmp_path / side)).extract(texts)
        np.testing.assert_allclose(acts.X, reference.X, rtol=1e-4, atol=1e-5)


def test_the_demo_models_rows_are_its_own_hidden_states():
    from skfactors.datasets import demo_model

    texts = ["He left the bank by the left door.", "A much longer sentence about rivers and their banks. " * 9]
    acts = TransformerFeatureExtractor(demo_model(), max_length=32, stride=8).extract(texts)
    expected = direct_rows(demo_model(), texts, range(7), 32, 8)
    assert len(acts) == len(expected)
    for x, row in zip(acts.X, acts.provenance.itertuples(index=False), strict=True):
        state = expected[row.document, row.layer, row.position][0]
        assert np.linalg.norm(x - state) <= 1e-4 * np.linalg.norm(state)


@pytest.mark.filterwarnings("ignore:1 of the texts")
def test_a_row_does_not_depend_on_the_order_or_company_of_texts(tiny_model, texts):
    extractor = TransformerFeatureExtractor(tiny_model, batch_size=2)
    together = extractor.extract(texts)
    backwards = extractor.extract(texts[::-1])
    for document in range(len(texts)):
        forward_rows = together.X[together.provenance["document"] == document]
        backward_rows = backwards.X[backwards.provenance["document"] == len(texts) - 1 - document]
        np.testing.assert_allclose(forward_rows, backward_rows, rtol=1e-4, atol=1e-5)


def test_running_out_of_memory_halves_the_batch_and_loses_nothing(tiny_model, texts, monkeypatch, caplog):
    from skfactors.extraction.forward import HiddenStateRunner

    texts = [text for text in texts if text] * 4
    expected = TransformerFeatureExtractor(tiny_model).extract(texts)
    sizes, forward = [], HiddenStateRunner.forward

    def small_card(self, windows):
        sizes.append(len(windows))
        if len(windows) > 5:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
        return forward(self, windows)

    monkeypatch.setattr(HiddenStateRunner, "forward", small_card)
    acts = TransformerFeatureExtractor(tiny_model, batch_size=16).extract(texts)
    np.testing.assert_allclose(acts.X, expected.X, rtol=1e-4, atol=1e-5)
    assert sizes[:3] == [16, 8, 4]
    assert "batch_size=4" in caplog.text


def test_out_of_memory_with_a_single_window_is_an_error(tiny_model, monkeypatch):
    from skfactors.extraction.forward import HiddenStateRunner

    def no_card(self, windows):
        raise torch.OutOfMemoryError("CUDA out of memory.")

    monkeypatch.setattr(HiddenStateRunner, "forward", no_card)
    with pytest.raises(torch.OutOfMemoryError):
        TransformerFeatureExtractor(tiny_model).extract(["a bank"])
