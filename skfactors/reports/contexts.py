"""Top contexts: where in the texts a factor is most active."""

from numbers import Integral

import numpy as np
import pandas as pd
from sklearn.utils import check_scalar

from skfactors.codes import check_codes
from skfactors.reports.counting.entries import (
    by_number,
    check_places,
    largest_in_groups,
    largest_of_each_member,
    positive_entries,
)
from skfactors.reports.naming import shortened, whole_letters

CONTEXT_COLUMNS = ("factor", "layer", "rank", "activation", "token", "left", "right", "document", "position")
QUANTILE_COLUMNS = ("factor", "layer", "quantile", "draw", *CONTEXT_COLUMNS[3:], "met_before")
N_QUANTILES = 10
CHARACTERS_A_WORD = 16


def top_contexts(codes, provenance, texts, *, k=20, by_layer=True, window=10, unique_documents=True) -> pd.DataFrame:
    """
    List the contexts in which each factor is most active.

    Parameters
    ----------
    codes : sparse array or ndarray of shape (n_rows, n_components)
        Activations of the factors. Only those above zero make a context.
    provenance : DataFrame of length n_rows
        Integer columns `document`, `layer`, `position`, `start` and `end`: where each row came from.
    texts : sequence of str
        By document number: ``texts[document][start:end]`` is the text of a row's token. Of a Series, the order counts.
    k : int, default=20
        Contexts in a list, at most.
    by_layer : bool, default=True
        Whether each (factor, layer) has its own list, or each factor one list over all layers.
    window : int, default=10
        Words of context on either side of the token, at most.
    unique_documents : bool, default=True
        Whether a document appears in a list at most once, with its strongest activation.

    Returns
    -------
    DataFrame
        Columns `factor`, `layer`, `rank` (from 1, the strongest), `activation`, `token`, `left`, `right`, `document`
        and `position`; sorted by factor, layer and rank, or by factor and rank. Of equal activations the earlier row
        ranks first.

    Raises
    ------
    TypeError, ValueError
        If a parameter is out of range, codes and provenance do not fit together, or codes are not finite.

    See Also
    --------
    FactorReport : The same over a corpus of any size.

    Notes
    -----
    `left` and `right` are exact substrings that meet the token. A token that ends between a letter and its marks is
    shown with the whole letter; of one longer than 160 characters the beginning and the end are shown, with "…" between
    them. A word is what white space separates, so a piece of the token's own word counts as one. A side has at most
    16 times `window` characters, which bounds writing without spaces; it starts and ends with whole words where it has
    white space to tell them by, and white space at its outer end is left out.

    Examples
    --------
    >>> import pandas as pd
    >>> from skfactors.reports import top_contexts
    >>> provenance = pd.DataFrame(
    ...     {"document": [0, 0], "layer": [3, 3], "position": [0, 1], "start": [4, 8], "end": [8, 13]}
    ... )
    >>> contexts = top_contexts([[0.5], [2.0]], provenance, ["the red apple fell"], window=1)
    >>> contexts[["factor", "layer", "rank", "activation", "token", "left", "right"]]
       factor  layer  rank  activation  token  left  right
    0       0      3     1         2.0  apple  red    fell
    """
    check_scalar(k, "k", Integral, min_val=1)
    check_scalar(window, "window", Integral, min_val=0)
    codes = check_codes(codes)
    places = check_places(provenance, codes.shape[0])
    texts = by_number(texts)
    rows, factors, activations = positive_entries(codes)
    layers, layer_places = np.unique(places.layer, return_inverse=True)
    groups = factors * len(layers) + layer_places[rows] if by_layer else factors
    chosen, ranks = strongest_contexts(groups, activations, places.document[rows], k, unique_documents)
    rows = rows[chosen]
    return context_table(
        factors[chosen],
        places.layer[rows],
        ranks,
        activations[chosen],
        cut_excerpts(places, rows, texts, window),
        places.document[rows],
        places.position[rows],
    )


def strongest_contexts(groups, activations, documents, k, unique_documents):
    """
    Choose the contexts that make the lists.

    Parameters
    ----------
    groups, documents : ndarray of int of shape (n_entries,)
        The list that an entry is a candidate for, and the document it comes from.
    activations : ndarray of float of shape (n_entries,)
    k : int
    unique_documents : bool

    Returns
    -------
    chosen, ranks : ndarray of int
        As :func:`~skfactors.reports.ranking.largest_in_groups` gives them.
    """
    if not unique_documents:
        return largest_in_groups(groups, activations, k)
    candidates = largest_of_each_member(groups, documents, activations)
    chosen, ranks = largest_in_groups(groups[candidates], activations[candidates], k)
    return candidates[chosen], ranks


def cut_excerpts(places, rows, texts, window):
    """
    Cut the contexts of some rows out of the texts, once for each place in them.

    Parameters
    ----------
    places : Places
    rows : ndarray of int of shape (n_contexts,)
        Rows of `places`, in any order and repeated at will.
    texts : indexable by document number
    window : int

    Returns
    -------
    ndarray of object of shape (n_contexts,)
        Tuples (left, token, right). Contexts of one token share theirs.
    """
    wanted, returning = np.unique(rows, return_inverse=True)
    cut = {}
    excerpts = np.empty(len(wanted), dtype=object)
    columns = (column[wanted].tolist() for column in (places.document, places.start, places.end))
    for number, place in enumerate(zip(*columns, strict=True)):
        if place not in cut:
            document, start, end = place
            cut[place] = excerpt(texts[document], start, end, window)
        excerpts[number] = cut[place]
    return excerpts[returning]


