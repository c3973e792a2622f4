"""What is kept of a store says of which rows and texts it is, and whatever does not fit is refused by name."""

import hashlib
import json
import os
import pickle
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from skfactors import ActivationStore, SparseDictionary, TransformerFeatureExtractor
from skfactors.extraction.store import activation_store, filling
from skfactors.extraction.store.layout import COMPLETE, MANIFEST, read_checked, write_checked

BEFORE = Path(__file__).parents[1] / "data" / "before_factor_model"
TEXTS = [f"The bank of the river was muddy {number}." for number in range(12)]
OTHERS = [f"The park on the river was muddy {number}." for number in range(12)]


@pytest.fixture(scope="module", autouse=True)
def many_small_blocks():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(filling, "CHARACTERS_IN_A_BLOCK", 150)
        patch.setattr(filling, "CHUNK_ROWS", 16)
        yield


@pytest.fixture(scope="module")
def extractor(tiny_model):
    return TransformerFeatureExtractor(tiny_model, layers=[0, 2], max_length=12)


@pytest.fixture(scope="module")
def made(extractor, tiny_model, tmp_path_factory):
    """Return folders of stores by what they differ in."""
    folder = tmp_path_factory.mktemp("stores")
    extractor.extract_to(TEXTS, folder / "this")
    extractor.extract_to(OTHERS, folder / "texts")
    extractor.extract_to(TEXTS, folder / "dtype", dtype="float16")
    TransformerFeatureExtractor(tiny_model, layers=[1, 2], max_length=12).extract_to(TEXTS, folder / "layers")
    return folder


@pytest.fixture
def folder(made, tmp_path):
    return shutil.copytree(made / "this", tmp_path / "store")


def record_of(folder, name="00000001-0000"):
    return folder / "shards" / name.split("-")[0] / f"{name}.json"


def edit(path, change):
    """Change a file of JSON by hand, and give it the right checksum."""
    content = read_checked(path)
    change(content)
    write_checked(path, content)


@pytest.mark.parametrize(
    ("other", "named"), [("texts", "texts"), ("dtype", "dtype is 'float16' there"), ("layers", "layers")]
)
def test_complete_json_of_another_store_is_refused_by_what_differs(made, folder, extractor, other, named):
    shutil.copy(made / other / COMPLETE, folder / COMPLETE)
    with pytest.raises(ValueError, match=rf"complete\.json' is damaged: it is of .*{named}"):
        ActivationStore(folder)
    assert extractor.extract_to(TEXTS, folder).verify().empty


@pytest.mark.parametrize("other", ["texts", "dtype", "layers"])
def test_a_record_of_another_store_is_found_and_mended(made, folder, extractor, other):
    shutil.copy(record_of(made / other), record_of(folder))
    assert ActivationStore(folder).verify()["shard"].tolist() == ["00000001-0000"]
    (folder / COMPLETE).unlink()
    with pytest.raises(ValueError, match="of another store|different texts"):
        ActivationStore(folder, partial=True)
    if other != "texts":
        assert extractor.extract_to(TEXTS, folder).verify().empty
        return
    with pytest.raises(ValueError, match="made from other texts"):
        extractor.extract_to(TEXTS, folder)


@pytest.mark.parametrize("other", ["texts", "dtype", "layers"])
def test_a_shard_of_another_store_is_refused(made, folder, other):
    name = Path("shards", "00000001", "00000001-0000.safetensors")
    shutil.copy(made / other / name, folder / name)
    store = ActivationStore(folder)
    for read in (list, np.asarray, lambda store: store[:], lambda store: list(store.iter_shuffled(8, RANDOM()))):
        with pytest.raises(ValueError, match="00000001-0000 of the store .* is damaged"):
            read(store)


def RANDOM():
    return np.random.RandomState(0)


def test_a_record_under_the_name_of_another_shard_is_refused(folder):
    (folder / COMPLETE).unlink()
    shutil.copy(record_of(folder, "00000000-0000"), record_of(folder))
    with pytest.raises(ValueError, match="it is of the shard 00000000-0000"):
        ActivationStore(folder, partial=True)


@pytest.mark.parametrize("version", [1, 2])
def test_a_store_cannot_be_made_an_older_one_by_hand(folder, version):
    edit(folder / MANIFEST, lambda manifest: manifest.update(format_version=version))
    with pytest.raises(ValueError, match="is not known here"):
        ActivationStore(folder)


