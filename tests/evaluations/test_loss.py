import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.decomposition import PCA
from transformers import AutoModel, AutoModelForCausalLM, AutoTokenizer, BertForMaskedLM, GPT2LMHeadModel

from skfactors import TransformerFeatureExtractor
from skfactors.evaluations import evaluate, loss_recovered
from skfactors.evaluations.controls import coded_by_pursuit
from skfactors.extraction.hooks import hooked
from skfactors.extraction.sites import Place
from skfactors.metrics import explained_variance

WIDTH, LAYER = 32, 0
PLACE = {"site": "block_output", "layer": LAYER}


@pytest.fixture(scope="module")
def texts(texts):
    return [text for text in texts if text]


@pytest.fixture(scope="module")
def with_heads(tiny_models, tmp_path_factory):
    """Folders of tiny models with heads, whose weights are large enough that states matter."""
    folder, paths = tmp_path_factory.mktemp("heads"), {}
    for name, kind in (("gpt2", GPT2LMHeadModel), ("bert", BertForMaskedLM)):
        with torch.random.fork_rng():
            torch.manual_seed(0)
            model = kind.from_pretrained(tiny_models[name])
            for weights in model.parameters():
                if weights.ndim == 2:
                    weights.data.normal_(0, 0.3)
        model.save_pretrained(folder / name)
        AutoTokenizer.from_pretrained(tiny_models[name]).save_pretrained(folder / name)
        paths[name] = str(folder / name)
    return paths


def extractor_of(path):
    return TransformerFeatureExtractor(path, site="block_output", layers=[LAYER], max_length=16, device="cpu")


def half_of_the_directions(extractor, texts):
    """A dictionary that keeps half of the dimensions of rows; its codes are dense."""
    return PCA(WIDTH // 2).fit(extractor.extract(texts).X)


@pytest.fixture(scope="module")
def decoder(with_heads):
    return extractor_of(with_heads["gpt2"])


@pytest.fixture(scope="module")
def table(decoder, texts):
    return loss_recovered(decoder, half_of_the_directions(decoder, texts), texts, controls=[], n_resamples=50)


def figure(table, measure, scored="dictionary"):
    return table.set_index(["measure", "scored"]).loc[(measure, scored)]


def loss_by_hand(extractor, texts, replace):
    """The loss of one text after the other, without padding, with states replaced."""
    model = AutoModelForCausalLM.from_pretrained(extractor.model).eval()
    tokenizer = AutoTokenizer.from_pretrained(extractor.model)
    total, n_tokens = 0.0, 0

    def flow(states):
        return torch.tensor(replace(states[0].numpy()), dtype=torch.float32)[None]

    for text in texts:
        ids = tokenizer(text, return_tensors="pt", truncation=True, max_length=16)["input_ids"]
        if ids.shape[1] < 2:
            continue
        with torch.no_grad(), hooked(model, {Place(**PLACE): flow}):
            loss = float(model(input_ids=ids, labels=ids).loss)
        total, n_tokens = total + loss * (ids.shape[1] - 1), n_tokens + ids.shape[1] - 1
    return total / n_tokens


def test_losses_are_those_of_a_slow_direct_version(table, decoder, texts):
    X = decoder.extract(texts).X
    pca = half_of_the_directions(decoder, texts)
    loss = {
        "dictionary": loss_by_hand(decoder, texts, lambda rows: pca.inverse_transform(pca.transform(rows))),
        "zeros": loss_by_hand(decoder, texts, np.zeros_like),
        "mean row": loss_by_hand(decoder, texts, lambda rows: np.tile(X.mean(axis=0), (len(rows), 1))),
        "the model's own states": loss_by_hand(decoder, texts, lambda rows: rows),
    }
    for name, expected in loss.items():
        assert figure(table, "loss", name).value == pytest.approx(expected, rel=1e-4)
    clean = loss["the model's own states"]
    for measure, least in (("recovered_from_zero", loss["zeros"]), ("recovered_from_mean", loss["mean row"])):
        found = figure(table, measure).value
        if least > clean:
            assert found == pytest.approx((least - loss["dictionary"]) / (least - clean), rel=1e-3)
        else:
            assert np.isnan(found)


def test_predictions_diverge_from_the_models_own_only_where_states_are_replaced(table):
    assert figure(table, "kl", "the model's own states").value == 0
    assert figure(table, "kl").value > 0


def test_a_perfect_reconstruction_recovers_everything(decoder, texts):
    perfect = PCA().fit(np.random.default_rng(0).standard_normal((100, WIDTH)))
    table = loss_recovered(decoder, perfect, texts, controls=[], n_resamples=10)
    assert figure(table, "kl").value == pytest.approx(0, abs=1e-4)
    clean = figure(table, "loss", "the model's own states").value
    assert figure(table, "loss").value == pytest.approx(clean, abs=1e-4)


def test_texts_without_a_prediction_are_no_units(table, decoder, texts):
    with_one = loss_recovered(decoder, half_of_the_directions(decoder, texts), [*texts, "I"], controls=[])
    assert set(with_one["n_units"]) == set(table["n_units"]) == {len(texts)}


def test_the_model_is_left_as_it_was(decoder, table):
    model, _ = decoder.language_model()
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())


def test_a_masked_model_predicts_the_same_masked_tokens_each_time(with_heads, texts):
    extractor = extractor_of(with_heads["bert"])
    dictionary = half_of_the_directions(extractor, texts)
    first, again = (loss_recovered(extractor, dictionary, texts, controls=[], n_resamples=10) for _ in range(2))
    assert first.equals(again)
    assert np.isfinite(figure(first, "loss").value)


