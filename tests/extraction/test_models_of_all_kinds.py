"""Models whose configuration leaves out or hides what they are: rows like those of the model itself, or a refusal."""

import numpy as np
import pytest
import torch
import transformers as hf
from support.tiny_kinds import HALVES, PICTURES, SIZES, T5_SIZES, WORDS, save, save_model

from skfactors import SparseDictionary, TransformerFeatureExtractor
from skfactors.reports import token_saliency

SENTENCE = " ".join(WORDS)
TEXTS = ["the left bank", " ".join([SENTENCE] * 6), "a muddy bank", SENTENCE, " ".join([SENTENCE] * 3), "the city"]
DYNAMIC = {"rope_type": "dynamic", "factor": 4.0, "rope_theta": 10_000.0, "original_max_position_embeddings": 32}
LONG = {
    "rope_type": "longrope",
    "rope_theta": 10_000.0,
    "short_factor": [1.0] * 4,
    "long_factor": [4.0] * 4,
    "original_max_position_embeddings": 32,
}


def rows_of(acts, document):
    return acts.X[(acts.provenance["document"] == document).to_numpy()]


@pytest.mark.parametrize(
    ("kind", "changes"),
    [
        ("FNet", {"vocab_size": 64, "hidden_size": 32, "num_hidden_layers": 3, "intermediate_size": 64}),
        ("ConvBert", SIZES),
        ("BigBird", {**SIZES, "block_size": 4, "num_random_blocks": 1}),
        ("BigBirdPegasus", {**HALVES, "block_size": 4, "num_random_blocks": 1}),
        ("Llama", {**SIZES, "max_position_embeddings": 256, "rope_parameters": DYNAMIC}),
        (
            "Phi3",
            {**SIZES, "pad_token_id": 0, "original_max_position_embeddings": 32, "rope_parameters": LONG},
        ),
        (
            "NllbMoe",
            {
                **HALVES,
                "num_experts": 4,
                "encoder_sparse_step": 2,
                "decoder_sparse_step": 2,
                "moe_eval_capacity_token_fraction": 0.3,
            },
        ),
    ],
)
def test_rows_of_a_text_are_those_that_a_fresh_model_gives_it_alone(tmp_path, kind, changes):
    folder = save(tmp_path, kind, **changes)
    options = {"layers": [0, -1], "max_length": 96}
    together = TransformerFeatureExtractor(folder, **options).extract(TEXTS)
    for document, text in enumerate(TEXTS):
        alone = TransformerFeatureExtractor(folder, **options).extract([text]).X
        np.testing.assert_allclose(rows_of(together, document), alone, rtol=1e-4, atol=1e-5)


def test_a_text_keeps_sparse_attention_after_short_texts(tmp_path):
    folder = save(tmp_path, "BigBird", **SIZES, block_size=4, num_random_blocks=1)
    extractor = TransformerFeatureExtractor(folder, layers=[-1], max_length=96)
    extractor.extract(["the left bank"])
    tokens = hf.AutoTokenizer.from_pretrained(folder)(TEXTS[1], truncation=True, max_length=96, return_tensors="pt")
    with torch.no_grad():
        states = hf.AutoModel.from_pretrained(folder).eval()(**tokens, output_hidden_states=True).hidden_states[-1]
    expected = states[0, 1 : tokens["input_ids"].shape[1] - 1].numpy()
    found = extractor.extract([TEXTS[1]]).X[: len(expected)]
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("kind", "changes"),
    [
        ("Mamba", {"vocab_size": 64, "hidden_size": 32, "num_hidden_layers": 3, "state_size": 4}),
        ("Rwkv", {"vocab_size": 64, "hidden_size": 32, "num_hidden_layers": 3, "attention_hidden_size": 32}),
    ],
)
def test_layer_0_is_the_embeddings_and_the_others_follow(tmp_path, kind, changes):
    folder = save(tmp_path, kind, **changes)
    acts = TransformerFeatureExtractor(folder).extract([SENTENCE])
    tokens = hf.AutoTokenizer.from_pretrained(folder)(SENTENCE, return_tensors="pt")
    model = hf.AutoModel.from_pretrained(folder).eval()
    with torch.no_grad():
        of_blocks = model(input_ids=tokens["input_ids"], output_hidden_states=True).hidden_states
        expected = [model.get_input_embeddings()(tokens["input_ids"]), *of_blocks[:2], of_blocks[3]]
    assert acts.layers == [0, 1, 2, 3]
    for layer, states in enumerate(expected):
        found = acts.X[(acts.provenance["layer"] == layer).to_numpy()]
        np.testing.assert_allclose(found, states[0, 1:-1].numpy(), rtol=1e-4, atol=1e-5)


