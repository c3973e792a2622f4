import pickle

import numpy as np
import pandas as pd
import pytest
from scipy import sparse
from sklearn import config_context
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.exceptions import NotFittedError
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, KFold, cross_validate
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import MinMaxScaler, Normalizer, StandardScaler

from skfactors import SparseDictionary
from skfactors.metrics import (
    SCORERS,
    amortization_gap,
    amortization_gap_scorer,
    dead_fraction,
    dead_fraction_scorer,
    density,
    density_scorer,
    description_length,
    description_length_scorer,
    explained_variance,
    explained_variance_scorer,
    l0,
    l0_scorer,
)

EVERY_SCORER = pytest.mark.parametrize("scorer", SCORERS.values(), ids=SCORERS)


def expected_scores(rows, codes, components, alpha=0.3, intercept=0.0):
    told = codes @ components + intercept
    return {
        "explained_variance": explained_variance(rows, told),
        "l0": -l0(codes),
        "density": -np.mean(density(codes)),
        "dead_fraction": -dead_fraction(codes),
        "amortization_gap": -amortization_gap(rows - intercept, codes, components, alpha),
        "description_length": -description_length(rows, codes, components, reconstruction=told),
    }


@pytest.fixture
def fitted(sparse_model, dictionary_class):
    factors, _, rows = sparse_model
    return dictionary_class(factors, alpha=0.3).fit(rows)


@pytest.fixture
def texts(sparse_model):
    """Sixty texts of one to nine words, each word the number of a row."""
    _, _, rows = sparse_model
    cuts = np.sort(np.random.default_rng(0).choice(np.arange(1, 300), 59, replace=False))
    return [" ".join(map(str, words)) for words in np.split(np.arange(300), cuts)]


def test_the_registry_names_every_scorer():
    assert SCORERS == {
        "amortization_gap": amortization_gap_scorer,
        "explained_variance": explained_variance_scorer,
        "l0": l0_scorer,
        "density": density_scorer,
        "dead_fraction": dead_fraction_scorer,
        "description_length": description_length_scorer,
    }


@pytest.mark.parametrize("name", SCORERS)
def test_a_dictionary_is_scored_on_the_rows_given(sparse_model, fitted, name):
    _, _, rows = sparse_model
    expected = expected_scores(rows, fitted.transform(rows), fitted.components_)
    assert SCORERS[name](fitted, rows) == pytest.approx(expected[name])


@pytest.mark.parametrize("name", SCORERS)
def test_a_dictionary_with_an_intercept_is_scored_with_it(sparse_model, dictionary_class, name):
    factors, _, rows = sparse_model
    intercept = np.linspace(-50, 50, 24)

    class WithIntercept(dictionary_class):
        def transform(self, X):
            return super().transform(X - intercept)

        def inverse_transform(self, codes):
            return super().inverse_transform(codes) + intercept

    dictionary = WithIntercept(factors, alpha=0.3).fit(rows + intercept)
    codes = dictionary.transform(rows + intercept)
    expected = expected_scores(rows + intercept, codes, factors, intercept=intercept)
    assert SCORERS[name](dictionary, rows + intercept) == pytest.approx(expected[name], abs=1e-6)


@pytest.mark.parametrize("name", sorted(set(SCORERS) - {"amortization_gap"}))
def test_a_pipeline_with_a_scaler_is_scored_on_the_rows_that_it_is_given(sparse_model, dictionary_class, name):
    factors, _, rows = sparse_model
    scale, mean = np.linspace(0.1, 9, 24), np.linspace(-50, 50, 24)
    given = rows * scale + mean
    scaler = StandardScaler().fit(given)
    pipeline = make_pipeline(StandardScaler(), dictionary_class(factors, alpha=0.3)).fit(given)
    codes = pipeline.transform(given)
    expected = expected_scores(given, codes, factors * scaler.scale_, intercept=scaler.mean_)
    assert SCORERS[name](pipeline, given) == pytest.approx(expected[name])


def test_exact_codes_have_no_amortization_gap_behind_a_scaler(sparse_model, dictionary_class):
    factors, _, rows = sparse_model
    given = 7 * rows + 3
    pipeline = make_pipeline(StandardScaler(), dictionary_class(factors, alpha=0.3)).fit(given)
    assert amortization_gap_scorer(pipeline, given) == pytest.approx(0, abs=1e-4)