IMPOSSIBLE = {
    "rows": lambda record: record.update(n_rows=2**31),
    "negative": lambda record: record.update(n_rows=-4),
    "fraction": lambda record: record.update(n_rows=4.0),
    "truth": lambda record: record.update(n_nonfinite=True),
    "rows and checksums": lambda record: record.update(n_rows=2**14, chunks=[0] * 2**10),
    "checksums": lambda record: record["chunks"].append(0),
    "checksum": lambda record: record["chunks"].__setitem__(0, -1),
    "elsewhere": lambda record: record["files"].update({"../x": record["files"].popitem()[1]}),
    "absolute": lambda record: record["files"].update({"/etc/passwd": record["files"].popitem()[1]}),
    "hex": lambda record: record.update(texts="xyz"),
    "unknown": lambda record: record.update(more=1),
    "missing": lambda record: record.pop("chunks"),
    "part": lambda record: record.update(part=3),
    "nonfinite": lambda record: record.update(n_nonfinite=2**40),
}


@pytest.mark.parametrize("change", IMPOSSIBLE.values(), ids=IMPOSSIBLE.keys())
def test_a_record_that_cannot_be_true_is_refused_at_once(folder, change):
    edit(folder / COMPLETE, lambda complete: change(complete["shards"][1]))
    with pytest.raises(ValueError, match=r"complete\.json' is damaged: .*extract_to again"):
        ActivationStore(folder)
    edit(record_of(folder), change)
    (folder / COMPLETE).unlink()
    with pytest.raises(ValueError, match=r"00000001-0000\.json' is damaged: .*extract_to again"):
        ActivationStore(folder, partial=True)


def test_rows_that_are_claimed_and_not_there_take_no_memory(folder):
    """All lists agree: only the file itself is smaller."""
    folder = shutil.copytree(BEFORE / "store_without_parquet", folder / "old")
    edit(folder / MANIFEST, lambda manifest: manifest.update(hidden_size=2**30))
    with pytest.raises(ValueError, match="52 rows are more than its file can hold"):
        ActivationStore(folder)
    edit(folder / COMPLETE, lambda complete: _claim_size(complete["shards"][0]))
    edit(record_of(folder, "00000000-0000"), _claim_size)
    store = ActivationStore(folder)
    for read in (lambda: store[:], lambda: np.asarray(store), lambda: store.iter_shuffled(8, RANDOM())):
        with pytest.raises(ValueError, match="has 5500 bytes instead of"):
            read()


def _claim_size(record):
    record["files"]["00000000-0000.safetensors"][0] = 52 * 2**30 * 2


@pytest.mark.parametrize("file", [MANIFEST, COMPLETE])
@pytest.mark.parametrize("content", ["[" * 100_000 + "]" * 100_000, "NaN", "[]", "3", "", '{"content": []}'])
def test_json_of_another_shape_is_refused_by_name(folder, file, content):
    (folder / file).write_text(content)
    with pytest.raises(ValueError, match=f"{file}' is damaged"):
        ActivationStore(folder)


@pytest.mark.parametrize("file", [MANIFEST, COMPLETE])
@pytest.mark.parametrize(
    "content", [[], None, 3, {"n_documents": 1}, {"shards": {}}, {"format": [], "format_version": []}]
)
def test_json_of_another_shape_is_refused_with_its_checksum_too(folder, file, content):
    write_checked(folder / file, content)
    with pytest.raises(ValueError, match=f"{file}' is damaged|this version of skfactors reads"):
        ActivationStore(folder)


