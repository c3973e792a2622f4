import numpy as np
import pandas as pd
import pytest
from sklearn.decomposition import PCA
from sklearn.preprocessing import FunctionTransformer
from support.planted_states import Encoder, Extractor

from skfactors import SparseAutoencoder, SparseDictionary
from skfactors.evaluations import EVALUATIONS, evaluate, loss_recovered, stability, targeted_perturbation
from skfactors.evaluations.controls import coded_by_pursuit

WIDTH = 8
LABELS = ["sea"] * 8 + ["law"] * 8 + ["art"] * 8
TEXTS = [f"{label}x w{number} v{number}" for number, label in enumerate(LABELS)]


def state_of(word):
    state = np.random.default_rng([ord(letter) for letter in word]).random(WIDTH)
    if word[:3] in LABELS:
        state[sorted(set(LABELS)).index(word[:3])] += 3
    return state


@pytest.fixture(scope="module")
def extractor():
    return Extractor(state_of)


@pytest.fixture(scope="module")
def rows():
    return np.array([state_of(f"row{number}") for number in range(200)])


@pytest.fixture(scope="module")
def dictionary(rows):
    return SparseDictionary(8, n_nonzero_coefs=2, random_state=0).fit(rows)


def test_all_that_needs_no_running_model_goes_into_one_report(extractor, dictionary, rows):
    asked = ["core", "targeted_perturbation", "stability"]
    report = evaluate(extractor, dictionary, TEXTS, asked, labels=LABELS, training_rows=rows, n_resamples=20)
    assert report.table["evaluation"].unique().tolist() == asked
    for name in asked[:2]:
        assert "frozen decoder" in report.table.set_index("evaluation").loc[name, "scored"].tolist()


def test_stability_is_that_of_the_rows_that_were_learned_from(extractor, dictionary, rows):
    report = evaluate(extractor, dictionary, TEXTS, "stability", training_rows=rows, n_resamples=20)
    expected = stability(dictionary, rows, n_resamples=20)
    assert report.table.drop(columns="evaluation").equals(expected)


def test_stability_is_that_of_the_rows_of_the_texts_where_there_are_no_others(extractor, dictionary):
    report = evaluate(extractor, dictionary, TEXTS, "stability", n_resamples=20)
    expected = stability(dictionary, extractor.extract(TEXTS).X, n_resamples=20)
    assert report.table.drop(columns="evaluation").equals(expected)


def test_the_control_that_learns_is_learned_once_for_all(extractor, dictionary, rows, monkeypatch):
    fits, fit = [], SparseAutoencoder.fit
    monkeypatch.setattr(SparseAutoencoder, "fit", lambda *args, **named: fits.append(1) or fit(*args, **named))
    asked = ["core", "targeted_perturbation"]
    evaluate(extractor, dictionary, TEXTS, asked, labels=LABELS, training_rows=rows, n_resamples=5)
    assert len(fits) == 1


def test_a_dry_run_counts_the_control_that_learns(rows):
    cost = evaluate(None, None, TEXTS, ["core", "stability"], training_rows=rows, dry_run=True)
    assert cost["evaluation"].tolist() == ["core", "stability", "frozen decoder"]
    assert cost["n_fits"].tolist() == [0, 4, 1]
    # Rows that are there need no texts.
    assert cost["n_passes"].tolist() == [1, 0, 0]


def test_no_control_learns_where_none_is_scored(rows):
    cost = evaluate(None, None, TEXTS, "stability", training_rows=rows, dry_run=True)
    assert cost["evaluation"].tolist() == ["stability"]


def test_an_evaluation_without_its_labels_is_refused_before_anything_runs():
    with pytest.raises(ValueError, match="'targeted_perturbation' needs labels=: leave it out of suite, or pass"):
        evaluate(None, None, TEXTS, ["core", "targeted_perturbation"])


def test_an_unknown_control_is_refused_before_anything_runs():
    with pytest.raises(ValueError, match="There is no control 'luck'"):
        evaluate(None, None, TEXTS, controls=["luck"], dry_run=True)


