"""A model with its head: opened, shared among clones, and refused where it has none."""

import pickle

import pytest
import torch
import transformers as hf
from sklearn.base import clone
from support.tiny_kinds import save, save_model
from support.tiny_sites import KINDS

from skfactors import TransformerFeatureExtractor

TEXT = "the bank of the river"


def saved(folder, kind, head, **changes):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = getattr(hf, head)(getattr(hf, f"{kind}Config")(**KINDS[kind], **changes))
    return save_model(folder, model), model.eval()


@pytest.mark.parametrize(
    ("kind", "head", "changes"),
    [
        ("Llama", "LlamaForCausalLM", {}),
        ("GPT2", "GPT2LMHeadModel", {}),
        ("Bert", "BertForMaskedLM", {}),
        ("T5", "T5ForConditionalGeneration", {"decoder_start_token_id": 0}),
    ],
)
def test_a_model_opens_with_the_head_that_it_was_saved_with(kind, head, changes, tmp_path):
    folder, expected = saved(tmp_path, kind, head, **changes)
    model, tokenizer = TransformerFeatureExtractor(folder).language_model()
    assert type(model).__name__ == head and not model.training
    inputs = dict(tokenizer(TEXT, return_tensors="pt", return_token_type_ids=False))
    if kind == "T5":
        inputs["decoder_input_ids"] = torch.tensor([[0, 5]])
    torch.testing.assert_close(model(**inputs).logits, expected(**inputs).logits)


def test_a_head_that_is_the_embeddings_again_needs_no_weights_of_its_own(tmp_path):
    folder = save(tmp_path, "GPT2", **KINDS["GPT2"])
    model, tokenizer = TransformerFeatureExtractor(folder).language_model()
    assert model.lm_head.weight is model.transformer.wte.weight
    generated = model.generate(**tokenizer(TEXT, return_tensors="pt"), max_new_tokens=2, do_sample=False)
    assert generated.shape[1] >= 8


@pytest.mark.parametrize("kind", ["Bert", "Llama", "MPNet"])
def test_a_model_without_a_head_is_refused(kind, tmp_path):
    folder = save(tmp_path, kind, **KINDS[kind])
    with pytest.raises(ValueError, match=rf"\({kind}Model\) has no head that predicts tokens"):
        TransformerFeatureExtractor(folder).language_model()


def test_it_is_shared_with_clones_and_apart_from_what_rows_are_read_from(tmp_path):
    folder, _ = saved(tmp_path, "Llama", "LlamaForCausalLM")
    extractor = TransformerFeatureExtractor(folder, layers=1)
    before = extractor.extract([TEXT]).X
    model, _ = extractor.language_model()
    assert clone(extractor).language_model()[0] is model
    with torch.no_grad():
        model.model.embed_tokens.weight.zero_()
    assert (extractor.extract([TEXT]).X == before).all()
    assert len(pickle.dumps(extractor)) < 10_000


def test_another_dtype_opens_another_model(tmp_path):
    folder, _ = saved(tmp_path, "Llama", "LlamaForCausalLM")
    extractor = TransformerFeatureExtractor(folder, dtype="float64")
    assert extractor.language_model()[0].dtype == torch.float64
    extractor.set_params(dtype="float32")
    assert extractor.language_model()[0].dtype == torch.float32
