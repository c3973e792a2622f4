"""Windows to parts of bounded size, and hidden states to the rows of a part."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import groupby

import numpy as np
import pandas as pd

from skfactors.extraction.activations import Activations
from skfactors.extraction.identity import ModelIdentity
from skfactors.extraction.provenance import NUMBER_COLUMNS, sites_of
from skfactors.extraction.sites import Place
from skfactors.extraction.text.corpus import Texts
from skfactors.extraction.windows import Window


@dataclass
class Part:
    """
    Windows whose rows are returned together.

    Attributes
    ----------
    texts : dict of int to str
        The documents that the windows come from, and those that gave none, by number.
    windows : list of Window
        Ordered by document, then position.
    n_rowless : int
        How many of the documents give no rows in any part.
    n_outliers : int
        How many tokens were left out as outliers, once it is read.
    """

    texts: dict[int, str] = field(default_factory=dict)
    windows: list[Window] = field(default_factory=list)
    n_rowless: int = 0
    n_outliers: int = 0

    @property
    def n_tokens(self) -> int:
        """Tokens that become rows."""
        return sum(window.n_rows for window in self.windows)


def split_into_parts(
    windowed: Iterable[tuple[str, list[Window]]], n_places: int, max_rows: int | None, first_document: int = 0
) -> Iterator[Part]:
    """
    Gather windows into parts of at most `max_rows` rows; None gathers all into one.

    Yields
    ------
    Part
        At least one. A window is never split, a document may be.
    """
    part, n_rows = Part(), 0
    for document, (text, windows) in enumerate(windowed, start=first_document):
        for window in windows:
            if part.windows and max_rows is not None and n_rows + window.n_rows * n_places > max_rows:
                yield part
                part, n_rows = Part(), 0
            part.texts[document] = text
            part.windows.append(window)
            n_rows += window.n_rows * n_places
        if not windows:
            part.texts[document] = text
            part.n_rowless += 1
    yield part


def assemble(
    part: Part,
    states: Iterable[tuple[list[int], list[np.ndarray]]],
    places: list[Place],
    widths: list[int],
    dtype,
    model: ModelIdentity | None = None,
) -> Activations:
    """
    Put hidden states, in whatever order their windows come, where their rows belong.

    Parameters
    ----------
    part : Part
    states : iterable of (indices of windows, a ndarray of shape (n_windows, length, width) for each place)
    places : list of Place
    widths : list of int
        Of each place.
    dtype : dtype of the rows
    model : ModelIdentity, default=None

    Returns
    -------
    Activations
        Rows ordered by document, place as in `places`, position.
    """
    new = np.empty if len(set(widths)) == 1 else np.zeros
    X = new((part.n_tokens * len(places), max(widths)), dtype=dtype)
    first_row, step = _first_rows(part.windows, len(places))
    for indices, batch in states:
        for row, index in enumerate(indices):
            window = part.windows[index]
            for number, of_place in enumerate(batch):
                start, width = first_row[index] + number * step[index], widths[number]
                X[start : start + window.n_rows, :width] = of_place[row, window.rows, :width]
        del batch, of_place
    provenance = _provenance(part.windows, places)
    return Activations(X, provenance, Texts(part.texts), dict(zip(places, widths, strict=True)), model)


def _first_rows(windows: list[Window], n_places: int) -> tuple[list[int], list[int]]:
    """Row of each window's first token in the first place, and how many rows on the next place lies."""
    first_row, step, row = [], [], 0
    for _, group in groupby(windows, key=lambda window: window.document):
        lengths = [window.n_rows for window in group]
        first_row.extend(row + np.cumsum([0, *lengths[:-1]]))
        step.extend([sum(lengths)] * len(lengths))
        row += sum(lengths) * n_places
    return first_row, step


def _provenance(windows: list[Window], places: list[Place]) -> pd.DataFrame:
    sites = list(dict.fromkeys(place.site for place in places))
    n_tokens = sum(window.n_rows for window in windows)
    numbers = np.empty((n_tokens * len(places), len(NUMBER_COLUMNS)), dtype=np.int64)
    site_codes = np.empty(len(numbers), dtype=np.int8)
    row = 0
    for document, group in groupby(windows, key=lambda window: window.document):
        group = list(group)
        token_ids = np.concatenate([window.row_ids for window in group])
        stop = row + len(token_ids) * len(places)
        block = numbers[row:stop].reshape(len(places), len(token_ids), -1)
        block[..., 0] = document
        block[..., 1] = [[place.layer] for place in places]
        block[..., 2] = group[0].position + np.arange(len(token_ids))
        block[..., 3] = token_ids
        block[..., 4:] = np.concatenate([window.offsets for window in group])
        site_codes[row:stop] = np.repeat([sites.index(place.site) for place in places], len(token_ids))
        row = stop
    return pd.DataFrame(numbers, columns=list(NUMBER_COLUMNS)).assign(site=sites_of(site_codes, sites))
