"""Fits that read a store or a mapped file, that are killed and go on, and that several processes share."""

import os
import subprocess
import sys
import threading
import time

import numpy as np
import pandas as pd
import pytest
from support.processes import finish, fit_to, fit_twice_to, kill_after, start, start_team

from skfactors import SparseDictionary, TransformerFeatureExtractor
from skfactors.dictionaries.sparse_coding.step import SparseCodingStep
from skfactors.learning.batches import read_ahead
from skfactors.metrics import explained_variance

WORDS = ["the", "bank", "of", "river", "was", "muddy", "shares", "fell", "after", "report", "left", "park", "gate"]
N_KILLS = 20


@pytest.fixture(scope="module")
def store(tiny_model, tmp_path_factory):
    """About 6,000 rows in some ten shards."""
    generator = np.random.default_rng(0)
    texts = [" ".join(generator.choice(WORDS, 20)) for _ in range(150)]
    extractor = TransformerFeatureExtractor(tiny_model, layers=[0, 2])
    return extractor.extract_to(texts, tmp_path_factory.mktemp("store") / "store", rows_per_shard=600)


@pytest.fixture(scope="module")
def mapped(store, tmp_path_factory):
    path = tmp_path_factory.mktemp("rows") / "rows.npy"
    np.save(path, np.asarray(store))
    return path


def plain(**parameters):
    return SparseDictionary(**({"n_components": 24, "alpha": 0.5, "random_state": 0, "device": "cpu"} | parameters))


def assert_same_fit(one, other):
    np.testing.assert_array_equal(one.components_, other.components_)
    assert one.history_ == other.history_ and one.n_steps_ == other.n_steps_ and one.n_iter_ == other.n_iter_
    assert one._learner_state.keys() == other._learner_state.keys()
    for name, array in one._learner_state.items():
        np.testing.assert_array_equal(array, other._learner_state[name])


def test_a_store_is_learned_from_as_well_as_its_rows_in_memory(store):
    X = np.asarray(store)
    from_store, from_memory = plain(max_iter=4).fit(store), plain(max_iter=4).fit(X)
    assert from_store.score(X) == pytest.approx(from_memory.score(X), abs=0.02)
    assert from_store.n_steps_ == from_memory.n_steps_ and from_store.n_features_in_ == X.shape[1]


def test_every_epoch_reads_every_row_of_a_store_once(store):
    dictionary = plain(max_iter=2, batch_size=1000).fit(store)
    n_distinct = len(np.unique(np.asarray(store), axis=0))
    # Equal rows of a batch are one, and no batch is longer than asked.
    counts = [record["n_rows"] for record in dictionary.history_]
    assert len(counts) == 2 * int(np.ceil(len(store) / 1000)) and max(counts) <= 1000
    assert n_distinct <= sum(counts) / 2 <= len(store)


def test_weights_of_a_store_count_as_those_of_an_array_do(store):
    looked_up = plain().fit(store, sample_weight=store.sample_weight)
    given = plain().fit(store, sample_weight=store.sample_weight[:])
    np.testing.assert_allclose(looked_up.components_, given.components_, atol=1e-5)
    assert abs(looked_up.components_ - plain().fit(store).components_).max() > 1e-3
    with pytest.raises(ValueError, match="sample_weight"):
        plain().fit(store, sample_weight=np.ones(3))


def test_weights_in_a_series_count_by_their_order_and_not_by_its_index(store):
    weight = np.random.default_rng(0).random(len(store))
    of_array = plain(max_iter=1).fit(store, sample_weight=weight)
    of_series = plain(max_iter=1).fit(store, sample_weight=pd.Series(weight, index=np.arange(len(store))[::-1]))
    np.testing.assert_array_equal(of_series.components_, of_array.components_)


