import json

import numpy as np
import pandas as pd
import pytest
from support.explorer_pages import page_data
from support.planted_model import HIGH, LOW, MID, factors, save_planted_model

from skfactors import FactorReport, SparseDictionary, TransformerFeatureExtractor
from skfactors.extraction.probe import ModelProbe
from skfactors.records import sealed
from skfactors.reports import classify_levels, context_span, token_saliency
from skfactors.reports.saliency import METHODS


@pytest.fixture(scope="module")
def planted(tmp_path_factory):
    """Extractor, dictionary and texts: "gate" at 5, "north of town" at 10 to 12, "echo" at 15."""
    extractor = TransformerFeatureExtractor(save_planted_model(tmp_path_factory.mktemp("planted")))
    dictionary = SparseDictionary(3, alpha=0.5)
    dictionary.components_ = factors()
    dictionary.n_features_in_ = factors().shape[1]
    rng = np.random.default_rng(0)
    texts = []
    for _ in range(5):
        words = [f"filler{number}" for number in rng.integers(0, 20, 50)]
        words[5], words[15], words[20], words[24] = "gate", "echo", "town", "of"
        words[10:13] = ["north", "of", "town"]
        texts.append(" ".join(words))
    return extractor, dictionary, texts


@pytest.fixture
def report(planted):
    return FactorReport.from_texts(*planted, k=4, top=5)


@pytest.mark.parametrize("method", sorted(METHODS))
def test_planted_factors_are_low_mid_and_high(report, method):
    assert report.summary()["level"].tolist() == ["low", "mid", "mid"]
    summary = report.add_saliency(method=method, n_samples=500).summary()
    assert summary["level"].tolist() == ["low", "mid", "high"]
    assert classify_levels(report.importance_by_layer(), summary["span"]).tolist() == ["low", "mid", "high"]


def test_planted_spans_are_what_was_planted(report):
    report.add_saliency(method="occlusion")
    assert report.summary()["span"].tolist() == [1, 3, 31]


@pytest.mark.parametrize(("factor", "tokens"), [(LOW, [5]), (MID, [10, 11, 12]), (HIGH, [15])])
def test_lime_finds_the_planted_tokens(report, factor, tokens):
    report.add_saliency(factors=factor, n_samples=500)
    means = report.saliency(factor).groupby("token_position")["saliency"].mean()
    assert sorted(means.nlargest(len(tokens)).index) == tokens


def test_saliency_is_of_the_strongest_contexts_at_the_peak_layer(report, planted):
    table = report.add_saliency(factors=MID, k=2, method="occlusion").saliency()
    contexts = report.top_contexts(MID, layer=2).query("rank <= 2")
    places = table[["factor", "layer", "document", "position"]].drop_duplicates()
    assert sorted(places.itertuples(index=False, name=None)) == sorted(
        contexts[["factor", "layer", "document", "position"]].itertuples(index=False, name=None)
    )
    context = contexts.iloc[0]
    alone = token_saliency(*planted[:2], planted[2][context.document], MID, 2, context.position, method="occlusion")
    own = table[table["document"] == context.document]
    np.testing.assert_allclose(own["saliency"], alone, atol=1e-5)
    assert own["token"].tolist() == planted[2][context.document].split()
    texts = [planted[2][row.document][row.start : row.end] for row in table.itertuples()]
    assert texts == table["token"].tolist()


def test_layers_can_be_chosen(report):
    report.add_saliency(layers=[0], method="gradient")
    assert report.saliency()["layer"].unique().tolist() == [0]
    assert report.saliency(layer=2).empty


def test_what_is_there_is_not_computed_again(report, monkeypatch):
    report.add_saliency(factors=[LOW], n_samples=20)
    before = report.saliency()
    asked = []
    states_at = ModelProbe.states_at
    monkeypatch.setattr(
        ModelProbe, "states_at", lambda self, windows, reads: asked.append(reads) or states_at(self, windows, reads)
    )
    report.add_saliency(factors=[LOW], n_samples=20, random_state=9)
    assert not asked
    pd.testing.assert_frame_equal(report.saliency(), before)
    report.add_saliency(factors=[LOW, MID], n_samples=20)
    assert {int(layer) for reads in asked for layer in reads[:, 1]} == {2}
    report.add_saliency(factors=[LOW], method="occlusion")
    assert not np.allclose(report.saliency(LOW)["saliency"], before["saliency"])


