"""Interventions: what is changed is what a hand would change, and nothing else, whatever the model and the pass."""

import copy
import threading

import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.decomposition import PCA
from support.dictionaries import StandInModel, scaled
from support.tiny_kinds import SIZES, T5_SIZES, WORDS, save, save_model
from transformers import (
    BertConfig,
    BertForMaskedLM,
    LlamaConfig,
    LlamaForCausalLM,
    T5Config,
    T5ForConditionalGeneration,
)

from skfactors import SparseDictionary, Transcoder, TransformerFeatureExtractor
from skfactors.datasets import demo_model
from skfactors.dictionaries import PretrainedDictionary, PretrainedTranscoder
from skfactors.dictionaries.learned_from import source_in_file
from skfactors.extraction.hooks import hooked
from skfactors.extraction.sites import SITES, Place
from skfactors.interventions import intervene
from skfactors.interventions.sources import check_model

TEXTS = ["the left bank of muddy river", "report on shares", " ".join(WORDS)]
SITE, LAYER = "block_output", 1


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Return folders of tiny models, most of them with heads."""
    marks = {"bos_token_id": 2, "eos_token_id": 3, "pad_token_id": 0}
    kinds = {
        "llama": (LlamaForCausalLM, LlamaConfig(**SIZES, **marks)),
        "bert": (BertForMaskedLM, BertConfig(**SIZES)),
        "t5": (T5ForConditionalGeneration, T5Config(**T5_SIZES, decoder_start_token_id=0)),
    }
    made = {
        "headless": save(tmp_path_factory.mktemp("heads") / "headless", "DistilBert", vocab_size=64, dim=32, n_heads=4)
    }
    for name, (kind, config) in kinds.items():
        with torch.random.fork_rng():
            torch.manual_seed(0)
            made[name] = save_model(tmp_path_factory.mktemp("heads") / name, kind(config))
    return made


@pytest.fixture(scope="module")
def extractor(folders):
    return TransformerFeatureExtractor(folders["llama"], site=SITE, layers=[LAYER])


@pytest.fixture(scope="module")
def dictionary(extractor):
    return learned(extractor)


def learned(extractor, site=SITE):
    """Return a dictionary of a site whose first factor is active somewhere."""
    X = extractor.__class__(extractor.model, site=site, layers=[LAYER]).extract(TEXTS).X
    size = float(np.sqrt((X**2).mean()))
    model = StandInModel(threshold=0.0).fit(X)
    model.intercept_ = model.intercept_ * size
    model.components_, model.encoder_ = size * model.components_, model.encoder_ / size
    assert model.transform(X).toarray()[:, 0].any()
    return model


def batch(extractor, texts=TEXTS, side="right"):
    tokenizer = extractor.language_model(need_head=False)[1]
    return tokenizer(texts, return_tensors="pt", padding=True, padding_side=side, return_token_type_ids=False)


def output(model, inputs):
    with torch.no_grad():
        return model(**inputs)[0]


def plain(extractor, inputs):
    return output(extractor.language_model(need_head=False)[0], inputs)


def by_hand(extractor, place, change, inputs):
    """Run a model with the rows of words at a place changed by a function of arrays."""
    where = inputs["input_ids"] >= 5

    def flow(states):
        states = states.clone()
        states[where] = torch.as_tensor(change(states[where].numpy()), dtype=states.dtype)
        return states

    model = extractor.language_model(need_head=False)[0]
    with hooked(model, {place: flow}):
        return output(model, inputs)


def without(dictionary, factor):
    """Return the function that takes a factor's part out of rows."""
    return lambda X: X - dictionary.transform(X).toarray()[:, [factor]] * dictionary.components_[factor]


def test_with_nothing_asked_the_output_is_bit_for_bit_the_models_own(extractor, dictionary):
    inputs = batch(extractor)
    for nothing in ({}, {"steer": {}, "clamp": {}, "ablate": []}, {"splice": True}):
        with intervene(extractor, dictionary, **nothing) as model:
            assert torch.equal(output(model, inputs), plain(extractor, inputs))


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("site", SITES)
def test_ablating_a_factor_is_subtracting_its_part_by_hand(extractor, site, side):
    dictionary, inputs = learned(extractor, site), batch(extractor, side=side)
    with intervene(extractor, dictionary, site=site, ablate=[0]) as model:
        found = output(model, inputs)
    expected = by_hand(extractor, Place(site, LAYER), without(dictionary, 0), inputs)
    torch.testing.assert_close(found, expected)
    assert not torch.allclose(found, plain(extractor, inputs))


