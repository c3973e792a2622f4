from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.dictionaries import scaled
from support.small_store import SmallStore, fitted_model

from skfactors.reports import FactorReport
from skfactors.reports.counting.samples import empty_samples
from skfactors.reports.counting.tally import Tally
from skfactors.reports.saliency.records import context_key, saliency_series

COMPONENTS = np.random.default_rng(1).normal(size=(5, 3))


def report_on(corpus, rows, **parameters):
    provenance = corpus.provenance.iloc[rows].reset_index(drop=True)
    acts = SimpleNamespace(X=corpus.X[rows], provenance=provenance, texts=corpus.texts)
    return FactorReport.from_codes(corpus.codes[rows], acts, **{"k": 3, "top": 4, "window": 2, **parameters})


def in_parts(corpus, cuts, **parameters):
    bounds = [0, *sorted(cuts), len(corpus.provenance)]
    parts = [np.arange(*bound) for bound in zip(bounds[:-1], bounds[1:], strict=True)]
    return [report_on(corpus, rows, **parameters) for rows in parts if len(rows)]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=40)
@given(
    seed=st.integers(0, 50),
    shares=st.lists(st.floats(0, 1), max_size=4),
    unique_documents=st.booleans(),
    distinct=st.booleans(),
    random=st.randoms(use_true_random=False),
)
def test_merged_reports_equal_the_report_made_in_one_pass(
    make_corpus, seed, shares, unique_documents, distinct, random
):
    corpus = make_corpus(seed, distinct=distinct)
    parameters = {"unique_documents": unique_documents, "components": COMPONENTS}
    reports = in_parts(corpus, [round(share * len(corpus.provenance)) for share in shares], **parameters)
    random.shuffle(reports)
    assert FactorReport.merge(reports) == report_on(corpus, slice(None), **parameters)


@pytest.mark.parametrize("rows_a_shard", [2, 17, 70])
@pytest.mark.parametrize("n_reports", [1, 2, 3, 5])
@pytest.mark.parametrize("make", [lambda store: fitted_model(), lambda store: scaled(store.X)])
def test_reports_on_every_nth_shard_merge_to_the_report_on_all(n_reports, rows_a_shard, make):
    store = SmallStore(n_documents=50, rows_a_shard=rows_a_shard)
    dictionary = make(store)
    reports = [
        FactorReport.from_store(store, dictionary, k=3, top=4, shards=range(number, store.n_shards, n_reports))
        for number in reversed(range(n_reports))
    ]
    merged = FactorReport.merge(iter(reports))
    assert merged == FactorReport.from_store(store, dictionary, k=3, top=4)
    assert merged.summary().equals(FactorReport.merge(reports[::-1]).summary())


def test_reports_on_interleaved_documents_merge(make_corpus):
    corpus = make_corpus(3, n_documents=9)
    thirds = [np.flatnonzero(corpus.provenance["document"] % 3 == number) for number in (1, 0, 2)]
    assert FactorReport.merge(report_on(corpus, rows) for rows in thirds) == report_on(corpus, slice(None))


def test_reports_whose_layers_differ_merge(make_corpus):
    corpus = make_corpus(3)
    first = corpus.provenance["document"] < 3
    keep = np.flatnonzero(~first | (corpus.provenance["layer"] == 10))
    expected = report_on(corpus, keep)
    parts = [keep[first[keep]], keep[~first[keep]]]
    merged = FactorReport.merge([report_on(corpus, rows) for rows in parts])
    assert merged == expected
    assert merged.totals["layers"] == [0, 2, 10]


def test_saved_reports_merge_and_so_do_merged_ones(make_corpus, tmp_path):
    corpus = make_corpus(4, n_documents=8)
    reports = in_parts(corpus, [20, 50, 90], components=COMPONENTS)
    for number, report in enumerate(reports):
        report.save(tmp_path / str(number))
    reports = [FactorReport.load(tmp_path / str(number)) for number in range(len(reports))]

    FactorReport.merge(reports[:2]).save(tmp_path / "half")
    merged = FactorReport.merge([*reports[2:], FactorReport.load(tmp_path / "half")])

    assert merged == report_on(corpus, slice(None), components=COMPONENTS)