def test_every_flipped_bit_of_the_lists_is_an_error_or_nothing(made, tmp_path):
    folder = shutil.copytree(made / "this", tmp_path / "store")
    files = [folder / MANIFEST, folder / COMPLETE]
    before, generator = ActivationStore(folder).fingerprint, np.random.default_rng(0)
    for file in files:
        good = file.read_bytes()
        for bit in generator.choice(8 * len(good), 400, replace=False):
            bad = bytearray(good)
            bad[bit // 8] ^= 1 << (bit % 8)
            file.write_bytes(bad)
            try:
                assert ActivationStore(folder).fingerprint == before, f"bit {bit} of {file.name}"
            except ValueError as error:
                assert file.name in str(error)
        file.write_bytes(good)


def test_every_flipped_bit_of_a_record_is_an_error_or_nothing(folder):
    (folder / COMPLETE).unlink()
    file, generator = record_of(folder), np.random.default_rng(1)
    good, before = file.read_bytes(), ActivationStore(folder, partial=True).fingerprint
    for bit in generator.choice(8 * len(good), 400, replace=False):
        bad = bytearray(good)
        bad[bit // 8] ^= 1 << (bit % 8)
        file.write_bytes(bad)
        try:
            assert ActivationStore(folder, partial=True).fingerprint == before, f"bit {bit}"
        except ValueError as error:
            assert file.name in str(error)


def with_right_checksums(folder, suffix, change):
    """Replace a file of a shard, and let record and list vouch for it."""
    file = record_of(folder).with_suffix(suffix)
    content = change(file.read_bytes())
    file.write_bytes(content)
    told = [len(content), hashlib.sha256(content).hexdigest()]
    edit(record_of(folder), lambda record: record["files"].update({file.name: told}))
    edit(folder / COMPLETE, lambda complete: complete["shards"][1]["files"].update({file.name: told}))


def header_changed(change):
    def changed(content):
        size = int.from_bytes(content[:8], "little")
        header = json.loads(content[8 : 8 + size])
        change(header)
        encoded = json.dumps(header).encode()
        return len(encoded).to_bytes(8, "little") + encoded + content[8 + size :]

    return changed


MADE_BY_HAND = {
    "no header": lambda content: b"x" * len(content),
    "long header": lambda content: (2**62).to_bytes(8, "little") + content[8:],
    "deep header": lambda content: (len(content) - 8).to_bytes(8, "little") + b"[" * (len(content) - 8),
    "no X": header_changed(lambda header: header.pop("X")),
    "another array": header_changed(lambda header: header.update(Y=header["X"])),
    "other type": header_changed(lambda header: header["X"].update(dtype="F16")),
    "unknown type": header_changed(lambda header: header["X"].update(dtype="C64")),
    "other shape": header_changed(lambda header: header["X"].update(shape=header["X"]["shape"][::-1])),
    "outside": header_changed(lambda header: header["X"].update(data_offsets=[2**40, 2**40 + 4])),
    "no offsets": header_changed(lambda header: header["X"].update(data_offsets=[])),
    "texts that end nowhere": header_changed(lambda header: header["text_ends"].update(header["documents"])),
}


@pytest.mark.parametrize("change", MADE_BY_HAND.values(), ids=MADE_BY_HAND.keys())
def test_a_safetensors_file_made_by_hand_is_one_error(folder, change):
    with_right_checksums(folder, ".safetensors", change)
    store = ActivationStore(folder)
    assert "00000001-0000" in store.verify()["shard"].tolist()
    for read in (list, lambda store: store[:]):
        with pytest.raises(ValueError, match="shard 00000001-0000 of the store .* is damaged"):
            read(store)


def provenance_changed(**columns):
    def changed(content):
        import io

        table = pd.read_parquet(io.BytesIO(content))
        return table.assign(**{name: make(table) for name, make in columns.items()}).to_parquet(index=False)

    return changed


PROVENANCE = {
    "token": provenance_changed(token_id=lambda table: table["token_id"] + 2**40),
    "fractions": provenance_changed(token_id=lambda table: table["token_id"] / 2),
    "layer": provenance_changed(layer=lambda table: table["layer"] + 1),
    "place": provenance_changed(layer=lambda table: table["layer"] * 0),
    "site": provenance_changed(site=lambda table: pd.Categorical(["elsewhere"] * len(table))),
    "document": provenance_changed(document=lambda table: table["document"] + 100),
    "rows": lambda content: _fewer_rows(content),
    "columns": lambda content: pd.DataFrame({"a": [1]}).to_parquet(),
    "other": lambda content: b"PAR1" * 10,
}


def _fewer_rows(content):
    import io

    return pd.read_parquet(io.BytesIO(content))[:-1].to_parquet(index=False)


@pytest.mark.parametrize("change", PROVENANCE.values(), ids=PROVENANCE.keys())
def test_provenance_made_by_hand_is_one_error(folder, change):
    pytest.importorskip("pyarrow")
    with_right_checksums(folder, ".parquet", change)
    store = ActivationStore(folder)
    assert "00000001-0000" in store.verify()["shard"].tolist()
    with pytest.raises(ValueError, match="shard 00000001-0000 of the store .* is damaged"):
        store[:]


def test_a_store_of_other_texts_with_right_checksums_is_found(made, folder):
    """All files of a shard and its record are those of another corpus: only the texts themselves tell."""
    source, target = made / "texts" / "shards" / "00000001", folder / "shards" / "00000001"
    foreign, own = read_checked(record_of(made / "texts")), read_checked(record_of(folder))
    for file in source.glob("[!.]*[!n]"):
        shutil.copy(file, target)
    own.update({name: foreign[name] for name in ("files", "chunks", "n_rows")})
    write_checked(record_of(folder), own)
    edit(folder / COMPLETE, lambda complete: complete["shards"].__setitem__(1, without_store(own)))
    problems = ActivationStore(folder).verify()
    assert problems["problem"].tolist() == ["the texts of its run are not those that were written"]


def without_store(record):
    return {name: value for name, value in record.items() if name != "store"}


def test_verify_finds_lists_and_records_that_are_missing_or_too_many(folder):
    store = ActivationStore(folder)
    record_of(folder).unlink()
    (folder / COMPLETE).unlink()
    shutil.copytree(folder / "shards" / "00000000", folder / "shards" / "00000099")
    for file in list((folder / "shards" / "00000099").glob("*")):
        file.rename(file.with_name(file.name.replace("00000000-", "00000099-")))
    assert store.verify()["shard"].tolist() == [COMPLETE, "00000099-0000", "00000001-0000"]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no pipes")
@pytest.mark.parametrize("file", [MANIFEST, COMPLETE, "shards/00000001/00000001-0000.safetensors"])
def test_pipes_and_links_elsewhere_are_refused_at_once(folder, tmp_path, file):
    content = (folder / file).read_bytes()
    (folder / file).unlink()
    os.mkfifo(folder / file)
    with pytest.raises(ValueError, match=Path(file).name):
        ActivationStore(folder)[:]
    (folder / file).unlink()
    (tmp_path / "elsewhere").write_bytes(content)
    (folder / file).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ValueError, match="a link that leads out of its folder"):
        ActivationStore(folder)[:]


@pytest.mark.parametrize("name", ["store", "store_without_parquet"])
def test_an_older_store_is_resumed_in_its_own_format(name, tmp_path):
    from skfactors.extraction.store.layout import all_records, read_manifest, write_record

    folder = shutil.copytree(BEFORE / name, tmp_path / "store")
    manifest = read_manifest(folder)
    (record,) = all_records(folder, manifest)
    good = record_of(folder, record.name).read_text()
    write_record(folder, record, manifest)
    assert record_of(folder, record.name).read_text() == good


def test_texts_of_two_calls_never_become_one_store(extractor, tmp_path):
    """A second call begins where the first has stopped, with other texts before that."""
    extractor.extract_to(TEXTS, tmp_path / "one")
    extractor.extract_to([*OTHERS[:8], *TEXTS[8:]], tmp_path / "store")
    names = sorted(path.name for path in (tmp_path / "store" / "shards").iterdir())
    (tmp_path / "store" / COMPLETE).unlink()
    shutil.rmtree(tmp_path / "store" / "shards" / names[0])
    shutil.copytree(tmp_path / "one" / "shards" / names[0], tmp_path / "store" / "shards" / names[0])
    for texts in (TEXTS, [*OTHERS[:8], *TEXTS[8:]]):
        with pytest.raises(ValueError, match="made from other texts"):
            extractor.extract_to(texts, tmp_path / "store")
    with pytest.raises(ValueError, match="holds shards of different texts"):
        ActivationStore(tmp_path / "store", partial=True)
    assert not (tmp_path / "store" / COMPLETE).exists()


def test_of_two_calls_with_other_texts_at_once_neither_makes_a_store(extractor, tiny_model, tmp_path, monkeypatch):
    """One has the first run of texts in hand while the other makes all that come after it."""
    from skfactors.extraction.stream import ActivationStream

    path, read, failures = tmp_path / "store", ActivationStream.read, []
    other = TransformerFeatureExtractor(tiny_model, layers=[0, 2], max_length=12)
    # Made before the first thread waits, as both take turns to open a model.
    other.extract_to(OTHERS, tmp_path / "whole")
    n_shards = len(list((tmp_path / "whole").rglob("*-0000.json")))

    def run_other():
        try:
            other.extract_to(OTHERS, path)
        except ValueError as error:
            failures.append(error)

    thread = threading.Thread(target=run_other)

    def read_late(*of):
        if threading.current_thread() is not thread and not thread.is_alive():
            thread.start()
            while thread.is_alive() and len(list(path.rglob("*-0000.json"))) < n_shards - 1:
                time.sleep(0.01)
        return read(*of)

    monkeypatch.setattr(ActivationStream, "read", read_late)
    with pytest.raises(ValueError, match="made from other texts"):
        extractor.extract_to(TEXTS, path)
    thread.join(60)
    assert len(failures) == 1 and "made from other texts" in str(failures[0])
    assert not (path / COMPLETE).exists()


def test_an_older_store_is_gone_on_with_and_refuses_other_texts(extractor, tmp_path, monkeypatch):
    write = write_checked

    def write_as_version_2(path, manifest):
        write(path, {name: of for name, of in manifest.items() if name != "chunk_rows"} | {"format_version": 2})

    def stopping():
        yield from TEXTS[:7]
        raise KeyboardInterrupt

    monkeypatch.setattr(filling, "write_checked", write_as_version_2)
    with pytest.raises(KeyboardInterrupt):
        extractor.extract_to(stopping(), tmp_path / "store")
    monkeypatch.undo()
    monkeypatch.setattr(filling, "CHARACTERS_IN_A_BLOCK", 150)
    assert 0 < len(ActivationStore(tmp_path / "store", partial=True))
    store = extractor.extract_to(TEXTS, tmp_path / "store")
    assert store.verify().empty and "before" not in read_checked(record_of(store.path))
    with pytest.raises(ValueError, match="made from other texts"):
        extractor.extract_to(OTHERS, tmp_path / "store")


def test_texts_that_go_on_beyond_a_complete_store_are_refused_before_a_model_runs(folder, extractor, monkeypatch):
    from skfactors.extraction.forward import HiddenStateRunner

    monkeypatch.setattr(HiddenStateRunner, "forward", lambda *_: pytest.fail("the model was run"))
    with pytest.raises(ValueError, match="other texts|made from 12 texts, and these are more"):
        extractor.extract_to([*TEXTS, *OTHERS], folder)


def test_a_shard_that_is_altered_or_cut_after_a_look_gives_an_error_and_no_wrong_rows(folder):
    store = ActivationStore(folder)
    true = store[:].X
    file = record_of(folder).with_suffix(".safetensors")
    content = bytearray(file.read_bytes())
    content[len(content) // 2 :] = bytes(len(content) - len(content) // 2)
    file.write_bytes(content)
    np.testing.assert_array_equal(store[:].X, true)
    store._chunk.cache_clear()
    with pytest.raises(ValueError, match="00000001-0000 .* is damaged: rows"):
        store[:]
    os.truncate(file, 100)
    with pytest.raises(ValueError, match="00000001-0000 .* is damaged"):
        store[:]


def test_rows_kept_at_hand_are_bounded(folder, monkeypatch):
    monkeypatch.setattr(activation_store, "_BYTES_AT_HAND", 3 * 16 * 32 * 4)
    store = ActivationStore(folder)
    store[:]
    assert store._chunk.cache_info().currsize == 3


def test_a_store_opened_by_a_relative_path_works_from_another_folder(folder, monkeypatch):
    monkeypatch.chdir(folder.parent)
    store = ActivationStore(folder.name)
    monkeypatch.chdir("/")
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(store))[:].X, store[:].X)


