import errno
import multiprocessing
import os
import signal
import sys
import threading
import time
import tracemalloc
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from support.dictionaries import StandInModel, scaled
from support.small_store import N_FEATURES, SmallStore, fitted_model, report_aloud

from skfactors.reports import FactorReport, importance_by_layer, top_contexts

PARAMETERS = {"k": 3, "top": 4}


class Interrupted(Exception):
    pass


def store_that_stops_at(stop):
    def before_shard(shard):
        if shard == stop:
            raise Interrupted

    return SmallStore(before_shard=before_shard)


def report_on(store, dictionary=None, **options):
    return FactorReport.from_store(store, dictionary or fitted_model(), **PARAMETERS, **options)


def the_file_in(folder):
    """Return the checkpoint, beside which there is the lock and nothing else."""
    (file,) = folder.glob("*.safetensors")
    assert set(folder.iterdir()) <= {file, file.with_suffix(".lock")}
    return file


def test_a_report_on_a_store_has_the_tables_of_the_functions():
    store, dictionary = SmallStore(), fitted_model()
    codes = dictionary.transform(store.X)

    report = report_on(store)

    contexts = top_contexts(codes, store.provenance, store.texts, k=3)
    assert report.top_contexts().equals(contexts)
    assert report.importance_by_layer().equals(importance_by_layer(codes, store.provenance["layer"], top=4))
    assert report.totals["n_documents"] == len(store.texts)
    assert store.shards_read == list(range(store.n_shards))


def test_shards_of_any_size_give_the_same_report():
    assert report_on(SmallStore(rows_a_shard=5)) == report_on(SmallStore(rows_a_shard=1000))


def test_only_the_shards_asked_for_are_read_in_the_order_of_the_corpus():
    store = SmallStore()
    report_on(store, shards=np.array([5, 2, 3]))
    assert store.shards_read == [2, 3, 5]


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"shards": [0, 99]}, ValueError, "there is no shard 99"),
        ({"shards": [-1]}, ValueError, "there is no shard -1"),
        ({"shards": [1, 1]}, ValueError, "names a shard twice"),
        ({"shards": [1.0]}, TypeError, "shards holds 1.0"),
        ({"shards": []}, ValueError, "no rows to report on"),
        ({"checkpoint_every": 0}, ValueError, "checkpoint_every == 0"),
    ],
)
def test_shards_and_intervals_that_make_no_sense_are_refused(options, error, message):
    with pytest.raises(error, match=message):
        report_on(SmallStore(), **options)


def test_a_report_that_was_stopped_goes_on_from_its_checkpoint(tmp_path):
    with pytest.raises(Interrupted):
        report_on(store_that_stops_at(11), checkpoint_dir=tmp_path / "made", checkpoint_every=4)

    store = SmallStore()
    resumed = report_on(store, checkpoint_dir=tmp_path / "made", checkpoint_every=4)

    assert store.shards_read[0] == 8
    assert resumed == report_on(SmallStore())


def test_a_report_that_was_finished_is_not_counted_again(tmp_path):
    first = report_on(SmallStore(), checkpoint_dir=tmp_path)
    store = SmallStore()
    assert report_on(store, checkpoint_dir=tmp_path) == first
    assert store.shards_read == []


def test_resumed_reports_merge(tmp_path):
    n_shards = SmallStore().n_shards
    halves = range(0, n_shards, 2), range(1, n_shards, 2)
    reports = []
    for shards in halves:
        with pytest.raises(Interrupted):
            report_on(store_that_stops_at(shards[4]), shards=shards, checkpoint_dir=tmp_path, checkpoint_every=1)
        reports.append(report_on(SmallStore(), shards=shards, checkpoint_dir=tmp_path, checkpoint_every=1))
    assert FactorReport.merge(reports) == report_on(SmallStore())


def another_store():
    store = SmallStore()
    store.fingerprint = "another"
    return store, fitted_model(), {}


def other_components():
    dictionary = fitted_model()
    dictionary.components_ *= 2
    return SmallStore(), dictionary, {}


def other_parameters_of_the_dictionary():
    return SmallStore(), fitted_model(threshold=1.0), {}


def a_pipeline_with_another_scaler():
    return SmallStore(), scaled(SmallStore().X * 2), {}


def a_subclass_that_codes_otherwise():
    return SmallStore(), Doubled().fit(np.zeros((1, N_FEATURES))), {}


class Doubled(StandInModel):
    def transform(self, X):
        return super().transform(X) * 2


def other_parameters_of_the_report():
    return SmallStore(), fitted_model(), {"window": 3}


@pytest.mark.parametrize(
    "make",
    [
        another_store,
        other_components,
        other_parameters_of_the_dictionary,
        a_subclass_that_codes_otherwise,
        a_pipeline_with_another_scaler,
        other_parameters_of_the_report,
    ],
)
def test_the_checkpoint_of_another_report_is_not_taken_up(tmp_path, make):
    for dictionary in (fitted_model(), scaled(SmallStore().X)):
        report_on(SmallStore(), dictionary, checkpoint_dir=tmp_path)
    store, dictionary, options = make()
    report = report_on(store, dictionary, checkpoint_dir=tmp_path, **options)
    assert store.shards_read[0] == 0
    assert report == report_on(store, dictionary, **options)


