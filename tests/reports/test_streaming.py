import tracemalloc

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from skfactors.metrics import dead_fraction, explained_variance, l0
from skfactors.reports import importance_by_layer, top_contexts
from skfactors.reports.counting.strongest import TopValues
from skfactors.reports.counting.tally import Tally

PARAMETERS = {"k": 3, "top": 4, "window": 2, "unique_documents": True}


def accumulate(corpus, cuts, parameters, **extra):
    """Feed rows in the parts that the cuts make; each part's texts hold its own documents only."""
    accumulator = Tally(corpus.codes.shape[1], **parameters)
    bounds = [0, *sorted(cuts), len(corpus.provenance)]
    for start, end in zip(bounds[:-1], bounds[1:], strict=True):
        provenance = corpus.provenance.iloc[start:end].reset_index(drop=True)
        texts = {document: corpus.texts[document] for document in provenance["document"].unique().tolist()}
        accumulator.add(corpus.codes[start:end], provenance, texts, X=corpus.X[start:end], **extra)
    return accumulator


def tables(accumulator):
    return (
        accumulator.contexts(),
        accumulator.importance(),
        accumulator.active_rows(),
        accumulator.activation_sums(),
    )


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=60)
@given(
    seed=st.integers(0, 50),
    shares=st.lists(st.floats(0, 1), max_size=6),
    unique_documents=st.booleans(),
    distinct=st.booleans(),
)
def test_parts_give_the_tables_of_the_whole_to_the_last_bit(make_corpus, seed, shares, unique_documents, distinct):
    corpus = make_corpus(seed, distinct=distinct)
    parameters = PARAMETERS | {"unique_documents": unique_documents}
    cuts = [round(share * len(corpus.provenance)) for share in shares]

    whole = accumulate(corpus, [], parameters)
    parts = accumulate(corpus, cuts, parameters)

    for table, expected in zip(tables(parts), tables(whole), strict=True):
        pd.testing.assert_frame_equal(table, expected, check_exact=True)
    assert parts.totals() == whole.totals()


@pytest.mark.parametrize("unique_documents", [True, False])
@pytest.mark.parametrize("seed", range(3))
def test_one_row_at_a_time_gives_what_the_functions_give_at_once(make_corpus, seed, unique_documents):
    corpus = make_corpus(seed)
    parameters = PARAMETERS | {"unique_documents": unique_documents}

    accumulator = accumulate(corpus, range(1, len(corpus.provenance)), parameters)

    contexts = top_contexts(
        corpus.codes, corpus.provenance, corpus.texts, k=3, window=2, unique_documents=unique_documents
    )
    importance = importance_by_layer(corpus.codes, corpus.provenance["layer"], top=4)
    pd.testing.assert_frame_equal(accumulator.contexts(), contexts, check_exact=True)
    pd.testing.assert_frame_equal(accumulator.importance(), importance, check_exact=True)


def test_rows_in_any_order_of_documents_and_layers_are_reported(make_corpus):
    corpus = make_corpus(4, distinct=True)
    order = np.random.default_rng(0).permutation(len(corpus.provenance))
    shuffled = make_corpus(4, distinct=True)
    shuffled.codes, shuffled.X = corpus.codes[order], corpus.X[order]
    shuffled.provenance = corpus.provenance.iloc[order].reset_index(drop=True)

    expected, given = accumulate(corpus, [], PARAMETERS), accumulate(shuffled, [], PARAMETERS)

    pd.testing.assert_frame_equal(given.contexts(), expected.contexts(), check_exact=True)
    pd.testing.assert_frame_equal(given.importance(), expected.importance(), check_exact=True)
    assert given.totals() == expected.totals()


def test_a_document_continued_in_the_next_part_keeps_one_place_with_its_strongest_context():
    provenance = pd.DataFrame({"document": [0, 1], "layer": 0, "position": [0, 0], "start": 0, "end": 1})
    accumulator = Tally(1, k=2, top=2, window=1, unique_documents=True)
    for activations in ([1.0, 2.0], [3.0, 1.5], [2.5, 2.0]):
        accumulator.add(np.array(activations)[:, None], provenance, ["a", "b"])

    contexts = accumulator.contexts()

    assert contexts["document"].tolist() == [0, 1]
    assert contexts["activation"].tolist() == [3.0, 2.0]


def test_a_document_dropped_from_a_full_list_comes_back_with_a_stronger_context():
    provenance = pd.DataFrame({"document": [0], "layer": 0, "position": 0, "start": 0, "end": 1})
    accumulator = Tally(1, k=1, top=2, window=1, unique_documents=True)
    for document, activation in [(0, 1.0), (1, 2.0), (0, 1.5), (0, 4.0)]:
        accumulator.add(np.array([[activation]]), provenance.assign(document=document), ["a", "b"])
    assert accumulator.contexts()[["document", "activation"]].to_numpy().tolist() == [[0, 4.0]]


def test_a_layer_first_met_in_a_later_part_gets_its_place(make_corpus):
    late = make_corpus(1, layers=(8,))
    early = make_corpus(2, layers=(2,))
    accumulator = Tally(5, **PARAMETERS)
    accumulator.add(late.codes, late.provenance, late.texts)
    accumulator.add(early.codes, early.provenance, early.texts)

    importance = accumulator.importance()

    assert importance.columns.tolist() == accumulator.totals()["layers"] == [2, 8]
    expected = importance_by_layer(early.codes, early.provenance["layer"], top=4)
    pd.testing.assert_frame_equal(importance[[2]], expected, check_exact=True)


