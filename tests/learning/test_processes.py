"""Which processes learn together, and what becomes of one whose others do not come."""

import logging
import os
import socket
import subprocess
import sys
import threading

import pytest
import torch
from support.mean_step import run_watched_by_one
from support.processes import finish, start_team

from skfactors.learning import processes
from skfactors.learning.callbacks import Watcher, shared
from skfactors.learning.processes import OneProcess, assembled, described_group, place

GROUP = {"RANK": "1", "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29999"}


@pytest.fixture
def environment(monkeypatch):
    """Set the variables of a group, and no others."""

    def change(**variables):
        for name in GROUP:
            monkeypatch.delenv(name, raising=False)
        for name, value in variables.items():
            monkeypatch.setenv(name, value)

    change()
    return change


def test_an_environment_that_says_nothing_of_processes_describes_no_group(environment):
    assert described_group() is None
    environment(MASTER_ADDR="127.0.0.1", MASTER_PORT="29999")
    assert described_group() is None and place() == (0, 1)


def test_a_group_that_is_described_is_that_of_a_fit(environment):
    environment(**GROUP)
    assert described_group() == place() == place(True) == (1, 2)
    assert place(False) == (0, 1)


def test_a_group_of_one_needs_no_address(environment):
    environment(RANK="0", WORLD_SIZE="1")
    assert place(True) == (0, 1)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"MASTER_ADDR": None}, "but not MASTER_ADDR"),
        ({"MASTER_ADDR": "", "MASTER_PORT": None}, "but not MASTER_ADDR, MASTER_PORT"),
        ({"RANK": None}, "but not RANK"),
        ({"WORLD_SIZE": None}, "but not WORLD_SIZE"),
        ({"RANK": "2"}, "below WORLD_SIZE"),
        ({"RANK": "-1"}, "below WORLD_SIZE"),
        ({"WORLD_SIZE": "two"}, "WORLD_SIZE=two"),
        ({"MASTER_PORT": "99999"}, "MASTER_PORT=99999"),
    ],
)
def test_half_a_group_is_named_and_a_script_goes_alone(changes, message, environment, caplog):
    environment(**{name: value for name, value in (GROUP | changes).items() if value is not None})
    for ask in (described_group, lambda: place(True)):
        with pytest.raises(ValueError, match=message) as refused:
            ask()
        assert "torchrun, or unset RANK" in str(refused.value)
    with caplog.at_level(logging.WARNING):
        assert place("auto") == (0, 1)
    assert "learns alone" in caplog.text


def test_a_thread_learns_alone_since_others_cannot_know_of_it(environment):
    environment(**GROUP)
    found = []

    def look():
        found.append(place("auto"))
        with pytest.raises(ValueError, match="not the main thread"):
            place(True)
        found.append("refused")

    thread = threading.Thread(target=look)
    thread.start()
    thread.join()
    assert found == [(0, 1), "refused"]


WORKERS = """
import multiprocessing, os
from joblib import Parallel, delayed
from skfactors.learning.processes import place

def look(new_rank=None):
    if new_rank is not None:
        os.environ["RANK"] = new_rank
    found = place("auto")
    try:
        place(True)
    except ValueError as error:
        assert "joblib" in str(error)
        return found
    return "would join as", *found

if __name__ == "__main__":
    assert look() == ("would join as", 1, 2)
    for backend in ("loky", "multiprocessing"):
        assert Parallel(2, backend=backend)(delayed(look)() for _ in range(2)) == [(0, 1), (0, 1)], backend
    with multiprocessing.get_context("fork").Pool(1) as forked:
        assert forked.apply(look) == (0, 1)
        assert forked.apply(look, ["0"]) == ("would join as", 0, 2)
    print("all alone")
"""


