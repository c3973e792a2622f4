"""DocumentFactors: one row of factor activations for each text."""

import pickle

import numpy as np
import pandas as pd
import pytest
from sklearn import config_context
from sklearn.base import clone
from sklearn.decomposition import NMF
from sklearn.exceptions import NotFittedError
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MinMaxScaler, StandardScaler
from sklearn.utils import estimator_html_repr

from skfactors import DocumentFactors, SparseDictionary, TransformerFeatureExtractor

pytestmark = pytest.mark.filterwarnings("ignore:1 of the texts")
LABELLED = ["a muddy river bank", "the report on shares"] * 6
Y = [0, 1] * 6


@pytest.fixture(scope="module")
def extractor(tiny_model):
    return TransformerFeatureExtractor(tiny_model, layers=[0, 2], max_length=16)


@pytest.fixture(scope="module")
def dictionary(extractor, texts):
    return SparseDictionary(12, alpha=0.3, random_state=0).fit(extractor.extract(texts))


@pytest.mark.parametrize("pooling", ["max", "mean", "sum"])
@pytest.mark.parametrize("sparse_output", [True, False])
def test_rows_are_pooled_codes_of_a_texts_tokens_in_all_layers(extractor, dictionary, texts, pooling, sparse_output):
    dictionary = pickle.loads(pickle.dumps(dictionary)).set_params(sparse_output=sparse_output)
    rows = DocumentFactors(extractor, dictionary, pooling=pooling).fit(texts).transform(texts)
    acts = extractor.extract(texts)
    codes = np.asarray(dictionary.set_params(sparse_output=False).transform(acts.X))
    for document, row in enumerate(rows):
        mine = codes[acts.provenance["document"] == document]
        expected = getattr(mine, pooling)(axis=0) if len(mine) else np.zeros(12)
        np.testing.assert_allclose(row, expected, atol=1e-4)


def test_the_demo_models_factors_tell_texts_apart(demo_activations):
    from skfactors.datasets import demo_model

    extractor = TransformerFeatureExtractor(demo_model(), layers=[3, 6])
    texts = ["The army lost the war.", "The troops won the battle.", "He cooked rice and beans.", "She baked bread."]
    rows = DocumentFactors(extractor, SparseDictionary(24, alpha=1.0, random_state=0)).fit_transform(texts)
    cosine = rows @ rows.T / np.outer(np.linalg.norm(rows, axis=1), np.linalg.norm(rows, axis=1))
    assert cosine[0, 1] > cosine[0, 2]
    assert cosine[2, 3] > cosine[1, 3]


def test_a_fitted_dictionary_is_used_and_an_unfitted_one_is_learned_on_a_clone(extractor, dictionary, texts):
    assert DocumentFactors(extractor, dictionary).fit(texts).dictionary_ is dictionary
    unfitted = SparseDictionary(5, alpha=0.3, random_state=0)
    factors = DocumentFactors(extractor, unfitted).fit(texts)
    assert not hasattr(unfitted, "components_")
    acts = extractor.extract(texts)
    expected = clone(unfitted).fit(acts.X, sample_weight=acts.sample_weight)
    np.testing.assert_array_equal(factors.dictionary_.components_, expected.components_)


def test_unfitted_factors_say_so(extractor, dictionary):
    for call in (
        DocumentFactors(extractor, dictionary).transform,
        DocumentFactors(extractor, dictionary).get_feature_names_out,
    ):
        with pytest.raises(NotFittedError):
            call(["a bank"])


def test_clones_pickles_and_nested_parameters_work(extractor, dictionary, texts):
    factors = DocumentFactors(extractor, dictionary).fit(texts)
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(factors)).transform(texts), factors.transform(texts))
    twin = clone(factors).set_params(dictionary__alpha=0.7, extractor__layers=[1], pooling="mean")
    assert twin.dictionary.alpha == 0.7
    assert dictionary.alpha == 0.3
    assert not hasattr(twin.dictionary, "components_")
    assert "DocumentFactors" in estimator_html_repr(factors)


def test_columns_are_named_after_factors_and_rows_keep_their_index(extractor, dictionary):
    factors = DocumentFactors(extractor, dictionary).set_output(transform="pandas")
    frame = factors.fit_transform(pd.Series(["a bank", "a river"], index=["x", "y"]))
    assert list(frame.index) == ["x", "y"]
    assert list(frame.columns) == [f"sparsedictionary{i}" for i in range(12)]


