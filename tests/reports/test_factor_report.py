import numpy as np
import pandas as pd
import pytest
from scipy import sparse
from sklearn.exceptions import NotFittedError

from skfactors.metrics import dead_fraction, explained_variance, l0
from skfactors.reports import FactorReport, classify_levels, importance_by_layer, top_contexts
from skfactors.reports.summary import clearest_order

TEXTS = [
    "He left the park and she left too.",
    "",
    "The mind wanders left. Light falls on the park.",
    "One two three four five six seven eight nine ten eleven twelve",
    "   ",
    "Never mind, left is left.",
    "park",
]


def whole_corpus(extractor, dictionary, texts):
    parts = list(extractor.iter_extract(texts))
    X = np.concatenate([part.X for part in parts])
    provenance = pd.concat([part.provenance for part in parts], ignore_index=True)
    return X, sparse.csr_array(dictionary.transform(X)), provenance


@pytest.fixture
def corpus_report(make_corpus):
    corpus = make_corpus(6, n_documents=12)
    return corpus, FactorReport.from_codes(corpus.codes, corpus, k=4, top=5, window=3)


@pytest.mark.parametrize("sparse_output", [True, False])
def test_a_streamed_report_has_the_tables_of_the_functions(make_extractor, make_dictionary, sparse_output):
    extractor = make_extractor()
    dictionary = make_dictionary(sparse_output=sparse_output).fit(np.zeros((1, 6)))
    X, codes, provenance = whole_corpus(extractor, dictionary, TEXTS)

    report = FactorReport.from_texts(extractor, dictionary, TEXTS, k=3, top=6, window=2)

    contexts = top_contexts(codes, provenance, TEXTS, k=3, window=2)
    importance = importance_by_layer(codes, provenance["layer"], top=6)
    pd.testing.assert_frame_equal(report.top_contexts(), contexts, check_exact=True)
    pd.testing.assert_frame_equal(report.importance_by_layer(), importance, check_exact=True)
    expected = explained_variance(X, dictionary.inverse_transform(codes))
    assert report.totals["explained_variance"] == pytest.approx(expected)


def test_a_streamed_report_covers_the_documents_that_gave_rows(make_extractor, fitted_dictionary):
    extractor = make_extractor()
    _, codes, provenance = whole_corpus(extractor, fitted_dictionary, TEXTS)

    totals = FactorReport.from_texts(extractor, fitted_dictionary, TEXTS).totals

    assert totals["n_documents"] == 5
    assert totals["n_tokens"] == sum(len(text.split()) for text in TEXTS)
    assert totals["n_rows"] == len(provenance)
    assert totals["layers"] == [0, 4, 10]
    assert totals["n_components"] == 5
    assert totals["l0"] == pytest.approx(l0(codes))
    assert totals["dead_fraction"] == pytest.approx(dead_fraction(codes)) == pytest.approx(0.2)


def test_a_report_does_not_depend_on_the_size_of_the_parts(make_extractor, fitted_dictionary):
    small = FactorReport.from_texts(make_extractor(words_a_part=2), fitted_dictionary, TEXTS)
    large = FactorReport.from_texts(make_extractor(words_a_part=1000), fitted_dictionary, TEXTS)
    assert small == large


def test_texts_may_come_from_a_generator(make_extractor, fitted_dictionary):
    extractor = make_extractor()
    streamed = FactorReport.from_texts(extractor, fitted_dictionary, (text for text in TEXTS), verbose=True)
    assert streamed == FactorReport.from_texts(extractor, fitted_dictionary, TEXTS)


def test_an_unfitted_dictionary_is_refused_before_anything_is_extracted(make_dictionary):
    class NeverAsked:
        def iter_extract(self, texts):
            raise AssertionError("extracted")

    with pytest.raises(NotFittedError):
        FactorReport.from_texts(NeverAsked(), make_dictionary(), TEXTS)


@pytest.mark.parametrize("texts", [[""], ["  ", "\n"]])
def test_texts_without_a_token_are_refused(make_extractor, fitted_dictionary, texts):
    with pytest.raises(ValueError, match="no rows"):
        FactorReport.from_texts(make_extractor(), fitted_dictionary, texts)


@pytest.mark.parametrize(
    ("extractor_verbose", "dictionary_verbose", "verbose", "shown"),
    [(False, False, None, False), (True, False, None, True), (False, True, None, True), (True, True, False, False)],
)
def test_progress_shows_where_asked_or_where_a_part_is_verbose(
    make_extractor, make_dictionary, capsys, extractor_verbose, dictionary_verbose, verbose, shown
):
    dictionary = make_dictionary(verbose=dictionary_verbose).fit(np.zeros((1, 6)))
    FactorReport.from_texts(make_extractor(verbose=extractor_verbose), dictionary, TEXTS, verbose=verbose)
    captured = capsys.readouterr()
    assert ("reporting" in captured.out + captured.err) == shown


