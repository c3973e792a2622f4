"""Interventions: what is changed is what a hand would change, and nothing else, whatever the model and the pass."""

import threading

import numpy as np
import pytest
import torch
from support.dictionaries import StandInModel, scaled
from support.tiny_kinds import WORDS, save_model
from transformers import BertForMaskedLM, LlamaForCausalLM, T5ForConditionalGeneration
from transformers import BertConfig, LlamaConfig, T5Config
from support.tiny_kinds import SIZES, T5_SIZES

from skfactors import SparseDictionary, TransformerFeatureExtractor
from skfactors.dictionaries import PretrainedTranscoder
from skfactors.extraction.hooks import hooked
from skfactors.extraction.sites import SITES, Place
from skfactors.interventions import intervene

TEXTS = ["the left bank of muddy river", "report on shares", " ".join(WORDS)]
LAYER = 1


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Return folders of tiny models with heads."""
    made = {}
    kinds = {
        "llama": (LlamaForCausalLM, LlamaConfig(**SIZES, bos_token_id=2, eos_token_id=3, pad_token_id=0)),
        "bert": (BertForMaskedLM, BertConfig(**SIZES)),
        "t5": (T5ForConditionalGeneration, T5Config(**T5_SIZES, decoder_start_token_id=0)),
    }
    for name, (kind, config) in kinds.items():
        with torch.random.fork_rng():
            torch.manual_seed(0)
            made[name] = save_model(tmp_path_factory.mktemp("heads") / name, kind(config))
    return made


@pytest.fixture(scope="module")
def extractor(folders):
    return TransformerFeatureExtractor(folders["llama"], site="block_output", layers=[LAYER])


@pytest.fixture(scope="module")
def dictionary(extractor):
    return learned(extractor)


def learned(extractor, site="block_output", layer=LAYER):
    X = extractor.set_params(site=site, layers=[layer]).extract(TEXTS * 3).X
    return SparseDictionary(12, alpha=0.02, random_state=0).fit(X)


def batch(extractor, texts=TEXTS, side="right"):
    tokenizer = extractor.language_model(need_head=False)[1]
    return tokenizer(texts, return_tensors="pt", padding=True, padding_side=side, return_token_type_ids=False)


def output(model, inputs, **named):
    with torch.no_grad():
        return model(**inputs, **named)


def text_mask(extractor, inputs):
    """Say which tokens are words, written once more."""
    return inputs["input_ids"] >= 5


def by_hand(extractor, place, change, inputs):
    """Run a model with rows of the words at a place changed by a function of arrays."""
    model = extractor.language_model(need_head=False)[0]
    where = text_mask(extractor, inputs)

    def flow(states):
        states = states.clone()
        states[where] = torch.as_tensor(change(states[where].numpy()), dtype=states.dtype)
        return states

    with hooked(model, {place: flow}):
        return output(model, inputs)


def test_with_nothing_asked_the_output_is_bit_for_bit_the_models_own(extractor, dictionary):
    inputs = batch(extractor)
    plain = output(extractor.language_model()[0], inputs).logits
    asked = [{}, {"steer": {}}, {"ablate": []}, {"splice": True}]
    for nothing in asked:
        with intervene(extractor, dictionary, **nothing) as model:
            assert torch.equal(output(model, inputs).logits, plain)


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("site", ["hidden_states", *SITES[1:]])
def test_ablating_a_factor_is_subtracting_its_part_by_hand(extractor, site, side):
    dictionary = learned(extractor, site)
    inputs = batch(extractor, side=side)

    def without(X):
        codes = dictionary.transform(X).toarray()
        assert codes[:, 3].any()
        return X - codes[:, [3]] * dictionary.components_[3]

    codes = dictionary.transform(extractor.extract(TEXTS).X).toarray()
    factor = int((codes != 0).mean(axis=0).argmax())

    def without(X):
        return X - dictionary.transform(X).toarray()[:, [factor]] * dictionary.components_[factor]

    with intervene(extractor, dictionary, ablate=[factor]) as model:
        found = output(model, inputs).logits
    torch.testing.assert_close(found, by_hand(extractor, Place(site, LAYER), without, inputs).logits)
    assert not torch.allclose(found, output(extractor.language_model()[0], inputs).logits)
