"""Benchmarks that must run on machines which are rarely at hand run here in miniature."""

import subprocess
import sys
from pathlib import Path

from skfactors.datasets import demo_model


def test_the_benchmark_of_accelerators_runs_through():
    command = [sys.executable, "-m", "benchmarks.accelerator", "--small", "--model", str(demo_model())]
    run = subprocess.run(command, cwd=Path(__file__).parents[1], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    for told in ("beside the CPU", "jump_relu autoencoder", "tokens/s", "coded rows/s", "steps rows/s"):
        assert told in run.stdout


def test_the_benchmark_of_probing_runs_through_and_goes_on_where_it_was_stopped(tmp_path):
    command = [
        sys.executable,
        "-m",
        "benchmarks.probing",
        "--small",
        "--model",
        str(demo_model()),
        "--out",
        str(tmp_path),
    ]
    for minutes, told in (("0", "0 of 6 tasks"), ("9", "6 of 6 tasks")):
        run = subprocess.run(
            [*command, "--minutes", minutes], cwd=Path(__file__).parents[1], capture_output=True, text=True
        )
        assert run.returncode == 0, run.stderr
        assert told in run.stdout
    assert "SparseAutoencoder: its AUC less that of others" in run.stdout
    assert len(list((tmp_path / "tasks").glob("*.json"))) == 6


def test_the_benchmark_of_known_features_runs_through_and_goes_on_after_a_cut(tmp_path):
    results = tmp_path / "runs.jsonl"
    command = [sys.executable, "-m", "benchmarks.ground_truth", "--small", "--results", str(results)]
    first = subprocess.run(
        [*command, "--methods", "random", "pursuit"], cwd=Path(__file__).parents[1], capture_output=True, text=True
    )
    assert first.returncode == 0, first.stderr
    kept = results.read_text()
    more = [*command, "--methods", "random", "Dictionary", "nested", "jump_relu"]
    run = subprocess.run(more, cwd=Path(__file__).parents[1], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    assert results.read_text().startswith(kept)
    for told in ("random factors", "SparseDictionary, penalty", "SparseAutoencoder, batch_topk, nested"):
        assert told in run.stdout
    assert "seed 0, SparseDictionary, pursuit" not in run.stdout