def test_steering_adds_so_many_times_the_component(extractor, dictionary):
    inputs = batch(extractor)
    with intervene(extractor, dictionary, steer={0: 2.5, 1: -1}) as model:
        found = output(model, inputs)
    added = 2.5 * dictionary.components_[0] - dictionary.components_[1]
    torch.testing.assert_close(found, by_hand(extractor, Place(SITE, LAYER), lambda X: X + added, inputs))


def test_clamping_gives_a_factor_an_activation_whatever_it_was(extractor, dictionary):
    inputs = batch(extractor)

    def clamped(X):
        return X + (3 - dictionary.transform(X).toarray()[:, [0]]) * dictionary.components_[0]

    with intervene(extractor, dictionary, clamp={0: 3}) as model:
        found = output(model, inputs)
    torch.testing.assert_close(found, by_hand(extractor, Place(SITE, LAYER), clamped, inputs))


def test_splicing_without_the_error_goes_on_from_reconstructions(extractor, dictionary):
    inputs = batch(extractor)
    with intervene(extractor, dictionary, splice=True, keep_error=False, ablate=[0]) as model:
        found = output(model, inputs)

    def spliced(X):
        return dictionary.reconstruct(X) + without(dictionary, 0)(X) - X

    torch.testing.assert_close(found, by_hand(extractor, Place(SITE, LAYER), spliced, inputs))


def test_splicing_a_perfect_reconstruction_leaves_the_loss(extractor):
    X = extractor.extract(TEXTS * 3).X
    perfect = PCA().fit(np.vstack([X, np.random.default_rng(0).normal(size=(64, X.shape[1]))]))
    inputs = batch(extractor)
    labels = inputs["input_ids"].where(inputs["attention_mask"] == 1, -100)
    model, _ = extractor.language_model()
    with torch.no_grad(), intervene(extractor, perfect, splice=True, keep_error=False) as spliced:
        assert abs(float(spliced(**inputs, labels=labels).loss - model(**inputs, labels=labels).loss)) < 1e-6


@pytest.mark.parametrize("side", ["left", "right"])
def test_a_generation_with_a_cache_is_a_loop_without_one(extractor, dictionary, side):
    texts = TEXTS[:2] if side == "left" else TEXTS[:1]
    inputs = batch(extractor, texts, side)
    with intervene(extractor, dictionary, steer={0: 4.0}, ablate=[1]) as model:
        found = model.generate(**inputs, max_new_tokens=12, min_new_tokens=12, do_sample=False, use_cache=True)
        ids, mask = inputs["input_ids"], inputs["attention_mask"]
        for _ in range(12):
            with torch.no_grad():
                positions = (mask.cumsum(1) - 1).clamp(min=0)
                logits = model(input_ids=ids, attention_mask=mask, position_ids=positions, use_cache=False).logits[
                    :, -1
                ]
            # What min_new_tokens rules out.
            logits[:, 3] = -torch.inf
            ids = torch.cat([ids, logits.argmax(-1, keepdim=True)], dim=1)
            mask = torch.cat([mask, torch.ones_like(mask[:, :1])], dim=1)
    assert torch.equal(found, ids)
    plainly = extractor.language_model()[0].generate(**inputs, max_new_tokens=12, min_new_tokens=12, do_sample=False)
    assert not torch.equal(found, plainly)


@pytest.mark.parametrize("kind", ["bert", "headless"])
def test_encoders_are_changed_too_with_a_head_or_without(folders, kind):
    encoder = TransformerFeatureExtractor(folders[kind], site=SITE, layers=[LAYER])
    dictionary, inputs = learned(encoder), batch(encoder)
    with intervene(encoder, dictionary, ablate=[0]) as model:
        found = output(model, inputs)
        with pytest.raises(ValueError, match="generates nothing"):
            model.generate(**inputs)
    torch.testing.assert_close(found, by_hand(encoder, Place(SITE, LAYER), without(dictionary, 0), inputs))


