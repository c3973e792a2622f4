"""A short run of the fuzzer, and that it finds what is wrong; ``python -m tests.fuzz`` is the long one."""

import json
import os
import time

import pytest
from fuzz.kinds import KINDS, Kind, Workshop
from fuzz.trials import TooLong, Trial, crash_trials
from fuzz.writings import WRITINGS, Writing

from skfactors.records import check_schema, read_sealed, sealed

SEED = 0


@pytest.fixture(scope="module")
def workshop(tmp_path_factory):
    return Workshop(tmp_path_factory.mktemp("workshop"))


def deviations(trials):
    return [f"{what}: {deviation}" for what, deviation in trials if deviation is not None]


@pytest.mark.parametrize("name", KINDS)
def test_damage_ends_in_an_error_that_names_it_or_in_the_very_same_result(name, workshop, tmp_path):
    trial = Trial(KINDS[name], workshop, tmp_path)
    assert not deviations(trial.mutated(f"{SEED} {name} mutations {number}") for number in range(20))
    assert not deviations(trial.flipped(f"{SEED} {name} flipped bits {number}") for number in range(20))


@pytest.mark.parametrize("name", WRITINGS)
def test_what_is_stopped_leaves_the_old_or_the_new_and_goes_on_when_it_is_called_again(name, workshop, tmp_path):
    assert not deviations(crash_trials(WRITINGS[name], workshop, tmp_path, every=11))


def kind_read_by(use):
    def make(_, folder, variant):
        (folder / "numbers.json").write_text(json.dumps(sealed({"of": variant, "a": 1.5, "b": [2.5, 3.5]})))

    return Kind(make, lambda _, folder: use(folder / "numbers.json"))


def careful(path):
    content = read_sealed(path, path.parent, remedy="Save it again.")
    check_schema(path, content, {"of": range(1), "a": float, "b": [float]}, remedy="Save it again.")
    return [float(content["a"]), *map(float, content["b"])]


def careless(path):
    content = json.loads(path.read_text())
    return [content["a"], *content["b"]]


def sleepy(path):
    if careful(path):
        time.sleep(60)


def overflowing(path):
    return [value if value == known else float("inf") for value, known in zip(careful(path), [1.5, 2.5, 3.5])]


def greedy(path):
    if path.stat().st_size > 200:
        bytearray(path.stat().st_size * 2**30)
    return careful(path)


@pytest.mark.parametrize("way", ["mutated", "flipped"])
def test_a_careful_reader_has_no_deviations(way, tmp_path):
    trial = Trial(kind_read_by(careful), None, tmp_path)
    assert not deviations(getattr(trial, way)(f"{number}") for number in range(200))


def test_what_a_careless_reader_takes_is_found(tmp_path, monkeypatch):
    monkeypatch.setattr("fuzz.trials.SECONDS", 0.5)
    monkeypatch.setattr("fuzz.trials.BYTES", 2**26)
    trial = Trial(kind_read_by(careless), None, tmp_path)
    assert "another result" in str(deviations(trial.flipped(f"{number}") for number in range(100)))
    found = str(deviations(trial.mutated(f"{number}") for number in range(100)))
    for words in ("another result", "a bare KeyError", "a bare TypeError", "that names no file"):
        assert words in found


def test_a_result_that_is_not_finite_is_found_where_the_checksums_are_right(tmp_path):
    trial = Trial(kind_read_by(overflowing), None, tmp_path)
    found = deviations(trial.mutated(f"{number}") for number in range(100))
    assert found and all("with the right checksums: a result that is not finite" in of for of in found)


def test_a_seed_decides_all(tmp_path):
    trial = Trial(kind_read_by(careful), None, tmp_path)
    assert [trial.mutated(f"{number}") for number in range(50)] == [trial.mutated(f"{number}") for number in range(50)]


def test_what_takes_for_ever_or_all_memory_is_found(tmp_path, monkeypatch):
    monkeypatch.setattr("fuzz.trials.SECONDS", 0.2)
    with pytest.raises(TooLong):
        Trial(kind_read_by(sleepy), None, tmp_path / "sleepy")
    trial = Trial(kind_read_by(greedy), None, tmp_path / "greedy")
    assert "a bare MemoryError" in str(deviations(trial.mutated(f"{number}") for number in range(100)))


def save_carelessly(folder, value):
    for name in ("a", "b"):
        (folder / name).write_text(json.dumps({"value": value}))


def save_in_steps(folder, value):
    for name in ("a", "b"):
        path = folder / f"{name}.{os.urandom(4).hex()}"
        path.write_text(json.dumps({"value": value}))
        os.replace(path, folder / name)


def values_in(folder):
    return {json.loads((folder / name).read_bytes())["value"] for name in ("a", "b")}


@pytest.mark.parametrize("saves", [save_carelessly, save_in_steps])
def test_what_a_careless_writer_leaves_is_found(saves, tmp_path):
    def writing_of(value):
        return lambda _, folder: saves(folder, value)

    writing = Writing(writing_of(1), writing_of(2), lambda _, folder: values_in(folder))
    found = str(deviations(crash_trials(writing, None, tmp_path)))
    assert "neither the old nor the new" in found
    assert ("it leaves" in found) == (saves is save_in_steps)