@EVERY_SCORER
def test_where_a_step_cannot_be_undone_the_rows_that_reach_the_dictionary_are_scored(
    sparse_model, dictionary_class, scorer
):
    factors, _, rows = sparse_model
    pipeline = make_pipeline(StandardScaler(), Normalizer(), dictionary_class(factors, alpha=0.01)).fit(rows)
    reaching = pipeline[:-1].transform(rows)
    assert scorer(pipeline, rows) == pytest.approx(scorer(pipeline[-1], reaching))


@EVERY_SCORER
def test_a_pipeline_from_texts_is_scored_on_one_row_a_word(
    sparse_model, dictionary_class, word_vectors_class, texts, fitted, scorer
):
    factors, _, rows = sparse_model
    pipeline = make_pipeline(word_vectors_class(rows), dictionary_class(factors, alpha=0.3)).fit(texts)
    assert len(texts) != len(rows)
    assert scorer(pipeline, texts) == pytest.approx(scorer(fitted, rows))


@EVERY_SCORER
def test_the_rows_are_computed_once(sparse_model, dictionary_class, word_vectors_class, texts, scorer):
    factors, _, rows = sparse_model
    calls = []

    class CountingWordVectors(word_vectors_class):
        def transform(self, texts):
            calls.append(len(texts))
            return super().transform(texts)

    pipeline = make_pipeline(CountingWordVectors(rows), dictionary_class(factors)).fit(texts)
    calls.clear()
    scorer(pipeline, texts)
    assert calls == [60]


@EVERY_SCORER
def test_a_pipeline_of_one_step_is_scored_as_that_step(sparse_model, fitted, scorer):
    _, _, rows = sparse_model
    assert scorer(Pipeline([("dictionary", fitted)]), rows) == scorer(fitted, rows)


@EVERY_SCORER
def test_a_pipeline_may_end_in_a_pipeline(sparse_model, dictionary_class, scorer):
    factors, _, rows = sparse_model
    flat = make_pipeline(StandardScaler(), MinMaxScaler(), dictionary_class(factors, alpha=0.1)).fit(rows)
    nested = make_pipeline(StandardScaler(), make_pipeline(MinMaxScaler(), dictionary_class(factors, alpha=0.1))).fit(
        rows
    )
    assert scorer(nested, rows) == scorer(flat, rows)


@EVERY_SCORER
def test_a_frozen_dictionary_is_scored_as_it_is(sparse_model, fitted, scorer):
    _, _, rows = sparse_model
    assert scorer(FrozenEstimator(fitted), rows) == scorer(fitted, rows)


@EVERY_SCORER
@pytest.mark.parametrize("output", ["pandas", "polars"])
def test_output_asked_of_all_of_scikit_learn_changes_no_score(sparse_model, scorer, output):
    _, _, rows = sparse_model
    dictionary = SparseDictionary(8, alpha=0.3, random_state=0, device="cpu").fit(rows)
    pipeline = make_pipeline(StandardScaler(), SparseDictionary(8, alpha=0.3, random_state=0, device="cpu")).fit(rows)
    expected = scorer(dictionary, rows), scorer(pipeline, rows)
    with config_context(transform_output=output):
        assert (scorer(dictionary, rows), scorer(pipeline, rows)) == expected


@EVERY_SCORER
@pytest.mark.filterwarnings("error")
def test_pandas_output_gives_the_same_score(sparse_model, dictionary_class, scorer):
    factors, _, rows = sparse_model
    frame = pd.DataFrame(rows, index=[f"row {i}" for i in range(len(rows))]).add_prefix("feature ")
    pipeline = make_pipeline(StandardScaler(), dictionary_class(factors, alpha=0.3))
    from_arrays = scorer(pipeline.fit(rows), rows)
    from_frames = scorer(pipeline.set_output(transform="pandas").fit(frame), frame)
    assert from_frames == pytest.approx(from_arrays)


