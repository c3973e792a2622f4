"""Crosscoders and transcoders, where an evaluation reads rows of one place that factors must add up to."""

import numpy as np
import pytest
from sklearn.decomposition import PCA
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skfactors import Crosscoder, FactorReport, SparseDictionary, Transcoder, TransformerFeatureExtractor
from skfactors.evaluations import (
    absorption,
    evaluate,
    judge_names,
    loss_recovered,
    sparse_probing,
    stability,
    targeted_perturbation,
)
from skfactors.evaluations.core import reconstruction

TEXTS = ["the bank of the river", "shares of the bank fell", "she left the park", "one river", "the gate", "left"] * 2
LABELS = [number % 3 for number in range(len(TEXTS))]
TASKS = {"any": (TEXTS * 4, [number % 2 for number in range(4 * len(TEXTS))])}


@pytest.fixture(scope="module")
def extractor(tiny_models):
    return TransformerFeatureExtractor(tiny_models["gpt2"], layers=[0, 1], device="cpu")


@pytest.fixture(scope="module")
def acts(extractor):
    return extractor.extract(TEXTS)


@pytest.fixture(scope="module")
def crosscoder(acts):
    return Crosscoder(8, n_sites=2, random_state=0).fit(acts.side_by_side())


@pytest.fixture(scope="module")
def transcoder(acts):
    return Transcoder(8, random_state=0).fit(acts.at(layer=0).X, acts.at(layer=1).X)


ASKED = {
    "core": lambda extractor, of: reconstruction(extractor, of, TEXTS, layer=0),
    "loss_recovered": lambda extractor, of: loss_recovered(extractor, of, TEXTS, layer=0),
    "targeted_perturbation": lambda extractor, of: targeted_perturbation(extractor, of, TEXTS, LABELS, layer=0),
    "absorption": lambda extractor, of: absorption(extractor, of, TEXTS, layer=0),
    "sparse_probing": lambda extractor, of: sparse_probing(extractor, of, TEXTS, TASKS, layer=0),
    "judge_names": lambda extractor, of: judge_names(extractor, of, TEXTS, {0: "a", 1: "b"}, str, layer=0),
}


@pytest.mark.filterwarnings("ignore:.*give no interval")
@pytest.mark.parametrize("name", ASKED)
def test_a_crosscoder_is_refused_where_rows_are_of_one_place(extractor, crosscoder, name):
    with pytest.raises(TypeError, match="a crosscoder codes several places of a token at once"):
        ASKED[name](extractor, crosscoder)


@pytest.mark.parametrize("name", ["core", "loss_recovered", "targeted_perturbation", "absorption"])
def test_a_transcoder_is_refused_where_factors_must_add_up_to_rows(extractor, transcoder, name):
    with pytest.raises(TypeError, match="add up to rows of another place"):
        ASKED[name](extractor, transcoder)


@pytest.mark.filterwarnings("ignore:.*give no interval")
def test_codes_of_a_transcoder_can_be_probed_beside_random_factors_of_the_rows(extractor, acts):
    # What it predicts is narrower than what it reads.
    transcoder = Transcoder(8, random_state=0).fit(acts.at(layer=0).X, acts.at(layer=1).X[:, :20])
    table = sparse_probing(extractor, transcoder, TEXTS, TASKS, layer=0, k=[1], n_resamples=2)
    assert table.loc[table["scored"].isin({"dictionary", "random factors"}), "value"].between(0, 1).sum() == 2


@pytest.mark.parametrize(
    ("name", "given", "error", "message"),
    [
        ("core", {"training_rows": np.ones((9, 32))}, TypeError, "a crosscoder codes several places"),
        ("stability", {}, TypeError, "a crosscoder codes several places"),
        ("stability", {"training_rows": np.ones((9, 32))}, ValueError, "rows of 64 features, and X has 32"),
    ],
)
def test_evaluate_refuses_a_crosscoder_on_rows_of_one_place(crosscoder, name, given, error, message):
    # Before any rows are read.
    with pytest.raises(error, match=message):
        evaluate(None, crosscoder, TEXTS, name, layer=0, **given)


def test_evaluate_names_the_control_that_it_refuses(crosscoder, acts):
    dictionary = PCA(4).fit(acts.at(layer=0).X)
    with pytest.raises(TypeError, match="The control 'theirs': a crosscoder codes several places"):
        evaluate(None, dictionary, TEXTS, layer=0, controls={"theirs": crosscoder})


def test_evaluate_refuses_a_pipeline_of_a_transcoder_before_the_work(acts):
    X, Y = acts.at(layer=0).X, acts.at(layer=1).X
    pipeline = make_pipeline(StandardScaler(), Transcoder(8, random_state=0)).fit(X, Y)
    with pytest.raises(TypeError, match="learned from pairs of rows"):
        evaluate(None, pipeline, TEXTS, ["sparse_probing", "stability"], layer=0, tasks=TASKS)


def test_a_crosscoder_is_stable_on_rows_side_by_side(crosscoder, acts):
    table = stability(crosscoder, acts.side_by_side(), n_resamples=2)
    assert table.loc[table["scored"] == "dictionary", "value"].notna().all()


def test_a_transcoder_cannot_be_learned_again_from_rows_alone(transcoder, acts):
    with pytest.raises(TypeError, match="learned from pairs of rows"):
        stability(transcoder, acts.at(layer=0).X)


def test_a_dictionary_is_not_learned_again_from_rows_of_another_width():
    X = np.random.default_rng(0).random((60, 6))
    dictionary = SparseDictionary(4, n_nonzero_coefs=2).fit(X)
    with pytest.raises(ValueError, match="learned from rows of 6 features, and X has 5"):
        stability(dictionary, X[:, :5])


def test_saliency_of_a_crosscoder_is_refused(extractor, crosscoder, acts):
    report = FactorReport.from_codes(crosscoder.transform(acts.side_by_side()), acts.at(layer=0))
    with pytest.raises(TypeError, match="a crosscoder codes several places of a token at once"):
        report.add_saliency(extractor=extractor, dictionary=crosscoder, texts=TEXTS, k=1)
