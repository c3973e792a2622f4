"""What all the tokens that a factor fires on have in common, whatever they say: their kind, their place, their past."""

import re

import numpy as np
import pandas as pd

from skfactors.codes import check_codes
from skfactors.reports.counting.entries import by_number, check_places, positive_entries
from skfactors.reports.counting.samples import SampledRows
from skfactors.reports.counting.surroundings import Surroundings
from skfactors.reports.naming import is_visible, token_name

PATTERN_COLUMNS = ("pattern", "one_token", "kind", "of_kind", "met_before", "same_positions", "listed")
_FIRST_POSITIONS = 3
# Where a share counts as all: some activations of any factor are noise.
_NEARLY_ALL = 0.8
_MOST = 0.6
# Of a token that is everywhere it says nothing that it was met before.
_FEW = 1 / 3
_MANY_TOKENS = 10
_FEWEST_ROWS = 5
# By how many standard deviations of what it is by chance a share of new tokens must be less.
_DEVIATIONS = 4
_UNSEEN = ("line breaks", "white space")

_PARTS = re.compile(r"[^\W_]+(?:['’-][^\W_]+)*|[^\w\s]|\n")
_COMMAS = frozenset(",;/|•·")
_SEPARATORS = _COMMAS | {"and", "or", "&"}
_ENDS = frozenset(".:!?\n")
_WORDS_AN_ITEM = 3
_FEWEST_SEPARATORS = 3
# On either side of a token, as far as a list reaches.
WORDS_AROUND = _WORDS_AN_ITEM * _FEWEST_SEPARATORS


def firing_patterns(codes, provenance, texts) -> pd.DataFrame:
    """
    Tell what the tokens on which a factor is active have in common, from codes alone.

    Parameters
    ----------
    codes : sparse array or ndarray of shape (n_rows, n_components)
        Activations of the factors.
    provenance : DataFrame of length n_rows
        As :func:`top_contexts` takes it.
    texts : sequence of str
        By document number.

    Returns
    -------
    DataFrame
        Index `factor`. `pattern` is

        - "repetition": it fires on a token that was met before in the 2,000 characters before it, whatever the token
        - "position": it fires at a few positions of the text, whatever stands there
        - "one token": always on the same
        - "enumeration": within lists, "red, green and blue"
        - "numbers", "punctuation", "line breaks", "white space", "word pieces": on tokens of this kind
        - empty: nothing of these

        the first that is right.

        The other columns are shares of its activation: `one_token` on its commonest token, `of_kind` on tokens of its
        commonest `kind` ("words" or one of those above), `met_before` on tokens met before, where each of its different
        tokens counts by its mean activation, `same_positions` at its three commonest positions, and `listed` within
        lists. NaN where it is not active.

    Raises
    ------
    TypeError, ValueError
        If codes and provenance do not fit together, or codes are not finite.

    Notes
    -----
    Shares are those of 100 active rows of each factor, drawn at random, and therefore right to a tenth. A pattern is
    told where it holds four fifths of the activation, for lists three fifths, and where the share among 2,000 rows
    drawn from all is less than half of that. For "repetition" no token holds a third of the activation, and the share
    of tokens that are new must be less than half of what it is among as many of these rows, and less by four standard
    deviations. Of a factor with fewer than 5 active
    rows nothing is told, and repetition and position only of those with 10 different tokens or more.

    Examples
    --------
    >>> import pandas as pd
    >>> from skfactors.reports import firing_patterns
    >>> text = "a b a c a d a e a f a g"
    >>> provenance = pd.DataFrame({"document": 0, "layer": 0, "position": range(12), "start": range(0, 24, 2)})
    >>> provenance["end"] = provenance["start"] + 1
    >>> firing_patterns([[float(word == "a")] for word in text.split()], provenance, [text])["pattern"].tolist()
    ['one token']
    """
    codes = check_codes(codes)
    places = check_places(provenance, codes.shape[0])
    rows, factors, activations = positive_entries(codes)
    sampled = SampledRows(codes.shape[1], window=WORDS_AROUND)
    every = slice(0, len(places))
    sampled.add(factors, activations, rows, every, Surroundings(codes, places), by_number(texts))
    return patterns_of(sampled.table(), codes.shape[1])


