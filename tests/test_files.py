"""Files are whole or not there, several are replaced as one, and what is read is a plain file of the right content."""

import errno
import hashlib
import json
import logging
import os
import threading
import time

import pytest
from filelock import FileLock
from fuzz.crashes import points_of, stopped
from fuzz.trials import outcome_of

from skfactors import files
from skfactors.files import (
    advised_errors,
    checksum,
    held_lock,
    leftovers,
    open_plain,
    read_member,
    read_plain,
    remove_leftovers,
    replace_files,
    replaced_file,
)

OLD, NEW = {"a": b"old a", "b": b"old b"}, {"a": b"new a", "b": b"and a longer b"}
REMEDY = "Save it again."


def sha256(content):
    return hashlib.sha256(content).hexdigest()


def save(folder, contents, **options):
    record = {name: [len(content), sha256(content)] for name, content in contents.items()}
    replace_files(folder, contents, "record", json.dumps(record).encode(), **options)


def saved_in(folder):
    record = json.loads((folder / "record").read_bytes())
    return {name: read_member(folder, name, *told, remedy=REMEDY) for name, told in record.items()}


def aged(path):
    os.utime(path, (time.time() - 60,) * 2)
    return path


def test_a_file_takes_the_place_of_the_old_one_once_it_is_whole(tmp_path):
    path = tmp_path / "a"
    path.write_bytes(b"old")
    with replaced_file(path) as file:
        file.write(b"new")
        file.flush()
        assert path.read_bytes() == b"old"
    assert path.read_bytes() == b"new"
    assert os.listdir(tmp_path) == ["a"]


def test_a_file_whose_writing_fails_is_as_it_was(tmp_path):
    (tmp_path / "a").write_bytes(b"old")
    with pytest.raises(KeyError), replaced_file(tmp_path / "a") as file:
        file.write(b"new")
        raise KeyError
    assert (tmp_path / "a").read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["a"]


def test_text_that_utf8_cannot_hold_is_escaped(tmp_path):
    with replaced_file(tmp_path / "a", text=True) as file:
        file.write("ü\ud800\n")
    assert (tmp_path / "a").read_bytes() == "ü\\ud800\n".encode()


def test_a_full_disk_is_told_with_what_can_be_done(tmp_path):
    with pytest.raises(OSError, match="make room on the disk") as caught, advised_errors(tmp_path / "a"):
        raise OSError(errno.ENOSPC, "No space left on device")
    assert str(tmp_path / "a") in str(caught.value)


def test_what_a_killed_process_left_is_removed_and_what_others_write_stays(tmp_path):
    with replaced_file(tmp_path / "written") as file:
        (written,) = leftovers(tmp_path)
        aged(written)
        left = aged(_left_behind(tmp_path))
        new = _left_behind(tmp_path)
        remove_leftovers(tmp_path)
        assert written.exists() and new.exists() and not left.exists()
        file.write(b"x")
    assert (tmp_path / "written").read_bytes() == b"x"


def test_leftovers_of_subfolders_are_found(tmp_path):
    (tmp_path / "00").mkdir()
    left = aged(_left_behind(tmp_path / "00"))
    remove_leftovers(tmp_path)
    assert left.exists()
    remove_leftovers(tmp_path, "*/")
    assert not left.exists()


def test_leftovers_of_one_file_are_told_from_those_of_another(tmp_path):
    mine, other = aged(_left_behind(tmp_path)), aged(_left_behind(tmp_path).rename(tmp_path / ".b.0.unfinished"))
    remove_leftovers(tmp_path, ".a")
    assert other.exists() and not mine.exists()


def test_a_leftover_that_is_a_pipe_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / ".a.0.unfinished")
    aged(tmp_path / ".a.0.unfinished")
    remove_leftovers(tmp_path)


def _left_behind(folder):
    path = folder / f".a.{len(os.listdir(folder))}.unfinished"
    path.write_bytes(b"half")
    return path


def test_files_are_replaced_with_their_record_and_nothing_else_is_left(tmp_path):
    save(tmp_path, OLD)
    save(tmp_path, NEW)
    assert saved_in(tmp_path) == NEW
    assert sorted(os.listdir(tmp_path)) == ["a", "b", "record"]


def test_files_that_the_new_state_has_not_are_removed(tmp_path):
    save(tmp_path, OLD)
    save(tmp_path, {"a": b"alone"}, without=("b",))
    assert sorted(os.listdir(tmp_path)) == ["a", "record"]


def test_stopped_at_any_step_all_files_are_old_or_all_are_new(tmp_path):
    save(tmp_path / "whole", OLD)
    points = points_of(stopped(tmp_path / "whole", None, lambda: save(tmp_path / "whole", NEW)))
    found = []
    for number, (step, how) in enumerate(points):
        folder = tmp_path / str(number)
        save(folder, OLD)
        stopped(folder, step, lambda of=folder: save(of, NEW), how)
        found.append(saved_in(folder))
    assert {len(of) for of in found} == {2} and all(of in (OLD, NEW) for of in found)
    # From the moment that the record is the new one.
    assert found == sorted(found, key=[OLD, NEW].index) and OLD in found and NEW in found


