"""What coding takes in memory, measured in a process of its own."""

import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = """
import numpy as np
from skfactors import SparseDictionary

def kibibytes(name):
    lines = open("/proc/self/status").read().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(name))

rng = np.random.default_rng(0)
X = rng.standard_normal((60_000, 48), dtype=np.float32)
dictionary = SparseDictionary(1500, alpha=3.0, max_iter=1, random_state=0).fit(X[:2000])
open("/proc/self/clear_refs", "w").write("5")
before = kibibytes("VmRSS")
codes = dictionary.transform(X)
assert codes.nnz > 0
print((kibibytes("VmHWM") - before) // 1024)
"""


@pytest.mark.skipif(
    not Path("/proc/self/clear_refs").exists(), reason="Only Linux tells the peak of a stretch of time."
)
def test_coding_never_holds_dense_codes_of_all_rows():
    run = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True)
    # Dense codes would take 343 MiB.
    assert int(run.stdout) < 100