def test_random_factors_are_a_row_of_the_table(decoder, texts):
    X = decoder.extract(texts).X
    dictionary = coded_by_pursuit(np.eye(WIDTH)[:8], X.mean(axis=0), 4)
    table = loss_recovered(decoder, dictionary, texts, n_resamples=10)
    assert np.isfinite(figure(table, "loss", "random factors").value)


def test_texts_with_nothing_to_predict_are_refused(decoder, texts):
    with pytest.raises(ValueError, match="no token to predict: give longer ones"):
        loss_recovered(decoder, half_of_the_directions(decoder, texts), ["I"], controls=[])


def test_a_model_without_a_head_is_asked_for_its_embeddings(tiny_model, texts):
    extractor = extractor_of(tiny_model)
    pca = half_of_the_directions(extractor, texts)
    table = loss_recovered(extractor, pca, texts, controls=[], n_resamples=10)
    model, tokenizer = AutoModel.from_pretrained(tiny_model).eval(), AutoTokenizer.from_pretrained(tiny_model)

    def embedding(text, replace):
        inputs = tokenizer(text, return_tensors="pt", truncation=True, max_length=16, return_special_tokens_mask=True)
        is_word = inputs.pop("special_tokens_mask")[0] == 0

        def flow(states):
            states = states.clone()
            states[0, is_word] = torch.tensor(replace(states[0, is_word].numpy()), dtype=torch.float32)
            return states

        with torch.no_grad(), hooked(model, {Place(**PLACE): flow}):
            return model(**inputs).last_hidden_state[0].mean(dim=0).numpy()

    def loss(replace):
        pairs = ((embedding(text, replace), embedding(text, lambda rows: rows)) for text in texts)
        return 1 - np.mean([a @ b / np.linalg.norm(a) / np.linalg.norm(b) for a, b in pairs])

    mine, zero = loss(lambda rows: pca.inverse_transform(pca.transform(rows))), loss(np.zeros_like)
    assert figure(table, "cosine").value == pytest.approx(1 - mine, abs=1e-5)
    assert figure(table, "recovered_from_zero").value == pytest.approx(1 - mine / zero, abs=1e-4)
    assert figure(table, "cosine", "the model's own states").value == pytest.approx(1)
    assert table["measure"].unique().tolist() == ["recovered_from_zero", "recovered_from_mean", "cosine"]


def test_evaluate_puts_all_figures_into_one_report(decoder, texts):
    pca, X = half_of_the_directions(decoder, texts), decoder.extract(texts).X
    report = evaluate(decoder, pca, texts, ["core", "loss_recovered"], controls=[], n_resamples=10)
    assert report.table["evaluation"].unique().tolist() == ["core", "loss_recovered"]
    found = figure(report.table, "explained_variance").value
    assert found == pytest.approx(explained_variance(X, pca.inverse_transform(pca.transform(X))), abs=1e-5)
    assert figure(report.table, "l0").value == WIDTH // 2


def test_hidden_words_do_not_depend_on_the_batch(with_heads, texts):
    extractor = extractor_of(with_heads["bert"])
    dictionary = half_of_the_directions(extractor, texts)
    tables = [
        loss_recovered(extractor.set_params(batch_size=size), dictionary, texts, controls=[], n_resamples=5)
        for size in (1, len(texts))
    ]
    np.testing.assert_allclose(tables[0]["value"], tables[1]["value"], rtol=1e-3)


def test_a_dry_run_tells_the_cost_and_computes_nothing(texts):
    cost = evaluate(None, None, texts, ["core", "loss_recovered"], dry_run=True)
    assert cost["n_passes"].tolist() == [1, 8]
    assert cost["n_texts"].tolist() == [len(texts)] * 2


def test_an_unknown_evaluation_is_refused(texts):
    with pytest.raises(ValueError, match="There is no evaluation 'beauty'; there are 'core', 'loss_recovered'"):
        evaluate(None, None, texts, "beauty")


def test_nothing_to_evaluate_is_said():
    with pytest.raises(ValueError, match="nothing to evaluate: 1 evaluations on 0 texts"):
        evaluate(None, None, [])


@pytest.mark.parametrize("kind", ["gpt2", "bert"])
def test_a_window_longer_than_the_positions_of_the_model_is_as_long_as_they_are(with_heads, texts, kind):
    dictionary = half_of_the_directions(extractor_of(with_heads[kind]), texts)
    tables = []
    for max_length in (64, 512):
        extractor = extractor_of(with_heads[kind]).set_params(max_length=max_length)
        assert extractor.language_model()[0].config.max_position_embeddings == 64
        tables.append(loss_recovered(extractor, dictionary, texts, controls=[], n_resamples=2))
    pd.testing.assert_frame_equal(*tables)


def test_a_lone_surrogate_is_read_as_in_extraction(decoder, texts):
    texts = [*texts, "a \ud800 bank", "b"]
    table = loss_recovered(decoder, half_of_the_directions(decoder, texts), texts, controls=[], n_resamples=2)
    replaced = [text.replace("\ud800", "\N{REPLACEMENT CHARACTER}") for text in texts]
    expected = loss_recovered(decoder, half_of_the_directions(decoder, replaced), replaced, controls=[], n_resamples=2)
    pd.testing.assert_frame_equal(table, expected)