def test_the_encoder_of_an_encoder_decoder_is_changed_in_generations_too(folders):
    encoder = TransformerFeatureExtractor(folders["t5"], site=SITE, layers=[LAYER])
    dictionary, inputs = learned(encoder), batch(encoder, TEXTS[:1])
    asked = {"max_new_tokens": 1, "output_scores": True, "return_dict_in_generate": True}
    with intervene(encoder, dictionary, steer={0: 50.0}) as model:
        steered = model.generate(**inputs, **asked).scores[0]
        with torch.no_grad():
            logits = model(**inputs, decoder_input_ids=torch.tensor([[0]])).logits[0, -1]
    torch.testing.assert_close(steered[0], logits)
    assert not torch.allclose(steered, encoder.language_model()[0].generate(**inputs, **asked).scores[0])


def test_a_masked_word_is_changed_as_a_word(folders):
    encoder = TransformerFeatureExtractor(folders["bert"], site=SITE, layers=[LAYER])
    inputs = batch(encoder, ["the left [MASK] of muddy river"])
    seen = []
    model, _ = encoder.language_model()
    with hooked(model, {Place(SITE, LAYER): lambda states: seen.append(states)}):
        output(model, inputs)
    with intervene(encoder, learned(encoder), steer={0: 1.0}) as model:
        with hooked(model, {Place("block_input", LAYER + 1): lambda states: seen.append(states)}):
            output(model, inputs)
    assert (seen[1] != seen[0])[0].any(-1).tolist() == [False, *[True] * 6, False]


def test_outliers_that_the_extractor_drops_are_left(extractor, dictionary):
    inputs, seen = batch(extractor), []
    dropping = TransformerFeatureExtractor(extractor.model, site=SITE, layers=[LAYER], drop_outliers=1.001)
    kept = {tuple(row) for row in dropping.extract(TEXTS).provenance[["document", "position"]].to_numpy()}
    model, _ = extractor.language_model()
    with hooked(model, {Place(SITE, LAYER): lambda states: seen.append(states)}):
        output(model, inputs)
    with intervene(dropping, dictionary, steer={0: 1.0}) as model:
        with hooked(model, {Place("block_input", LAYER + 1): lambda states: seen.append(states)}):
            output(model, inputs)
    # After a special token at the start of each text.
    changed = {(row, token - 1) for row, token in (seen[0] != seen[1]).any(-1).nonzero().tolist()}
    assert changed == kept and 0 < len(kept) < len(extractor.extract(TEXTS))


def test_a_pipeline_and_a_dictionary_of_another_library_are_put_in_as_well(extractor):
    X, inputs = extractor.extract(TEXTS).X, batch(extractor)
    for model in (scaled(X), PCA(4).fit(X)):
        with intervene(extractor, model, splice=True, keep_error=False) as running:
            found = output(running, inputs)
        reconstruct = getattr(model, "reconstruct", None) or (
            lambda X, model=model: model.inverse_transform(model.transform(X))
        )
        torch.testing.assert_close(
            found, by_hand(extractor, Place(SITE, LAYER), reconstruct, inputs), rtol=1e-4, atol=1e-5
        )


def test_a_factor_of_a_dictionary_that_scales_rows_counts_by_their_length(extractor):
    rng = np.random.default_rng(0)
    components = rng.normal(size=(6, 32)).astype(np.float32)
    weights = {"encoder": components, "encoder_intercept": np.zeros(6)}
    settings = {"selection": "positive", "scaling": "layer_norm"}
    model = PretrainedDictionary.from_arrays("linear", components, np.zeros(32), weights, settings, {})
    inputs = batch(extractor)

    def ablated(X):
        scale = X.std(axis=1, ddof=1, keepdims=True)
        return X - scale * model.transform(X).toarray()[:, [2]] * components[2]

    with intervene(extractor, model, ablate=[2]) as running:
        found = output(running, inputs)
    torch.testing.assert_close(found, by_hand(extractor, Place(SITE, LAYER), ablated, inputs), rtol=1e-4, atol=1e-5)


