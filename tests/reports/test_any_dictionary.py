"""Reports of dictionaries with an intercept, an encoder and a threshold, and of pipelines."""

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import sklearn
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import Normalizer
from support.dictionaries import StandInModel, scaled
from support.small_store import SmallStore, fitted_model

from skfactors import FactorModel, FactorReport, SparseDictionary, TransformerFeatureExtractor
from skfactors.dictionaries.adapters import as_factor_model
from skfactors.metrics import explained_variance
from skfactors.reports import token_saliency
from skfactors.reports.counting.tally_file import read_tally
from skfactors.reports.saliency.gradient import directions_at

BEFORE = Path(__file__).parent.parent / "data" / "before_factor_model"
TEXT = "She left the park by the left gate."


class UnitRows(StandInModel):
    """Codes rows of length one; what length they had is not in the codes."""

    def transform(self, X):
        return super().transform(X / np.linalg.norm(X, axis=1, keepdims=True))

    def reconstruct(self, X):
        return super().reconstruct(X) * np.linalg.norm(X, axis=1, keepdims=True)


@pytest.fixture(scope="module")
def extractor(tiny_model):
    return TransformerFeatureExtractor(tiny_model)


def fitted(kind, X):
    if kind == "pipeline":
        return scaled(X)
    return {"model": StandInModel, "unit rows": UnitRows}[kind](threshold=0.2).fit(X)


@pytest.fixture(params=["model", "pipeline", "unit rows"])
def dictionary(request, extractor):
    return fitted(request.param, extractor.extract([TEXT]).X)


def test_a_report_has_the_explained_variance_of_the_reconstruction(extractor, dictionary):
    X = extractor.extract([TEXT]).X
    report = FactorReport.from_texts(extractor, dictionary, [TEXT])
    model = as_factor_model(dictionary)
    expected = explained_variance(X, model.reconstruct(X))
    assert report.totals["explained_variance"] == pytest.approx(expected, rel=1e-6)
    assert expected == pytest.approx(model.score(X), rel=1e-6)


def test_codes_at_hand_and_their_dictionary_give_the_streamed_report(extractor, dictionary):
    acts = extractor.extract([TEXT])
    streamed = FactorReport.from_texts(extractor, dictionary, [TEXT])
    assert FactorReport.from_codes(dictionary.transform(acts.X), acts, dictionary=dictionary) == streamed


def test_codes_come_with_components_or_a_dictionary_and_not_both(extractor, dictionary):
    acts = extractor.extract([TEXT])
    with pytest.raises(ValueError, match="components or dictionary, not both"):
        FactorReport.from_codes(dictionary.transform(acts.X), acts, components=np.eye(5), dictionary=dictionary)


def test_what_an_explanation_leaves_is_the_residuals_share(extractor, dictionary):
    X = extractor.extract([TEXT]).X
    explanation = FactorReport.from_texts(extractor, dictionary, [TEXT]).explain(TEXT)
    left = np.square(X - as_factor_model(dictionary).reconstruct(X)).sum(axis=1) / np.square(X).sum(axis=1)
    np.testing.assert_allclose(np.sort(explanation.states["unexplained"]), np.sort(left), rtol=1e-4)


def test_shares_of_factors_intercept_and_residual_sum_to_one(extractor, dictionary):
    explanation = FactorReport.from_texts(extractor, dictionary, [TEXT]).explain(TEXT)
    states = explanation.states.set_index(["position", "layer"])
    shares = explanation.frame.groupby(["position", "layer"])["share"].sum().reindex(states.index, fill_value=0)
    np.testing.assert_allclose(shares + states["intercept"] + states["unexplained"], 1, atol=1e-9)
    assert states["intercept"].abs().min() > 1e-3


@pytest.mark.parametrize("output", ["pandas", "default"])
@pytest.mark.parametrize("sparse_output", [True, False])
def test_reports_are_the_same_whatever_output_scikit_learn_is_set_to(extractor, output, sparse_output):
    X = extractor.extract([TEXT]).X
    for dictionary in (StandInModel(sparse_output=sparse_output).fit(X), scaled(X), SparseDictionary(4).fit(X)):
        expected = FactorReport.from_texts(extractor, dictionary, [TEXT])
        with sklearn.config_context(transform_output=output):
            report = FactorReport.from_texts(extractor, dictionary, [TEXT])
            assert report == expected
            report.explain(TEXT)
            report.add_saliency(k=1, method="occlusion", factors=0)