def test_an_interrupted_call_keeps_what_it_had_and_goes_on(report, planted, monkeypatch):
    extractor, dictionary, texts = planted
    small = TransformerFeatureExtractor(extractor.model, batch_size=1)
    calls, states_at = [], ModelProbe.states_at

    def interrupted(self, windows, reads):
        calls.append(len(windows))
        if len(calls) == 2:
            raise KeyboardInterrupt
        return states_at(self, windows, reads)

    monkeypatch.setattr(ModelProbe, "states_at", interrupted)
    with pytest.raises(KeyboardInterrupt):
        report.add_saliency(small, n_samples=70)
    n_had = len(report.saliency().drop_duplicates(["factor", "document"]))
    assert 0 < n_had < 9
    report.add_saliency(small, n_samples=70)
    whole = FactorReport.from_texts(*planted, k=4, top=5).add_saliency(n_samples=70)
    order = ["factor", "document", "token_position"]
    np.testing.assert_allclose(
        report.saliency().sort_values(order)["saliency"], whole.saliency().sort_values(order)["saliency"], atol=1e-4
    )


@pytest.mark.parametrize("n_samples", [20, np.int64(20)])
def test_saliency_is_saved_and_loaded_to_the_last_bit(report, planted, tmp_path, n_samples):
    report.add_saliency(n_samples=n_samples)
    report.save(tmp_path)
    loaded = FactorReport.load(tmp_path)
    assert loaded == report
    assert loaded != FactorReport.from_texts(*planted, k=4, top=5)
    pd.testing.assert_frame_equal(loaded.saliency(), report.saliency(), check_exact=True)
    pd.testing.assert_frame_equal(loaded.summary(), report.summary(), check_exact=True)


@pytest.mark.parametrize(
    ("name", "value"),
    [("factor", 9), ("layer", 7), ("position", 99), ("saliency", [1]), ("token", [5]), ("method", None), ("end", [])],
)
def test_an_altered_saliency_is_refused(report, tmp_path, name, value):
    report.add_saliency(factors=LOW, k=1, method="gradient").save(tmp_path)
    content = json.loads((tmp_path / "report.json").read_text())
    content["saliency"][0][name] = value
    del content["sha256"]
    (tmp_path / "report.json").write_text(json.dumps(sealed(content)))
    with pytest.raises(ValueError, match="report.json' is damaged: (?!.*checksum)"):
        FactorReport.load(tmp_path)


def test_a_loaded_report_asks_for_what_it_does_not_know(report, planted, tmp_path):
    report.save(tmp_path)
    extractor, dictionary, texts = planted
    loaded = FactorReport.load(tmp_path)
    with pytest.raises(ValueError, match="Pass extractor=, dictionary=, texts="):
        loaded.add_saliency()
    with pytest.raises(ValueError, match="does not know its texts"):
        loaded.add_saliency(extractor, dictionary)
    loaded.add_saliency(extractor, dictionary, texts=texts, method="gradient")
    pd.testing.assert_frame_equal(loaded.saliency(), report.add_saliency(method="gradient").saliency())


def test_texts_go_by_their_order_whatever_index_they_have(report, planted):
    texts = pd.Series(planted[2], index=[4, 3, 2, 1, 0])
    ordered = report.add_saliency(method="gradient").saliency()
    report = FactorReport.from_texts(*planted[:2], texts, k=4, top=5)
    pd.testing.assert_frame_equal(report.add_saliency(method="gradient").saliency(), ordered)


class ReadAnew:
    """Texts that can be iterated over again and again, and in no other way."""

    def __init__(self, texts):
        self._texts = texts

    def __iter__(self):
        return iter(self._texts)


@pytest.mark.parametrize("kind", [tuple, iter, ReadAnew, lambda texts: dict.fromkeys(texts).keys()])
def test_texts_may_be_anything_that_can_be_read_in_order(report, planted, kind):
    expected = report.add_saliency(method="gradient").saliency()
    other = FactorReport.from_texts(*planted[:2], kind(planted[2]), k=4, top=5)
    given = kind(planted[2]) if kind is iter else None
    pd.testing.assert_frame_equal(other.add_saliency(texts=given, method="gradient").saliency(), expected)


@pytest.mark.parametrize("texts", [5, "gate"])
def test_texts_that_are_none_are_refused(report, texts):
    with pytest.raises(TypeError, match="texts is "):
        report.add_saliency(texts=texts, method="gradient")