def test_embeddings_that_are_of_neighbours_too_are_layer_0(tmp_path):
    folder = save(
        tmp_path,
        "MobileBert",
        **SIZES,
        embedding_size=16,
        intra_bottleneck_size=16,
        true_hidden_size=16,
        num_feedforward_networks=1,
    )
    assert TransformerFeatureExtractor(folder).extract([SENTENCE]).layers == [0, 1, 2, 3]


@pytest.mark.parametrize(
    ("kind", "changes", "n_positions"),
    [
        ("Roberta", {**SIZES, "max_position_embeddings": 34}, 32),
        ("MPNet", {**SIZES, "max_position_embeddings": 34}, 32),
        ("Longformer", {**SIZES, "max_position_embeddings": 34, "attention_window": 8}, 32),
        ("Bert", {**SIZES, "max_position_embeddings": 34}, 34),
        ("OPT", {**SIZES, "ffn_dim": 64, "max_position_embeddings": 34}, 34),
        ("Bart", {**HALVES, "max_position_embeddings": 34}, 34),
        ("LED", {**HALVES, "max_encoder_position_embeddings": 34, "attention_window": 8}, 32),
        ("Mpt", {"vocab_size": 64, "d_model": 32, "n_layers": 2, "n_heads": 4, "max_seq_len": 34}, 34),
        ("XLNet", {"vocab_size": 64, "d_model": 32, "n_layer": 2, "n_head": 4, "d_inner": 64}, 92),
    ],
)
def test_windows_are_as_long_as_the_model_has_positions(tmp_path, kind, changes, n_positions):
    extractor = TransformerFeatureExtractor(save(tmp_path, kind, **changes), layers=1, max_length=10_000)
    assert len(extractor.extract([TEXTS[1]])) == 90
    assert len(extractor.probe().windows(TEXTS[1])[0].input_ids) == n_positions


@pytest.mark.parametrize("kind", ["T5Encoder", "MT5Encoder", "UMT5Encoder"])
def test_an_encoder_published_without_its_decoder_gives_its_rows(tmp_path, kind):
    model = getattr(hf, f"{kind}Model")(getattr(hf, f"{kind.removesuffix('Encoder')}Config")(**T5_SIZES))
    folder = save_model(tmp_path, model)
    tokens = hf.AutoTokenizer.from_pretrained(folder)(SENTENCE, return_tensors="pt")
    with torch.no_grad():
        states = model(input_ids=tokens["input_ids"], output_hidden_states=True).hidden_states
    acts = TransformerFeatureExtractor(folder, layers=2).extract([SENTENCE])
    np.testing.assert_allclose(acts.X, states[2][0, 1:-1].numpy(), rtol=1e-4, atol=1e-5)


def test_an_encoder_that_lacks_weights_of_its_own_is_refused(tmp_path):
    model = hf.T5EncoderModel(hf.T5Config(**T5_SIZES))
    kept = {name: weight for name, weight in model.state_dict().items() if "block.1" not in name}
    model.save_pretrained(tmp_path, state_dict=kept)
    save_model(tmp_path / "whole", model)
    for path in (tmp_path / "whole").glob("tokenizer*"):
        path.rename(tmp_path / path.name)
    with pytest.raises(OSError, match=r"lack 8 of the model's tensors, 'encoder\.block\.1"):
        TransformerFeatureExtractor(str(tmp_path)).fit([SENTENCE])


@pytest.mark.parametrize("kind", ["CLIP", "Siglip"])
def test_of_a_model_of_texts_and_images_the_text_half_is_read(tmp_path, kind):
    folder = save(tmp_path, kind, text_config=SIZES, vision_config=PICTURES)
    acts = TransformerFeatureExtractor(folder).fit([SENTENCE]).extract(["the bank", SENTENCE])
    tokens = hf.AutoTokenizer.from_pretrained(folder)(SENTENCE, return_tensors="pt")
    with torch.no_grad():
        half = hf.AutoModel.from_pretrained(folder).eval().text_model
        states = half(input_ids=tokens["input_ids"], output_hidden_states=True).hidden_states
    assert acts.layers == [0, 1, 2, 3]
    expected = np.concatenate([layer[0, 1:-1].numpy() for layer in states])
    np.testing.assert_allclose(rows_of(acts, 1), expected, rtol=1e-4, atol=1e-5)


def test_layers_and_width_are_those_of_the_half_that_reads(tmp_path):
    sizes = {**SIZES, "head_dim": 8, "num_key_value_heads": 2}
    config = hf.T5GemmaConfig(encoder=sizes, decoder={**sizes, "num_hidden_layers": 2})
    extractor = TransformerFeatureExtractor(save_model(tmp_path, hf.AutoModel.from_config(config)))
    extractor.fit([SENTENCE])
    assert extractor.layers_ == [0, 1, 2, 3]
    assert extractor.hidden_size_ == 32


