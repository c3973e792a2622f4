"""Attribution: contributions are the gradients of a model that is spliced by hand, and ablations bear them out."""

import io

import numpy as np
import pandas as pd
import pytest
import torch
from rich.console import Console
from sklearn.decomposition import PCA
from support.dictionaries import StandInModel
from support.tiny_kinds import SIZES, T5_SIZES, WORDS, save_model
from transformers import (
    BertConfig,
    BertForMaskedLM,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    T5Config,
    T5ForConditionalGeneration,
)

from skfactors import FactorReport, TransformerFeatureExtractor
from skfactors.dictionaries import PretrainedTranscoder
from skfactors.extraction.hooks import hooked
from skfactors.extraction.sites import Place
from skfactors.interventions import ablation_effects, attribute, check_attribution, intervene
from skfactors.reports import output_tokens
from skfactors.reports.explorer.payload import sections_of

TEXT = " ".join(WORDS)
SITE = "block_output"


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    marks = {"bos_token_id": 2, "eos_token_id": 3, "pad_token_id": 0}
    gpt2 = {"vocab_size": 64, "n_embd": 32, "n_layer": 3, "n_head": 4}
    kinds = {
        "llama": (LlamaForCausalLM, LlamaConfig(**SIZES, **marks, initializer_range=0.3)),
        "gpt2": (GPT2LMHeadModel, GPT2Config(**gpt2, bos_token_id=2, eos_token_id=3, initializer_range=0.3)),
        "bert": (BertForMaskedLM, BertConfig(**SIZES)),
    }
    made = {}
    for name, (kind, config) in kinds.items():
        with torch.random.fork_rng():
            torch.manual_seed(0)
            made[name] = save_model(tmp_path_factory.mktemp("heads") / name, kind(config))
    return made


def extractor_of(folder, **places):
    return TransformerFeatureExtractor(folder, **({"site": SITE, "layers": [0]} | places))


def learned(extractor, layer):
    X = TransformerFeatureExtractor(extractor.model, site=extractor.site, layers=[layer]).extract([TEXT]).X
    size = float(np.sqrt((X**2).mean()))
    model = StandInModel(n_components=12, threshold=0.0).fit(X)
    model.intercept_ = model.intercept_ * size
    model.components_, model.encoder_ = size * model.components_, model.encoder_ / size
    return model


@pytest.fixture(scope="module")
def extractor(folders):
    return extractor_of(folders["llama"])


@pytest.fixture(scope="module")
def dictionaries(extractor):
    return {layer: learned(extractor, layer) for layer in (0, 1)}


def centred_logit(model, inputs, token_id, at):
    logits = model(**inputs).logits[0, at]
    return logits[token_id] - logits.mean()


@pytest.mark.parametrize("kind", ["llama", "bert"])
def test_contributions_are_activation_times_gradient_of_states_by_hand(folders, kind):
    extractor = extractor_of(folders[kind])
    dictionaries = {layer: learned(extractor, layer) for layer in (0, 1)}
    table = attribute(extractor, dictionaries, TEXT, target=7, position=4)
    model, tokenizer = extractor.language_model()
    inputs = tokenizer(TEXT, return_tensors="pt", return_token_type_ids=False)
    leaves = {}

    def leaf(layer):
        def flow(states):
            leaves[layer] = torch.zeros_like(states, requires_grad=True)
            return states + leaves[layer]

        return flow

    with hooked(model, {Place(SITE, layer): leaf(layer) for layer in (0, 1)}):
        centred_logit(model, inputs, 7, 5).backward()
    expected = {}
    for layer, dictionary in dictionaries.items():
        codes = dictionary.transform(extractor_of(folders[kind], layers=[layer]).extract([TEXT]).X).toarray()
        # After the special token that the text begins with.
        slopes = leaves[layer].grad[0, 1:-1].numpy() @ dictionary.components_.T
        expected |= {(layer, *node): codes[node] * slopes[node] for node in zip(*codes.nonzero(), strict=True)}
    found = table.set_index(["layer", "position", "factor"])["contribution"]
    # What comes after the target in a decoder does not reach it.
    assert set(found.index) == {node for node, value in expected.items() if value}
    np.testing.assert_allclose(found, [expected[node] for node in found.index], rtol=1e-3, atol=1e-5)
    assert found.is_monotonic_decreasing
    assert table["token"].tolist() == [WORDS[position] for position in table["position"]]


