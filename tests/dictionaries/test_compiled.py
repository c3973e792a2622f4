"""Compiled code, once in the process that compiles it and once in another that loads it."""

import os
import subprocess
import sys

import numpy as np

from skfactors import SparseDictionary
from skfactors.compiled import compile_with
from skfactors.dictionaries.sparse_coding.solvers._working_set import code_rows

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


def test_rows_that_lie_column_by_column_need_no_code_of_their_own():
    X = np.random.default_rng(0).standard_normal((300, 16)).astype(np.float32)
    dictionary = SparseDictionary(8, alpha=0.5, random_state=0, device="cpu").fit(X)
    compiled = len(code_rows.signatures)
    codes = dictionary.transform(np.asfortranarray(X))
    SparseDictionary(8, alpha=0.5, dict_init=np.asfortranarray(dictionary.components_), device="cpu").fit(X)
    assert len(code_rows.signatures) == compiled
    np.testing.assert_array_equal(codes.toarray(), dictionary.transform(X).toarray())


def fit_with_cache(folder):
    environment = os.environ | {"NUMBA_CACHE_DIR": str(folder), "PYTHONPATH": os.pathsep.join(sys.path)}
    return subprocess.run([sys.executable, "-c", FIT], env=environment, capture_output=True, text=True, check=True)


def stamps(folder):
    return {path.name: path.stat().st_mtime_ns for path in folder.rglob("*.nb[ic]")}


def test_code_that_was_damaged_on_disk_is_compiled_again_and_kept(tmp_path):
    first = fit_with_cache(tmp_path).stdout
    kept = stamps(tmp_path)
    indices, codes = sorted(tmp_path.rglob("*.nbi")), sorted(tmp_path.rglob("*.nbc"))
    indices[0].write_bytes(b"")
    indices[1].write_bytes(b"\x80\x04 no pickle")
    indices[2].unlink()
    for path in (path for path in codes if "rows" in path.name):
        content = bytearray(path.read_bytes())
        # A bit in the middle of machine code, which no reader of files would notice.
        content[len(content) // 2] ^= 1
        path.write_bytes(content)
    assert fit_with_cache(tmp_path).stdout == first
    assert stamps(tmp_path).keys() == kept.keys()
    mended = stamps(tmp_path)
    assert fit_with_cache(tmp_path).stdout == first
    assert stamps(tmp_path) == mended


def doubled(values):
    return 2 * values


def test_where_no_folder_can_be_written_functions_are_compiled_all_the_same(monkeypatch):
    monkeypatch.setattr("numba.core.caching.CompileResultCacheImpl._locator_classes", [])
    function = compile_with()(doubled)
    assert function(3.5) == 7
    assert len(function.signatures) == 1


def test_a_disk_that_is_full_stops_no_compiled_function(monkeypatch):
    def full(*arguments):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("numba.core.caching.IndexDataCacheFile.save", full)
    assert compile_with()(doubled)(3.5) == 7


def test_a_change_in_a_file_that_code_was_taken_from_is_seen(tmp_path):
    (tmp_path / "inner.py").write_text(INNER.format(amount=1))
    (tmp_path / "outer.py").write_text(OUTER)
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(tmp_path), *sys.path])}
    results = []
    for amount in (1, 1, 5):
        (tmp_path / "inner.py").write_text(INNER.format(amount=amount))
        code = "from outer import outer; print(outer(1), sum(outer.stats.cache_hits.values()))"
        command = [sys.executable, "-c", code]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
        results.append(tuple(map(int, done.stdout.split())))
    assert results == [(2, 0), (2, 1), (6, 0)]


INNER = """
from skfactors.compiled import compile_with

@compile_with(forceinline=True)
def inner(x):
    return x + {amount}
"""
OUTER = """
from inner import inner
from skfactors.compiled import compile_with

@compile_with(forceinline=True)
def outer(x):
    return inner(x)
"""