def patterns_of(samples, n_components) -> pd.DataFrame:
    """
    Tell the pattern of each factor from a sample of rows.

    Parameters
    ----------
    samples : DataFrame
        As :class:`~skfactors.reports.counting.samples.SampledRows` gives it.
    n_components : int

    Returns
    -------
    DataFrame
        As :func:`firing_patterns` returns it.
    """
    names = {}
    samples = samples.assign(
        # By number: the string type that pandas would pick cannot hold a lone surrogate everywhere.
        name=[names.setdefault(token_name(token), len(names)) for token in samples["token"]],
        kind=[_kind(*sides) for sides in zip(samples["left"], samples["token"], samples["right"], strict=True)],
        listed=[is_listed(*sides) for sides in zip(samples["left"], samples["token"], samples["right"], strict=True)],
        share=samples["activation"] / samples.groupby("factor")["activation"].transform("sum"),
    )
    factors = samples.groupby("factor")
    kinds = samples.groupby(["factor", "kind"])["share"].sum()
    positions = samples.groupby(["factor", "position"])["share"].sum()
    commonest = positions.groupby("factor", group_keys=False).nlargest(_FIRST_POSITIONS)
    by_name = samples.assign(met=samples["share"] * samples["met_before"]).groupby(["factor", "name"])
    of_name = by_name[["share", "met"]].sum().assign(mean=by_name["share"].mean())
    table = pd.DataFrame(
        {
            "one_token": of_name["share"].groupby("factor").max(),
            "kind": kinds.groupby("factor").idxmax().map(lambda pair: pair[1]),
            "of_kind": kinds.groupby("factor").max(),
            "met_before": (of_name["met"] / of_name["share"] * of_name["mean"]).groupby("factor").sum()
            / of_name["mean"].groupby("factor").sum(),
            "same_positions": commonest.groupby("factor").sum(),
            "listed": (samples["share"] * samples["listed"]).groupby(samples["factor"]).sum(),
            "n_tokens": of_name.groupby("factor").size(),
        }
    )
    everywhere = table.reindex([n_components]).iloc[0]
    most_new = _most_new(samples[samples["factor"] == n_components])
    most_new = factors.size().map({size: most_new(size) for size in factors.size().unique()})
    # What a factor's commonest positions are among all rows.
    of_all = positions.loc[[n_components]].droplevel("factor") if n_components in factors.groups else positions[:0]
    expected = commonest.index.get_level_values("position").map(of_all.to_dict()).to_numpy(dtype=np.float64)
    expected = pd.Series(np.nan_to_num(expected), index=commonest.index).groupby("factor").sum()
    of_kinds = kinds.loc[[n_components]].droplevel("factor") if n_components in factors.groups else kinds[:0]
    usual_kind = table["kind"].map(of_kinds.to_dict()).fillna(0)
    is_kind = (table["of_kind"] >= _NEARLY_ALL) & (table["kind"] != "words") & (2 * usual_kind < table["of_kind"])
    patterns = {
        "repetition": (table["n_tokens"] >= _MANY_TOKENS)
        & (table["one_token"] < _FEW)
        & (table["met_before"] >= _NEARLY_ALL)
        & (1 - table["met_before"] < most_new),
        "position": (table["n_tokens"] >= _MANY_TOKENS)
        & (table["same_positions"] >= _NEARLY_ALL)
        & (2 * expected < table["same_positions"]),
        # What cannot be seen is better told by its kind.
        "one token": (table["one_token"] >= _NEARLY_ALL) & ~table["kind"].isin(_UNSEEN),
    }
    in_lists = (table["listed"] >= _MOST) & (2 * everywhere["listed"] < table["listed"])
    told = [*patterns.values(), in_lists, is_kind], [*patterns, "enumeration", table["kind"]]
    table["pattern"] = np.select(*told, default="")
    table.loc[factors.size() < _FEWEST_ROWS, "pattern"] = ""
    table = table.reindex(pd.RangeIndex(n_components, name="factor"))[list(PATTERN_COLUMNS)]
    return table.fillna({"pattern": "", "kind": ""})


def _most_new(rows):
    """Return a function from a number of rows to a share of new tokens in them that is far less than by chance."""
    rows = rows.sample(frac=1, random_state=0)

    def most_new(size):
        # Of more rows more tokens are rare ones, which are new: shares are compared among as many.
        parts = np.minimum(np.arange(len(rows)) // size, max(len(rows) // size - 1, 0))
        are_new = 1 - rows["met_before"].astype(float).groupby([parts, rows["name"].to_numpy()]).mean()
        of_parts = are_new.groupby(level=0).mean()
        mean, deviation = of_parts.mean(), of_parts.std() if len(of_parts) > 1 else 0.0
        return min(mean / 2, mean - _DEVIATIONS * deviation)

    return most_new


def is_listed(left, token, right) -> bool:
    """
    Tell whether a token stands in a list.

    Parameters
    ----------
    left, token, right : str
        What stands around the token.

    Returns
    -------
    bool
        Whether there are at least three commas and their like around it or on it, a comma itself among them, with at
        most three words from one to the next.

    Examples
    --------
    >>> from skfactors.reports.patterns import is_listed
    >>> is_listed("of red, light ", "green", ", blue and white"), is_listed("He was ", "there", ", and left.")
    (True, False)
    """
    own = [part for part in _PARTS.findall(token.lower()) if part in _SEPARATORS]
    before, after = _PARTS.findall(left.lower()), _PARTS.findall(right.lower())
    met = [*own, *_separators(reversed(before)), *_separators(after)]
    return len(met) >= _FEWEST_SEPARATORS and not _COMMAS.isdisjoint(met)


def _separators(parts):
    n_words = 0
    for part in parts:
        if part in _SEPARATORS:
            n_words = 0
            yield part
        else:
            n_words += 1
            if part in _ENDS or n_words > _WORDS_AN_ITEM:
                return


def _kind(left, token, right):
    if not is_visible(token):
        return "line breaks" if "\n" in token or "\r" in token else "white space"
    if not any(map(str.isalpha, token)):
        return "numbers" if any(map(str.isnumeric, token)) else "punctuation"
    inside = (left[-1:].isalnum() and not token[:1].isspace()) or right[:1].isalnum()
    return "word pieces" if inside else "words"