def test_codes_at_hand_give_a_report_without_explained_variance(corpus_report):
    corpus, report = corpus_report
    contexts = top_contexts(corpus.codes, corpus.provenance, corpus.texts, k=4, window=3)
    pd.testing.assert_frame_equal(report.top_contexts(), contexts, check_exact=True)
    assert report.totals["explained_variance"] is None


def test_components_give_codes_at_hand_their_explained_variance(make_corpus):
    corpus = make_corpus(6)
    components = np.random.default_rng(2).normal(size=(5, 3))
    report = FactorReport.from_codes(corpus.codes, corpus, components=components)
    expected = explained_variance(corpus.X, corpus.codes @ components)
    assert report.totals["explained_variance"] == pytest.approx(expected)


def test_components_of_the_wrong_shape_are_refused(make_corpus):
    corpus = make_corpus(6)
    with pytest.raises(ValueError, match=r"\(3, 5\); for these codes and rows it must be \(5, 3\)"):
        FactorReport.from_codes(corpus.codes, corpus, components=np.ones((3, 5)))


def test_codes_without_rows_are_refused(make_corpus):
    corpus = make_corpus(6, n_documents=0)
    with pytest.raises(ValueError, match="no rows"):
        FactorReport.from_codes(np.empty((0, 5)), corpus)


def test_contexts_can_be_had_by_factor_and_layer(corpus_report):
    _, report = corpus_report
    contexts = report.top_contexts()

    some = report.top_contexts(factor=[1, 3], layer=2)

    wanted = contexts[contexts["factor"].isin([1, 3]) & (contexts["layer"] == 2)]
    pd.testing.assert_frame_equal(some, wanted.reset_index(drop=True))
    assert report.top_contexts(factor=np.int64(1))["factor"].unique().tolist() == [1]


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"factor": 5}, ValueError, "no factor 5; there are factors from 0 to 4"),
        ({"factor": [0, -1]}, ValueError, "no factor -1"),
        ({"layer": 1}, ValueError, "no layer 1; there are layers 0, 2, 10"),
        ({"factor": 1.5}, TypeError, "factor=1.5 is not an integer"),
        ({"layer": True}, TypeError, "layer=True is not an integer"),
    ],
)
def test_unknown_factors_and_layers_are_refused_with_those_there_are(corpus_report, arguments, error, message):
    _, report = corpus_report
    with pytest.raises(error, match=message):
        report.top_contexts(**arguments)


def test_tables_are_copies(corpus_report):
    _, report = corpus_report
    tables = {report.top_contexts: "activation", report.importance_by_layer: 2, report.summary: "frequency"}
    for method, column in tables.items():
        table = method()
        table.loc[:, column] = -1.0
        assert (method()[column] >= 0).all()


def test_the_summary_is_what_plain_loops_find(corpus_report):
    corpus, report = corpus_report
    summary, importance = report.summary(), report.importance_by_layer()
    dense, layers = corpus.codes.toarray(), corpus.provenance["layer"].to_numpy()
    assert summary.index.tolist() == [0, 1, 2, 3, 4]
    assert summary["level"].tolist() == classify_levels(importance).tolist()
    for factor in range(4):
        row, active = summary.loc[factor], dense[:, factor] > 0
        assert row["peak_layer"] == importance.loc[factor].idxmax()
        assert row["peak_importance"] == importance.loc[factor].max()
        assert row["frequency"] == active.sum() / len(layers)
        assert row["mean_activation"] == pytest.approx(dense[active, factor].mean())
        tokens = [token.lower() for token in report.top_contexts(factor, row["peak_layer"])["token"]]
        by_count = sorted(set(tokens), key=lambda token: (-tokens.count(token), tokens.index(token)))
        assert row["top_tokens"] == ", ".join(by_count[:5])


def test_a_factor_that_never_fires_stays_in_the_summary(corpus_report):
    _, report = corpus_report
    row = report.summary().loc[4]
    assert row["level"] == "flat"
    assert row["peak_layer"] is pd.NA
    assert row["peak_importance"] == row["frequency"] == 0
    assert np.isnan(row["mean_activation"])
    assert row["top_tokens"] == ""