def test_merging_leaves_the_reports_as_they_are(make_corpus):
    reports = in_parts(make_corpus(2), [30])
    first = FactorReport.merge(reports)
    first.parameters["k"] = 99
    assert FactorReport.merge(reports) == FactorReport.merge(reports[::-1])
    assert reports == in_parts(make_corpus(2), [30])


def test_samples_and_their_shades_are_left_out_where_an_earlier_version_drew_none(make_corpus, tmp_path):
    first, second = in_parts(make_corpus(), [20])
    description, arrays = first._tally.state()
    arrays |= {f"samples.{name}": array for name, array in empty_samples().items()}
    merged = FactorReport.merge([FactorReport._from_tally(Tally.from_state(description, arrays)), second])
    assert len(second.token_activations("samples"))
    assert merged.sampled_contexts().empty and merged.token_activations("samples").empty
    merged.to_html(tmp_path / "page.html")
    merged.save(tmp_path / "report")
    assert FactorReport.load(tmp_path / "report") == merged


def test_of_equal_activations_the_earlier_document_wins_whatever_the_order_of_the_reports():
    texts = ["a", "b", "c"]
    reports = []
    for document in (2, 0, 1):
        provenance = pd.DataFrame({"document": [document], "layer": 0, "position": 0, "start": 0, "end": 1})
        acts = SimpleNamespace(X=np.zeros((1, 1)), provenance=provenance, texts=texts)
        reports.append(FactorReport.from_codes(np.ones((1, 1)), acts, k=2))
    assert FactorReport.merge(reports).top_contexts()["document"].tolist() == [0, 1]


def test_a_merged_report_has_the_saliency_of_all(make_corpus):
    corpus = make_corpus(4, distinct=True)
    reports = in_parts(corpus, [int((corpus.provenance["document"] < 3).sum())])
    facts = {"activation": 1.0, "method": "lime", "n_samples": 9, "masking": "mask", "start": [0], "end": [1]}
    for report in reports:
        context = next(report.top_contexts().itertuples())
        key = context_key(context)
        report._tables.saliency[key] = saliency_series([context.token], key[-1], [1.0], facts | {"position": key[-1]})
    merged = FactorReport.merge(reports)
    assert len(merged.saliency()) == 2
    assert merged == FactorReport.merge(reports[::-1])


@pytest.mark.parametrize(
    ("other", "message"),
    [
        ({"k": 4}, "reports 0 and 1 were made with different parameters: k=3 and k=4"),
        ({"components": COMPONENTS * 2}, "reports 0 and 1 are of different dictionaries: their fingerprints differ"),
        ({"components": None}, "only one report was made with a dictionary"),
    ],
)
def test_reports_that_do_not_belong_together_are_refused(make_corpus, other, message):
    corpus = make_corpus(0)
    half = len(corpus.provenance) // 2
    first = report_on(corpus, slice(0, half), components=COMPONENTS)
    second = report_on(corpus, slice(half, None), **{"components": COMPONENTS, **other})
    with pytest.raises(ValueError, match=message):
        FactorReport.merge([first, second])


@pytest.mark.parametrize("other", [scaled(SmallStore().X * 2), fitted_model(threshold=1.0)])
def test_reports_of_dictionaries_that_code_otherwise_are_refused(other):
    first = FactorReport.from_store(SmallStore(), scaled(SmallStore().X), shards=[0, 1])
    second = FactorReport.from_store(SmallStore(), other, shards=[2, 3])
    with pytest.raises(ValueError, match="of different dictionaries"):
        FactorReport.merge([first, second])


def test_reports_on_different_stores_are_refused():
    another = SmallStore()
    another.fingerprint = "another"
    first = FactorReport.from_store(SmallStore(), fitted_model(), shards=[0, 1])
    second = FactorReport.from_store(another, fitted_model(), shards=[2, 3])
    assert first.origin == {"dictionary": fitted_model().fingerprint(), "corpus": "small"}
    with pytest.raises(ValueError, match="of different corpora"):
        FactorReport.merge([first, second])