def test_a_transcoder_reads_one_site_and_changes_another(extractor):
    rng = np.random.default_rng(0)
    weights = {"encoder": rng.normal(size=(6, 32)), "encoder_intercept": np.zeros(6)}
    components = rng.normal(size=(6, 32)) / 10
    transcoder = PretrainedTranscoder.from_arrays(
        "linear", components, np.zeros(32), weights, {"selection": "positive"}, {}
    )
    inputs, read = batch(extractor), []
    where = inputs["input_ids"] >= 5
    model, _ = extractor.language_model()

    def write(states):
        states = states.clone()
        codes = transcoder.transform(read[-1][where].numpy()).toarray()
        states[where] -= torch.as_tensor(codes[:, [2]] * transcoder.components_[2])
        return states

    flows = {Place("mlp_input", LAYER): lambda states: read.append(states), Place("mlp_output", LAYER): write}
    with hooked(model, flows):
        expected = output(model, inputs)
    with intervene(extractor, transcoder, ablate=[2]) as running:
        torch.testing.assert_close(output(running, inputs), expected)
    with intervene(extractor, transcoder, splice=True, keep_error=False) as running:
        found = output(running, inputs)
    flows[Place("mlp_output", LAYER)] = lambda states: torch.where(
        where[..., None], torch.as_tensor(transcoder.predict(read[-1].flatten(0, 1).numpy())).view_as(states), states
    )
    with hooked(model, flows):
        torch.testing.assert_close(found, output(model, inputs))


def test_an_intervention_inside_another_adds_to_it(extractor, dictionary):
    inputs = batch(extractor)
    with intervene(extractor, dictionary, steer={0: 1.0}) as outer:
        alone = output(outer, inputs)
        with intervene(extractor, dictionary, layer=2, steer={1: 2.0}) as model:
            both = output(model, inputs)
        assert torch.equal(output(outer, inputs), alone)
    with intervene(extractor, dictionary, layer=2, steer={1: 2.0}) as model:
        with intervene(extractor, dictionary, steer={0: 1.0}) as model:
            assert torch.equal(output(model, inputs), both)
    assert not torch.allclose(both, alone)


def test_other_threads_and_rows_meet_no_change_and_nothing_is_left_whatever_is_raised(extractor, dictionary):
    inputs, found = batch(extractor), {}
    before, rows = plain(extractor, inputs), extractor.extract(TEXTS).X

    def run_beside():
        found["plain"] = plain(extractor, inputs)
        with intervene(extractor, dictionary, steer={1: 1.0}) as model:
            found["other"] = output(model, inputs)

    with pytest.raises(KeyboardInterrupt):
        with intervene(extractor, dictionary, steer={0: 5.0}) as model:
            thread = threading.Thread(target=run_beside)
            thread.start()
            thread.join()
            assert np.array_equal(extractor.extract(TEXTS).X, rows)
            raise KeyboardInterrupt
    with intervene(extractor, dictionary, steer={1: 1.0}) as model:
        assert torch.equal(output(model, inputs), found["other"])
    for passes in (found["plain"], plain(extractor, inputs), output(model, inputs)):
        assert torch.equal(passes, before)


@pytest.mark.parametrize(
    ("asked", "error", "message"),
    [
        ({"ablate": [5]}, ValueError, "no factor 5; there are factors from 0 to 4"),
        ({"ablate": [-1]}, ValueError, "no factor -1"),
        ({"steer": {"0": 1.0}}, TypeError, "factor '0' is not an integer"),
        ({"steer": [0, 1]}, TypeError, "must be a dict"),
        ({"steer": {0: float("nan")}}, ValueError, "nan, for factor 0, is not finite"),
        ({"clamp": {0: float("inf")}}, ValueError, "inf, for factor 0, is not finite"),
        ({"clamp": {0: "much"}}, TypeError, "'much', for factor 0, is not a number"),
        ({"steer": {0: 1.0}, "ablate": [0]}, ValueError, "factor 0 is to be changed twice"),
        ({"layer": 7}, ValueError, "has no layer 7"),
        ({"site": "mlp"}, ValueError, "is none of"),
        ({"site": ["mlp_input", "mlp_output"]}, TypeError, "is not one site"),
    ],
)
def test_what_cannot_be_asked_is_refused(extractor, dictionary, asked, error, message):
    with pytest.raises(error, match=message):
        with intervene(extractor, dictionary, **asked):
            pass