def test_the_target_is_the_most_probable_token_where_none_is_named(extractor, dictionaries):
    table = attribute(extractor, dictionaries, TEXT)
    model, tokenizer = extractor.language_model()
    inputs = tokenizer(TEXT, return_tensors="pt", return_token_type_ids=False)
    with torch.no_grad():
        logits = model(**inputs).logits[0, -2]
    assert table.attrs["target"] == tokenizer.decode([int(logits.argmax())])
    assert table.attrs["value"] == pytest.approx(float(logits.max() - logits.mean()), rel=1e-5)
    assert table.attrs["position"] == len(WORDS) - 1


def test_contributions_to_a_factor_further_up_are_of_the_places_before_it(extractor, dictionaries):
    codes = dictionaries[1].transform(extractor_of(extractor.model, layers=[1]).extract([TEXT]).X).toarray()
    factor = int(codes[6].argmax())
    table = attribute(extractor, dictionaries, TEXT, target=(1, factor), position=6)
    assert table.attrs["value"] == pytest.approx(codes[6, factor], rel=1e-4)
    assert set(table["layer"]) == {0} and table["position"].max() == 6
    node = table.iloc[0]
    component = torch.as_tensor(dictionaries[0].components_[node["factor"]], dtype=torch.float32)

    def less(states):
        states = states.clone()
        states[0, 1 + node["position"]] -= 1e-2 * node["activation"] * component
        return states

    model, tokenizer = extractor.language_model()
    seen = []
    flows = {Place(SITE, 0): less, Place(SITE, 1): lambda states: seen.append(states)}
    with torch.no_grad(), hooked(model, flows):
        model(**tokenizer(TEXT, return_tensors="pt", return_token_type_ids=False))
    changed = dictionaries[1].transform(seen[0][0, 1:-1].numpy()).toarray()[6, factor]
    assert (codes[6, factor] - changed) / 1e-2 == pytest.approx(node["contribution"], rel=0.05)


@pytest.mark.parametrize("kind", ["llama", "gpt2"])
def test_with_attention_and_norms_frozen_contributions_of_the_last_state_add_up(folders, kind):
    extractor = extractor_of(folders[kind])
    dictionary = learned(extractor, 2)
    frozen = attribute(extractor, {2: dictionary}, TEXT, target=9, freeze=["attention", "norms"])
    free = attribute(extractor, {2: dictionary}, TEXT, target=9)
    assert frozen.attrs["value"] == pytest.approx(free.attrs["value"], rel=1e-4)
    assert not np.allclose(frozen["contribution"], free["contribution"])
    # After the last block there is only the norm: frozen, the logit is linear in the state.
    model, _ = extractor.language_model()
    X = extractor_of(folders[kind], layers=[2]).extract([TEXT]).X[-1:]
    state = torch.tensor(X)
    norm = model.get_decoder().norm if kind == "llama" else model.transformer.ln_f
    weight = model.get_output_embeddings().weight
    read = weight[9] - weight.mean(0)
    scale = state.square().mean().add(1e-6).rsqrt() if kind == "llama" else state.var(correction=0).add(1e-5).rsqrt()
    direction = norm.weight * read * scale
    direction = direction - direction.mean() if kind == "gpt2" else direction
    assert set(frozen["position"]) == {len(WORDS) - 1}
    last = frozen.set_index("factor")
    expected = dictionary.components_[last.index] @ direction.numpy() * last["activation"]
    np.testing.assert_allclose(last["contribution"], expected, rtol=1e-3, atol=1e-5)


def test_freezing_attention_leaves_gradients_through_values_alone(folders):
    extractor = extractor_of(folders["llama"])
    dictionary = learned(extractor, 0)
    frozen = attribute(extractor, {0: dictionary}, TEXT, freeze="attention", target=9)
    model, tokenizer = extractor.language_model()
    inputs, leaves = tokenizer(TEXT, return_tensors="pt", return_token_type_ids=False), []

    def flow(states):
        leaves.append(torch.zeros_like(states, requires_grad=True))
        return states + leaves[0]

    names = [f"layers.{{layer}}.self_attn.{name}:output" for name in ("q_proj", "k_proj")]
    cut = {Place(name, layer): torch.Tensor.detach for name in names for layer in range(3)}
    with hooked(model, {Place(SITE, 0): flow} | cut):
        centred_logit(model, inputs, 9, -2).backward()
    slopes = leaves[0].grad[0, 1:-1].numpy() @ dictionary.components_.T
    expected = slopes[frozen["position"], frozen["factor"]] * frozen["activation"]
    np.testing.assert_allclose(frozen["contribution"], expected, rtol=1e-3, atol=1e-5)
    free = attribute(extractor, {0: dictionary}, TEXT, target=9)
    assert not np.allclose(free["contribution"], frozen["contribution"])