@pytest.mark.skipif(sys.platform == "win32", reason="There is no fork.")
def test_workers_that_inherit_the_variables_learn_alone_and_those_with_their_own_do_not(tmp_path):
    script = tmp_path / "workers.py"
    script.write_text(WORKERS)
    found = os.environ | GROUP | {"PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run([sys.executable, script], env=found, capture_output=True, text=True, timeout=120)
    assert done.stdout == "all alone\n", done.stderr


@pytest.mark.parametrize("rank", ["0", "1"])
def test_who_waits_for_others_says_for_whom_and_not_for_ever(rank, environment, monkeypatch, caplog):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    environment(**GROUP | {"RANK": rank, "MASTER_PORT": port})
    monkeypatch.setattr(processes, "_SECONDS_TO_COME", 0.5)
    monkeypatch.setattr("skfactors.files._SECONDS_OF_SILENCE", 0.1)
    monkeypatch.setattr(processes, "_meeting", processes._Meeting())
    other = 1 - int(rank)
    with pytest.raises(RuntimeError, match=f"process {other} of 2, to meet at 127.0.0.1:{port}, did not come"):
        with assembled("auto", "cpu"):
            pass
    assert f"waiting for process {other} of 2" in caplog.text
    assert not torch.distributed.is_initialized()


def test_an_address_that_nobody_knows_is_an_error_at_once(environment):
    environment(**GROUP | {"MASTER_ADDR": "no.such.host.invalid"})
    with pytest.raises(RuntimeError, match="MASTER_ADDR=no.such.host.invalid"):
        with assembled("auto", "cpu"):
            pass


class WithAnother(OneProcess):
    """Two processes, of which the other's part of every sum is given."""

    size = 2

    def __init__(self, *others):
        self.others = [torch.tensor(other) for other in others]

    def sum_(self, tensor):
        return tensor + self.others.pop(0)


class Stopping(Watcher):
    def end_batch(self, step):
        if step == "fails":
            raise KeyboardInterrupt
        return step == "stops"


def test_callbacks_of_any_process_stop_all_at_the_same_step():
    watcher = shared(Stopping(), WithAnother([1.0], [0.0, 0.0], [1.0, 0.0], [0.0, 0.0]))
    assert [watcher.end_batch(step) for step in ("goes on", "goes on", "stops")] == [False, True, True]


def test_a_process_without_callbacks_hears_of_those_of_others_and_of_their_failure():
    watcher = shared(Watcher(), WithAnother([1.0], [1.0, 0.0], [0.0, 1.0]))
    assert watcher.end_epoch(None) is True
    with pytest.raises(RuntimeError, match="a callback failed in another process"):
        watcher.end_batch(None)


def test_a_callback_that_fails_tells_the_others_before_it_ends_its_process():
    processes = WithAnother([0.0], [0.0, 0.0])
    watcher = shared(Stopping(), processes)
    with pytest.raises(KeyboardInterrupt):
        watcher.end_batch("fails")
    assert not processes.others


@pytest.mark.parametrize("fails", [False, True])
def test_what_a_callback_of_one_process_does_is_heard_by_the_other_within_seconds(fails, tmp_path):
    team = start_team(2, run_watched_by_one, tmp_path, 5, fails)
    assert [finish(process, timeout=60) for process in team] == [int(fails)] * 2
    assert [path.read_text() for path in tmp_path.iterdir()] == ([] if fails else ["5", "5"])


def test_nothing_is_asked_of_others_where_nobody_has_callbacks():
    watcher, processes = Watcher(), WithAnother([0.0])
    assert shared(watcher, processes) is watcher
    assert shared(watcher, OneProcess()) is watcher


FORK = """
import multiprocessing, numpy as np, torch
from skfactors import SparseDictionary

def results(X):
    fitted = SparseDictionary(700, alpha=1.0, max_iter=1, batch_size=700, random_state=0, device="cpu").fit(X)
    return fitted.partial_fit(X[:100]).transform(X[:100]).sum()

if __name__ == "__main__":
    torch.set_num_threads(2)
    X = np.random.default_rng(0).standard_normal((700, 700), dtype=np.float32)
    here = results(X)
    with multiprocessing.get_context("fork").Pool(1) as forked:
        print(np.allclose(forked.apply_async(results, [X]).get(60), here, rtol=1e-3))
"""


@pytest.mark.skipif(sys.platform == "win32", reason="There is no fork.")
def test_a_process_that_was_forked_from_one_that_learned_learns_too(tmp_path):
    script = tmp_path / "fork.py"
    script.write_text(FORK)
    found = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "2"}
    done = subprocess.run([sys.executable, script], env=found, capture_output=True, text=True, timeout=120)
    assert done.stdout == "True\n", done.stderr[-500:]
