"""Compiled code, once in the process that compiles it and once in another that loads it."""

import os
import subprocess
import sys

FIT = """
import hashlib
import numpy as np
from skfactors import SparseDictionary

X = np.random.default_rng(0).standard_normal((2000, 32))
# In double precision: there the two were seen to differ most often.
dictionary = SparseDictionary(24, alpha=0.5, random_state=0, batch_size=200, device="cpu", dtype="float64").fit(X)
for array in (dictionary.components_, dictionary.transform(X).data):
    print(hashlib.sha256(array).hexdigest())
"""


def test_the_process_that_compiles_rounds_like_those_that_load_what_it_compiled(tmp_path):
    environment = os.environ | {"NUMBA_CACHE_DIR": str(tmp_path), "PYTHONPATH": os.pathsep.join(sys.path)}
    compiling, loading = (
        subprocess.run([sys.executable, "-c", FIT], env=environment, capture_output=True, text=True, check=True)
        for _ in range(2)
    )
    assert list(tmp_path.rglob("*code_rows*.nbc"))
    assert compiling.stdout == loading.stdout