def test_what_goes_through_a_transcoder_goes_through_its_codes(folders):
    extractor = extractor_of(folders["llama"])
    rng = np.random.default_rng(0)
    weights = {"encoder": rng.normal(size=(6, 32)), "encoder_intercept": np.zeros(6)}
    parts = rng.normal(size=(6, 32)), np.zeros(32), weights, {"selection": "positive"}, {}
    transcoder = PretrainedTranscoder.from_arrays("linear", *parts)
    dictionary = learned(extractor, 0)
    table = attribute(extractor, {(SITE, 0): dictionary, (None, 1): transcoder}, TEXT, target=9)
    assert set(zip(table["site"], table["layer"], strict=True)) == {(SITE, 0), ("mlp_output", 1)}
    model, tokenizer = extractor.language_model()
    inputs, seen = tokenizer(TEXT, return_tensors="pt", return_token_type_ids=False), {}
    where = inputs["input_ids"] >= 5
    module = transcoder.to_torch()

    def leaf(states):
        seen["leaf"] = torch.zeros_like(states, requires_grad=True)
        return states + seen["leaf"]

    def write(states):
        predicted = module(seen["read"].flatten(0, 1)).view_as(states)
        return torch.where(where[..., None], predicted + (states - predicted).detach(), states)

    flows = {Place(SITE, 0): leaf, Place("mlp_output", 1): write}
    flows[Place("mlp_input", 1)] = lambda states: seen.update(read=states)
    with hooked(model, flows):
        centred_logit(model, inputs, 9, -2).backward()
    own = table[table["layer"] == 0]
    slopes = seen["leaf"].grad[0, 1:-1].numpy() @ dictionary.components_.T
    np.testing.assert_allclose(own["gradient"], slopes[own["position"], own["factor"]], rtol=1e-3, atol=1e-5)


def test_ablating_what_is_named_changes_the_target_as_ablating_it_by_hand(extractor, dictionaries):
    table = attribute(extractor, {1: dictionaries[1]}, TEXT, target=9)
    found = check_attribution(extractor, {1: dictionaries[1]}, table, k=3, n_draws=2, random_state=0)
    assert found["ablated"].tolist() == ["named", "random", "random"]
    assert found["predicted"][0] == pytest.approx(-table["contribution"][:3].sum())

    def less(states):
        states = states.clone()
        for node in table[:3].itertuples():
            states[0, 1 + node.position] -= node.activation * torch.as_tensor(
                dictionaries[1].components_[node.factor], dtype=torch.float32
            )
        return states

    model, tokenizer = extractor.language_model()
    inputs = tokenizer(TEXT, return_tensors="pt", return_token_type_ids=False)
    with torch.no_grad(), hooked(model, {Place(SITE, 1): less}):
        value = float(centred_logit(model, inputs, 9, -2))
    assert found["change"][0] == pytest.approx(value - table.attrs["value"], rel=1e-3, abs=1e-5)


def test_an_attribution_is_of_the_model_as_an_intervention_has_changed_it(extractor, dictionaries):
    plain = attribute(extractor, dictionaries, TEXT, target=9)
    with intervene(extractor, dictionaries[0], steer={0: 1.0}) as model:
        inputs = extractor.language_model()[1](TEXT, return_tensors="pt", return_token_type_ids=False)
        inside = attribute(extractor, {1: dictionaries[1]}, TEXT, target=9, freeze=["norms"])
        with torch.no_grad():
            assert inside.attrs["value"] == pytest.approx(float(centred_logit(model, inputs, 9, -2)), rel=1e-4)
    assert inside.attrs["value"] != pytest.approx(plain.attrs["value"], rel=1e-4)
    pd.testing.assert_frame_equal(attribute(extractor, dictionaries, TEXT, target=9), plain)


