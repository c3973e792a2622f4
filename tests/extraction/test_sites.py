"""Places inside a model: their rows are what hooks by hand see, and go wherever rows of hidden states go."""

import threading

import numpy as np
import pandas as pd
import pytest
import torch
import transformers as hf
from sklearn.base import clone
from support.tiny_kinds import WORDS, save, save_model, word_tokenizer
from support.tiny_models import byte_level_tokenizer
from support.tiny_sites import KINDS, PICTURE_KINDS, PRE_NORM, SITES, loaded, states_by_hand

from skfactors import Activations, ActivationStore, SparseDictionary, TransformerFeatureExtractor
from skfactors.extraction.forward import HiddenStateRunner
from skfactors.extraction.hooks import hooked, reading, twin
from skfactors.extraction.sites import HIDDEN_STATES, Place, find_site
from skfactors.reports import token_saliency

TEXTS = [
    "the bank of the river",
    " ".join(WORDS),
    "muddy",
    "report on shares fell while the left bank was quiet",
]


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Return the folder of a tiny model of each kind, saved when it is asked for."""
    saved = {}

    def folder(kind):
        if kind not in saved:
            saved[kind] = save(tmp_path_factory.mktemp("sites") / kind, kind, **KINDS[kind])
            if kind == "Qwen2":
                # Whose tokenizers transformers takes for tokenizers of bytes, whatever they are.
                byte_level_tokenizer(TEXTS).save_pretrained(saved[kind])
        return saved[kind]

    return folder


@pytest.fixture
def llama(folders):
    return folders("Llama")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("side", ["left", "right"])
def test_rows_of_every_site_are_what_hooks_by_hand_see(kind, side, folders):
    folder = folders(kind)
    tokenizer = hf.AutoTokenizer.from_pretrained(folder)
    tokenizer.padding_side = side
    tokenizer.save_pretrained(folder)
    model = loaded(folder, kind)
    encoded = [tokenizer(text, return_special_tokens_mask=True) for text in TEXTS]
    by_hand = [
        states_by_hand(kind, model, range(3), input_ids=torch.tensor([of_text["input_ids"]])) for of_text in encoded
    ]
    is_text = [np.array(of_text["special_tokens_mask"]) == 0 for of_text in encoded]
    for batch_size in (1, 3, 32):
        extractor = TransformerFeatureExtractor(folder, site=[HIDDEN_STATES, *SITES], batch_size=batch_size)
        acts = extractor.extract(TEXTS)
        assert len(acts.places) == 4 + 6 * 3
        for place in acts.places:
            expected = np.concatenate([of_text[place][kept] for of_text, kept in zip(by_hand, is_text, strict=True)])
            np.testing.assert_allclose(acts.at(*place).X, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("kind", PICTURE_KINDS)
def test_sites_of_models_of_pictures_are_what_hooks_by_hand_see(kind):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = getattr(hf, f"{kind}Model")(getattr(hf, f"{kind}Config")(**PICTURE_KINDS[kind])).eval()
        pixels = torch.randn(1, 3, 32, 32)
    by_hand = states_by_hand(kind, model, range(2), pixel_values=pixels)
    with torch.no_grad(), reading(model, [Place(*place) for place in by_hand]) as read:
        model(pixel_values=pixels)
    assert {tuple(place) for place in read} == set(by_hand)
    for place, states in read.items():
        np.testing.assert_allclose(states[0].numpy(), by_hand[place], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("kind", [kind for kind in PRE_NORM if kind in KINDS])
def test_a_block_gives_what_it_reads_and_what_its_parts_add(kind, folders):
    acts = TransformerFeatureExtractor(folders(kind), site=list(SITES)).extract(TEXTS)
    for layer in range(3):
        read, given = (acts.at(site, layer).X for site in ("block_input", "block_output"))
        added = acts.at("attention_output", layer).X + acts.at("mlp_output", layer).X
        np.testing.assert_allclose(read + added, given, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_replacing_a_hidden_state_changes_those_after_it_and_none_before(kind, folders):
    model = loaded(folders(kind), kind)
    inputs = {"input_ids": torch.tensor([[2, 6, 7, 8, 3]])}
    for layer in range(4):
        with torch.no_grad():
            plain = model(**inputs, output_hidden_states=True)
            with hooked(model, {Place(HIDDEN_STATES, layer): lambda states: states * 2}):
                changed = model(**inputs, output_hidden_states=True)
        for number, (one, other) in enumerate(zip(plain.hidden_states, changed.hidden_states, strict=True)):
            if number < layer:
                torch.testing.assert_close(one, other, rtol=0, atol=0)
            if number > layer:
                assert not torch.allclose(one, other)
        assert not torch.allclose(plain.last_hidden_state, changed.last_hidden_state)


def test_a_function_that_leaves_all_as_it_is_leaves_the_very_bits(llama):
    model, seen = loaded(llama, "Llama"), []
    inputs = {"input_ids": torch.tensor([[2, 6, 7, 8, 3]])}
    flows = {Place(site, layer): lambda states: seen.append(states.shape) for site in SITES for layer in range(3)}
    with torch.no_grad():
        plain = model(**inputs).last_hidden_state
        with hooked(model, flows):
            assert torch.equal(model(**inputs).last_hidden_state, plain)
    assert seen == [(1, 5, 32)] * 18


def test_what_flows_on_in_the_stead_of_rows_of_opts_mlp_is_of_their_shape(folders):
    model = loaded(folders("OPT"), "OPT")
    inputs = {"input_ids": torch.tensor([[2, 6, 7, 8, 3], [2, 8, 8, 8, 3]])}
    place, shapes = Place("mlp_output", 1), []

    def without_it(states):
        shapes.append(tuple(states.shape))
        return torch.zeros_like(states)

    with torch.no_grad(), reading(model, [Place("block_output", 1), Place("block_input", 1)]) as read:
        with hooked(model, {place: without_it}), reading(model, [Place("attention_output", 1)]) as within:
            model(**inputs)
    assert shapes == [(2, 5, 32)]
    added = read["block_output", 1] - read["block_input", 1]
    torch.testing.assert_close(added, within["attention_output", 1])


def hooks_on(model):
    return [
        hook
        for module in model.modules()
        for hooks in (module._forward_hooks, module._forward_pre_hooks)
        for hook in hooks.values()
        if hook.__module__ == "skfactors.extraction.hooks"
    ]


def test_nothing_is_left_on_the_model_whatever_is_raised(llama):
    model = loaded(llama, "Llama")
    inputs = {"input_ids": torch.tensor([[2, 6, 7, 8, 3]])}
    plain = model(**inputs).last_hidden_state

    def fails(states):
        assert len(hooks_on(model)) == 2
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), hooked(model, {Place("mlp_output", 1): fails}):
        model(**inputs)
    with pytest.raises(ValueError, match="no layer 7"), hooked(model, dict.fromkeys([Place("mlp_output", 7)], fails)):
        pass
    with pytest.raises(ValueError, match="shape .1, 5, 32., not .1, 32"):
        with hooked(model, {Place("mlp_output", 1): lambda states: states[:, 0]}):
            model(**inputs)
    assert not hooks_on(model)
    assert torch.equal(model(**inputs).last_hidden_state, plain)


def test_hooks_on_a_twin_touch_nobody_else(llama):
    model = loaded(llama, "Llama")
    inputs = {"input_ids": torch.tensor([[2, 6, 7, 8, 3]])}
    plain, double = model(**inputs).last_hidden_state, twin(model)
    weights = zip(model.parameters(), double.parameters(), strict=True)
    assert all(one is other for one, other in weights)
    with hooked(double, {Place("mlp_output", 1): torch.zeros_like}):
        assert torch.equal(model(**inputs).last_hidden_state, plain)
        assert not torch.equal(double(**inputs).last_hidden_state, plain)


def test_a_compiled_model_is_refused(llama):
    model = torch.compile(loaded(llama, "Llama"))
    with pytest.raises(ValueError, match=r"compiled by torch\.compile"), hooked(model, {}):
        pass


def test_a_module_that_runs_twice_in_a_pass_is_no_place(folders):
    model = loaded(folders("Bert"), "Bert")
    place, inputs = Place("mlp_output", 0), {"input_ids": torch.tensor([[2, 6, 3]])}
    with pytest.raises(ValueError, match="runs more than once"), reading(model, [place]):
        model(**inputs)
        model(**inputs)


def test_a_site_by_its_path_is_what_that_module_reads_or_gives(folders):
    folder = folders("Bert")
    paths = ["encoder.layer.{layer}.output.dense:output", "encoder.layer.{layer}.intermediate.dense:input"]
    acts = TransformerFeatureExtractor(folder, site=[*paths, "mlp_output", "mlp_input"], layers=[0, -1]).extract(TEXTS)
    assert [place.layer for place in acts.places] == [0, 2] * 4
    for path, name in zip(paths, ("mlp_output", "mlp_input"), strict=True):
        for layer in (0, 2):
            np.testing.assert_array_equal(acts.at(path, layer).X, acts.at(name, layer).X)


def test_several_sites_are_read_in_one_pass(llama, monkeypatch):
    sizes, forward = [], HiddenStateRunner.forward
    monkeypatch.setattr(HiddenStateRunner, "forward", lambda self, windows: sizes.append(1) or forward(self, windows))
    TransformerFeatureExtractor(llama, site=["mlp_input", "mlp_output", "hidden_states"]).extract(TEXTS)
    assert sizes == [1]


def test_layers_are_counted_in_each_site_by_itself(llama):
    extractor = TransformerFeatureExtractor(llama, site=["hidden_states", "block_output"], layers=[-1, 0])
    acts = extractor.fit(TEXTS).extract(TEXTS)
    expected = [("hidden_states", 3), ("hidden_states", 0), ("block_output", 2), ("block_output", 0)]
    assert acts.places == extractor.places_ == expected
    assert extractor.layers_ == [3, 0, 2]


@pytest.mark.parametrize(
    ("site", "layers", "message"),
    [
        ("mlp", "all", "site='mlp' is none of 'hidden_states', 'block_input', .*no module's path"),
        ("layers.{layer}.mlp", "all", "ends in ':input' or ':output'"),
        ("layers.0.mlp:output", "all", "path with {layer}"),
        ("layers.{layer}.mpl:output", "all", "LlamaModel has no such module. There are 'layers.{layer}.mlp'"),
        ("mlp_output", 3, "no layer 3; layers of 'mlp_output' are blocks, counted from 0, here 0 to 2"),
        ("mlp_output", -4, "no layer -4"),
        (["mlp_output", "mlp_output"], "all", "each once"),
        ([], "all", "at least one site"),
    ],
)
def test_a_place_that_is_not_there_is_refused_and_those_that_are_named(llama, site, layers, message):
    with pytest.raises(ValueError, match=message):
        TransformerFeatureExtractor(llama, site=site, layers=layers).extract(TEXTS)


def test_a_site_that_is_no_str_is_refused(llama):
    with pytest.raises(TypeError, match="3 is not a str"):
        TransformerFeatureExtractor(llama, site=["mlp_output", 3]).extract(TEXTS)


def test_a_site_that_an_architecture_lacks_is_refused_and_its_own_are_named(tmp_path):
    sizes = {"vocab_size": 64, "hidden_size": 32, "num_hidden_layers": 2}
    mamba = save(tmp_path / "mamba", "Mamba", **sizes)
    known = "MambaModel has no such site. It has 'hidden_states', 'block_input', 'block_output', and every module"
    with pytest.raises(ValueError, match=known):
        TransformerFeatureExtractor(mamba, site="mlp_output").fit(TEXTS)
    acts = TransformerFeatureExtractor(mamba, site=["block_output", HIDDEN_STATES], layers=0).extract(TEXTS)
    assert acts.at("block_output").shape == acts.at(HIDDEN_STATES).shape
    unknown = save(tmp_path / "bloom", "Bloom", vocab_size=64, hidden_size=32, n_layer=2, n_head=4)
    with pytest.raises(ValueError, match="BloomModel has no such site. It has 'hidden_states', and every module"):
        TransformerFeatureExtractor(unknown, site="mlp_output").fit(TEXTS)
    assert TransformerFeatureExtractor(unknown, site="h.{layer}.mlp:output").fit_transform(TEXTS).shape[1] == 32


HEADS = {"num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 12}


@pytest.fixture(scope="module")
def uneven(tmp_path_factory):
    """Return the folder of a model whose heads, side by side, are wider than its stream."""
    return save(tmp_path_factory.mktemp("uneven") / "Llama", "Llama", **KINDS["Llama"] | HEADS)


@pytest.fixture(scope="module")
def by_site(uneven):
    """Return the rows of each of two sites, extracted one by one."""
    sites = ("attention_heads", "mlp_output")
    return {site: TransformerFeatureExtractor(uneven, site=site, layers=1).extract(TEXTS).X for site in sites}


def test_sites_of_different_widths_come_together_and_make_no_table(uneven, by_site):
    extractor = TransformerFeatureExtractor(uneven, site=list(by_site), layers=1)
    acts = extractor.extract(TEXTS)
    for site, rows in by_site.items():
        np.testing.assert_allclose(acts.at(site).X, rows, rtol=1e-5, atol=1e-6)
    with pytest.raises(ValueError, match="differ in width: 32 at .'mlp_output', 1., and 48 elsewhere"):
        acts.X
    with pytest.raises(ValueError, match="different widths: 48 in layers .1. of 'attention_heads', 32 in .*columns"):
        extractor.fit(TEXTS)


def test_sites_stand_side_by_side_or_are_pooled(uneven, by_site):
    whole = np.hstack(list(by_site.values()))
    columns = TransformerFeatureExtractor(uneven, site=list(by_site), layers=1, arrange="columns")
    np.testing.assert_allclose(columns.fit_transform(TEXTS), whole, rtol=1e-5, atol=1e-6)
    assert len(columns.get_feature_names_out()) == 80
    pooled = TransformerFeatureExtractor(uneven, site=list(by_site), layers=1, level="document", pooling="max")
    np.testing.assert_allclose(pooled.fit_transform(TEXTS)[0], whole[:5].max(axis=0), rtol=1e-5, atol=1e-6)


def test_sites_come_back_from_a_cache_and_a_store(uneven, by_site, tmp_path, monkeypatch):
    extractor = TransformerFeatureExtractor(uneven, site=list(by_site), layers=1, cache_dir=tmp_path / "cache")
    extractor.extract(TEXTS)
    monkeypatch.setattr(HiddenStateRunner, "forward", lambda *_: pytest.fail("the model was run"))
    extractor.extract_to(TEXTS, tmp_path / "store")
    store = ActivationStore(tmp_path / "store")
    for acts in (extractor.extract(TEXTS), Activations.concat(store)):
        for site, rows in by_site.items():
            np.testing.assert_allclose(acts.at(site).X, rows, rtol=1e-5, atol=1e-6)
    assert store.at("mlp_output").shape == by_site["mlp_output"].shape
    assert store.content["modules"]["mlp_output"] == "layers.{layer}.mlp:output"
    assert store.verify().empty


def test_rows_of_another_site_are_not_taken_from_a_cache_or_into_a_store(llama, tmp_path):
    def extractor(site):
        return TransformerFeatureExtractor(llama, site=site, layers=1, cache_dir=tmp_path / "cache")

    read = [extractor(site).extract(TEXTS).X for site in ("mlp_input", "mlp_output", "mlp_input")]
    np.testing.assert_array_equal(read[0], read[2])
    assert not np.allclose(read[0], read[1])
    extractor("mlp_input").extract_to(TEXTS, tmp_path / "store")
    with pytest.raises(ValueError, match="sites: .*mlp_input|sites is .*mlp_input"):
        extractor("mlp_output").extract_to(TEXTS, tmp_path / "store")


def test_the_content_of_hidden_states_is_told_as_before_there_were_sites(llama, tmp_path):
    store = TransformerFeatureExtractor(llama).extract_to(TEXTS, tmp_path / "store")
    told = {"files", "layers", "dtype", "max_length", "stride", "add_special_tokens"}
    assert set(store.content) == told


def test_a_dictionary_is_fitted_on_one_site_of_a_store(llama, tmp_path):
    store = TransformerFeatureExtractor(llama, site=["mlp_input", "mlp_output"]).extract_to(TEXTS, tmp_path / "store")
    at = store.at("mlp_output", 1)
    dictionary = SparseDictionary(4, alpha=0.01, random_state=0).fit(at, sample_weight=at.sample_weight)
    assert dictionary.components_.shape == (4, 32)


def test_pandas_output_names_the_site_only_where_there_are_several(llama):
    extractor = TransformerFeatureExtractor(llama, site=["mlp_output", "block_output"], layers=[1])
    frame = extractor.set_output(transform="pandas").fit_transform(TEXTS)
    assert frame.index.names == ["document", "site", "layer", "position"]
    expected = extractor.extract(TEXTS).at("block_output").X
    np.testing.assert_array_equal(frame.xs("block_output", level="site").sort_index(level=[0, 2]), expected)
    frame = clone(extractor).set_params(site="mlp_output").fit_transform(TEXTS)
    assert frame.index.names == ["document", "layer", "position"]


def test_windows_and_their_overlap_are_those_of_hidden_states(llama):
    windowing = {"max_length": 6, "stride": 2}
    of_site, of_states = (
        TransformerFeatureExtractor(llama, site=site, layers=0, **windowing).extract(TEXTS)
        for site in ("block_input", "hidden_states")
    )
    np.testing.assert_array_equal(of_site.X, of_states.X)
    columns = ["document", "position", "token_id", "start", "end"]
    pd.testing.assert_frame_equal(of_site.provenance[columns], of_states.provenance[columns])


def test_saliency_is_of_the_site_that_the_extractor_reads(llama):
    by_site = {}
    for site in ("block_input", "hidden_states", "mlp_output"):
        extractor = TransformerFeatureExtractor(llama, site=site, layers=[1])
        dictionary = SparseDictionary(3, alpha=0.01, random_state=0).fit(extractor.extract(TEXTS).X)
        place = {"factor": 0, "layer": 1, "position": 3}
        by_site[site] = [
            token_saliency(extractor, dictionary, TEXTS[0], **place, method=method).to_numpy()
            for method in ("occlusion", "gradient")
        ]
    # Hidden state 1 is what block 1 reads.
    np.testing.assert_allclose(by_site["block_input"], by_site["hidden_states"], rtol=1e-4, atol=1e-6)
    assert not np.allclose(by_site["mlp_output"], by_site["hidden_states"], rtol=1e-2)
    with pytest.raises(ValueError, match="one site"):
        TransformerFeatureExtractor(llama, site=["mlp_input", "mlp_output"]).probe()


def test_threads_that_read_different_sites_of_one_model_get_their_own(llama):
    extractors = {
        site: TransformerFeatureExtractor(llama, site=site, batch_size=1) for site in ("mlp_output", "block_input")
    }
    shared = TransformerFeatureExtractor(llama)
    alone = {site: extractor.extract(TEXTS).X for site, extractor in extractors.items()}
    found = {site: [] for site in extractors}
    for site, extractor in list(extractors.items()):
        extractors[site] = clone(shared).set_params(**extractor.get_params())

    def read(site):
        for _ in range(2):
            found[site].append(extractors[site].extract(TEXTS).X)

    threads = [threading.Thread(target=read, args=[site]) for site in found for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for site, rows in alone.items():
        assert len(found[site]) == 4
        for again in found[site]:
            np.testing.assert_array_equal(again, rows)


def test_paths_begin_below_the_head(folders):
    config = hf.LlamaConfig(**KINDS["Llama"])
    assert str(find_site(hf.LlamaForCausalLM(config), "mlp_output")) == "layers.{layer}.mlp:output"
    t5 = hf.T5ForConditionalGeneration(hf.T5Config(**KINDS["T5"], decoder_start_token_id=0))
    inputs = {"input_ids": torch.tensor([[2, 6, 3]]), "decoder_input_ids": torch.tensor([[0, 5]])}
    with reading(t5, [Place("mlp_output", 1)]) as read:
        t5(**inputs)
    # Of the encoder, which has read three tokens.
    assert read["mlp_output", 1].shape == (1, 3, 32)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """Return the folder of a model with a token, "muddy", whose states are far longer than those of others."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = hf.LlamaModel(hf.LlamaConfig(**KINDS["Llama"]))
    with torch.no_grad():
        model.embed_tokens.weight[word_tokenizer().convert_tokens_to_ids("muddy")] *= 1000
    return save_model(tmp_path_factory.mktemp("outliers"), model)