def test_a_checkpoint_cut_short_or_altered_is_refused(tmp_path):
    report_on(SmallStore(), checkpoint_dir=tmp_path)
    file = the_file_in(tmp_path)
    content = file.read_bytes()
    flipped = bytearray(content)
    flipped[len(content) // 2] ^= 1
    for damaged in (content[:-1], content[:100], b"", bytes(flipped)):
        file.write_bytes(damaged)
        with pytest.raises(ValueError, match="Delete it to begin the report anew"):
            report_on(SmallStore(), checkpoint_dir=tmp_path)
    file.unlink()
    assert report_on(SmallStore(), checkpoint_dir=tmp_path) == report_on(SmallStore())


def test_a_write_that_was_cut_off_leaves_nothing_behind(tmp_path):
    report_on(SmallStore(), checkpoint_dir=tmp_path)
    file = the_file_in(tmp_path)
    left_over = tmp_path / f".{file.name}.0123.unfinished"
    left_over.write_bytes(b"half")
    os.utime(left_over, (0, 0))
    report_on(SmallStore(), checkpoint_dir=tmp_path)
    assert the_file_in(tmp_path) == file


def test_a_file_that_another_process_is_writing_is_left_alone(tmp_path):
    report_on(SmallStore(), checkpoint_dir=tmp_path)
    being_written = tmp_path / f".{the_file_in(tmp_path).name}.0123.unfinished"
    being_written.write_bytes(b"half")
    report_on(SmallStore(), fitted_model(threshold=1.0), checkpoint_dir=tmp_path)
    assert being_written.exists()


def test_a_second_process_waits_for_the_first_and_takes_up_what_it_has_done(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr("skfactors.files._SECONDS_OF_SILENCE", 0.01)
    second, reports = SmallStore(), []

    def start_second(shard):
        if shard == 1:
            thread.start()
            while "waiting for another process, which counts the same report" not in caplog.text:
                time.sleep(0.01)

    thread = threading.Thread(target=lambda: reports.append(report_on(second, checkpoint_dir=tmp_path)), daemon=True)
    first = report_on(SmallStore(before_shard=start_second), checkpoint_dir=tmp_path, checkpoint_every=1)
    thread.join(10)
    assert reports == [first]
    assert second.shards_read == []


def test_the_checkpoint_of_another_report_under_its_name_is_refused(tmp_path):
    for name, options in {"a": {}, "b": {"shards": [0, 1]}, "c": {"window": 3}}.items():
        report_on(SmallStore(), checkpoint_dir=tmp_path / name, **options)
    file = the_file_in(tmp_path / "a")
    for name, other in {"b": "list of shards", "c": "parameters"}.items():
        file.write_bytes(the_file_in(tmp_path / name).read_bytes())
        with pytest.raises(ValueError, match=f"{file.name}' is of another report: it has another {other}"):
            report_on(SmallStore(), checkpoint_dir=tmp_path / "a")


def test_on_storage_that_cannot_be_written_to_only_a_finished_report_is_had(tmp_path, monkeypatch):
    finished = report_on(SmallStore(), checkpoint_dir=tmp_path)

    def refuse(*arguments, **options):
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr("skfactors.reports.counting.tally_file.held_lock", refuse)
    monkeypatch.setattr("skfactors.reports.counting.tally_file.replaced_file", refuse)
    assert report_on(SmallStore(), checkpoint_dir=tmp_path) == finished
    with pytest.raises(OSError, match=r"cannot be written.*pass another checkpoint_dir.*report-"):
        report_on(SmallStore(), checkpoint_dir=tmp_path, window=3)


class LongStore:
    """So many equal shards, each of documents of its own, made when they are read."""

    fingerprint = "long"

    def __init__(self, n_shards):
        self.n_shards = n_shards
        self._shard = SmallStore(n_documents=600, rows_a_shard=10_000).read_shard(0)
        self._columns = {name: column.to_numpy() for name, column in self._shard.provenance.items()}

    def read_shard(self, shard):
        first = 600 * shard
        provenance = pd.DataFrame(self._columns | {"document": self._columns["document"] + first})
        texts = {first + document: text for document, text in self._shard.texts.items()}
        return SimpleNamespace(X=self._shard.X.copy(), provenance=provenance, texts=texts)


def test_memory_does_not_grow_with_the_number_of_shards(tmp_path):
    def peak(n_shards):
        store = LongStore(n_shards)
        tracemalloc.start()
        try:
            report_on(store, checkpoint_dir=tmp_path / str(n_shards), checkpoint_every=10)
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    peak(5)
    assert peak(60) < 1.1 * peak(15)


def test_progress_is_shown_where_asked(capsys):
    report_on(SmallStore(), verbose=True)
    assert "reporting" in capsys.readouterr().out
    report_on(SmallStore())
    assert capsys.readouterr().out == ""


def test_a_report_killed_at_twenty_random_moments_ends_equal_to_one_that_was_not(tmp_path, monkeypatch):
    # Processes are forked from one that has everything imported.
    context = multiprocessing.get_context("forkserver")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(sys.path))
    context.set_forkserver_preload(["support.small_store"])
    rng = np.random.default_rng(0)
    starts = []
    for n_shards in [*rng.integers(0, 4, size=20).tolist(), None]:
        receiver, sender = context.Pipe(duplex=False)
        arguments = sender, tmp_path / "checkpoints", tmp_path / "report"
        process = context.Process(target=report_aloud, args=arguments)
        process.start()
        sender.close()
        starts.append(receiver.recv())
        if n_shards is not None:
            for _ in range(n_shards):
                receiver.recv()
            time.sleep(rng.uniform(0, 0.01))
            process.kill()
        process.join()
        assert process.exitcode == (0 if n_shards is None else -signal.SIGKILL)

    assert starts == sorted(starts) and starts[-1] > 10
    expected = report_on(SmallStore(n_documents=100, rows_a_shard=5))
    assert FactorReport.load(tmp_path / "report") == expected
