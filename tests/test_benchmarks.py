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
