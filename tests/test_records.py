"""JSON is read strictly, is known by its checksum, and is checked by a schema that says what is wrong."""

import json

import pytest

from skfactors.records import ANY, NATURAL, check_schema, digest, mismatch, read_json, read_sealed, sealed

REMEDY = "Save it again."


@pytest.fixture
def file(tmp_path):
    return tmp_path / "record.json"


def test_what_was_sealed_is_read_without_its_checksum(file):
    file.write_text(json.dumps(sealed({"b": [1, 2.5, None], "a": "ü"})))
    assert read_sealed(file, remedy=REMEDY) == {"a": "ü", "b": [1, 2.5, None]}


def test_a_record_that_was_laid_out_anew_is_the_same(file):
    file.write_text(json.dumps(sealed({"b": 1, "a": [0.1]}, "checksum"), indent=4, sort_keys=True))
    assert read_sealed(file, name="checksum", remedy=REMEDY) == {"a": [0.1], "b": 1}


def test_no_flipped_bit_of_a_sealed_record_is_another_record(file):
    content = json.dumps(sealed({"alpha": 0.25, "names": ["B"], "n": None})).encode()
    for bit in range(0, 8 * len(content), 3):
        altered = bytearray(content)
        altered[bit // 8] ^= 1 << bit % 8
        file.write_bytes(altered)
        with pytest.raises(ValueError, match=r"record\.json' is damaged: .* Save it again\.$"):
            read_sealed(file, remedy=REMEDY)


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe", b"{} x", b"NaN", b'{"a": -Infinity}', b"[" * 200_000])
def test_what_is_no_json_is_refused_by_name(file, content):
    file.write_bytes(content)
    with pytest.raises(ValueError, match=r"record\.json' is damaged: .* Save it again\.$") as caught:
        read_json(file, remedy=REMEDY)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("content", ["[]", "null", "1", '"a"', "{}", '{"sha256": null}', '{"a": 1, "sha256": 1e999}'])
def test_what_has_no_right_checksum_is_refused_whatever_it_is(file, content):
    file.write_text(content)
    with pytest.raises(ValueError, match=r"record\.json' is damaged"):
        read_sealed(file, remedy=REMEDY)


def test_an_integer_of_thousands_of_digits_is_refused_by_name(file):
    file.write_text("9" * 5000)
    with pytest.raises(ValueError, match=r"record\.json' is damaged"):
        read_json(file, remedy=REMEDY)


def test_a_file_that_is_larger_than_any_record_is_not_read(file):
    with file.open("wb") as opened:
        opened.truncate(2**40)
    with pytest.raises(ValueError, match=r"record\.json' is larger than any"):
        read_json(file, remedy=REMEDY)


def test_a_file_that_is_missing_is_told_apart_from_one_that_is_damaged(file):
    with pytest.raises(FileNotFoundError, match=r"record\.json"):
        read_sealed(file, remedy=REMEDY)


def test_a_link_out_of_the_folder_is_not_followed(file, tmp_path):
    folder = tmp_path / "folder"
    folder.mkdir()
    file.write_text(json.dumps(sealed({})))
    (folder / "link.json").symlink_to(file)
    with pytest.raises(ValueError, match="leads out of its folder"):
        read_sealed(folder / "link.json", folder, remedy=REMEDY)


def test_the_order_of_keys_does_not_count_and_that_of_a_list_does():
    assert digest({"a": 1, "b": 2}) == digest({"b": 2, "a": 1})
    assert digest([1, 2]) != digest([2, 1])


@pytest.mark.parametrize(
    ("value", "schema"),
    [
        (1, int),
        (1, float),
        (0.5, float),
        (True, bool),
        ("a", str),
        (None, None),
        (0, NATURAL),
        (3, range(1, 4)),
        ("b", frozenset("ab")),
        (None, (str, None)),
        ([], [int]),
        ([1, 2], [int]),
        ({"a": 1}, {"a": int, "b?": int}),
        ({"a": 1, "b": 2}, {"a": int, "b?": int}),
        ({"x": 1, "y": 2}, {...: int}),
        ([{"a": [None]}], [{"a": [(None, str)]}]),
        ({"x": [{}]}, ANY),
        (4, lambda value: value % 2 == 0),
    ],
)
def test_what_fits_a_schema_has_no_mismatch(value, schema):
    assert mismatch(value, schema) is None


@pytest.mark.parametrize(
    ("value", "schema", "problem"),
    [
        (True, int, "it is True"),
        (1.0, int, "it is 1.0"),
        ("1", float, "it is '1'"),
        (True, float, "it is True"),
        (float("nan"), float, "it is nan"),
        (float("inf"), float, "it is inf"),
        pytest.param(10**400, float, f"it is {10**39}…", id="an integer that no float holds"),
        (-1, NATURAL, "it is -1"),
        (2**62, NATURAL, "it is 4611686018427387904"),
        (1.0, range(3), "it is 1.0"),
        (True, range(3), "it is True"),
        ("c", frozenset("ab"), "it is 'c'"),
        ([], frozenset("ab"), "it is a list"),
        (0, None, "it is 0"),
        (1, (str, None), "it is 1"),
        ({}, [int], "it is a dict and not a list"),
        ([1, "x"], [int], r"it\[1\] is 'x'"),
        ([], {"a": int}, "it is a list and not a mapping"),
        ({}, {"a": int, "b?": int}, "it lacks a"),
        ({"a": 1, "c": 2}, {"a": int, "b?": int}, "it has 'c', which is not known here"),
        ({"a": 1, "b": "x"}, {"a": int, "b?": int}, "it: b is 'x'"),
        ({"x": "y"}, {...: int}, "it: x is 'y'"),
        ({"a": [{"b": None}]}, {"a": [{"b": int}]}, r"it: a\[0\]: b is None"),
        (3, lambda value: value % 2 == 0, "it is 3"),
        ("x" * 100, int, "it is 'x{39}…"),
    ],
)
def test_what_does_not_fit_is_named_with_its_place(file, value, schema, problem):
    with pytest.raises(ValueError, match=rf"record\.json' is damaged: {problem}\. Save it again\.$"):
        check_schema(file, value, schema, remedy=REMEDY)
