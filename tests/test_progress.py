"""Progress in terminals, notebooks and files: what is written, and where."""

import io
import re
import sys
import threading
import warnings

import pytest
from rich import console as rich_console

from skfactors import progress
from skfactors.progress import progress_bar


@pytest.fixture
def clock(monkeypatch):
    """A clock that is set by hand."""
    now = [100.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    return now


@pytest.fixture
def terminal(monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "100")


@pytest.fixture
def notebook(monkeypatch):
    monkeypatch.setattr(rich_console, "_is_jupyter", lambda: True)
    monkeypatch.setattr(progress.importlib.util, "find_spec", lambda name: None)


def test_a_file_has_a_line_now_and_then_and_one_at_the_end(capsys, clock):
    with progress_bar("learning", total=200) as advance:
        for _ in range(100):
            clock[0] += 1
            advance(1, "explained 0.5")
    lines = capsys.readouterr().out.splitlines()
    assert lines == [
        "learning 15%, 0:00:30, explained 0.5",
        "learning 30%, 0:01:00, explained 0.5",
        "learning 45%, 0:01:30, explained 0.5",
        "learning 50%, 0:01:40, explained 0.5, done",
    ]


def test_lines_say_which_stages_a_stage_is_in(capsys, clock):
    with progress_bar("searching", total=4) as advance:
        advance(1)
        with progress_bar("learning", total=None) as advance_inner:
            clock[0] += 60
            advance_inner(1)
    assert capsys.readouterr().out.splitlines() == [
        "searching 25%, 0:01:00 > learning, 0:01:00",
        "learning, 0:01:00, done",
        "searching 25%, 0:01:00, done",
    ]


def test_a_stage_that_fails_is_not_said_to_be_done(capsys):
    with pytest.raises(ValueError), progress_bar("learning", total=2):
        raise ValueError
    assert capsys.readouterr().out == "learning 0%, 0:00:00, stopped\n"
    with progress_bar("learning", total=2):
        pass
    assert capsys.readouterr().out == "learning 0%, 0:00:00, done\n"


def test_a_notebook_without_widgets_has_a_line_that_is_written_anew_and_no_warning(capsys, notebook, clock):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with progress_bar("learning", total=3) as advance:
            for status in ("explained 0.25", "explained 0.5", "ex 0.7"):
                clock[0] += 1
                advance(1, status)
    states = capsys.readouterr().out.split("\r")
    assert [state.rstrip() for state in states[1:]] == [
        "learning 33%, 0:00:01, explained 0.25",
        "learning 67%, 0:00:02, explained 0.5",
        "learning 100%, 0:00:03, ex 0.7",
        "learning 100%, 0:00:03, ex 0.7, done",
    ]
    # Nothing of a longer state stays to be seen.
    assert len(states[3]) >= len(states[2].rstrip())
    assert states[-1].endswith("\n")


@pytest.mark.usefixtures("terminal")
def test_stages_of_several_threads_share_a_terminal(monkeypatch):
    monkeypatch.setattr(sys, "stdout", io.StringIO())
    together, failures = threading.Barrier(3, timeout=10), []

    def work(number):
        try:
            with progress_bar(f"thread {number}", total=2) as advance:
                together.wait()
                advance(2)
                together.wait()
        except BaseException as error:
            failures.append(error)
            raise

    threads = [threading.Thread(target=work, args=(number,)) for number in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    shown = re.sub("\x1b\\[[0-9;?]*[a-zA-Z]", "", sys.stdout.getvalue())
    assert re.search("thread 0.*100%.*\n.*thread 1.*\n.*thread 2|thread . .*100%", shown)
    assert progress._shared._display is None


@pytest.mark.usefixtures("terminal")
def test_one_of_several_processes_draws_no_bar(monkeypatch, capsys):
    monkeypatch.setenv("WORLD_SIZE", "2")
    with progress_bar("learning", total=1) as advance:
        advance(1)
    assert capsys.readouterr().out == "learning 100%, 0:00:00, done\n"
