"""What can go wrong with a store does not go unnoticed, and costs no more than the shard in hand."""

import os
import shutil
import subprocess
import sys

import numpy as np
import pytest
from support.processes import (
    extract_in_small_blocks,
    finish,
    kill_after,
    start,
    windows_counted,
)

from skfactors import ActivationStore, SparseDictionary, TransformerFeatureExtractor
from skfactors.extraction.store import filling

KEY = ["document", "layer", "position"]
SENTENCES = ["The bank of the river was muddy.", "Shares fell after the report.", "She left by the left gate. " * 5]
N_KILLS = 20


@pytest.fixture(scope="module")
def corpus():
    return [f"{SENTENCES[number % 3]} {number}" for number in range(150)]


@pytest.fixture(scope="module")
def parameters(tiny_model):
    return {"model": tiny_model, "layers": [0, 2], "max_length": 16}


@pytest.fixture(scope="module")
def whole(corpus, parameters):
    return TransformerFeatureExtractor(**parameters).extract(corpus)


@pytest.fixture
def small_blocks(monkeypatch):
    monkeypatch.setattr(filling, "CHARACTERS_IN_A_BLOCK", 400)


@pytest.fixture
def store(corpus, parameters, small_blocks, tmp_path):
    return TransformerFeatureExtractor(**parameters).extract_to(corpus, tmp_path / "store", rows_per_shard=120)


def mend(store, corpus, parameters):
    return TransformerFeatureExtractor(**parameters).extract_to(corpus, store.path, rows_per_shard=120)


def places(acts):
    return [tuple(place) for place in acts.provenance[KEY].to_numpy().tolist()]


def assert_rows_of(store, whole, complete=True):
    """Return how many rows the store has, after comparing each with an extraction that nothing disturbed."""
    number = {place: row for row, place in enumerate(places(whole))}
    seen = set()
    for acts in store:
        rows = [number[place] for place in places(acts)]
        np.testing.assert_allclose(acts.X, whole.X[rows], rtol=1e-4, atol=1e-5)
        assert acts.tokens() == whole[rows].tokens()
        assert seen.isdisjoint(rows)
        seen.update(rows)
    assert not complete or len(seen) == len(whole)
    return len(seen)


def test_an_extraction_killed_at_any_moment_loses_no_shard_and_keeps_no_wrong_row(
    corpus, parameters, whole, tmp_path, small_blocks
):
    path, generator = tmp_path / "store", np.random.default_rng(0)
    kills = n_rows = 0
    while kills < N_KILLS:
        process = start(extract_in_small_blocks, path, corpus, pause=0.005, **parameters)
        if kill_after(process, generator.uniform(0.1, 0.9)):
            kills += 1
        elif finish(process) == 0:
            assert assert_rows_of(ActivationStore(path), whole) == len(whole)
            shutil.rmtree(path)
            n_rows = 0
            continue
        if (path / "manifest.json").exists():
            partial = ActivationStore(path, partial=True)
            assert partial.verify().empty
            n_before, n_rows = n_rows, assert_rows_of(partial, whole, complete=False)
            assert n_rows >= n_before
    assert_rows_of(mend(ActivationStore(path, partial=True), corpus, parameters), whole)
    assert not list((path / "shards").glob("*/.*"))


def test_several_processes_fill_one_store_and_run_each_window_once(corpus, parameters, whole, tmp_path, small_blocks):
    counts = tmp_path / "counts"
    counts.mkdir()
    path = tmp_path / "store"
    crowd = [start(extract_in_small_blocks, path, corpus, counts=counts, pause=0.01, **parameters) for _ in range(3)]
    assert [finish(process) for process in crowd] == [0, 0, 0]
    assert len(list(counts.iterdir())) > 1
    n_windows = sum(1 for _ in TransformerFeatureExtractor(**parameters).iter_extract(corpus, max_rows=1))
    assert windows_counted(counts) == n_windows
    assert_rows_of(ActivationStore(path), whole)


