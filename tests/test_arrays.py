"""Arrays of SLURM jobs, simulated: tasks with steps, of which some are killed and sent again."""

import os
import time

import numpy as np
import pytest
from support.processes import finish, run_command, start

from skfactors import ActivationStore, FactorReport, SparseDictionary, TransformerFeatureExtractor
from skfactors.commands import main
from skfactors.reports.sharing import parts_of

WORDS = ["the", "bank", "of", "river", "was", "muddy", "shares", "fell", "after", "report", "left", "park", "gate"]
# With SKFACTORS_TASKS=7 this is the whole proof, which takes some minutes.
N_TASKS = int(os.environ.get("SKFACTORS_TASKS", "3"))
KILLED = [0, N_TASKS - 1]
N_STEPS = 2
FIT = ["--n-components", 8, "--max-iter", 1, "--batch-size", 100, "--checkpoint-every", 2, "--device", "cpu"]


@pytest.fixture(scope="module")
def store(tiny_model, tmp_path_factory):
    generator = np.random.default_rng(0)
    texts = [" ".join(generator.choice(WORDS, 12)) for _ in range(60)]
    extractor = TransformerFeatureExtractor(tiny_model, layers=[0, 2])
    return extractor.extract_to(texts, tmp_path_factory.mktemp("array") / "store", rows_per_shard=100)


@pytest.fixture(scope="module")
def dictionary(store, tmp_path_factory):
    path = tmp_path_factory.mktemp("array") / "dictionary"
    SparseDictionary(8, alpha=0.5, max_iter=1, random_state=0, device="cpu").fit(store).save(path)
    return path


def variables(task, step, tasks):
    """Return what SLURM tells a step of a task of an array."""
    array = {"TASK_ID": task, "TASK_COUNT": len(tasks), "TASK_MIN": min(tasks), "TASK_MAX": max(tasks)}
    found = {f"SLURM_ARRAY_{name}": str(value) for name, value in array.items()}
    return found | {"SLURM_JOB_ID": "7", "SLURM_STEP_ID": str(step), "SLURM_PROCID": "0", "SLURM_NTASKS": "1"}


def send(tasks, arguments_of, **how):
    """Start all steps of some tasks of an array."""
    return {
        (task, step): start(run_command, *arguments_of(task), environment=variables(task, step, tasks), **how)
        for task in tasks
        for step in range(N_STEPS)
    }


def run_array(arguments_of, folder, **how):
    """Run an array of which some tasks are killed once they are at work, and sent again."""
    jobs = send(range(N_TASKS), arguments_of, counts=folder / "counts", pause=0.1, **how)
    deadline = time.monotonic() + 120
    while not (folder / "counts").exists() or (folder / "counts").stat().st_size < N_TASKS:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    for task, step in jobs:
        if task in KILLED:
            jobs[task, step].kill()
    again = send(KILLED, arguments_of)
    codes = {job: finish(process) for job, process in jobs.items() if job[0] not in KILLED}
    codes |= {job: finish(process) for job, process in again.items()}
    assert set(codes.values()) == {0}


def test_every_fit_of_a_sweep_is_there_once(store, tmp_path):
    alphas = np.linspace(0.3, 0.9, N_TASKS)

    def arguments_of(task):
        return ["fit", store.path, tmp_path / f"dictionary-{task}", "--alpha", alphas[task], *FIT]

    run_array(arguments_of, tmp_path)
    for task, alpha in enumerate(alphas):
        settings = {"max_iter": 1, "batch_size": 100, "random_state": 0, "device": "cpu"}
        alone = SparseDictionary(8, alpha=alpha, **settings).fit(store, sample_weight=store.sample_weight)
        saved = SparseDictionary.load(tmp_path / f"dictionary-{task}")
        np.testing.assert_array_equal(saved.components_, alone.components_)
        # The two steps of a task had one fit to do: its checkpoint is there once, and nothing that was begun.
        assert len(list((tmp_path / f"dictionary-{task}" / "checkpoints").iterdir())) == 1


def test_a_report_of_an_array_covers_every_part_of_the_store_once(store, dictionary, tmp_path):
    def arguments_of(task):
        return ["report", store.path, dictionary, tmp_path / "report", "--device", "cpu"]

    run_array(arguments_of, tmp_path)
    report = FactorReport.load(tmp_path / "report")
    assert report == FactorReport.from_store(store, SparseDictionary.load(dictionary))
    assert report.totals["n_rows"] == len(store)


def as_task(monkeypatch, *of):
    for name, value in variables(*of).items():
        monkeypatch.setenv(name, value)


def test_a_task_that_comes_when_all_is_finished_says_so_and_counts_nothing(
    store, dictionary, tmp_path, monkeypatch, capsys
):
    arguments = ["report", str(store.path), str(dictionary), str(tmp_path / "report"), "--device", "cpu"]
    as_task(monkeypatch, 3, 1, [3, 5])
    assert main(arguments) == 0
    n_counted = len(list((tmp_path / "report" / "checkpoints").glob("*.safetensors")))
    assert n_counted == len(parts_of(store.n_shards)) > 1
    monkeypatch.setattr(ActivationStore, "read_shard", lambda *of: pytest.fail("a shard was read again"))
    as_task(monkeypatch, 5, 0, [3, 5])
    assert main([*arguments, "--html", str(tmp_path / "page.html")]) == 0
    assert "finished before" in capsys.readouterr().out and (tmp_path / "page.html").is_file()


def test_a_report_of_an_array_on_another_dictionary_takes_the_place_of_the_first(
    store, dictionary, tmp_path, monkeypatch
):
    SparseDictionary(8, alpha=0.9, max_iter=1, random_state=1, device="cpu").fit(store).save(tmp_path / "other")
    as_task(monkeypatch, 0, 0, [0, 1])
    for of in (dictionary, tmp_path / "other"):
        assert main(["report", str(store.path), str(of), str(tmp_path / "report"), "--device", "cpu"]) == 0
        assert FactorReport.load(tmp_path / "report") == FactorReport.from_store(store, SparseDictionary.load(of))


@pytest.mark.parametrize("n_shards", [1, 7, 64, 65, 1000])
def test_parts_are_runs_of_shards_that_the_store_alone_decides(n_shards):
    parts = parts_of(n_shards)
    assert [shard for part in parts for shard in part] == list(range(n_shards))
    sizes = set(map(len, parts))
    assert len(parts) <= 64 and max(sizes) - min(sizes) <= 1