@pytest.mark.parametrize(
    ("asked", "error", "message"),
    [
        ({"target": "the left"}, ValueError, "not one token"),
        ({"target": (7, 0)}, ValueError, "no place of"),
        ({"target": (1, 99)}, ValueError, "factors from 0 to 11"),
        ({"target": (1, 11)}, ValueError, "Factor 11 is not active at token"),
        ({"target": (0, 0), "position": 0}, ValueError, "not active|comes before"),
        ({"position": 99}, ValueError, "the text has 15 tokens"),
        ({"position": 1.5}, TypeError, "not an integer"),
        ({"freeze": "mlps"}, ValueError, "is none of 'attention', 'norms'"),
    ],
)
def test_what_cannot_be_attributed_is_refused(extractor, dictionaries, asked, error, message):
    with pytest.raises(error, match=message):
        attribute(extractor, dictionaries, TEXT, **asked)


def test_bad_texts_and_dictionaries_are_refused(extractor, dictionaries):
    with pytest.raises(TypeError, match="one str is explained"):
        attribute(extractor, dictionaries, [TEXT])
    with pytest.raises(TypeError, match="must be a dict"):
        attribute(extractor, dictionaries[0], TEXT)
    with pytest.raises(ValueError, match="There are two dictionaries at"):
        attribute(extractor, {0: dictionaries[0], (SITE, 0): dictionaries[0]}, TEXT)
    with pytest.raises(ValueError, match="must fit in one"):
        attribute(extractor_of(extractor.model, max_length=8), dictionaries, TEXT)
    with pytest.raises(ValueError, match="too few for 1000 named"):
        check_attribution(extractor, dictionaries, attribute(extractor, dictionaries, TEXT), k=1000)


def test_the_effect_of_a_factor_is_the_rise_of_the_loss(extractor, dictionaries):
    texts = [TEXT, "the left bank"]
    table = ablation_effects(extractor, dictionaries[0], texts, [0, 11])
    model, tokenizer = extractor.language_model()
    for factor in (0, 11):
        total = n = 0
        with intervene(extractor, dictionaries[0], ablate=[factor]) as changed, torch.no_grad():
            for text in texts:
                inputs = tokenizer(text, return_tensors="pt", return_token_type_ids=False)
                n += inputs["input_ids"].shape[1] - 1
                loss = changed(**inputs, labels=inputs["input_ids"]).loss
                total += float(loss) * (inputs["input_ids"].shape[1] - 1)
        assert table.loc[factor, "ablated_loss"] == pytest.approx(total / n, rel=1e-5)
    # The last factor of the stand-in never fires.
    assert table.loc[11, "effect"] == pytest.approx(0, abs=1e-6) and table.loc[0, "effect"] != 0


def test_output_tokens_are_those_that_the_head_reads_in_a_component(extractor, dictionaries):
    table = output_tokens(extractor, dictionaries[1], [3, 0], k=4)
    model, tokenizer = extractor.language_model()
    component = torch.as_tensor(dictionaries[1].components_[3], dtype=torch.float32)
    with torch.no_grad():
        logits = model.lm_head(model.model.norm(component))
    logits = (logits - logits.mean()).numpy()
    assert table["factor"].unique().tolist() == [3, 0]
    top = table[(table["factor"] == 3) & (table["end"] == "top")]
    np.testing.assert_allclose(top["logit"], np.sort(logits)[::-1][:4], rtol=1e-4)
    assert top["token"].tolist() == [tokenizer.decode([number]) for number in np.argsort(-logits)[:4]]
    bottom = table[(table["factor"] == 3) & (table["end"] == "bottom")]
    np.testing.assert_allclose(bottom["logit"], np.sort(logits)[:4], rtol=1e-4)


def test_heads_read_only_what_lies_in_the_stream_of_a_decoder(folders, extractor, dictionaries):
    with pytest.raises(ValueError, match="are none of the stream"):
        output_tokens(extractor_of(extractor.model, site="mlp_input"), dictionaries[1])
    bert = extractor_of(folders["bert"])
    with pytest.raises(ValueError, match="is no decoder"):
        output_tokens(bert, dictionaries[1])
    with pytest.raises(ValueError, match="is no decoder"):
        ablation_effects(bert, dictionaries[1], [TEXT])


