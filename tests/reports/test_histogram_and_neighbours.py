from collections import Counter

import numpy as np
import pandas as pd
import pytest

from skfactors.dictionaries.adapters import as_factor_model
from skfactors.reports import FactorReport
from skfactors.reports.neighbours import nearest_by_contexts, nearest_directions


@pytest.fixture
def report(make_corpus):
    corpus = make_corpus(4, n_documents=20)
    return corpus, FactorReport.from_codes(corpus.codes, corpus, k=4)


def test_a_histogram_counts_every_activation_in_the_bin_that_it_is_in(report):
    corpus, report = report
    expected = Counter()
    codes, layers = corpus.codes.toarray(), corpus.provenance["layer"]
    for row, factor in zip(*np.nonzero(codes > 0), strict=True):
        lower = next(2.0 ** (step / 2) for step in range(30, -30, -1) if 2.0 ** (step / 2) <= codes[row, factor])
        expected[int(factor), int(layers[row]), lower] += 1

    histogram = report.histogram()

    columns = (histogram[name].tolist() for name in ("factor", "layer", "lower", "count"))
    counted = {(factor, layer, lower): count for factor, layer, lower, count in zip(*columns, strict=True)}
    assert counted == expected
    np.testing.assert_allclose(histogram["upper"] / histogram["lower"], 2**0.5)


def test_activations_beyond_the_bins_count_in_the_outermost(make_corpus):
    corpus = make_corpus(1, n_documents=1, layers=(0,), n_components=1, n_words=9)
    codes = np.zeros((len(corpus.provenance), 1))
    codes[:2, 0] = 1e-9, 1e9
    histogram = FactorReport.from_codes(codes, corpus).histogram()
    assert histogram["lower"].iloc[0] == 1 / 256
    assert histogram["upper"].iloc[-1] == 4096
    assert histogram["count"].sum() == np.count_nonzero(codes)


def test_nearest_directions_are_those_of_the_largest_cosines():
    components = np.random.default_rng(0).normal(size=(600, 6))
    components[7] = 0
    found = nearest_directions(components, k=4)
    for factor in (0, 7, 300, 599):
        with np.errstate(invalid="ignore"):
            norms = np.linalg.norm(components, axis=1) * np.linalg.norm(components[factor])
            cosines = np.nan_to_num(components @ components[factor] / norms)
        cosines[factor] = 0
        expected = [int(other) for other in np.argsort(-cosines, kind="stable")[:4] if cosines[other] > 0]
        mine = found[found["factor"] == factor]
        assert mine["neighbour"].tolist() == expected
        np.testing.assert_allclose(mine["similarity"], cosines[expected])


def test_factors_near_by_contexts_share_tokens(report):
    _, report = report
    places = {
        factor: set(zip(contexts["document"], contexts["position"], strict=True))
        for factor, contexts in report.top_contexts().groupby("factor")
    }
    expected = {
        (one, other): len(places[one] & places[other]) / np.sqrt(len(places[one]) * len(places[other]))
        for one in places
        for other in places
        if one != other and places[one] & places[other]
    }

    found = report.neighbours("contexts")

    pairs = zip(found["factor"], found["neighbour"], strict=True)
    assert dict(zip(pairs, found["similarity"], strict=True)) == pytest.approx(expected)
    assert found.groupby("factor")["similarity"].apply(lambda values: values.is_monotonic_decreasing).all()


def test_without_contexts_no_factor_is_near():
    nothing = pd.DataFrame({"factor": [], "document": [], "position": []}, dtype=np.int64)
    assert nearest_by_contexts(nothing, 3).empty


def test_a_streamed_report_knows_the_directions_of_its_dictionary(make_extractor, fitted_dictionary):
    report = FactorReport.from_texts(make_extractor(), fitted_dictionary, ["left mind park", "light of left"])
    expected = nearest_directions(as_factor_model(fitted_dictionary).components_)
    pd.testing.assert_frame_equal(report.neighbours(), expected)
    assert not expected.empty


def test_codes_without_components_have_no_directions(report):
    assert report[1].neighbours().empty


def test_another_kind_of_neighbour_is_refused(report):
    with pytest.raises(ValueError, match="by='colour'"):
        report[1].neighbours("colour")
