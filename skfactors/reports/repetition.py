"""Whether a token was met before in its text."""

import numpy as np

CHARACTERS_BACK = 2000


def are_met_before(places, rows, texts) -> np.ndarray:
    """
    Tell of some rows whether their tokens were met before.

    Parameters
    ----------
    places : Places
    rows : ndarray of int of shape (n_rows,)
        Rows of `places`, repeated at will.
    texts : indexable by document number

    Returns
    -------
    ndarray of bool of shape (n_rows,)
    """
    wanted, returning = np.unique(rows, return_inverse=True)
    columns = (column[wanted].tolist() for column in (places.document, places.start, places.end))
    known = {}
    for place in zip(*columns, strict=True):
        if place not in known:
            document, start, end = place
            known[place] = is_met_before(texts[document], start, end)
    columns = (column[wanted].tolist() for column in (places.document, places.start, places.end))
    return np.array([known[place] for place in zip(*columns, strict=True)], dtype=bool)[returning]


def is_met_before(text, start, end) -> bool:
    """
    Tell whether a token stands in the 2,000 characters before it, too.

    Upper and lower case are alike. A word is no part of a longer word, and a piece of a word no whole one.

    Parameters
    ----------
    text : str
    start, end : int
        Character offsets of the token.

    Returns
    -------
    bool
        False of a token that is white space.

    Examples
    --------
    >>> from skfactors.reports.repetition import is_met_before
    >>> text = "The bank, the banks"
    >>> is_met_before(text, 10, 13), is_met_before(text, 14, 18)
    (True, False)
    """
    token = text[start:end].lower()
    start += len(token) - len(token.lstrip())
    token = token.strip()
    if not token:
        return False
    before = text[max(0, start - CHARACTERS_BACK) : start].lower()
    inside = _is_inside(before, len(before)), _is_inside(text[end : end + 1], 1)
    searched = before + token
    place = before.rfind(token)
    while place >= 0:
        stop = place + len(token)
        if (_is_inside(searched, place), _is_inside(searched[stop : stop + 1], 1)) == inside:
            return True
        place = before.rfind(token, 0, stop - 1)
    return False


def _is_inside(text, place) -> bool:
    """Tell whether a letter or digit stands before a place."""
    return place > 0 and text[place - 1 : place].isalnum()