def lexical_corpus():
    """Eight documents of four words, and codes by word and layer of factors that tell a reader more or less."""
    texts = [f"he left , then{number}" for number in range(8)]
    rows, codes = [], []
    for document, text in enumerate(texts):
        for layer in (0, 6):
            for position, word in enumerate(text.split()):
                start = text.index(word)
                rows.append((document, layer, position, 0, start, start + len(word)))
                early, late = (1.0, 0.25) if layer == 0 else (0.25, 1.0)
                about_left = (word == "left") * early
                punctuation = (word == ",") * 9.0
                of_one_document = (document == 5 and word == "he") * 9.0
                about_he = (word == "he") * late
                as_strong_everywhere = word.startswith("then") * (layer == 6) * 9.0
                codes.append((about_left, punctuation, of_one_document, 0.0, about_he, 0.0, as_strong_everywhere))
    columns = ["document", "layer", "position", "token_id", "start", "end"]
    provenance = pd.DataFrame(rows, columns=columns)
    # Rows on which nothing fires, so that a factor active in one word of four is not a frequent one.
    silent = provenance.loc[provenance.index.repeat(3)].assign(document=lambda rows: rows["document"] + 8)
    provenance = pd.concat([provenance, silent], ignore_index=True)
    codes = np.concatenate([codes, np.zeros((len(silent), 7))])
    always_active = 3
    codes[:, always_active] = 4.0
    return codes, provenance, texts * 2


def test_the_clearest_factors_are_supported_and_rare_and_from_every_peak_layer():
    codes, provenance, texts = lexical_corpus()

    class Acts:
        X = np.zeros((len(codes), 1))

    Acts.provenance, Acts.texts = provenance, texts
    report = FactorReport.from_codes(codes, Acts, k=8, top=8)

    order = report.clearest().index.tolist()

    # Layer 0's and layer 6's in turn, punctuation among them; then what is from one document, or always active.
    assert order[:4] == [0, 4, 1, 6]
    assert set(order[4:]) == {2, 3}
    pd.testing.assert_frame_equal(report.clearest(2), report.summary().loc[[0, 4]])


@pytest.mark.parametrize(
    ("better", "worse"),
    [
        ({"activation_coverage": 0.9}, {"activation_coverage": 0.1}),
        ({"frequency": 0.01}, {"frequency": 0.04}),
        ({"emergence": 0.9}, {"emergence": 0.1}),
        ({"pattern": "repetition", "activation_coverage": 0.1}, {"activation_coverage": 0.8}),
        ({"emergence": 0.9}, {"emergence": np.nan}),
        ({"activation_coverage": 0.8}, {"pattern": "word pieces", "activation_coverage": 0.7}),
    ],
)
def test_of_two_factors_that_stand_out_alike_the_one_that_is_told_or_emerges_or_is_rare_is_first(better, worse):
    same = {
        "peak_layer": 6,
        "frequency": 0.01,
        "mean_activation": 1.0,
        "activation_coverage": 0.5,
        "emergence": 0.5,
        "pattern": "",
    }
    summary = pd.DataFrame([same | worse, same | better])
    contexts = pd.DataFrame({"factor": [0] * 5 + [1] * 5, "layer": 6, "document": [*range(5)] * 2, "activation": 2.0})
    assert clearest_order(summary, contexts, 5) == [1, 0]


def test_a_dictionary_whose_factors_never_fire_has_no_clearest_ones(make_corpus):
    corpus = make_corpus(1)
    report = FactorReport.from_codes(np.zeros(corpus.codes.shape), corpus)
    assert report.clearest().empty
    assert report.totals["dead_fraction"] == 1
    assert (report.summary()["level"] == "flat").all()


def test_one_document_and_one_layer_give_a_report(make_corpus):
    corpus = make_corpus(2, n_documents=1, layers=(3,))
    report = FactorReport.from_codes(corpus.codes, corpus)
    assert report.totals["n_documents"] == 1
    assert report.importance_by_layer().columns.tolist() == [3]
    assert (report.top_contexts()["rank"] == 1).all()


@pytest.mark.parametrize("name", ["k", "top"])
def test_parameters_out_of_range_are_named(make_corpus, name):
    corpus = make_corpus(0)
    with pytest.raises(ValueError, match=f"{name} == 0"):
        FactorReport.from_codes(corpus.codes, corpus, **{name: 0})


def test_reports_of_other_codes_are_unequal(corpus_report):
    corpus, report = corpus_report
    assert report == FactorReport.from_codes(corpus.codes, corpus, k=4, top=5, window=3)
    assert report != FactorReport.from_codes(corpus.codes * 2, corpus, k=4, top=5, window=3)
    assert report != "a report"


def test_the_repr_is_a_line_that_says_what_is_covered(make_extractor, fitted_dictionary):
    report = FactorReport.from_texts(make_extractor(), fitted_dictionary, TEXTS)
    assert repr(report).startswith("FactorReport(5 factors, layers 0, 4, 10; 5 documents, 35 tokens; explained var")
    assert "\n" not in repr(report)
