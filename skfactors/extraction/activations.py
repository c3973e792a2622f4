"""Activations: rows of hidden states that know where they came from."""

from collections.abc import Iterable, Mapping
from functools import cached_property

import numpy as np
import pandas as pd

from skfactors.extraction.identity import ModelIdentity
from skfactors.extraction.indexing import is_all, selected_rows
from skfactors.extraction.provenance import check_provenance, is_at, joined, places_of
from skfactors.extraction.sites import Place, find_place, find_places
from skfactors.extraction.text.corpus import Texts


class Activations:
    """
    Hidden states and their provenance, row by row.

    The unit is the token: it has a row for each place that was read, and :meth:`at` gives the rows of one place, the
    same tokens in the same order for every place. Goes wherever scikit-learn takes an array: it converts to `X`.
    Indexing by rows (``acts[10:20]``, ``acts[mask]``, ``acts[numbers]``) gives Activations. Cannot be changed.

    Parameters
    ----------
    X : ndarray of shape (n_rows, width)
        The hidden states. Held as a read-only view.
    provenance : DataFrame of shape (n_rows, 7)
        Integer columns `document` (number of the text in the corpus), `layer` (index into the model's hidden states,
        0 = embeddings), `position` (of the token in its document), `token_id`, `start` and `end` (character offsets:
        ``texts[document][start:end]`` is the token's text); and `site`, a category: what was read in the layer. Without
        that column it is "hidden_states".
    texts : Texts or sequence of str
        The documents; a plain sequence is numbered from 0.
    widths : mapping of Place to int, default=None
        Widths of places that are narrower than X. Their rows fill only the first columns of X.
    model : ModelIdentity, default=None
        The model that they are of, where it is known.

    Raises
    ------
    ValueError
        If the parts do not fit together; the message names how.

    Examples
    --------
    >>> import numpy as np, pandas as pd
    >>> from skfactors.extraction import Activations
    >>> provenance = pd.DataFrame(
    ...     [[0, 3, 0, 7, 0, 2], [0, 3, 1, 9, 3, 6], [0, 4, 0, 7, 0, 2], [0, 4, 1, 9, 3, 6]],
    ...     columns=["document", "layer", "position", "token_id", "start", "end"],
    ... )
    >>> acts = Activations(np.eye(4), provenance, ["to sum"])
    >>> acts
    Activations(4 rows x 4 features, layers [3, 4], 1 documents)
    >>> acts.at(layer=4).tokens()
    ['to', 'sum']
    >>> acts.side_by_side().shape
    (2, 8)
    """

    def __init__(
        self,
        X: np.ndarray,
        provenance: pd.DataFrame,
        texts: Texts,
        widths: Mapping[Place, int] | None = None,
        model: ModelIdentity | None = None,
    ):
        X = np.asarray(X)
        if X.ndim != 2:
            raise ValueError(f"X has {X.ndim} dimensions; rows of hidden states have 2.")
        self._provenance = check_provenance(provenance, len(X))
        self._model = model
        self._texts = texts if isinstance(texts, Texts) else Texts.numbered(texts)
        narrower = {place: width for place, width in (widths or {}).items() if width < X.shape[1]}
        if narrower:
            here = {place: narrower.get(place, X.shape[1]) for place in self.places}
            X = X[:, : max(here.values(), default=X.shape[1])]
            narrower = {place: width for place, width in here.items() if width < X.shape[1]}
        self._narrower = narrower
        self._padded = X.view()
        self._padded.flags.writeable = False

    @property
    def X(self) -> np.ndarray:
        """
        The hidden states, of shape (n_rows, width).

        Raises
        ------
        ValueError
            If the places of the rows differ in width.
        """
        if self._narrower:
            narrower = ", ".join(f"{width} at {tuple(place)}" for place, width in self._narrower.items())
            raise ValueError(
                f"These rows differ in width: {narrower}, and {self._padded.shape[1]} elsewhere. Take those of one "
                f"place, as with at(layer={self.layers[0]}), or side_by_side(), which gives each place its own columns."
            )
        return self._padded

    @property
    def padded(self) -> np.ndarray:
        """The hidden states, those of narrower places filled up with zeros: X, where all places are of one width."""
        return self._padded

    @property
    def provenance(self) -> pd.DataFrame:
        """Where each row is from."""
        return self._provenance

    @property
    def texts(self) -> Texts:
        """The documents, by number."""
        return self._texts

    @property
    def source(self) -> dict:
        """
        What a dictionary that is learned from the rows keeps as its `source_`.

        `model`, its name; `model_fingerprint`, a digest of its weights; `places`, pairs of a site and a layer. Empty
        for rows that no extractor made.
        """
        return {} if self._model is None else self._model.source(self.places)

    @property
    def shape(self) -> tuple[int, int]:
        """Shape of `X`."""
        return self.X.shape

    @property
    def ndim(self) -> int:
        """Two, as of an array."""
        return 2

    @property
    def dtype(self) -> np.dtype:
        """Data type of `X`."""
        return self._padded.dtype

    @cached_property
    def places(self) -> list[Place]:
        """Places that occur, each a site and a layer, in order of first appearance."""
        return places_of(self.provenance)

    @property
    def widths(self) -> dict[Place, int]:
        """Width of each place that occurs."""
        return {place: self._narrower.get(place, self._padded.shape[1]) for place in self.places}

    @property
    def layers(self) -> list[int]:
        """Layers that occur, in order of first appearance."""
        return list(dict.fromkeys(layer for _, layer in self.places))

    def at(self, site: str | None = None, layer: int | None = None) -> "Activations":
        """
        Take the rows of one place.

        Parameters
        ----------
        site : str, default=None
            None is for rows of a single site.
        layer : int, default=None
            As in the provenance. None is for rows of a single layer.

        Returns
        -------
        Activations
            Of shape (n_tokens, width of the place), ordered by document, then position, whatever the order of these
            rows: tokens are in the same order for every place. A view, where the rows already follow each other so.

        Raises
        ------
        ValueError
            If there is no such place, or more than one; the message names those that there are.
        """
        return self[self.rows_at(find_place(self.places, site, layer))]

    def rows_at(self, place: Place) -> np.ndarray | slice:
        """
        Say which rows are those of a place.

        Parameters
        ----------
        place : Place
            One that occurs.

        Returns
        -------
        ndarray of int, or slice
            Ordered by document, then position.
        """
        rows = np.flatnonzero(is_at(self.provenance, place))
        document, position = (self.provenance[name].to_numpy()[rows] for name in ("document", "position"))
        rows = rows[np.lexsort((position, document))]
        return slice(rows[0], rows[-1] + 1) if (np.diff(rows) == 1).all() else rows

    def side_by_side(self, layers=None, sites=None) -> np.ndarray:
        """
        Put the places of each token side by side, in columns.

        Parameters
        ----------
        layers : int or list of int, default=None
            Which, and in which order. None takes all.
        sites : str or list of str, default=None
            Which, and in which order. None takes all.

        Returns
        -------
        ndarray of shape (n_tokens, sum of the widths)
            A row for each token, ordered as in :meth:`at`; columns ordered by site, then by layer.

        Raises
        ------
        ValueError
            If there is no such place, or not every token has a row at each.
        """
        places = find_places(self.places, layers, sites)
        if not places:
            raise ValueError("There are no rows to put side by side.")
        rows = [self.rows_at(place) for place in places]
        numbers = self.provenance[["document", "position"]].to_numpy()
        tokens = [numbers[of_place] for of_place in rows]
        for place, its_tokens in zip(places, tokens, strict=True):
            if not np.array_equal(its_tokens, tokens[0]):
                raise ValueError(
                    f"The {len(its_tokens)} tokens at {tuple(place)} are not the {len(tokens[0])} tokens at "
                    f"{tuple(places[0])}: select whole tokens, with all their rows."
                )
        widths = list(map(self.widths.get, places))
        X = np.empty((len(tokens[0]), sum(widths)), self.dtype)
        for columns, of_place, width in zip(np.split(X, np.cumsum(widths)[:-1], axis=1), rows, widths, strict=True):
            columns[:] = self.padded[of_place, :width]
        return X

    @cached_property
    def sample_weight(self) -> np.ndarray:
        """
        Weight of each row by the rarity of its token, of mean 1.

        1/√count(token), the count over these rows' tokens, each token counted once however many layers hold it:
        words are Zipf-distributed, and without a weight the most frequent ones would claim most of a dictionary
        (Yun et al. 2021).
        """
        tokens = self.provenance[["document", "position", "token_id"]]
        counts = tokens.drop_duplicates(["document", "position"])["token_id"].value_counts()
        weight = 1 / np.sqrt(tokens["token_id"].map(counts).to_numpy(dtype=np.float64))
        if len(weight):
            weight /= weight.mean()
        weight.flags.writeable = False
        return weight

    def tokens(self) -> list[str]:
        """
        Return the text of each row's token.

        Returns
        -------
        list of str of length n_rows
            As the document writes it.
        """
        columns = (self.provenance[name].tolist() for name in ("document", "start", "end"))
        return [self.texts[document][start:end] for document, start, end in zip(*columns, strict=True)]

    def __len__(self) -> int:
        return len(self._padded)

    def __getitem__(self, rows):
        if isinstance(rows, tuple) and len(rows) == 2 and not is_all(rows[1]):
            return self.X[rows]
        rows = selected_rows(rows, len(self))
        provenance = self.provenance.iloc[rows].reset_index(drop=True)
        return Activations(self.padded[rows], provenance, self.texts, self._narrower, self._model)

    def __array__(self, dtype=None, copy=None) -> np.ndarray:
        return np.array(self.X, dtype=dtype) if copy else np.asarray(self.X, dtype=dtype)

    def __repr__(self) -> str:
        widths = sorted(
            {self._narrower.get(place, self._padded.shape[1]) for place in self.places} or {self._padded.shape[1]}
        )
        return (
            f"Activations({len(self)} rows x {' or '.join(map(str, widths))} features, layers {self.layers}, "
            f"{len(self.texts)} documents)"
        )

    @classmethod
    def concat(cls, parts: Iterable["Activations"]) -> "Activations":
        """
        Put the rows of several Activations one after the other.

        Parts that agree on the text of every document number they share are taken for parts of one corpus and keep
        their numbers. Otherwise each part is a corpus of its own and its documents are numbered on from the last.

        Parameters
        ----------
        parts : iterable of Activations
            With a width for each place.

        Returns
        -------
        Activations

        Raises
        ------
        ValueError
            If there are no parts, or they differ in the width of a place.
        """
        parts = list(parts)
        if not parts:
            raise ValueError("nothing to concatenate: parts is empty.")
        widths = {}
        for part in parts:
            for place, width in part.widths.items():
                if widths.setdefault(place, width) != width:
                    raise ValueError(f"the parts have different widths: {sorted({width, widths[place]})}.")
        widest = max(part.padded.shape[1] for part in parts)
        if not _one_corpus(parts):
            parts = _numbered_on(parts)
        by_number = {number: text for part in parts for number, text in part.texts.items()}
        return cls(
            np.concatenate([_filled_up(part.padded, widest) for part in parts]),
            joined(part.provenance for part in parts),
            Texts(dict(sorted(by_number.items()))),
            widths,
            parts[0]._model if all(part._model == parts[0]._model for part in parts) else None,
        )


def _filled_up(rows: np.ndarray, width: int) -> np.ndarray:
    return rows if rows.shape[1] == width else np.pad(rows, ((0, 0), (0, width - rows.shape[1])))


def _one_corpus(parts: list[Activations]) -> bool:
    seen = {}
    return all(seen.setdefault(number, text) == text for part in parts for number, text in part.texts.items())


def _numbered_on(parts: list[Activations]) -> list[Activations]:
    numbered, following = [], 0
    for part in parts:
        numbers = [number for number, _ in part.texts.items()]
        shift = following - min(numbers, default=0)
        provenance = part.provenance.assign(document=part.provenance["document"] + shift)
        numbered.append(Activations(part.padded, provenance, part.texts.shifted(shift), part.widths, part._model))
        following = max(numbers, default=-1) + shift + 1
    return numbered