def test_a_moved_folder_opens_and_a_pickle_says_that_it_is_not_there(folder):
    pickled = pickle.dumps(ActivationStore(folder))
    moved = folder.rename(folder.with_name("moved"))
    assert ActivationStore(moved).verify().empty
    with pytest.raises(FileNotFoundError, match="there is no folder .*store.* was it moved"):
        pickle.loads(pickled)


def test_a_pickle_of_a_store_is_not_opened_as_another_in_its_place(made, folder):
    pickled = pickle.dumps(ActivationStore(folder))
    shutil.rmtree(folder)
    shutil.copytree(made / "texts", folder)
    with pytest.raises(ValueError, match="holds other rows than when it was pickled"):
        pickle.loads(pickled)


def test_weights_survive_pickling(folder):
    weights = ActivationStore(folder).sample_weight
    twin = pickle.loads(pickle.dumps(weights))
    np.testing.assert_array_equal(twin[:], weights[:])
    assert (twin.fingerprint, twin.store_fingerprint) == (weights.fingerprint, weights.store_fingerprint)


def test_weights_say_of_which_store_they_are_though_their_values_are_the_same(extractor, folder, tmp_path):
    """The same texts in another order: each token occurs as often, in other rows."""
    this, other = ActivationStore(folder), extractor.extract_to(TEXTS[::-1], tmp_path / "other")
    assert this.shape == other.shape
    assert this.sample_weight.store_fingerprint == this.fingerprint != other.sample_weight.store_fingerprint
    assert this.sample_weight.fingerprint != other.sample_weight.fingerprint