class TestOutliers:
    def test_are_left_out_at_all_places_and_counted(self, model):
        extractor = TransformerFeatureExtractor(model, site=["hidden_states", "mlp_output"], drop_outliers=100)
        with pytest.warns(UserWarning, match="2 tokens are left out as outliers: .*more than 100 times"):
            acts = extractor.extract(TEXTS)
        assert extractor.n_outliers_ == 2
        every = TransformerFeatureExtractor(model, site=["hidden_states", "mlp_output"]).extract(TEXTS)
        kept = np.array(every.tokens()) != "muddy"
        np.testing.assert_array_equal(acts.padded, every.padded[kept])
        assert acts.tokens() == every[kept].tokens()

    def test_do_not_depend_on_the_texts_beside(self, model):
        extractor = TransformerFeatureExtractor(model, drop_outliers=100, layers=1)
        with pytest.warns(UserWarning, match="outliers"):
            assert len(extractor.extract(["muddy", "muddy river"])) == 1

    def test_are_counted_in_a_store_for_good(self, model, tmp_path):
        extractor = TransformerFeatureExtractor(model, layers=[1, 2], drop_outliers=100)
        with pytest.warns(UserWarning, match="2 tokens are left out"):
            store = extractor.extract_to(TEXTS, tmp_path / "store")
        assert store.n_outliers == ActivationStore(tmp_path / "store").n_outliers == extractor.n_outliers_ == 2
        assert "muddy" not in Activations.concat(store).tokens() and store.verify().empty
        with pytest.raises(ValueError, match="drop_outliers"):
            clone(extractor).set_params(drop_outliers=None).extract_to(TEXTS, tmp_path / "store")

    def test_stay_where_nothing_is_asked(self, model, tmp_path):
        extractor = TransformerFeatureExtractor(model, layers=1)
        assert "muddy" in extractor.extract(TEXTS).tokens()
        assert extractor.extract_to(TEXTS, tmp_path / "store").n_outliers is None

    def test_a_passage_without_tokens_is_said(self, model, monkeypatch):
        from skfactors.extraction import stream

        monkeypatch.setattr(stream, "PASSAGE", " ")
        with pytest.raises(ValueError, match="makes no tokens of it"):
            TransformerFeatureExtractor(model, drop_outliers=100).extract(TEXTS)