@pytest.mark.parametrize("output", ["pandas", "polars"])
def test_output_asked_of_all_of_scikit_learn_changes_no_value(extractor, dictionary, texts, output):
    expected = DocumentFactors(extractor, dictionary).fit(texts).transform(texts)
    if output == "polars":
        pytest.importorskip("polars")
    with config_context(transform_output=output):
        frame = DocumentFactors(extractor, dictionary).fit(texts).transform(texts)
    assert list(frame.columns) == [f"sparsedictionary{i}" for i in range(12)]
    np.testing.assert_array_equal(frame.to_numpy(), expected)


def test_a_dictionary_that_gives_dataframes_is_pooled_like_any(extractor, dictionary, texts):
    expected = DocumentFactors(extractor, dictionary).fit(texts).transform(texts)
    dense = pickle.loads(pickle.dumps(dictionary)).set_params(sparse_output=False).set_output(transform="pandas")
    np.testing.assert_array_equal(DocumentFactors(extractor, dense).fit(texts).transform(texts), expected)


def test_a_fitted_pipeline_codes_the_rows_as_it_scales_them(extractor, texts):
    acts = extractor.extract(texts)
    pipeline = make_pipeline(StandardScaler(), SparseDictionary(6, alpha=0.3, random_state=0)).fit(acts.X)
    factors = DocumentFactors(extractor, pipeline, pooling="sum").fit(texts)
    assert factors.dictionary_ is pipeline
    codes = pipeline.transform(acts.X).toarray()
    expected = [codes[acts.provenance["document"] == document].sum(axis=0) for document in range(len(texts))]
    np.testing.assert_allclose(factors.transform(texts), expected, atol=1e-4)
    assert list(factors.get_feature_names_out()) == [f"sparsedictionary{i}" for i in range(6)]


def test_an_unfitted_pipeline_is_learned_with_the_weights_of_its_dictionary(extractor, texts):
    pipeline = make_pipeline(StandardScaler(), SparseDictionary(6, alpha=0.3, random_state=0))
    learned = DocumentFactors(extractor, pipeline).fit(texts).dictionary_
    acts = extractor.extract(texts)
    expected = clone(pipeline).fit(acts.X, sparsedictionary__sample_weight=acts.sample_weight)
    np.testing.assert_array_equal(learned[-1].components_, expected[-1].components_)


def test_a_dictionary_that_takes_no_weights_is_learned_without(extractor, texts):
    pipeline = make_pipeline(MinMaxScaler(clip=True), NMF(4, random_state=0, max_iter=2000))
    rows = DocumentFactors(extractor, pipeline).fit(texts).transform(texts)
    assert rows.shape == (len(texts), 4) and rows.max() > 0


def test_it_classifies_and_is_searched(extractor, dictionary):
    pipeline = make_pipeline(DocumentFactors(extractor, dictionary), LogisticRegression(C=100)).fit(LABELLED, Y)
    assert pipeline.score(LABELLED, Y) == 1
    frozen = make_pipeline(DocumentFactors(extractor, FrozenEstimator(dictionary)), LogisticRegression(C=100))
    assert cross_val_score(frozen, LABELLED, Y, cv=2, error_score="raise").mean() == 1
    learned = make_pipeline(DocumentFactors(extractor, SparseDictionary(8, random_state=0)), LogisticRegression(C=100))
    grid = {"documentfactors__dictionary__alpha": [0.3, 1000.0]}
    search = GridSearchCV(learned, grid, cv=2, error_score="raise").fit(LABELLED, Y)
    assert search.best_params_["documentfactors__dictionary__alpha"] == 0.3


def test_bad_parts_are_refused(extractor, dictionary):
    with pytest.raises(ValueError, match="'pooling' parameter"):
        DocumentFactors(extractor, dictionary, pooling="min").fit(["a"])
    with pytest.raises(ValueError, match="'extractor' parameter"):
        DocumentFactors(dictionary, dictionary).fit(["a"])
    with pytest.raises(TypeError, match="put it into a list"):
        DocumentFactors(extractor, dictionary).fit("a")


@pytest.mark.parametrize("fitted", [True, False])
def test_texts_of_a_generator_are_read_once_for_fit_and_transform(extractor, dictionary, fitted):
    given = dictionary if fitted else SparseDictionary(5, alpha=0.3, random_state=0)
    factors = DocumentFactors(extractor, given)
    expected = factors.fit(LABELLED).transform(LABELLED)
    np.testing.assert_array_equal(factors.fit_transform(text for text in LABELLED), expected)
    np.testing.assert_array_equal(factors.transform(map(str, LABELLED)), expected)
