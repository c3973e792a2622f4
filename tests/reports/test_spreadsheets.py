import csv
import io
import re

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from skfactors.reports.spreadsheets import as_csv, plain_text

SIGNS = "=+-@\uff1d\uff0b\uff0d\uff20"


@pytest.mark.parametrize("separator", [";", ",", "\t", "|", ":", " ", "\n", "\r", '"'])
@pytest.mark.parametrize("sign", SIGNS)
def test_no_piece_of_a_cell_begins_a_formula_whatever_separates_cells(separator, sign):
    text = f"one{separator}{sign}cmd|'/C calc'!A0{separator} \x01\u200b{sign}1"
    for piece in re.split(re.escape(separator), plain_text(text)):
        assert not piece.lstrip(" \t\r\n\x01\u200b\"'").startswith(sign) or piece.lstrip(
            " \t\r\n\x01\u200b"
        ).startswith("'")


@given(st.text(alphabet="=+-@;,|\t\r\n \"'ab\x00\ufeff", max_size=12))
def test_a_sign_stands_behind_a_letter_another_sign_or_an_apostrophe(text):
    assert not re.search(r"(^|[^ab=+\-@'])[=+\-@]", plain_text(text))
    assert plain_text(text).replace("'", "") == text.replace("'", "")


@pytest.mark.parametrize("start", ["\t", "\r", "a;\t", "a,\r", "a|\t", "a\n\t"])
def test_no_cell_begins_with_what_a_spreadsheet_skips(start):
    assert plain_text(f"{start}x") == f"{start[:-1]}'{start[-1]}x"


@pytest.mark.parametrize(
    "text", ["well-known", "a=b", "a@b.org", "C++", "left\tpark", "one, two; three", "\u05e9\u05dc-\u05d5"]
)
def test_ordinary_text_stays_as_it_is(text):
    assert plain_text(text) == text


def test_numbers_stay_numbers_and_names_of_columns_are_text():
    table = pd.DataFrame({"=1+1": [-1.5, 2.0], "text": ["-1.5", None], 7: [-3, 4]})
    lines = list(csv.reader(io.StringIO(as_csv(table).decode())))
    assert lines == [["'=1+1", "text", "7"], ["-1.5", "'-1.5", "-3"], ["2.0", "", "4"]]
