"""Tables for spreadsheets, in which no text can be run as a formula."""

import re

import pandas as pd

# Signs that open a formula, as keyboards of all scripts write them.
_SIGNS = r"=+\-@＝＋－＠﹦﹢﹣﹫−"
# A sign that begins a word; and what spreadsheets skip where it begins a cell.
_COULD_RUN = re.compile(rf"[{_SIGNS}](?<![\w{_SIGNS}].)|[\t\r](?<![^;,|\n].)", re.DOTALL)


def as_csv(table) -> bytes:
    """
    Return a table as CSV for a spreadsheet, in UTF-8.

    Parameters
    ----------
    table : DataFrame
        With the columns to be written; its index is left out.

    Returns
    -------
    bytes

    Notes
    -----
    Texts and names of columns are as :func:`plain_text` has them; numbers stay numbers. What UTF-8 cannot hold, lone
    surrogates, is written as a backslash escape.
    """
    columns = {}
    for name, column in table.items():
        if not pd.api.types.is_numeric_dtype(column):
            # Plain Python strings: the string type that pandas would pick cannot hold a lone surrogate everywhere.
            column = pd.Series(map(plain_text, column), column.index, dtype=object)
        columns[plain_text(name)] = column
    return pd.DataFrame(columns).to_csv(index=False).encode("utf-8", "backslashreplace")


def plain_text(value):
    """
    Return text that no spreadsheet runs, whatever it takes for a separator.

    Parameters
    ----------
    value : object

    Returns
    -------
    object
        A text with an apostrophe before each of = + - @ that does not follow a letter, a digit or another of them, and
        before a tab or a carriage return with which a cell could begin. What is no text, as it is.

    Examples
    --------
    >>> [plain_text(value) for value in ("=1+1", "well-known", "a; =1", "left - right", -1)]
    ["'=1+1", 'well-known', "a; '=1", "left '- right", -1]
    """
    return _COULD_RUN.sub(r"'\g<0>", value) if isinstance(value, str) else value
