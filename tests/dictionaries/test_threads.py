"""How many threads torch has while others compute, and afterwards."""

import os
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from threadpoolctl import threadpool_info

from skfactors import SparseDictionary
from skfactors.learning.threads import in_parallel, n_threads, torch_on_one_thread, torch_threads_for


@pytest.fixture(autouse=True)
def three_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    yield
    torch.set_num_threads(before)


def test_torch_is_held_to_one_thread_and_then_has_its_own_again():
    with torch_on_one_thread():
        assert torch.get_num_threads() == 1
        assert n_threads() == 3
        with torch_threads_for(10):
            assert torch.get_num_threads() == 1
        with torch_threads_for(10**10):
            assert torch.get_num_threads() == 3
        with torch_on_one_thread():
            assert n_threads() == 3
        assert torch.get_num_threads() == 1
    assert torch.get_num_threads() == n_threads() == 3


def test_an_error_gives_the_threads_back():
    with pytest.raises(RuntimeError), torch_on_one_thread():
        raise RuntimeError
    assert torch.get_num_threads() == n_threads() == 3


def test_tasks_are_done_in_order_and_by_blas_on_one_thread_each():
    def task(number):
        return number, {pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"}

    for n_tasks in (1, 2, 9):
        assert in_parallel(task, range(n_tasks)) == [(number, {1}) for number in range(n_tasks)]


def test_tasks_may_have_tasks_of_their_own_in_as_many_threads_as_there_are():
    def task(number):
        return sum(in_parallel(lambda other: number * other, range(9)))

    assert in_parallel(task, range(9)) == [36 * number for number in range(9)]


@pytest.mark.parametrize("of_caller", [True, False])
def test_an_error_in_a_task_is_raised_once_nothing_runs_any_more_and_no_other_task_begins(of_caller):
    caller, begun, ended, failed = threading.current_thread(), [], [], threading.Event()

    def task(number):
        begun.append(number)
        if (threading.current_thread() is caller) == of_caller and not failed.is_set():
            failed.set()
            raise KeyError(number)
        # Others take their time, so that there are tasks left when the error comes.
        failed.wait(20)
        time.sleep(0.2)
        ended.append(number)

    with pytest.raises(KeyError):
        in_parallel(task, range(100))
    assert 0 < len(begun) - len(ended) <= 2 and len(begun) < 10


def test_fits_in_several_threads_leave_the_numbers_as_they_were():
    X = np.random.default_rng(0).standard_normal((2000, 8))
    before = threadpool_info()
    all_inside = threading.Barrier(3)

    def fit(seed):
        with torch_on_one_thread():
            # All hold torch at once, and each is new to it.
            all_inside.wait(timeout=60)
            assert n_threads() == 3
        SparseDictionary(4, alpha=0.5, batch_size=50, random_state=seed).fit(X)
        return torch.get_num_threads()

    with ThreadPoolExecutor(3) as threads:
        assert list(threads.map(fit, range(3))) == [3, 3, 3]
        assert list(threads.map(lambda _: torch.get_num_threads(), range(3))) == [3, 3, 3]
    assert threadpool_info() == before


def test_a_fit_leaves_the_number_of_threads_as_it_was():
    SparseDictionary(4, alpha=0.5, batch_size=50).fit(np.random.default_rng(0).standard_normal((200, 8)))
    assert torch.get_num_threads() == 3


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
def test_a_child_that_was_forked_after_a_fit_fits_and_codes():
    code = """
import os, signal, numpy as np, torch
from skfactors import SparseDictionary
torch.set_num_threads(2)
X = np.random.default_rng(0).standard_normal((2000, 256)).astype("f")
dictionary = SparseDictionary(1500, alpha=5.0, max_iter=1, random_state=0, device="cpu", solver="fista").fit(X)
torch.randn(1000, 1000) @ torch.randn(1000, 1000)
if os.fork() == 0:
    signal.alarm(60)
    assert dictionary.transform(X[:50]).shape == (50, 1500)
    os._exit(0)
print(os.wait()[1])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=200)
    assert done.stdout.strip() == "0", done.stderr