def test_layers_of_different_widths_are_read_apart(tmp_path):
    folder = save(tmp_path, "OPT", **SIZES, ffn_dim=64, word_embed_proj_dim=16, do_layer_norm_before=False)
    assert TransformerFeatureExtractor(folder, layers=[0, 2]).extract([SENTENCE]).X.shape[1] == 32
    assert TransformerFeatureExtractor(folder, layers=-1).extract([SENTENCE]).X.shape[1] == 16
    with pytest.raises(ValueError, match=r"32 in layers \[0, 1, 2\] of 'hidden_states', 16 in layers \[3\]"):
        TransformerFeatureExtractor(folder).fit([SENTENCE])


@pytest.mark.parametrize(
    ("kind", "changes"),
    [
        ("Funnel", {"vocab_size": 64, "block_sizes": [2, 2], "d_model": 32, "n_head": 4, "d_head": 8, "d_inner": 64}),
        ("PegasusX", {**HALVES, "block_size": 8, "num_global_tokens": 4}),
        ("ViT", PICTURES),
    ],
)
def test_models_that_give_no_vector_for_each_token_and_layer_are_refused_by_name(tmp_path, kind, changes):
    with pytest.raises(ValueError, match=rf"\({kind}(Model|Encoder)\) (is not supported|does not run)"):
        TransformerFeatureExtractor(save(tmp_path, kind, **changes)).fit([SENTENCE])


def test_a_model_that_guesses_is_refused_by_name(tmp_path, monkeypatch):
    folder = save(tmp_path, "Bert", **SIZES)
    forward = hf.BertModel.forward

    def guessing(self, input_ids=None, **options):
        return forward(self, inputs_embeds=self.get_input_embeddings()(input_ids) + torch.randn(32), **options)

    monkeypatch.setattr(hf.BertModel, "forward", guessing)
    with pytest.raises(ValueError, match=r"BertModel\) gives other hidden states each time"):
        TransformerFeatureExtractor(folder).fit([SENTENCE])


def test_attention_at_random_is_refused_even_where_it_hardly_shows(tmp_path):
    folder = save(
        tmp_path,
        "Reformer",
        vocab_size=64,
        hidden_size=32,
        num_attention_heads=4,
        attention_head_size=8,
        axial_pos_shape=[16, 16],
        axial_pos_embds_dim=[16, 16],
        attn_layers=["local", "lsh", "local"],
        feed_forward_size=64,
        num_buckets=4,
        is_decoder=False,
        max_position_embeddings=256,
    )
    with pytest.raises(ValueError, match=r"ReformerModel\) gives other hidden states each time"):
        TransformerFeatureExtractor(folder).fit([SENTENCE])


def test_a_token_beyond_the_embeddings_is_named_with_its_text(tmp_path):
    folder = save(tmp_path, "Bert", **{**SIZES, "vocab_size": 30})
    tokenizer = hf.AutoTokenizer.from_pretrained(folder)
    tokenizer.add_tokens([f"<user{number}>" for number in range(40)])
    tokenizer.save_pretrained(folder)
    extractor = TransformerFeatureExtractor(folder)
    with pytest.raises(ValueError, match=r"texts\[1\].*<user39>.*ids up to 29"):
        extractor.extract(["the bank", "<user39> on the river"])
    assert len(extractor.extract(["the bank", "<user2> on the river"])) == 4 * 6


@pytest.mark.parametrize("setting", [torch.no_grad, torch.inference_mode, lambda: torch.set_grad_enabled(False)])
def test_gradient_saliency_works_whatever_is_set_for_gradients(tmp_path, setting):
    folder = save(tmp_path, "Bert", **SIZES)
    acts = TransformerFeatureExtractor(folder, layers=1).extract([SENTENCE])
    dictionary = SparseDictionary(4, alpha=0.05, random_state=0, device="cpu").fit(acts.X)

    def saliency():
        extractor = TransformerFeatureExtractor(folder, layers=1)
        return token_saliency(extractor, dictionary, SENTENCE, 1, 1, 3, method="gradient").to_numpy()

    expected = saliency()
    try:
        with setting():
            found = saliency()
    finally:
        torch.set_grad_enabled(True)
    assert np.abs(expected).max() > 0
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_a_model_without_gradients_says_so(tmp_path):
    folder = save(tmp_path, "CLIP", text_config=SIZES, vision_config=PICTURES)
    extractor = TransformerFeatureExtractor(folder, layers=1)
    dictionary = SparseDictionary(4, alpha=0.05, random_state=0, device="cpu").fit(extractor.extract([SENTENCE]).X)
    with pytest.raises(ValueError, match="gives no gradients with respect to its embeddings"):
        token_saliency(extractor, dictionary, SENTENCE, 1, 1, 3, method="gradient")