def test_texts_that_the_report_was_not_made_from_are_refused(report, planted):
    with pytest.raises(ValueError, match="'town' at position 5, and the report has 'gate'"):
        report.add_saliency(factors=LOW, texts=[text.replace("gate", "town") for text in planted[2]], method="gradient")
    with pytest.raises(ValueError, match="no document"):
        report.add_saliency(factors=LOW, texts=planted[2][:1], method="gradient")
    with pytest.raises(ValueError, match="no document"):
        report.add_saliency(factors=LOW, texts=iter(planted[2][:1]), method="gradient")


def salient(weights, position):
    saliency = pd.Series(weights, index=range(100, 100 + len(weights)), dtype=float)
    saliency.attrs["position"] = position
    return saliency


@pytest.mark.parametrize(
    ("weights", "position", "span"),
    [
        ([0, 0, 5, 0, 0], 102, 1),
        ([0, 3, 5, 3, 0], 102, 3),
        ([6, 0, 0, 0, 0], 104, 5),
        ([0.5, 0, 5, 0, 0], 102, 1),
        ([-9, 0, 5, 0, 0], 102, 1),
        ([0, 0, 0, 0, 0], 102, 1),
        ([2, 2, 2, 2, 2], 104, 5),
        ([2, 2, 2, 2, 2], 102, 5),
        ([4, 2, 9, 9, 9, 9], 105, 4),
    ],
)
def test_the_span_is_the_shortest_stretch_around_the_token_that_holds_the_weight(weights, position, span):
    assert context_span(salient(weights, position)) == span


def test_span_thresholds_can_be_set():
    assert context_span(salient([2, 2, 2, 2, 2], 104), share=0.5) == 3
    assert context_span(salient([1, 0, 0, 0, 9], 104)) == 1
    assert context_span(salient([1, 0, 0, 0, 9], 104), least=0.05) == 5
    assert context_span(salient([1, 0, 0, 6, 9], 104)) == 2
    assert context_span(salient([1, 0, 0, 6, 9], 104), noise=0.1, share=1) == 5


def test_a_strong_token_does_not_hide_the_context_that_it_needs():
    assert context_span(salient([4, 0, 0, 0, 0, 0, 12], 106)) == 7
    assert context_span(salient([2, 0, 2, 0, 2, 0, 12], 106)) == 7


def test_weights_no_larger_than_noise_are_none():
    noise = np.tile([1.0, -1.0], 20)
    noise[0] = 3
    assert context_span(salient([*noise, 9], 140)) == 1
    noise[0] = 9
    assert context_span(salient([*noise, 9], 140)) == 41


def test_a_span_needs_to_know_the_token():
    with pytest.raises(ValueError, match=r"attrs\['position'\]"):
        context_span(pd.Series([1.0, 2.0]))


def test_the_explorer_shades_the_tokens_of_each_context_that_has_a_saliency(report, tmp_path):
    report.add_saliency(factors=[MID, HIGH], k=2, method="occlusion").to_html(tmp_path / "page.html")
    held = page_data(tmp_path / "page.html")["saliency"]
    assert {key.split()[0] for key in held} == {str(MID), str(HIGH)}
    for key, spans in held.items():
        factor, layer, rank = map(int, key.split())
        context = report.top_contexts(factor, layer).query("rank == @rank").iloc[0]
        text = context["left"] + context["token"] + context["right"]
        tokens = report.saliency(factor, layer).query("document == @context.document")
        assert len(spans) == len(text.split()) < len(tokens)
        weights = dict(zip(tokens["start"] - tokens["start"].min(), tokens["saliency"], strict=True))
        shift = int(tokens.loc[tokens["token_position"] == context["position"], "start"].iloc[0]) - len(context["left"])
        for start, end, weight in spans:
            assert not set(text[start:end]) & set(" ")
            assert weight == pytest.approx(weights[start + shift], rel=1e-3)


def test_texts_given_to_the_explorer_are_explained(report, planted, tmp_path):
    extractor, dictionary, _ = planted
    text = "gate north of town"
    report.to_html(tmp_path / "page.html", examples=[text, report.explain("echo")])
    first, second = page_data(tmp_path / "page.html")["examples"]
    assert (first["title"], second["title"]) == (text, "echo")
    assert first["columns"] == ["token", *(f"layer {layer}" for layer in report.totals["layers"])]
    assert [row[0] for row in first["rows"]] == text.split()
    codes = dictionary.transform(extractor.extract([text]).X).toarray().reshape(len(report.totals["layers"]), 4, -1)
    for token, (_, *cells) in enumerate(first["rows"]):
        for cell, code in zip(cells, codes[:, token], strict=True):
            assert [factor for factor, *_ in cell["factors"]] == np.argsort(-code)[: np.count_nonzero(code)].tolist()
            assert cell["left"].endswith("% left")