def test_rows_of_a_store_without_weight_are_as_if_they_were_not_there(store):
    weight = np.zeros(len(store))
    weight[: len(store) // 3] = 1
    dictionary = plain().fit(store, sample_weight=weight)
    assert sum(record["n_rows"] for record in dictionary.history_) <= 2 * len(store) // 3
    X = np.asarray(store)[: len(store) // 3]
    assert dictionary.score(X) > 0.5


def test_coding_and_scoring_a_store_equals_its_rows_in_memory(store):
    X = np.asarray(store)
    dictionary = plain(sparse_output=False, dtype="float64", tol=1e-7).fit(X)
    np.testing.assert_allclose(dictionary.transform(store), dictionary.transform(X), atol=1e-3)
    assert dictionary.score(store) == pytest.approx(dictionary.score(X), abs=1e-6)
    assert dictionary.score(X) == pytest.approx(
        explained_variance(X, dictionary.inverse_transform(dictionary.transform(X))), abs=1e-9
    )


def test_the_score_of_rows_that_are_all_equal_is_that_of_the_metric(store):
    dictionary = plain().fit(store)
    X = np.tile(np.asarray(store)[:1], (50, 1))
    assert dictionary.score(X) == explained_variance(X, dictionary.inverse_transform(dictionary.transform(X))) == 0


def test_early_stopping_holds_rows_of_a_store_out(store):
    dictionary = plain(max_iter=50, early_stopping=True).fit(store)
    objectives = [record["validation_objective"] for record in dictionary.history_ if "validation_objective" in record]
    assert 1 < dictionary.n_iter_ < 50 and len(objectives) == dictionary.n_iter_
    assert objectives[-2] < objectives[0]


def test_a_store_of_another_width_is_refused(store):
    dictionary = plain(n_components=4, max_iter=1).fit(np.random.default_rng(0).random((50, 7)))
    with pytest.raises(ValueError, match="32 features"):
        dictionary.transform(store)
    with pytest.raises(ValueError, match="more than the"):
        plain(n_components=10**6).fit(store)


MEMORY = """
import sys
import numpy as np
from skfactors import SparseDictionary

class Rows:
    n_nonfinite, n_shards, fingerprint = 0, 1, "0"

    def __init__(self, n_rows):
        self.shape = (n_rows, 64)

    def __len__(self):
        return self.shape[0]

    def iter_shuffled(self, size, random_state):
        generator = np.random.default_rng(random_state.randint(1000))
        for start in range(0, len(self), size):
            rows = np.arange(start, min(start + size, len(self)))
            yield rows, generator.standard_normal((len(rows), 64), dtype=np.float32)

def peak():
    status = open("/proc/self/status").read()
    return int(status.split("VmHWM:")[1].split()[0]) / 1024

def fit(n_rows):
    SparseDictionary(32, alpha=3.0, max_iter=1, random_state=0, device="cpu", n_nonzero_coefs=2).fit(Rows(n_rows))

fit(20_000)
before = peak()
fit(250_000)
print(peak() - before)
"""


@pytest.mark.skipif(not os.path.exists("/proc/self/status"), reason="Only Linux tells the peak of memory.")
def test_memory_does_not_grow_with_the_rows_of_a_store():
    run = subprocess.run([sys.executable, "-c", MEMORY], capture_output=True, text=True, check=True)
    # Two numbers for each of the added rows would take 4 MB, and the rows themselves 59.
    assert float(run.stdout) < 3.5


PARAMETERS = {"n_components": 24, "alpha": 0.5, "random_state": 0, "batch_size": 200, "max_iter": 3}
PRECISE = PARAMETERS | {"dtype": "float64", "tol": 1e-8}


@pytest.mark.parametrize("source", ["array", "store"])
def test_a_fit_killed_at_any_moment_ends_at_the_same_bits(source, store, mapped, tmp_path):
    rows, weight = (store.path, "frequency") if source == "store" else (mapped, None)
    parameters = PARAMETERS | {"early_stopping": True}
    fit_to(tmp_path / "undisturbed", rows, sample_weight=weight, **parameters)
    undisturbed = SparseDictionary.load(tmp_path / "undisturbed")
    generator = np.random.default_rng(0)
    kills = n_fits = 0
    while kills < N_KILLS // 2:
        checkpoints = tmp_path / f"checkpoints-{n_fits}"
        fit = (tmp_path / f"fit-{n_fits}", rows)
        options = {"sample_weight": weight, "checkpoint_dir": checkpoints, "checkpoint_every": 3, **parameters}
        process = start(fit_to, *fit, pause=0.004, **options)
        if kill_after(process, generator.uniform(0.1, 0.6)):
            kills += 1
            continue
        assert finish(process) == 0
        assert_same_fit(SparseDictionary.load(fit[0]), undisturbed)
        n_fits += 1
    fit_to(*fit, **options)
    assert_same_fit(SparseDictionary.load(fit[0]), undisturbed)


def test_a_fit_without_a_seed_goes_on_too_and_one_that_has_ended_learns_no_more(mapped, tmp_path, monkeypatch):
    X = np.load(mapped)
    dictionary = plain(random_state=None, checkpoint_dir=tmp_path, checkpoint_every=2)
    first = dictionary.fit(X).components_.copy()
    monkeypatch.setattr(SparseCodingStep, "learn_from", None)
    np.testing.assert_array_equal(dictionary.fit(X).components_, first)
    assert len(list(tmp_path.iterdir())) == 1


def test_going_on_without_a_seed_leaves_the_global_random_state_to_others(mapped, tmp_path):
    X = np.load(mapped)
    np.random.seed(0)
    plain(random_state=None, checkpoint_dir=tmp_path).fit(X)
    following = []
    for seed in (1, 2):
        np.random.seed(seed)
        plain(random_state=None, checkpoint_dir=tmp_path).fit(X)
        following.append(np.random.rand())
    assert following[0] != following[1]


@pytest.mark.parametrize("enough_at_first", [True, False])
def test_a_fit_goes_on_by_the_methods_it_was_begun_with(enough_at_first, mapped, tmp_path, monkeypatch):
    X = np.load(mapped)
    memory = [np.inf, 100] if enough_at_first else [100, np.inf]
    monkeypatch.setattr("skfactors.devices.free_memory", lambda device: memory[0])
    undisturbed = plain(batch_size=500).fit(X)
    step = SparseCodingStep.learn_from

    def stop_at_5(self, *of):
        return self.n_steps == 5 and sys.exit() or step(self, *of)

    with monkeypatch.context() as stopped:
        stopped.setattr(SparseCodingStep, "learn_from", stop_at_5)
        with pytest.raises(SystemExit):
            plain(batch_size=500, checkpoint_dir=tmp_path, checkpoint_every=2).fit(X)
    monkeypatch.setattr("skfactors.devices.free_memory", lambda device: memory[1])
    assert_same_fit(plain(batch_size=500, checkpoint_dir=tmp_path, checkpoint_every=2).fit(X), undisturbed)


@pytest.mark.parametrize("changed", [{"alpha": 0.6}, {"random_state": 1}, {"max_iter": 3}, "rows", "weights"])
def test_the_checkpoint_of_another_fit_is_not_taken_up(changed, mapped, tmp_path):
    X = np.load(mapped)
    plain(checkpoint_dir=tmp_path).fit(X)
    parameters = changed if isinstance(changed, dict) else {}
    weight = np.linspace(1, 2, len(X)) if changed == "weights" else None
    X = X[:-10] if changed == "rows" else X
    with_folder = plain(checkpoint_dir=tmp_path, **parameters).fit(X, sample_weight=weight)
    assert_same_fit(with_folder, plain(**parameters).fit(X, sample_weight=weight))
    assert len(list(tmp_path.iterdir())) == 2


@pytest.mark.parametrize("spoil", ["cut", "flip"])
def test_a_damaged_checkpoint_is_refused(spoil, mapped, tmp_path):
    X = np.load(mapped)
    dictionary = plain(checkpoint_dir=tmp_path).fit(X)
    (file,) = tmp_path.iterdir()
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content[:-9] if spoil == "cut" else content)
    with pytest.raises(ValueError, match="cut short or altered. Delete it"):
        dictionary.fit(X)


@pytest.mark.parametrize("update", ["block", "hessian"])
@pytest.mark.parametrize("source", ["array", "store"])
def test_two_processes_learn_what_one_learns(source, update, store, mapped, tmp_path):
    rows, weight = (store.path, "frequency") if source == "store" else (mapped, None)
    # The last minibatch has a single row, which only one of the processes has.
    batch_size = 401 if len(store) % 401 == 1 else 400
    parameters = PRECISE | {"batch_size": batch_size, "update": update, "early_stopping": True}
    team = start_team(2, fit_to, tmp_path / "together", rows, sample_weight=weight, **parameters)
    fit_to(tmp_path / "alone", rows, sample_weight=weight, **parameters)
    assert [finish(process) for process in team] == [0, 0]
    together, alone = (SparseDictionary.load(tmp_path / name) for name in ("together", "alone"))
    assert np.linalg.norm(together.components_ - alone.components_) <= 1e-5 * np.linalg.norm(alone.components_)
    for one, other in zip(together.history_, alone.history_, strict=True):
        assert one == pytest.approx(other, rel=1e-4)


def test_a_minibatch_smaller_than_the_team_is_learned_from(mapped, tmp_path):
    np.save(tmp_path / "few.npy", np.load(mapped)[:401])
    parameters = PRECISE | {"batch_size": 400, "max_iter": 2}
    team = start_team(2, fit_to, tmp_path / "together", tmp_path / "few.npy", **parameters)
    fit_to(tmp_path / "alone", tmp_path / "few.npy", **parameters)
    assert [finish(process) for process in team] == [0, 0]
    one, other = (SparseDictionary.load(tmp_path / name).components_ for name in ("together", "alone"))
    assert np.linalg.norm(one - other) <= 1e-5 * np.linalg.norm(other)


@pytest.mark.parametrize("free_memory", [(100, np.inf), (np.inf, 100)])
def test_processes_of_unequal_memory_learn_by_the_methods_of_the_first(free_memory, mapped, tmp_path):
    parameters = PRECISE | {"max_solver_iter": 20_000}
    team = start_team(2, fit_to, tmp_path / "together", mapped, free_memory=free_memory, **parameters)
    assert [finish(process) for process in team] == [0, 0]
    alone = start(fit_to, tmp_path / "alone", mapped, free_memory=free_memory[:1], **parameters)
    assert finish(alone) == 0
    one, other = (SparseDictionary.load(tmp_path / name).components_ for name in ("together", "alone"))
    assert np.linalg.norm(one - other) <= 1e-5 * np.linalg.norm(other)


def test_processes_can_learn_together_more_than_once(mapped, tmp_path):
    parameters = {name: value for name, value in PRECISE.items() if name != "random_state"}
    team = start_team(2, fit_twice_to, tmp_path / "together", mapped, **parameters)
    fit_twice_to(tmp_path / "alone", mapped, **parameters)
    assert [finish(process) for process in team] == [0, 0]
    for number in range(2):
        one, other = (SparseDictionary.load(tmp_path / f"{name}-{number}") for name in ("together", "alone"))
        np.testing.assert_allclose(one.components_, other.components_, atol=1e-5)


def test_when_a_process_dies_the_others_end_with_an_error_and_the_fit_can_go_on(mapped, tmp_path):
    options = PARAMETERS | {"max_iter": 4, "checkpoint_dir": tmp_path / "checkpoints", "checkpoint_every": 3}
    team = start_team(2, fit_to, tmp_path / "together", mapped, pause=0.02, **options)
    while not (tmp_path / "checkpoints").is_dir():
        time.sleep(0.05)
    team[1].kill()
    start_of = time.perf_counter()
    assert finish(team[0], timeout=60) == 1
    assert time.perf_counter() - start_of < 60
    assert not (tmp_path / "together").exists()
    team = start_team(2, fit_to, tmp_path / "together", mapped, **options)
    assert [finish(process) for process in team] == [0, 0]
    fit_to(tmp_path / "alone", mapped, **(options | {"checkpoint_dir": None}))
    one, other = (SparseDictionary.load(tmp_path / name).components_ for name in ("together", "alone"))
    assert np.linalg.norm(one - other) <= 1e-4 * np.linalg.norm(other)


def test_processes_with_other_parameters_are_refused(mapped, tmp_path):
    import socket

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    place = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": "2"}
    team = [
        start(fit_to, tmp_path / "x", mapped, environment=place | {"RANK": str(rank)}, n_components=4 + rank)
        for rank in range(2)
    ]
    assert 1 in [finish(process, timeout=90) for process in team]
    assert not (tmp_path / "x").exists()


def test_asking_for_a_group_where_there_is_none_is_an_error(mapped):
    with pytest.raises(ValueError, match="no process group: start the script with torchrun"):
        plain(distributed=True).fit(np.load(mapped))


def test_reading_ahead_is_one_batch_ahead_passes_errors_on_and_ends_when_it_is_left():
    made = []

    def batches():
        for number in range(5):
            made.append(number)
            yield number
        raise OSError("the disk is gone")

    ahead = read_ahead(batches())
    for number in range(4):
        assert next(ahead) == number
        assert max(made) <= number + 1
    assert next(ahead) == 4
    with pytest.raises(OSError, match="the disk is gone"):
        next(ahead)
    n_threads = threading.active_count()
    left = read_ahead(batches())
    next(left)
    left.close()
    assert threading.active_count() == n_threads