def test_a_dictionary_of_another_width_is_refused(extractor):
    other = StandInModel().fit(np.random.default_rng(0).normal(size=(9, 8)))
    with pytest.raises(ValueError, match="rows of 8 features, and states of 'block_output' in layer 1 have 32"):
        with intervene(extractor, other):
            pass


def test_a_file_that_says_it_is_of_another_place_is_refused(extractor):
    def model_of(**said):
        arrays, source = (np.eye(32), np.zeros(32)), source_in_file("saelens", **said)
        weights = {"encoder": np.eye(32), "encoder_intercept": np.zeros(32)}
        return PretrainedDictionary.from_arrays("linear", *arrays, weights, {"selection": "positive"}, source)

    for place in ("blocks.1.hook_resid_post", "blocks.2.hook_resid_pre", "elsewhere"):
        with intervene(extractor, model_of(place=place, model="of a folder it is not known")):
            pass
    with pytest.raises(
        ValueError, match=r"learned from layers \[2\] of 'mlp_output', not from layer 1 of 'block_output'"
    ):
        with intervene(extractor, model_of(place="blocks.2.hook_mlp_out")):
            pass


def test_a_model_of_the_hub_is_compared_by_its_name():
    check_model({"model": "gpt2-small"}, TransformerFeatureExtractor("openai-community/gpt2"))
    with pytest.raises(ValueError, match="learned from the model 'gemma-2-2b', not 'gpt2'"):
        check_model({"model": "gemma-2-2b"}, TransformerFeatureExtractor("gpt2"))


@pytest.fixture(scope="module")
def of_rows(extractor):
    """Return dictionaries that know their rows: of the output of block 1, and of the last block's."""
    every = TransformerFeatureExtractor(extractor.model, site=SITE).extract(TEXTS)
    return {layer: SparseDictionary(6, max_iter=1, random_state=0).fit(every.at(layer=layer)) for layer in (1, 2)}


def test_a_dictionary_that_knows_its_rows_goes_where_they_are_from_by_any_name(extractor, of_rows):
    inputs = batch(extractor)
    expected = by_hand(extractor, Place(SITE, 1), without(of_rows[1], 0), inputs)
    for site, layer in ((SITE, 1), ("block_input", 2), ("hidden_states", 2), ("layers.{layer}:output", 1)):
        with intervene(extractor, of_rows[1], site=site, layer=layer, ablate=[0]) as model:
            torch.testing.assert_close(output(model, inputs), expected)


@pytest.mark.parametrize(("of", "site", "layer"), [(1, SITE, 2), (1, "mlp_output", 1), (2, "hidden_states", 3)])
def test_a_dictionary_that_knows_its_rows_is_refused_elsewhere_unless_that_is_deleted(
    extractor, of_rows, of, site, layer
):
    # The last hidden state is the last block's output after a norm.
    asked = {"site": site, "layer": layer, "ablate": [0]}
    message = rf"learned from layers \[{of}\] of 'block_output', not from layer {layer} of '{site}'.*delete 'places'"
    with pytest.raises(ValueError, match=message):
        with intervene(extractor, of_rows[of], **asked):
            pass
    anywhere = copy.deepcopy(of_rows[of])
    del anywhere.source_["places"]
    with intervene(extractor, anywhere, **asked):
        pass


def test_a_dictionary_that_knows_its_rows_is_refused_in_a_model_with_other_weights(extractor, of_rows, tmp_path):
    model, tokenizer = extractor.language_model()
    changed = copy.deepcopy(model)
    changed.lm_head.weight[0, 0] += 1
    for name, saved in (("same", model), ("other", changed)):
        saved.save_pretrained(tmp_path / name)
        tokenizer.save_pretrained(tmp_path / name)
    with intervene(clone(extractor).set_params(model=str(tmp_path / "same")), of_rows[1]):
        pass
    with pytest.raises(ValueError, match="from the model 'llama', with other weights than '.*other'.*delete 'model'"):
        with intervene(clone(extractor).set_params(model=str(tmp_path / "other")), of_rows[1]):
            pass