def test_weights_of_another_store_count_by_place(extractor, tmp_path):
    texts = ["the bank of the river was muddy", "the shares of the bank fell after"]
    this, other = (
        extractor.extract_to([*few, *few], tmp_path / few[0]) for few in (texts, ["the " * 6 + "bank", texts[1]])
    )
    dictionary = SparseDictionary(
        6, alpha=0.5, max_iter=1, random_state=0, device="cpu", checkpoint_dir=tmp_path / "kept"
    )
    by_own = dictionary.fit(this, sample_weight=this.sample_weight).components_
    by_others = dictionary.fit(this, sample_weight=other.sample_weight).components_
    by_place = dictionary.fit(this, sample_weight=np.asarray(other.sample_weight)).components_
    assert not np.array_equal(by_own, by_others)
    np.testing.assert_allclose(by_others, by_place, rtol=1e-5, atol=1e-6)


def test_a_store_without_its_empty_folders_and_locks_is_mended(folder, extractor):
    shutil.rmtree(folder / "locks")
    (folder / ".lock").unlink(missing_ok=True)
    record_of(folder).unlink()
    assert extractor.extract_to(TEXTS, folder).verify().empty


def test_a_start_that_was_stopped_before_the_manifest_is_taken_up(extractor, tmp_path):
    (tmp_path / "store" / "shards").mkdir(parents=True)
    (tmp_path / "store" / "locks").mkdir()
    assert extractor.extract_to(TEXTS, tmp_path / "store").verify().empty


