"""Reports, explanations, saliency, pages and searches of sparse autoencoders, learned here and read from files."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from support.explorer_pages import page_data
from support.other_tools import FOLDER, reference

from skfactors import (
    Crosscoder,
    FactorReport,
    SparseAutoencoder,
    Transcoder,
    TransformerFeatureExtractor,
    load_dictionary,
)
from skfactors.datasets import demo_model, load_wikipedia
from skfactors.dictionaries.adapters import as_factor_model, reconstruction_of
from skfactors.dictionaries.autoencoders.encoder import Encoder
from skfactors.metrics import explained_variance
from skfactors.reports import token_saliency

TEXTS = ["She left the park by the left gate.", "Shares of the bank fell after the report."]
KINDS = ["batch_topk", "jump_relu", "abs_topk", "pipeline", "unit_norm", "layer_norm"]


@pytest.fixture(scope="module")
def extractor():
    return TransformerFeatureExtractor(demo_model(), layers=[1, 3])


@pytest.fixture(scope="module")
def rows(extractor):
    return extractor.extract([article[:1200] for article in load_wikipedia(2)]).X


def autoencoder(activation="batch_topk"):
    parameters = {"n_nonzero_coefs": 8, "dict_init": "random", "max_iter": 3, "batch_size": 128, "random_state": 0}
    return SparseAutoencoder(48, activation=activation, device="cpu", **parameters)


@pytest.fixture(scope="module", params=KINDS)
def dictionary(request, rows):
    if request.param == "pipeline":
        return make_pipeline(StandardScaler(), autoencoder()).fit(rows)
    if request.param.endswith("_norm"):
        return scaling_rows(request.param, rows)
    return autoencoder(request.param).fit(rows)


def scaling_rows(scaling, rows):
    """Return an autoencoder that scales each row before it codes it, as some files have it."""
    learned = autoencoder().fit((rows - rows.mean(1, keepdims=True)) / rows.std(1, keepdims=True))
    return SparseAutoencoder._from_arrays(
        learned.components_,
        learned.encoder_,
        activation="batch_topk",
        intercept=learned.intercept_,
        encoder_intercept=learned.encoder_intercept_,
        threshold=learned.threshold_,
        scaling=scaling,
        device="cpu",
    )


@pytest.fixture(scope="module")
def report(extractor, dictionary):
    return FactorReport.from_texts(extractor, dictionary, TEXTS)


def test_a_report_says_what_the_reconstruction_explains_and_how_many_codes_there_are(extractor, dictionary, report):
    X = extractor.extract(TEXTS).X
    model = as_factor_model(dictionary)
    expected = explained_variance(X, model.reconstruct(X))
    assert report.totals["explained_variance"] == pytest.approx(expected, rel=1e-5)
    assert report.totals["l0"] == pytest.approx(model.transform(X).nnz / len(X))


def test_an_explanation_adds_up_to_the_rows(dictionary, report):
    explanation = report.explain(TEXTS[0])
    states = explanation.states.set_index(["position", "layer"])
    shares = explanation.frame.groupby(["position", "layer"])["share"].sum().reindex(states.index, fill_value=0)
    np.testing.assert_allclose(shares + states["intercept"] + states["unexplained"], 1, atol=1e-5)


@pytest.mark.parametrize("method", ["lime", "occlusion", "gradient"])
def test_saliency_says_the_activation_that_it_explains(extractor, dictionary, method):
    acts = extractor.extract(TEXTS[:1])
    codes = as_factor_model(dictionary).transform(acts.X).toarray()
    row, factor = np.unravel_index(codes.argmax(), codes.shape)
    place = acts.provenance.iloc[row]
    where = int(factor), int(place["layer"]), int(place["position"])
    saliency = token_saliency(extractor, dictionary, TEXTS[0], *where, method=method, n_samples=20, random_state=0)
    assert saliency.attrs["activation"] == pytest.approx(codes[row, factor], rel=1e-3)
    assert np.isfinite(saliency).all() and saliency.abs().max() > 0


def test_an_explanation_begins_with_what_is_strongest_whatever_its_sign(report):
    for _, of_state in report.explain(TEXTS[0]).frame.groupby(["position", "layer"]):
        assert of_state["activation"].abs().is_monotonic_decreasing


def test_a_page_has_every_context_of_the_report(report, tmp_path):
    report.to_html(tmp_path / "page.html", examples=[report.explain(TEXTS[0])])
    sections = page_data(tmp_path / "page.html")
    assert sum(sections["contexts"]["counts"]) == len(report.top_contexts()) > 0


def test_of_a_file_with_codes_of_either_sign_contexts_are_those_of_the_positive_ones():
    model = load_dictionary(FOLDER / "saelens" / "abstopk-bdec1-none")
    X = reference("saelens/abstopk-bdec1-none")["x"].astype(np.float32)
    codes = model.transform(X)
    assert codes.min() < 0
    provenance = pd.DataFrame({"document": range(len(X)), "layer": 0, "position": 0, "start": 0, "end": 3})
    acts = SimpleNamespace(X=X, provenance=provenance, texts=["one"] * len(X))
    report = FactorReport.from_codes(codes, acts, dictionary=model)
    assert report.totals["l0"] == pytest.approx(codes.nnz / len(X))
    assert (report.top_contexts()["activation"] > 0).all()
    assert len(report.top_contexts()) <= (codes > 0).nnz


def test_a_search_tries_activations_and_numbers_of_codes_on_hidden_states(rows):
    grid = {"activation": ["topk", "jump_relu"], "n_nonzero_coefs": [2, 12]}
    search = GridSearchCV(autoencoder(), grid, cv=2, error_score="raise").fit(rows)
    assert search.best_params_["n_nonzero_coefs"] == 12
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()


@pytest.mark.parametrize("scaling", ["unit_norm", "layer_norm"])
@pytest.mark.parametrize("sparse_output", [True, False])
def test_rows_of_zeros_are_reconstructed_as_zeros_where_rows_are_scaled(scaling, sparse_output, rows):
    # By its own bias every factor would be active, also where a row has no direction.
    model = scaling_rows(scaling, rows).set_params(sparse_output=sparse_output)
    model.encoder_intercept_ = np.abs(model.encoder_intercept_) + 100
    X = np.concatenate([np.zeros((2, rows.shape[1]), np.float32), rows[:2]])
    codes = model.transform(X)
    dense = codes.toarray() if sparse_output else codes
    assert np.isfinite(dense).all() and (dense[2:] != 0).any()
    tensor = torch.tensor(X, requires_grad=True)
    module = model.to_torch()
    for rebuilt in (model.reconstruct(X), reconstruction_of(model, X, codes), module(tensor).detach().numpy()):
        assert np.isfinite(rebuilt).all()
        np.testing.assert_array_equal(rebuilt[:2], 0)
    if scaling == "unit_norm":
        assert not dense[:2].any() and not module.encode(tensor)[:2].any()
    np.testing.assert_allclose(module.encode(tensor).detach(), dense, rtol=1e-4, atol=1e-3)
    module(tensor).square().sum().backward()
    assert torch.isfinite(tensor.grad).all()


def test_codes_at_hand_are_not_made_again(extractor, dictionary, monkeypatch):
    X = extractor.extract(TEXTS).X
    model = as_factor_model(dictionary)
    encode, calls = Encoder.encode, []

    def counted(self, *of, **options):
        calls.append(self)
        return encode(self, *of, **options)

    expected = model.reconstruct(X)
    monkeypatch.setattr(Encoder, "encode", counted)
    np.testing.assert_allclose(reconstruction_of(model, X, model.transform(X)), expected, rtol=1e-5, atol=1e-5)
    assert len(calls) == 1
    FactorReport.from_texts(extractor, dictionary, TEXTS)
    assert len(calls) == 1 + len(list(extractor.iter_extract(TEXTS)))


SHORT = {"n_nonzero_coefs": 2, "dict_init": "random", "max_iter": 1, "batch_size": 32, "random_state": 0}


@pytest.mark.parametrize("make", [lambda model: model, lambda model: make_pipeline(StandardScaler(), model)])
def test_a_report_on_a_transcoder_tells_all_but_what_its_predictions_explain(extractor, rows, tmp_path, make):
    predicted = np.concatenate([rows, rows], axis=1)
    transcoder = make(Transcoder(8, device="cpu", **SHORT)).fit(rows, predicted)
    report = FactorReport.from_texts(extractor, transcoder, TEXTS)
    acts = extractor.extract(TEXTS)
    codes = transcoder.transform(acts.X)
    assert report.totals["explained_variance"] is None and report.totals["l0"] == codes.nnz / len(acts)
    pd.testing.assert_frame_equal(report.top_contexts(), FactorReport.from_codes(codes, acts).top_contexts())
    if isinstance(transcoder, Transcoder):
        assert FactorReport.from_codes(codes, acts, dictionary=transcoder) == report
        report.add_saliency(k=1, method="gradient").to_html(tmp_path / "page.html")
        with pytest.raises(TypeError, match="take none apart"):
            report.explain(TEXTS[0])


def test_a_report_on_a_crosscoder_is_made_from_its_codes(extractor):
    acts = extractor.extract(TEXTS)
    sites = acts.side_by_side()
    crosscoder = Crosscoder(8, n_sites=2, device="cpu", **SHORT).fit(sites)
    codes = crosscoder.transform(sites)
    with pytest.raises(TypeError, match=r"FactorReport.from_codes\(crosscoder"):
        FactorReport.from_texts(extractor, crosscoder, TEXTS)
    with pytest.raises(TypeError, match="without dictionary="):
        FactorReport.from_codes(codes, acts.at(layer=3), dictionary=crosscoder)
    report = FactorReport.from_codes(codes, acts.at(layer=3))
    assert report.totals["layers"] == [3] and report.totals["n_rows"] == len(sites)