def cut_short(path):
    os.truncate(path, path.stat().st_size // 2)


def flip_a_byte(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize("spoil", [cut_short, flip_a_byte, os.remove])
@pytest.mark.parametrize("suffix", [".safetensors", ".parquet"])
def test_a_bad_shard_is_named_never_read_and_mended(store, corpus, parameters, whole, spoil, suffix):
    file = store.path / "shards" / "00000004" / ("00000004-0000" + suffix)
    if not file.exists():
        pytest.skip("pyarrow is not installed")
    spoil(file)
    store = ActivationStore(store.path)
    assert store.verify()["shard"].tolist() == ["00000004-0000"]
    assert file.name in store.verify()["problem"].item()
    for read in (list, np.asarray, lambda store: store[:]):
        with pytest.raises(ValueError, match="shard 00000004-0000 .* is damaged.*extract_to again"):
            read(store)
    if suffix == ".safetensors":
        with pytest.raises(ValueError, match="shard 00000004-0000"):
            list(store.iter_shuffled(64, np.random.RandomState(0)))
    else:
        with pytest.raises(ValueError, match="shard 00000004-0000"):
            store.sample_weight
    mended = mend(store, corpus, parameters)
    assert mended.verify().empty
    assert_rows_of(mended, whole)


@pytest.mark.parametrize("spoil", [cut_short, flip_a_byte])
def test_a_bad_manifest_is_refused(store, spoil):
    spoil(store.path / "manifest.json")
    with pytest.raises(ValueError, match=r"manifest\.json' is damaged.*Put the file of a copy in its place"):
        ActivationStore(store.path)


def test_a_manifest_of_another_version_is_refused(store):
    from skfactors.extraction.store.layout import read_manifest, write_checked

    write_checked(store.path / "manifest.json", read_manifest(store.path) | {"format_version": 99})
    with pytest.raises(ValueError, match="version 99; this version of skfactors reads"):
        ActivationStore(store.path)


def test_a_bad_record_is_mended(store, corpus, parameters, whole):
    flip_a_byte(store.path / "shards" / "00000002" / "00000002-0000.json")
    os.remove(store.path / "complete.json")
    with pytest.raises(ValueError, match="is not complete"):
        ActivationStore(store.path)
    assert_rows_of(mend(store, corpus, parameters), whole)


def test_a_text_that_breaks_off_a_generator_leaves_all_shards_before_it(
    corpus, parameters, whole, tmp_path, small_blocks
):
    def breaking():
        yield from corpus[:80]
        yield None

    extractor = TransformerFeatureExtractor(**parameters)
    with pytest.raises(TypeError, match=r"texts\[80\] is None"):
        extractor.extract_to(breaking(), tmp_path / "store", rows_per_shard=120)
    # As some systems leave behind.
    (tmp_path / "store" / "shards" / ".DS_Store").touch()
    (tmp_path / "store" / "shards" / "00000000" / "._00000000-0000.json").touch()
    partial = ActivationStore(tmp_path / "store", partial=True)
    assert partial.verify().empty
    n_rows = assert_rows_of(partial, whole, complete=False)
    assert n_rows > 0.9 * (whole.provenance["document"] < 80).sum()
    assert_rows_of(extractor.extract_to(corpus, tmp_path / "store", rows_per_shard=120), whole)


def test_a_text_that_breaks_the_tokenizer_is_named(corpus, parameters, whole, tmp_path, small_blocks, monkeypatch):
    class Panic(BaseException):
        """What compiled code raises when it fails unforeseen."""

    extractor = TransformerFeatureExtractor(**parameters)
    tokenizer = extractor._slot().get(extractor._source()).tokenizer
    encode = type(tokenizer).__call__

    def panicking(self, batch, **options):
        if any("42" in text for text in batch):
            raise Panic("index out of range")
        return encode(self, batch, **options)

    monkeypatch.setattr(type(tokenizer), "__call__", panicking)
    with pytest.raises(ValueError, match=r"tokenizer fails at texts\[42\].*Put another text"):
        extractor.extract_to(iter(corpus), tmp_path / "store", rows_per_shard=120)
    assert_rows_of(ActivationStore(tmp_path / "store", partial=True), whole, complete=False)
    monkeypatch.undo()
    monkeypatch.setattr(filling, "CHARACTERS_IN_A_BLOCK", 400)
    assert_rows_of(extractor.extract_to(iter(corpus), tmp_path / "store", rows_per_shard=120), whole)


def spoil_model(tiny_model, folder):
    """Save a model whose hidden states are NaN for one token."""
    import torch
    from transformers import AutoModel, AutoTokenizer

    model, tokenizer = AutoModel.from_pretrained(tiny_model), AutoTokenizer.from_pretrained(tiny_model)
    token_id = tokenizer("muddy", add_special_tokens=False)["input_ids"][0]
    with torch.no_grad():
        model.embeddings.word_embeddings.weight[token_id, 3] = float("nan")
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return str(folder)


def test_nan_in_one_row_is_told_when_written_and_refused_when_learned_from(tiny_model, tmp_path):
    extractor = TransformerFeatureExtractor(spoil_model(tiny_model, tmp_path / "model"), layers=0)
    texts = [*SENTENCES[1:] * 10, SENTENCES[0]]
    with pytest.warns(UserWarning, match="values of the store are NaN or infinite"):
        store = extractor.extract_to(texts, tmp_path / "store")
    assert 0 < store.n_nonfinite <= 2 * 32
    with pytest.raises(ValueError, match="NaN or inf"):
        SparseDictionary(8, device="cpu").fit(store)


def run_limited(code, *arguments, prefix=()):
    result = subprocess.run(
        [*prefix, sys.executable, "-c", code, *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=120,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "1"},
    )
    assert result.returncode == 0, result.stderr
    return result.stdout


FULL_DISK = """
import errno, subprocess, sys
from support.processes import extract_in_small_blocks
folder, model = sys.argv[1:]
texts = [f"She left the park by the left gate. {number}" for number in range(200)]
subprocess.run(["mount", "-t", "tmpfs", "-o", "size=300k", "tmpfs", folder], check=True)
try:
    extract_in_small_blocks(folder + "/store", texts, model=model, layers=[0, 2], max_length=16)
except OSError as error:
    assert error.errno == errno.ENOSPC and "make room on the disk and start again" in str(error), error
    print("full")
from skfactors import ActivationStore, TransformerFeatureExtractor
partial = ActivationStore(folder + "/store", partial=True)
assert partial.verify().empty and len(partial)
subprocess.run(["mount", "-o", "remount,size=32m", folder], check=True)
extract_in_small_blocks(folder + "/store", texts, model=model, layers=[0, 2], max_length=16)
whole = TransformerFeatureExtractor(model, layers=[0, 2], max_length=16).extract(texts)
print(len(ActivationStore(folder + "/store")) == len(whole))
"""


def may_mount():
    return shutil.which("unshare") and subprocess.run(["unshare", "-Urm", "true"], capture_output=True).returncode == 0


@pytest.mark.skipif(not may_mount(), reason="this user may not mount a small disk")
def test_a_full_disk_is_told_and_the_extraction_goes_on_when_there_is_room(tiny_model, tmp_path):
    printed = run_limited(FULL_DISK, tmp_path, tiny_model, prefix=["unshare", "-Urm"])
    assert printed.split() == ["full", "True"]


NO_LARGE_FILES = """
import errno, resource, signal, sys
from support.processes import extract_in_small_blocks
from skfactors import ActivationStore
folder, model = sys.argv[1:]
texts = [f"She left the park by the left gate. {number}" for number in range(60)]
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (9_000, resource.RLIM_INFINITY))
try:
    extract_in_small_blocks(folder, texts, model=model, layers=[0, 2], max_length=16)
except OSError as error:
    assert error.errno == errno.EFBIG and "start again" in str(error), error
    print("told")
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
extract_in_small_blocks(folder, texts, model=model, layers=[0, 2], max_length=16)
print(ActivationStore(folder).verify().empty)
"""


def test_a_file_that_cannot_be_written_to_its_end_is_never_there(tiny_model, tmp_path):
    assert run_limited(NO_LARGE_FILES, tmp_path / "store", tiny_model).split() == ["told", "True"]


FEW_FILES = """
import errno, os, resource, sys
from skfactors import ActivationStore
store = ActivationStore(sys.argv[1])
hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
n_open = len(os.listdir("/proc/self/fd"))
resource.setrlimit(resource.RLIMIT_NOFILE, (n_open + 25, hard))
assert store.n_shards > 40
print(len(store[:]) == len(store) == sum(len(acts) for acts in store))
taken = []
try:
    while True:
        taken.append(open(os.devnull))
except OSError:
    pass
try:
    store.read_shard(0)
except OSError as error:
    assert error.errno == errno.EMFILE and "ulimit -n" in str(error), error
    print("told")
taken.clear()
print(len(store.read_shard(0)) > 0)
"""


def test_a_store_needs_few_files_open_and_says_when_there_are_none(store):
    assert run_limited(FEW_FILES, store.path).split() == ["True", "told", "True"]
