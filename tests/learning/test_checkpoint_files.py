"""What a checkpoint's file says, who may write it, and what is refused."""

import errno
import hashlib
import json
import logging
import os
import shutil
import threading
import time

import numpy as np
import pytest
from safetensors.numpy import load, save
from support.mean_step import MeanStep, X, run

from skfactors.files import Claim
from skfactors.learning import checkpoint
from skfactors.learning.checkpoint import _digest_of_arrays, check_checkpoint
from skfactors.records import sealed


def only_file(folder):
    (path,) = folder.iterdir()
    return path


def rewritten(path, change):
    """Change a checkpoint's arrays and header, with checksums to match."""
    arrays = load(path.read_bytes())
    header = json.loads(arrays.pop("header").tobytes())
    change(arrays, header)
    header.pop("sha256", None)
    header["arrays"] = _digest_of_arrays(arrays).hexdigest()
    header = np.frombuffer(json.dumps(sealed(header)).encode(), dtype=np.uint8)
    path.write_bytes(save({name: np.ascontiguousarray(array) for name, array in arrays.items()} | {"header": header}))


def test_a_checkpoint_that_was_copied_to_anothers_name_is_refused(tmp_path):
    run(checkpoint_dir=tmp_path / "mean", identity="mean")
    run(checkpoint_dir=tmp_path / "median", identity="median")
    mean, median = (only_file(tmp_path / name) for name in ("mean", "median"))
    shutil.copy(median, mean)
    with pytest.raises(ValueError, match=f"{mean.name}' is that of another fit, with what=median and not mean"):
        run(checkpoint_dir=tmp_path / "mean", identity="mean")
    with pytest.raises(ValueError, match="another fit"):
        check_checkpoint(mean)
    check_checkpoint(median)


def widened(arrays, header):
    arrays["state.total"] = np.zeros(5)


def without_total(arrays, header):
    del arrays["state.total"]


def with_another_array(arrays, header):
    arrays["state.other"] = np.zeros(2)


def of_another_step(arrays, header):
    header["of"]["step"] = "MedianStep"


def with_a_gap_in_its_history(arrays, header):
    arrays["history.places.step"][-1] += 2**31


def with_nan(arrays, header):
    header["numbers"]["best"] = float("nan")


def with_a_list_for_a_number(arrays, header):
    header["numbers"]["n_epochs"] = [1]


def with_another_random_state(arrays, header):
    arrays["first_state"] = np.zeros(3, dtype=np.uint32)


def of_a_later_version(arrays, header):
    header["format_version"] = 9


@pytest.mark.parametrize(
    "change",
    [
        widened,
        without_total,
        with_another_array,
        of_another_step,
        with_a_gap_in_its_history,
        with_nan,
        with_a_list_for_a_number,
        with_another_random_state,
        of_a_later_version,
    ],
)
def test_a_checkpoint_that_holds_something_else_is_named_with_the_remedy(change, tmp_path):
    run(checkpoint_dir=tmp_path)
    path = only_file(tmp_path)
    rewritten(path, change)
    with pytest.raises(ValueError, match=f"{path.name}.*Delete it, and fit again from the start"):
        run(checkpoint_dir=tmp_path)


def test_no_bit_of_a_checkpoint_can_be_flipped_to_another_result(tmp_path):
    right, standing = run(checkpoint_dir=tmp_path)
    path = only_file(tmp_path)
    content = path.read_bytes()
    for place in np.random.default_rng(0).integers(len(content) * 8, size=100):
        altered = bytearray(content)
        altered[place // 8] ^= 1 << place % 8
        path.write_bytes(altered)
        try:
            step, its_standing = run(checkpoint_dir=tmp_path, stop_after=0)
        except ValueError as error:
            assert path.name in str(error)
        else:
            np.testing.assert_array_equal(step.total, right.total)
            assert its_standing.history == standing.history


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="The system has no pipes with names.")
@pytest.mark.parametrize("kind", ["pipe", "folder", "link"])
def test_what_is_no_plain_file_is_no_checkpoint(kind, tmp_path):
    run(checkpoint_dir=tmp_path / "kept")
    path = only_file(tmp_path / "kept")
    shutil.move(path, tmp_path / "elsewhere")
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    else:
        path.symlink_to(tmp_path / "elsewhere")
    with pytest.raises((ValueError, OSError), match=path.name):
        run(checkpoint_dir=tmp_path / "kept")