def test_codes_at_hand_merge_with_a_report_on_the_rest_of_the_store():
    store, model = SmallStore(), fitted_model()
    rest = FactorReport.from_store(store, model, shards=range(1, store.n_shards))
    first = store.read_shard(0)
    at_hand = FactorReport.from_codes(model.transform(first.X), first, dictionary=model)
    assert FactorReport.merge([at_hand, rest]) == FactorReport.from_store(store, model)


def test_dictionaries_of_other_sizes_are_refused(make_corpus):
    first, second = make_corpus(0), make_corpus(0, n_components=7)
    with pytest.raises(ValueError, match="one has 5 factors, the other 7"):
        FactorReport.merge([report_on(first, slice(None)), report_on(second, slice(None))])


def test_reports_with_documents_in_common_are_refused_with_their_numbers(make_corpus):
    corpus = make_corpus(0, n_documents=9)
    document = corpus.provenance["document"]
    first = report_on(corpus, np.flatnonzero(document < 5))
    second = report_on(corpus, np.flatnonzero(document.isin([3, 4, 7])))
    third = report_on(corpus, np.flatnonzero(document >= 8))
    with pytest.raises(ValueError, match="reports 1 and 2 both have rows of documents 3, 4; merge"):
        FactorReport.merge([third, first, second])


def test_a_report_does_not_merge_with_itself(make_corpus):
    one_document = make_corpus(0, n_documents=1)
    for corpus in (make_corpus(0), one_document):
        report = report_on(corpus, slice(None))
        with pytest.raises(ValueError, match="both have rows of documents 0"):
            FactorReport.merge([report, report])


def test_what_is_no_report_is_refused(make_corpus):
    with pytest.raises(ValueError, match="reports is empty"):
        FactorReport.merge([])
    with pytest.raises(TypeError, match="reports holds 'report'"):
        FactorReport.merge([report_on(make_corpus(0), slice(None)), "report"])


@pytest.fixture
def saved(make_corpus, tmp_path):
    report = report_on(make_corpus(1), slice(None), components=COMPONENTS)
    report.save(tmp_path)
    return report, tmp_path


def test_a_folder_without_a_tally_loads_and_says_that_it_cannot_be_merged(saved):
    report, folder = saved
    (folder / "tally.safetensors").unlink()
    loaded = FactorReport.load(folder)
    assert loaded == report
    with pytest.raises(ValueError, match=r"report 0 cannot be merged.*no tally.safetensors"):
        FactorReport.merge([loaded])


def test_a_report_saved_without_a_tally_leaves_none_of_another_report(saved, make_corpus):
    report, folder = saved
    (folder / "tally.safetensors").unlink()
    loaded = FactorReport.load(folder)
    report_on(make_corpus(2), slice(None)).save(folder)
    loaded.save(folder)
    assert FactorReport.load(folder) == report
    assert not (folder / "tally.safetensors").exists()


def test_the_tally_of_another_report_is_refused(saved, make_corpus):
    report, folder = saved
    content = (folder / "report.json").read_bytes()
    report_on(make_corpus(2), slice(None)).save(folder)
    (folder / "report.json").write_bytes(content)
    with pytest.raises(ValueError, match=r"tally.safetensors' was cut short or altered.*or delete this file"):
        FactorReport.load(folder)
    (folder / "tally.safetensors").unlink()
    assert FactorReport.load(folder) == report


@pytest.mark.parametrize("share", [0.0, 0.01, 0.3, 0.999])
def test_a_tally_cut_short_is_refused(saved, share):
    file = saved[1] / "tally.safetensors"
    content = file.read_bytes()
    file.write_bytes(content[: int(share * len(content))])
    with pytest.raises(ValueError, match="tally.safetensors' was cut short or altered"):
        FactorReport.load(saved[1])


def test_a_tally_with_one_flipped_byte_anywhere_is_refused(saved):
    file = saved[1] / "tally.safetensors"
    content = file.read_bytes()
    n_header = 8 + int.from_bytes(content[:8], "little")
    places = np.random.default_rng(0).integers(n_header, len(content), size=60).tolist()
    for place in [*range(0, n_header, 11), *places]:
        flipped = bytearray(content)
        flipped[place] ^= 0xFF
        file.write_bytes(flipped)
        with pytest.raises(ValueError, match="tally.safetensors"):
            FactorReport.load(saved[1])