@pytest.mark.parametrize(
    ("asked", "error", "said"),
    [
        ({"random_state": None}, TypeError, "random_state must be an instance of int"),
        ({"n_resamples": 0}, ValueError, "n_resamples == 0, must be >= 1"),
        ({"labels": ["sea"]}, ValueError, "There are 1 labels of 24 texts"),
        ({"controls": {"dictionary": None}}, ValueError, "There is no control 'dictionary'"),
        ({"controls": ["frozen decoder"]}, ValueError, "'frozen decoder' is learned, from other rows than are scored"),
        ({"sample_weight": [1.0]}, ValueError, "sample_weight is of training_rows: give both"),
        ({"suite": "targeted_perturbation", "labels": ["x"] * 24}, ValueError, "There are 1 classes"),
        ({"suite": "targeted_perturbation", "labels": [None] * 24}, ValueError, "The label of text 0 is None"),
        (
            {"suite": "sparse_probing", "tasks": {"a": (TEXTS[:3], [0, 1, 0])}},
            ValueError,
            "'a' has 1 texts of the class",
        ),
    ],
)
def test_what_can_be_known_beforehand_is_refused_before_anything_runs(asked, error, said):
    with pytest.raises(error, match=said):
        evaluate(None, None, TEXTS, dry_run=True, **asked)


def test_a_dictionary_without_seeds_is_refused_before_anything_is_learned(rows):
    without = FunctionTransformer().fit(rows)
    without.components_ = np.eye(WIDTH)
    with pytest.raises(ValueError, match="has no random_state: there is no other seed"):
        evaluate(None, without, TEXTS, ["core", "stability"])


def test_every_evaluation_says_what_it_asks():
    assert all(evaluation.question.endswith("?") for evaluation in EVALUATIONS.values())


def test_of_few_texts_figures_say_how_many_an_interval_needs(extractor):
    report = evaluate(extractor, Encoder(np.eye(WIDTH), np.eye(WIDTH)), TEXTS[:3])
    notes = report.table.set_index(["measure", "scored"])["note"]
    assert notes["explained_variance", "dictionary"] == "3 units; an interval needs 5"


@pytest.mark.parametrize(
    "ask",
    [
        lambda: evaluate(None, None, "a text"),
        lambda: loss_recovered(None, None, "a text"),
        lambda: targeted_perturbation(None, None, "a text", [0]),
    ],
    ids=["evaluate", "loss_recovered", "targeted_perturbation"],
)
def test_a_text_in_place_of_texts_is_refused_before_anything_runs(ask):
    with pytest.raises(TypeError, match=r"single str; put it into a list"):
        ask()


def test_controls_have_their_mean_and_components_from_the_rows_that_were_learned_from(extractor, dictionary, rows):
    report = evaluate(extractor, dictionary, TEXTS[:6], training_rows=rows + 1, n_resamples=20)
    pca = PCA(WIDTH).fit(rows + 1)
    directions = np.vstack([pca.components_, -pca.components_])
    own = {"principal components": coded_by_pursuit(directions, pca.mean_, 2)}
    expected = evaluate(extractor, dictionary, TEXTS[:6], controls=own, n_resamples=20).table
    found = report.table[report.table["scored"] == "principal components"]
    expected = expected[expected["scored"] == "principal components"]
    np.testing.assert_allclose(found["value"], expected["value"], rtol=1e-5)
    # Of the rows that are scored, they explain more than they should.
    of_texts = evaluate(extractor, dictionary, TEXTS[:6], n_resamples=20).table.set_index(["measure", "scored"])[
        "value"
    ]
    place = "explained_variance", "principal components"
    assert of_texts[place] > report.table.set_index(["measure", "scored"])["value"][place] + 0.1


@pytest.mark.parametrize("asked", [{"layer": 5}, {"site": "mlp_output"}])
def test_a_place_that_there_is_not_is_refused_before_anything_is_learned(
    extractor, dictionary, rows, monkeypatch, asked
):
    monkeypatch.setattr(SparseDictionary, "fit", None)
    with pytest.raises(ValueError, match="no"):
        evaluate(extractor, dictionary, TEXTS, ["stability", "core"], training_rows=rows, **asked)


def test_what_learns_again_learns_with_the_weights_of_the_dictionary(extractor, dictionary, rows):
    weights = np.linspace(0, 2, len(rows))
    asked = {"suite": "stability", "training_rows": rows, "n_resamples": 20}
    weighted = evaluate(extractor, dictionary, TEXTS, sample_weight=weights, **asked).table
    expected = stability(dictionary, rows, sample_weight=weights, n_resamples=20)
    pd.testing.assert_frame_equal(weighted.drop(columns="evaluation"), expected)
    assert not weighted["value"].equals(evaluate(extractor, dictionary, TEXTS, **asked).table["value"])