def first_version(path):
    """Write a checkpoint as it was before it said what it is of."""
    arrays = load(path.read_bytes())
    numbers = json.loads(arrays.pop("header").tobytes())["numbers"]
    numbers["best"] = np.inf if numbers["best"] is None else numbers["best"]
    checksum = _digest_of_arrays(arrays, hashlib.sha256(json.dumps(numbers, sort_keys=True).encode())).hexdigest()
    header = json.dumps({"numbers": numbers, "sha256": checksum}).encode()
    path.write_bytes(save(arrays | {"header": np.frombuffer(header, dtype=np.uint8)}))


def test_a_checkpoint_of_the_first_version_is_gone_on_from(tmp_path):
    whole, standing = run()
    with pytest.raises(KeyboardInterrupt):
        run(stop_after=20, checkpoint_dir=tmp_path, checkpoint_every=7)
    first_version(only_file(tmp_path))
    resumed, its_standing = run(checkpoint_dir=tmp_path)
    np.testing.assert_array_equal(resumed.total, whole.total)
    assert its_standing.history == standing.history


@pytest.fixture
def nothing_can_be_written(monkeypatch):
    def refuse(path, *of, **how):
        raise OSError(errno.EROFS, "Read-only file system", str(path))

    monkeypatch.setattr(checkpoint, "replaced_file", refuse)
    monkeypatch.setattr(Claim, "take", lambda self: refuse(self._path))


def test_a_fit_that_has_ended_returns_where_nothing_can_be_written(tmp_path, request):
    run(checkpoint_dir=tmp_path)
    request.getfixturevalue("nothing_can_be_written")
    step, _ = run(checkpoint_dir=tmp_path, stop_after=0)
    assert step.n_steps == 33


def test_a_fit_that_could_keep_no_checkpoint_says_so_before_it_learns(tmp_path, nothing_can_be_written):
    with pytest.raises(OSError, match="pass a checkpoint_dir that can be written to, or None") as refused:
        run(checkpoint_dir=tmp_path / "kept", stop_after=0)
    assert refused.value.errno == errno.EROFS and refused.value.filename == str(tmp_path / "kept")


def test_a_second_process_waits_for_the_first_and_takes_up_what_it_learned(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr("skfactors.files._SECONDS_OF_SILENCE", 0.1)
    n_learned, learn_from = [], MeanStep.learn_from

    def slowly(self, *batch):
        time.sleep(0.02)
        n_learned.append(len(batch[0]))
        return learn_from(self, *batch)

    monkeypatch.setattr(MeanStep, "learn_from", slowly)
    results = []
    fits = [threading.Thread(target=lambda: results.append(run(checkpoint_dir=tmp_path))) for _ in range(3)]
    with caplog.at_level(logging.WARNING):
        for fit in fits:
            fit.start()
        for fit in fits:
            fit.join()
    assert sum(n_learned) == 3 * len(X)
    assert len({step.total.tobytes() for step, _ in results}) == 1 and len(results) == 3
    assert f"waiting for process {os.getpid()} on " in caplog.text
    # The lock is gone.
    assert only_file(tmp_path).suffix == ".safetensors"


def test_what_a_killed_fit_had_begun_to_write_is_removed(tmp_path):
    run(checkpoint_dir=tmp_path)
    left = tmp_path / f".{only_file(tmp_path).name}.{'0' * 32}.unfinished"
    left.write_bytes(bytes(1000))
    os.utime(left, (0, 0))
    run(checkpoint_dir=tmp_path)
    assert only_file(tmp_path) != left


@pytest.mark.skipif(not hasattr(os, "fork"), reason="There is no fork.")
def test_a_claim_is_free_once_who_had_it_is_dead(tmp_path):
    path = tmp_path / "claim"
    reader, writer = os.pipe()
    if (child := os.fork()) == 0:
        theirs = Claim(path)
        theirs.take() and os.write(writer, b"x")
        time.sleep(60)
        os._exit(0)
    os.read(reader, 1)
    mine = Claim(path)
    assert not mine.take() and f"process {child} on" in mine.holder()
    os.kill(child, 9)
    os.waitpid(child, 0)
    others = Claim(path)
    assert mine.take() and not others.take()
    mine.let_go()
    assert not path.exists() and others.take()