def excerpt(text, start, end, window):
    """
    Cut a token and the words around it out of a text, however long the text.

    Parameters
    ----------
    text : str
    start, end : int
        Character offsets of the token.
    window : int
        Words on either side, at most.

    Returns
    -------
    left, token, right : str
        ``left + token + right`` is a substring of `text`, but for what a long token leaves out.
    """
    start, end = whole_letters(text, start, end)
    left, right = _left_bound(text, start, window), _right_bound(text, end, window)
    return text[left:start], shortened(text[start:end]), text[end:right]


def _left_bound(text, start, window):
    if window == 0:
        return start
    limit = max(0, start - CHARACTERS_A_WORD * window)
    side = text[limit:start]
    words = side.rsplit(maxsplit=window)
    if len(words) > window or (limit > 0 and _inside_word(text, limit) and words != [side]):
        side = side[len(words[0]) :]
    return start - len(side.lstrip())


def _right_bound(text, end, window):
    if window == 0:
        return end
    limit = min(len(text), end + CHARACTERS_A_WORD * window)
    side = text[end:limit]
    words = side.split(maxsplit=window)
    if len(words) > window or (limit < len(text) and _inside_word(text, limit) and words != [side]):
        side = side[: len(side) - len(words[-1])]
    return end + len(side.rstrip())


def _inside_word(text, offset):
    return not text[offset - 1].isspace() and not text[offset].isspace()


def narrowed(contexts, shades, window) -> tuple[pd.DataFrame, pd.DataFrame]:
    """
    Take away what contexts have beyond a window.

    Parameters
    ----------
    contexts : DataFrame
        With columns `left`, `token` and `right`, as :func:`excerpt` cuts them with this window or a wider one.
    shades : DataFrame
        Tokens in them: columns `line`, a place in `contexts`, `start`, `end` and `activation`.
    window : int
        Words on either side, at most.

    Returns
    -------
    contexts, shades : DataFrame
        As they are where they are cut with `window`.
    """
    sides = {name: contexts[name].tolist() for name in ("left", "token", "right")}
    cut = np.array([_left_bound(left, len(left), window) for left in sides["left"]], dtype=np.int64)
    sides["left"] = [left[start:] for left, start in zip(sides["left"], cut, strict=True)]
    sides["right"] = [right[: _right_bound(right, 0, window)] for right in sides["right"]]
    lengths = np.array([sum(map(len, parts)) for parts in zip(*sides.values(), strict=True)], dtype=np.int64)
    lines = shades["line"].to_numpy()
    starts, ends = (np.clip(shades[side].to_numpy() - cut[lines], 0, lengths[lines]) for side in ("start", "end"))
    shades = shades.assign(start=starts, end=ends)[starts < ends].reset_index(drop=True)
    columns = {name: pd.Series(sides[name], index=contexts.index, dtype=object) for name in ("left", "right")}
    return contexts.assign(**columns), shades


def context_table(factors, layers, ranks, activations, excerpts, documents, positions):
    """
    Put the columns of a table of contexts together.

    Parameters
    ----------
    factors, layers, ranks, documents, positions : ndarray of int of shape (n_contexts,)
        Ranks from 0.
    activations : ndarray of float of shape (n_contexts,)
    excerpts : ndarray of object of shape (n_contexts,)
        Tuples (left, token, right).

    Returns
    -------
    DataFrame
        Columns as in :func:`top_contexts`.
    """
    # Plain Python strings: the string type that pandas would pick cannot hold a lone surrogate everywhere.
    left, token, right = (pd.Series([parts[side] for parts in excerpts], dtype=object) for side in range(3))
    columns = (
        np.asarray(factors, dtype=np.int64),
        np.asarray(layers, dtype=np.int64),
        np.asarray(ranks, dtype=np.int64) + 1,
        activations,
        token,
        left,
        right,
        np.asarray(documents, dtype=np.int64),
        np.asarray(positions, dtype=np.int64),
    )
    return pd.DataFrame(dict(zip(CONTEXT_COLUMNS, columns, strict=True)))


def quantile_contexts(samples, n_components) -> pd.DataFrame:
    """
    Sort rows drawn at random into the tenths of each factor's activations.

    Parameters
    ----------
    samples : DataFrame or None
        Of each factor in random order, as a tally has them; those of a factor beyond the last are left out.
    n_components : int

    Returns
    -------
    DataFrame
        As :meth:`FactorReport.sampled_contexts` gives it.
    """
    if samples is None:
        return pd.DataFrame(columns=QUANTILE_COLUMNS)
    samples = samples[samples["factor"] < n_components]
    factors = samples.groupby("factor")["activation"]
    # From the strongest down, so that it is of the strongest tenth however few there are.
    places = factors.rank(method="first", ascending=False) - 1
    quantiles = N_QUANTILES - (places * N_QUANTILES // factors.transform("size")).astype(np.int64)
    samples = samples.assign(quantile=quantiles)
    samples["draw"] = samples.groupby(["factor", "quantile"]).cumcount() + 1
    order = np.lexsort((-samples["activation"].to_numpy(), samples["factor"].to_numpy()))
    return samples[list(QUANTILE_COLUMNS)].iloc[order]