def test_windows_longer_than_the_positions_of_the_model_are_as_long_as_they_are(tiny_models):
    text = " ".join(["left"] * 90)
    extractor = TransformerFeatureExtractor(tiny_models["gpt2"], site=SITE, layers=[0], max_length=64, device="cpu")
    dictionary = PCA(3, random_state=0).fit(extractor.extract([TEXT, "the left bank"]).X)
    table = ablation_effects(extractor, dictionary, [text], [0])
    extractor.set_params(max_length=512)
    pd.testing.assert_frame_equal(ablation_effects(extractor, dictionary, [text], [0]), table)
    with pytest.raises(ValueError, match=r"a window 64 \(the positions of the model\): it must fit in one"):
        attribute(extractor, {0: dictionary}, text)


def test_a_report_shows_what_factors_do_to_the_output(extractor, dictionaries, tmp_path):
    report = FactorReport.from_texts(extractor, dictionaries[0], [TEXT, "the left bank"])
    effects = ablation_effects(extractor, dictionaries[0], [TEXT], [2])
    assert "speaks_for" not in report.summary()
    summary = report.add_outputs(k=3, effects=effects).summary()
    said = output_tokens(extractor, dictionaries[0], [2], k=3)
    assert summary.loc[2, "speaks_for"].split() == " ".join(said.loc[said["end"] == "top", "token"]).split()
    assert summary["loss_effect"].notna().tolist() == [factor == 2 for factor in range(12)]
    console = Console(record=True, width=300, file=io.StringIO())
    report.show(2, console=console)
    text = console.export_text()
    assert f"speaks for {summary.loc[2, 'speaks_for']}".rstrip() in text and "without it the loss rises by" in text
    report.to_html(tmp_path / "page.html", model="tiny")
    assert sections_of(report, "", None, "")["factors"]["said"][3].startswith("speaks for")
    report.save(tmp_path)
    opened = FactorReport.load(tmp_path)
    assert opened == report == FactorReport.merge([opened])
    pd.testing.assert_frame_equal(opened.summary(), summary, check_exact=True)
    opened.show(2, console=console)
    assert console.export_text() == text
    opened.to_html(tmp_path / "again.html", model="tiny")
    assert (tmp_path / "again.html").read_bytes() == (tmp_path / "page.html").read_bytes()


def test_outputs_of_another_dictionary_than_the_reports_are_refused(extractor, dictionaries):
    report = FactorReport.from_texts(extractor, dictionaries[0], [TEXT])
    with pytest.raises(ValueError, match="the dictionary has 5 factors, and the report 12"):
        report.add_outputs(extractor, StandInModel().fit(extractor.extract([TEXT]).X))
    with pytest.raises(ValueError, match="effect on the loss is infinite"):
        report.add_outputs(effects=pd.DataFrame({"effect": [np.inf]}))
    assert "speaks_for" not in report.summary()


def test_an_encoder_decoder_has_no_logit_lens_and_no_loss_of_next_tokens(tmp_path):
    extractor = extractor_of(
        save_model(tmp_path, T5ForConditionalGeneration(T5Config(**T5_SIZES))), site="hidden_states", layers=[1]
    )
    dictionary = PCA(3).fit(extractor.extract([TEXT]).X)
    for ask in (output_tokens, lambda *of: ablation_effects(*of, [TEXT])):
        with pytest.raises(ValueError, match="is no decoder"):
            ask(extractor, dictionary)


def test_the_last_hidden_states_are_read_by_the_head_alone(tmp_path):
    """They have had the last norm: a component added to them adds to logits what the head makes of it."""
    lm = GPT2LMHeadModel(GPT2Config(vocab_size=64, n_embd=32, n_layer=2, n_head=4, n_positions=64))
    with torch.no_grad():
        lm.transformer.ln_f.weight.copy_(torch.linspace(0.1, 5, 32))
    extractor = extractor_of(save_model(tmp_path, lm), site="hidden_states", layers=[-1])
    dictionary = PCA(3).fit(extractor.extract([TEXT]).X)
    logits = dictionary.components_ @ lm.get_output_embeddings().weight.detach().numpy().T
    logits -= logits.mean(axis=1, keepdims=True)
    table = output_tokens(extractor, dictionary, k=4)
    for factor in range(3):
        found = table[(table["factor"] == factor) & (table["end"] == "top")]["logit"]
        np.testing.assert_allclose(found, np.sort(logits[factor])[::-1][:4], rtol=1e-4)