def test_sums_are_those_of_plain_loops(make_corpus):
    corpus = make_corpus(3)
    accumulator = accumulate(corpus, [5, 9], PARAMETERS)
    dense, layers = corpus.codes.toarray(), corpus.provenance["layer"].to_numpy()
    for factor in range(5):
        for layer in (0, 2, 10):
            active = [
                value for value, there in zip(dense[:, factor], layers, strict=True) if there == layer and value > 0
            ]
            assert accumulator.active_rows().loc[factor, layer] == len(active)
            assert accumulator.activation_sums().loc[factor, layer] == pytest.approx(sum(active))


def test_totals_count_documents_tokens_and_rows(make_corpus):
    corpus = make_corpus(3)
    totals = accumulate(corpus, [4, 5, 11, 30], PARAMETERS).totals()
    assert totals["n_documents"] == corpus.provenance["document"].nunique()
    assert totals["n_tokens"] == len(corpus.provenance.drop_duplicates(["document", "position"]))
    assert totals["n_rows"] == len(corpus.provenance)
    assert totals["n_components"] == 5


@pytest.mark.parametrize("signed", [False, True])
def test_figures_of_codes_are_those_of_the_metrics(make_corpus, signed):
    corpus = make_corpus(3)
    if signed:
        corpus.codes = corpus.codes * -1.0
    totals = accumulate(corpus, [7], PARAMETERS).totals()
    assert totals["l0"] == pytest.approx(l0(corpus.codes))
    assert totals["dead_fraction"] == pytest.approx(dead_fraction(corpus.codes))


@pytest.mark.parametrize("offset", [0.0, 1e6])
def test_explained_variance_over_parts_is_the_metrics_over_the_whole(make_corpus, offset):
    corpus = make_corpus(3)
    components = np.random.default_rng(1).normal(size=(5, 3))
    corpus.X = corpus.X.astype(np.float64) + offset

    def reconstruct(X, codes):
        return codes @ components + offset

    totals = accumulate(corpus, [3, 20], PARAMETERS, reconstruct=reconstruct).totals()

    expected = explained_variance(corpus.X, reconstruct(corpus.X, corpus.codes))
    assert totals["explained_variance"] == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("exact", [True, False])
def test_rows_that_are_all_equal_have_the_metrics_explained_variance(make_corpus, exact):
    corpus = make_corpus(3)
    corpus.X = np.full((len(corpus.X), 3), 0.1, dtype=np.float32)

    def reconstruct(X, codes):
        return np.full((codes.shape[0], 3), 0.1, dtype=np.float32) + (0 if exact else 1)

    totals = accumulate(corpus, [4], PARAMETERS, reconstruct=reconstruct).totals()
    assert (
        totals["explained_variance"]
        == explained_variance(corpus.X, reconstruct(corpus.X, corpus.codes))
        == float(exact)
    )


def test_explained_variance_is_none_where_nothing_was_reconstructed(make_corpus):
    assert accumulate(make_corpus(3), [], PARAMETERS).totals()["explained_variance"] is None


def test_memory_does_not_grow_with_the_number_of_parts():
    rng = np.random.default_rng(0)
    accumulator = Tally(4, k=3, top=5, window=4, unique_documents=True)

    def add(document):
        text = f"{document} " * 100_000
        n_rows = 300
        starts = rng.integers(0, len(text) - 1, size=n_rows)
        provenance = pd.DataFrame({"layer": 0, "position": range(n_rows), "start": starts, "end": starts + 1})
        accumulator.add(rng.random((n_rows, 4)), provenance.assign(document=document), {document: text})

    tracemalloc.start()
    try:
        for document in range(10, 20):
            add(document)
        before = tracemalloc.get_traced_memory()[0]
        for document in range(20, 70):
            add(document)
        grown = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()
    assert len(accumulator.contexts()) == 3 * 4
    # The texts have 15 MB; of the 2,400 rows that are drawn at random, ever more are of documents of their own.
    assert grown < 500_000


@given(st.lists(st.lists(st.sampled_from([0.5, 1.0, 2.0, 3.5]), max_size=12), max_size=5), st.integers(1, 4))
def test_top_values_keep_the_largest_of_all_parts(parts, top):
    values = TopValues(top)
    for part in parts:
        values.add(np.zeros(len(part), dtype=np.int64), np.array(part), 1)
    largest = sorted((value for part in parts for value in part), reverse=True)[:top]
    assert values.means().tolist() == ([sum(largest) / top] if parts else [])


def test_a_part_of_several_sites_is_refused(make_corpus):
    corpus = make_corpus()
    corpus.provenance["site"] = ["hidden_states", *["mlp_output"] * (len(corpus.provenance) - 1)]
    with pytest.raises(ValueError, match="sites 'hidden_states', 'mlp_output'"):
        accumulate(corpus, [], PARAMETERS)


def test_parts_of_different_width_are_refused(make_corpus):
    corpus = make_corpus(0)
    accumulator = Tally(9, **PARAMETERS)
    with pytest.raises(ValueError, match="codes have 5 factors; those before had 9"):
        accumulator.add(corpus.codes, corpus.provenance, corpus.texts)