@EVERY_SCORER
@pytest.mark.parametrize("to_sparse", [sparse.csr_array, sparse.csr_matrix])
def test_sparse_codes_give_the_same_score(sparse_model, dictionary_class, fitted, scorer, to_sparse):
    factors, _, rows = sparse_model

    class SparseCodes(dictionary_class):
        def transform(self, X):
            return to_sparse(super().transform(X))

    assert scorer(SparseCodes(factors, alpha=0.3).fit(rows), rows) == pytest.approx(scorer(fitted, rows))


def test_explained_variance_follows_the_estimators_own_inverse_transform(sparse_model, dictionary_class):
    factors, _, rows = sparse_model

    class WithOffset(dictionary_class):
        def inverse_transform(self, codes):
            return super().inverse_transform(codes) + 1

    estimator = WithOffset(factors, alpha=0.3).fit(rows)
    expected = explained_variance(rows, estimator.transform(rows) @ factors + 1)
    assert explained_variance_scorer(estimator, rows) == pytest.approx(expected)


@EVERY_SCORER
def test_an_estimator_without_inverse_transform_is_refused(sparse_model, scorer):
    _, _, rows = sparse_model
    classifier = LogisticRegression().fit(rows, np.arange(300) % 2)
    with pytest.raises(
        TypeError, match="LogisticRegression has no transform and no inverse_transform and no components_"
    ):
        scorer(classifier, rows)


@EVERY_SCORER
def test_a_pipeline_that_ends_in_no_dictionary_is_refused(sparse_model, scorer):
    _, _, rows = sparse_model
    with pytest.raises(TypeError, match="MinMaxScaler has no components_; pass a dictionary"):
        scorer(make_pipeline(StandardScaler(), MinMaxScaler()).fit(rows), rows)


@EVERY_SCORER
def test_an_unfitted_dictionary_is_said_to_be_unfitted(sparse_model, dictionary_class, scorer):
    factors, _, rows = sparse_model
    with pytest.raises(NotFittedError):
        scorer(dictionary_class(factors), rows)


@EVERY_SCORER
def test_scorers_survive_pickling(scorer):
    assert pickle.loads(pickle.dumps(scorer)) is scorer


def test_every_scorer_serves_cross_validation_on_texts(sparse_model, dictionary_class, word_vectors_class, texts):
    factors, _, rows = sparse_model
    pipeline = make_pipeline(word_vectors_class(rows), dictionary_class(factors, alpha=0.3))
    results = cross_validate(pipeline, texts, scoring=SCORERS, cv=3, error_score="raise")
    for fold, (_, held_out) in enumerate(KFold(3).split(texts)):
        fitted = pipeline.fit(texts)
        for name, scorer in SCORERS.items():
            expected = scorer(fitted, [texts[i] for i in held_out])
            assert results[f"test_{name}"][fold] == pytest.approx(expected)


def test_description_length_chooses_a_penalty_in_between(sparse_model, dictionary_class):
    factors, _, rows = sparse_model
    search = GridSearchCV(
        dictionary_class(factors),
        {"alpha": np.geomspace(0.01, 8, 8)},
        scoring=description_length_scorer,
        cv=3,
        error_score="raise",
    ).fit(rows)
    assert 0 < search.best_index_ < 7


def test_scorers_ignore_y(sparse_model, fitted):
    _, _, rows = sparse_model
    assert l0_scorer(fitted, rows, np.zeros(300)) == l0_scorer(fitted, rows)


def test_a_search_calls_them_with_labels_too(sparse_model, dictionary_class):
    factors, _, rows = sparse_model
    search = GridSearchCV(
        dictionary_class(factors), {"alpha": [0.1, 1.0]}, scoring=l0_scorer, cv=3, error_score="raise"
    ).fit(rows, np.arange(300) % 2)
    assert search.best_params_ == {"alpha": 1.0}


def test_any_estimator_with_the_three_members_is_a_dictionary(sparse_model):
    _, _, rows = sparse_model

    class Identity(TransformerMixin, BaseEstimator):
        components_ = np.eye(24)

        def transform(self, X):
            return X

        def inverse_transform(self, codes):
            return codes

    assert explained_variance_scorer(Identity(), rows) == 1
    assert l0_scorer(Identity(), rows) == -24
