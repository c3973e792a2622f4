"""Compiled code, once in the process that compiles it and once in another that loads it."""

import os
import subprocess
import sys

import numpy as np
import pytest

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


def run_outer(folder):
    """Call a compiled function in a new process; return its result and how often its code came from the cache."""
    code = "from outer import outer; print(outer(1), sum(outer.stats.cache_hits.values()))"
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(folder), *sys.path])}
    environment.pop("NUMBA_CACHE_DIR", None)
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    return tuple(map(int, done.stdout.split()))


def empty(path):
    path.write_bytes(b"")


def cut_short(path):
    path.write_bytes(path.read_bytes()[:-100])


def flip_a_bit(path):
    """Change machine code in a way that no reader of files would notice."""
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def remove(path):
    path.unlink()


@pytest.fixture
def two_files(tmp_path):
    (tmp_path / "inner.py").write_text(INNER.format(amount=1))
    (tmp_path / "outer.py").write_text(OUTER)
    return tmp_path


@pytest.mark.parametrize("damage", [empty, cut_short, flip_a_bit, remove])
@pytest.mark.parametrize("ending", ["nbi", "nbc"])
def test_code_that_was_damaged_on_disk_is_compiled_again_and_kept(two_files, ending, damage):
    assert run_outer(two_files) == (2, 0)
    for path in list(two_files.rglob(f"*.{ending}")):
        damage(path)
    assert run_outer(two_files) == (2, 0)
    assert run_outer(two_files) == (2, 1)


def test_a_change_in_a_file_that_code_was_taken_from_is_seen(two_files):
    assert run_outer(two_files) == (2, 0)
    (two_files / "inner.py").write_text(INNER.format(amount=5))
    assert run_outer(two_files) == (6, 0)


def test_a_change_in_what_a_function_reaches_by_way_of_others_is_seen(two_files):
    (two_files / "outer.py").rename(two_files / "middle.py")
    (two_files / "outer.py").write_text(OUTER.replace("from inner import inner", "from middle import outer as inner"))
    assert run_outer(two_files)[0] == 2
    (two_files / "inner.py").write_text(INNER.format(amount=5))
    assert run_outer(two_files) == (6, 0)


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


@pytest.fixture
def kept(tmp_path, monkeypatch):
    """Keep the code of a function in a folder of its own; return the index there."""
    monkeypatch.setattr("numba.core.config.CACHE_DIR", str(tmp_path))
    assert n_loaded() == 0
    assert n_loaded() == 1
    (index,) = tmp_path.rglob("*.nbi")
    return index


def n_loaded():
    """Make a compiled function and call it; return how often its code came from disk."""
    function = compile_with()(doubled)
    assert function(3.5) == 7
    return sum(function.stats.cache_hits.values())


def make_writable_for_all(path):
    path.chmod(path.stat().st_mode | 0o002)


def give_away(path):
    if os.geteuid() != 0:
        pytest.skip("only root can give files away")
    os.chown(path, 12345, -1)


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such permissions")
@pytest.mark.parametrize("change", [make_writable_for_all, give_away])
def test_code_that_another_user_may_have_put_there_is_never_read(kept, change):
    change(kept)
    assert n_loaded() == 0


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such permissions")
def test_a_folder_of_code_that_is_another_users_is_not_used(kept):
    give_away(kept.parent)
    assert n_loaded() == 0


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such permissions")
def test_a_folder_of_code_that_all_could_write_to_is_closed_to_others(kept):
    kept.parent.chmod(0o777)
    assert n_loaded() == 1
    assert not kept.parent.stat().st_mode & 0o002


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="the system has no pipes with names")
def test_a_pipe_in_the_place_of_code_is_not_waited_for(kept):
    kept.unlink()
    os.mkfifo(kept)
    assert n_loaded() == 0