def test_a_transcoder_that_knows_its_rows_is_refused_at_other_sites(extractor):
    sites = "mlp_input", "mlp_output"
    acts = TransformerFeatureExtractor(extractor.model, site=sites, layers=[LAYER]).extract(TEXTS)
    transcoder = Transcoder(6, n_nonzero_coefs=2, max_iter=1, device="cpu").fit(*map(acts.at, sites))
    with intervene(extractor, transcoder, ablate=[0]):
        pass
    for site in (("block_input", "mlp_output"), ("mlp_input", "attention_output")):
        with pytest.raises(ValueError, match="learned from layers"):
            with intervene(extractor, transcoder, site=site):
                pass


def test_several_places_of_an_extractor_are_no_place(folders, dictionary):
    for asked, what in (({"layers": [0, 1]}, "layer"), ({"site": [SITE, "mlp_output"], "layers": 1}, "site")):
        with pytest.raises(ValueError, match=f"several {what}s: say which one is meant by {what}="):
            with intervene(TransformerFeatureExtractor(folders["llama"], **asked), dictionary):
                pass


def quantize_by_torch(model):
    torch.ao.quantization.quantize_dynamic(model, {torch.nn.Linear}, torch.qint8, inplace=True)


def round_weights_to_integers(model):
    # As libraries of 8-bit weights keep them, in parameters.
    projection = model.model.layers[0].mlp.down_proj
    scale = projection.weight.abs().amax(dim=1, keepdim=True) / 127
    projection.weight = torch.nn.Parameter((projection.weight / scale).round().to(torch.int8), requires_grad=False)
    projection.forward = lambda X: torch.nn.functional.linear(X, projection.weight * scale)


def say_so_in_the_configuration(model):
    model.config.quantization_config = {"quant_method": "bitsandbytes"}


def compile_all(model):
    model.compile(backend="eager")


def compile_a_block(model):
    model.model.layers[2] = torch.compile(model.model.layers[2], backend="eager")


@pytest.mark.filterwarnings("ignore:torch.ao.quantization is deprecated", "ignore:torch.quantize_per_tensor")
@pytest.mark.parametrize(
    ("change", "message"),
    [
        (quantize_by_torch, "weights of the model are quantized"),
        (round_weights_to_integers, "weights of the model are quantized"),
        (say_so_in_the_configuration, "weights of the model are quantized"),
        (compile_all, "compiled by torch.compile"),
        (compile_a_block, "compiled by torch.compile"),
    ],
)
def test_quantized_and_compiled_models_are_refused_though_they_run(folders, dictionary, change, message):
    changed = TransformerFeatureExtractor(folders["llama"], site=SITE, layers=[LAYER])
    model, _ = changed.language_model()
    before = plain(changed, batch(changed))
    change(model)
    torch.testing.assert_close(plain(changed, batch(changed)), before, rtol=0, atol=0.1)
    with pytest.raises(ValueError, match=message):
        with intervene(changed, dictionary):
            pass


def test_what_opens_no_model_is_refused(dictionary):
    with pytest.raises(TypeError, match="a TransformerFeatureExtractor is needed"):
        with intervene("gpt2", dictionary):
            pass


def test_ablating_a_factor_of_a_real_encoder_is_subtracting_its_part_by_hand():
    extractor = TransformerFeatureExtractor(demo_model(), layers=[3])
    texts = ["The bank of the river was muddy.", "She left the park."]
    dictionary = StandInModel(threshold=0.0).fit(extractor.extract(texts).X)
    inputs = batch(extractor, texts)
    is_word = (inputs["input_ids"] != 101) & (inputs["input_ids"] != 102) & (inputs["attention_mask"] == 1)
    model, _ = extractor.language_model(need_head=False)

    def flow(states):
        states = states.clone()
        states[is_word] = torch.as_tensor(without(dictionary, 0)(states[is_word].numpy()), dtype=states.dtype)
        return states

    with hooked(model, {Place("hidden_states", 3): flow}):
        expected = output(model, inputs)
    with intervene(extractor, dictionary, ablate=[0]) as running:
        torch.testing.assert_close(output(running, inputs), expected)