def test_a_save_after_one_that_was_stopped_leaves_nothing_of_it(tmp_path):
    save(tmp_path, OLD)
    for step in range(12):
        stopped(tmp_path, step, lambda: save(tmp_path, {"a": b"lost", "b": b"too"}))
    for path in leftovers(tmp_path):
        aged(path)
    save(tmp_path, NEW)
    assert saved_in(tmp_path) == NEW
    assert sorted(os.listdir(tmp_path)) == ["a", "b", "record"]


@pytest.mark.parametrize("content", [b"old A", b"old", b""], ids=["altered", "cut", "emptied"])
def test_a_member_that_is_not_what_the_record_says_is_refused_by_name(tmp_path, content):
    save(tmp_path, OLD)
    (tmp_path / "a").write_bytes(content)
    with pytest.raises(ValueError, match=r"a' was cut short or altered: .* Save it again\.") as caught:
        saved_in(tmp_path)
    assert str(tmp_path / "a") in str(caught.value)


def test_a_member_that_is_missing_is_named(tmp_path):
    save(tmp_path, OLD)
    (tmp_path / "b").unlink()
    with pytest.raises(FileNotFoundError, match=r"b' is missing\. Save it again\."):
        saved_in(tmp_path)


def test_a_member_of_another_size_is_not_read(tmp_path):
    save(tmp_path, OLD)
    os.truncate(tmp_path / "a", 2**40)
    with pytest.raises(ValueError, match="1099511627776 bytes instead of 5"):
        saved_in(tmp_path)


def test_a_file_that_memory_cannot_hold_is_refused_by_name(tmp_path):
    with (tmp_path / "a").open("wb") as file:
        file.truncate(2**40)
    error = outcome_of(lambda: read_plain(tmp_path / "a")).error
    assert isinstance(error, ValueError) and "a' has 1099511627776 bytes, more than there is memory for" in str(error)


def _pipe(path):
    os.mkfifo(path)


def _device(path):
    path.symlink_to("/dev/zero")


@pytest.mark.parametrize("make", [_pipe, _device, os.mkdir])
def test_what_is_no_plain_file_is_refused_at_once(tmp_path, make):
    make(tmp_path / "a")
    with pytest.raises(ValueError, match="a' is not a plain file"):
        read_plain(tmp_path / "a")


def test_a_link_out_of_the_folder_is_refused_and_one_within_it_is_followed(tmp_path):
    folder = tmp_path / "folder"
    folder.mkdir()
    (tmp_path / "outside").write_bytes(b"secret")
    (folder / "inside").write_bytes(b"open")
    (folder / "out").symlink_to(tmp_path / "outside")
    (folder / "in").symlink_to("inside")
    with pytest.raises(ValueError, match="leads out of its folder"):
        read_plain(folder / "out", folder)
    assert read_plain(folder / "in", folder) == b"open"


def test_a_folder_may_itself_be_a_link(tmp_path):
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "a").write_bytes(b"x")
    (tmp_path / "link").symlink_to("folder")
    assert read_plain(tmp_path / "link" / "a", tmp_path / "link") == b"x"


def test_a_link_to_itself_is_an_error_that_names_it(tmp_path):
    (tmp_path / "a").symlink_to("a")
    with pytest.raises((OSError, ValueError), match="a'"):
        read_plain(tmp_path / "a", tmp_path)


def test_a_file_that_is_missing_is_an_error_that_says_so(tmp_path):
    with pytest.raises(FileNotFoundError, match="nothing"), open_plain(tmp_path / "nothing", tmp_path):
        pytest.fail("it was opened")


def test_a_checksum_is_that_of_the_content(tmp_path):
    (tmp_path / "a").write_bytes(b"content")
    assert checksum(tmp_path / "a") == sha256(b"content")


def test_who_waits_for_long_says_for_what(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(files, "_SECONDS_OF_SILENCE", 0.05)
    held = threading.Event()

    def hold():
        with FileLock(tmp_path / "lock"):
            held.set()
            for _ in range(400):
                if "waiting for" in caplog.text:
                    break
                time.sleep(0.05)

    other = threading.Thread(target=hold)
    other.start()
    held.wait()
    with caplog.at_level(logging.WARNING), held_lock(tmp_path / "lock", "writes the store 'a'"):
        other.join(20)
        assert not other.is_alive()
    assert "waiting for another process, which writes the store 'a'" in caplog.text


def test_who_does_not_wait_says_nothing(tmp_path, caplog):
    with held_lock(tmp_path / "lock", "writes"), pytest.raises(TimeoutError):
        FileLock(tmp_path / "lock", timeout=0).acquire()
    with held_lock(tmp_path / "lock", "writes"):
        pass
    assert not caplog.records