@pytest.mark.parametrize("method", ["lime", "occlusion", "gradient"])
def test_saliency_says_the_activation_that_it_explains(extractor, dictionary, method):
    acts = extractor.extract([TEXT])
    codes = np.asarray(dictionary.transform(acts.X).todense())
    row, factor = np.argwhere(codes > 0)[0]
    place = acts.provenance.iloc[row]
    where = int(factor), int(place["layer"]), int(place["position"])
    saliency = token_saliency(extractor, dictionary, TEXT, *where, method=method, n_samples=20, random_state=0)
    assert saliency.attrs["activation"] == pytest.approx(codes[row, factor], rel=1e-3)
    assert len(saliency) == acts.provenance["position"].nunique()


@pytest.mark.parametrize("kind", ["model", "pipeline"])
def test_the_gradient_of_a_model_with_an_encoder_is_the_codes(kind):
    X = np.random.default_rng(0).normal(1, 2, size=(30, 6))
    dictionary = fitted(kind, X)
    codes = dictionary.transform(X).toarray()
    rows, factors = np.nonzero(codes)
    found = directions_at(as_factor_model(dictionary), X[rows], factors)
    step = 1e-4
    for feature in range(6):
        moved = X[rows] + step * np.eye(6)[feature]
        differences = dictionary.transform(moved).toarray()[np.arange(len(rows)), factors] - codes[rows, factors]
        np.testing.assert_allclose(found[:, feature], differences / step, atol=1e-4)


def test_the_gradient_is_zero_where_the_threshold_is_not_reached():
    model = fitted_model(threshold=100.0)
    assert not directions_at(model, np.ones((3, 6), dtype=np.float32), np.array([0, 1, 2])).any()


def test_the_gradient_of_a_sparse_dictionary_is_the_components_product():
    X = np.random.default_rng(0).normal(size=(30, 6)).astype(np.float32)
    dictionary = SparseDictionary(4, alpha=0.3, random_state=0).fit(X)
    np.testing.assert_array_equal(directions_at(dictionary, X[:2], np.array([3, 1])), dictionary.components_[[3, 1]])


def test_a_pipeline_that_cannot_be_undone_is_refused_by_its_step(extractor):
    X = extractor.extract([TEXT]).X
    with pytest.raises(TypeError, match="Normalizer"):
        FactorReport.from_texts(extractor, make_pipeline(Normalizer(), StandInModel()).fit(X), [TEXT])


def test_a_report_of_a_loaded_model_is_that_of_the_saved_one(tmp_path):
    model = fitted_model()
    model.save(tmp_path)
    assert FactorReport.from_store(SmallStore(), FactorModel.load(tmp_path)) == FactorReport.from_store(
        SmallStore(), model
    )


def test_texts_and_provenance_of_any_index_go_by_their_order():
    provenance = pd.DataFrame(
        {"document": [0, 1], "layer": 0, "position": 0, "start": 0, "end": 3, "site": "hidden_states"}, index=[7, 3]
    )
    texts = pd.Series(["one", "two"], index=[1, 0])
    acts = SimpleNamespace(X=np.zeros((2, 1)), provenance=provenance, texts=texts)
    report = FactorReport.from_codes(np.eye(2), acts)
    assert report.top_contexts()["token"].tolist() == ["one", "two"]


def test_a_report_made_before_fingerprints_loads_and_merges():
    report = FactorReport.load(BEFORE / "report")
    content = json.loads((BEFORE / "report" / "report.json").read_text())
    assert report.totals == content["totals"]
    assert report.importance_by_layer().to_numpy().T.tolist() == content["importance"]
    merged = FactorReport.merge([report])
    assert merged == report


def test_a_checkpoint_made_before_fingerprints_opens():
    (file,) = (BEFORE / "report_checkpoints").iterdir()
    tally, facts, _ = read_tally(file, remedy="none")
    totals = json.loads((BEFORE / "report" / "report.json").read_text())["totals"]
    assert facts["n_shards_done"] > 0
    assert tally.totals() == totals
