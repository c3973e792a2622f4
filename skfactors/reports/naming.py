"""What tokens and factors are called: the text of a token as a reader sees it, and the tokens that name a factor."""

import unicodedata
from collections import Counter
from itertools import groupby

LONGEST_TOKEN = 160
MARKS_LOOKED_BACK = 16
N_TOKENS_SHOWN = 5

_MARKS = ("Mn", "Me")
_NAMES = {"\n": "\\n", "\r": "\\r", "\t": "\\t", " ": "space"}
_INVISIBLE = ("Cc", "Cf", "Cs", "Zl", "Zp", "Zs", *_MARKS)


def token_text(text, start, end):
    """Return the text of a token for a reader: with whole letters, and cut in the middle where it is very long."""
    start, end = whole_letters(text, start, end)
    return shortened(text[start:end])


def whole_letters(text, start, end) -> tuple[int, int]:
    """
    Widen a span that begins or ends between a letter and the marks that combine with it.

    Parameters
    ----------
    text : str
    start, end : int
        Character offsets.

    Returns
    -------
    start, end : int
    """
    if start == end:
        return start, end
    begin = start
    while begin > max(0, start - MARKS_LOOKED_BACK) and unicodedata.category(text[begin]) in _MARKS:
        begin -= 1
    stop = end
    while stop < min(len(text), end + MARKS_LOOKED_BACK) and unicodedata.category(text[stop]) in _MARKS:
        stop += 1
    return begin, stop


def shortened(token):
    """Return a token of at most 160 characters: of a longer one the beginning and the end, with "…" between them."""
    if len(token) <= LONGEST_TOKEN:
        return token
    half = LONGEST_TOKEN // 2
    return f"{token[: half - 1]}…{token[-half:]}"


def token_name(token):
    r"""
    Return what a token is called in a list of tokens.

    Parameters
    ----------
    token : str

    Returns
    -------
    str
        The token in lower case, without white space around it. Of one that nothing can be seen of, its characters by
        name, such as ``\n``, ``space×4`` or "no-break space".

    Examples
    --------
    >>> [token_name(token) for token in (" Left", "\n\n", "    ", "\r\n")]
    ['left', '\\n×2', 'space×4', '\\r \\n']
    """
    if is_visible(token):
        return unicodedata.normalize("NFC", token.strip().lower())
    runs = ((_character_name(character), len(list(run))) for character, run in groupby(token))
    return " ".join(name if length == 1 else f"{name}×{length}" for name, length in runs) or "no text"


def is_visible(token) -> bool:
    """Return whether a token has a character that shows, rather than white space, control characters or bare marks."""
    return any(unicodedata.category(character) not in _INVISIBLE for character in token)


def top_tokens(contexts, n_components) -> list[list[str]]:
    """
    List the most common tokens of each factor.

    Parameters
    ----------
    contexts : DataFrame
        Columns `factor` and `token`, the strongest first.
    n_components : int

    Returns
    -------
    list of list of str
        By factor, the names of at most five tokens; empty for a factor without contexts.
    """
    counts = [Counter() for _ in range(n_components)]
    for factor, token in zip(contexts["factor"].tolist(), contexts["token"], strict=True):
        counts[factor][token_name(token)] += 1
    # Of tokens that are equally common, the one met in a stronger context is first.
    return [[token for token, _ in count.most_common(N_TOKENS_SHOWN)] for count in counts]


def first_token(top_tokens: str) -> str:
    """Return the most common of a factor's top tokens."""
    return top_tokens.split(", ")[0]


def _character_name(character):
    return _NAMES.get(character) or unicodedata.name(character, "").lower() or f"U+{ord(character):04X}"