def test_what_killed_processes_left_is_removed(folder, extractor):
    left = [folder / f".complete.json.{'0' * 32}.unfinished", folder / "shards" / "00000001" / ".x.unfinished"]
    for path in left:
        path.write_bytes(b"x")
        os.utime(path, (0, 0))
    extractor.extract_to(TEXTS, folder)
    assert not any(path.exists() for path in left)


def test_shards_are_counted_from_zero(folder):
    store = ActivationStore(folder)
    for number in (-1, store.n_shards):
        with pytest.raises(IndexError, match=f"there is no shard {number}"):
            store.read_shard(number)


def test_sizes_of_zero_are_refused_by_name(folder, extractor):
    store = ActivationStore(folder)
    with pytest.raises(ValueError, match="batch_size == 0"):
        store.iter_shuffled(0, RANDOM())
    with pytest.raises(ValueError, match="buffer_rows == 0"):
        store.iter_shuffled(1, RANDOM(), buffer_rows=0)
    with pytest.raises(ValueError, match="rows_per_shard == 0"):
        extractor.extract_to(TEXTS, folder, rows_per_shard=0)
    with pytest.raises(ValueError, match="max_rows == 0"):
        next(extractor.iter_extract(TEXTS, max_rows=0))


READ_ONLY = """
import os, subprocess, sys
from pathlib import Path
from skfactors import TransformerFeatureExtractor
from skfactors.extraction.store import filling
filling.CHARACTERS_IN_A_BLOCK, filling.CHUNK_ROWS = 150, 16
folder, model, *texts = sys.argv[1:]
extractor = TransformerFeatureExtractor(model, layers=[0, 2], max_length=12)
subprocess.run(["mount", "--bind", folder, folder], check=True)
subprocess.run(["mount", "-o", "remount,ro,bind", folder], check=True)
print(extractor.extract_to(texts, folder).verify().empty)
subprocess.run(["mount", "-o", "remount,rw,bind", folder], check=True)
Path(folder, "complete.json").unlink()
next(Path(folder).glob("shards/*1/*.json")).unlink()
subprocess.run(["mount", "-o", "remount,ro,bind", folder], check=True)
try:
    extractor.extract_to(texts, folder)
except OSError as error:
    print("read-only" in str(error) and folder in str(error))
"""


def may_mount():
    return shutil.which("unshare") and subprocess.run(["unshare", "-Urm", "true"], capture_output=True).returncode == 0


@pytest.mark.skipif(not may_mount(), reason="this user may not mount")
def test_a_complete_store_is_returned_from_read_only_storage_and_another_says_why_not(folder, tiny_model):
    result = subprocess.run(
        ["unshare", "-Urm", sys.executable, "-c", READ_ONLY, str(folder), tiny_model, *TEXTS],
        capture_output=True,
        text=True,
        timeout=120,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "1"},
    )
    assert result.stdout.split() == ["True", "True"], result.stderr
