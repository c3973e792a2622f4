"""Activations: rows of hidden states that know where they came from."""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd

from skfactors.extraction.text.corpus import Texts

PROVENANCE_COLUMNS = ("document", "layer", "position", "token_id", "start", "end")


@dataclass(frozen=True, eq=False)
class Activations:
    """
    Hidden states and their provenance, row by row.

    Goes wherever scikit-learn takes an array: it converts to `X`. Slicing by row (``acts[10:20]``, ``acts[mask]``,
    ``acts[indices]``) gives Activations.

    Parameters
    ----------
    X : ndarray of shape (n_rows, hidden_size)
        The hidden states. Held as a read-only view.
    provenance : DataFrame of shape (n_rows, 6)
        Integer columns `document` (number of the text in the corpus), `layer` (index into the model's hidden states,
        0 = embeddings), `position` (of the token in its document), `token_id`, `start` and `end` (character offsets:
        ``texts[document][start:end]`` is the token's text).
    texts : Texts or sequence of str
        The documents; a plain sequence is numbered from 0.

    Raises
    ------
    ValueError
        If the parts do not fit together; the message names how.

    Examples
    --------
    >>> import numpy as np, pandas as pd
    >>> from skfactors.extraction import Activations
    >>> provenance = pd.DataFrame(
    ...     [[0, 3, 0, 7, 0, 2], [0, 3, 1, 9, 3, 6]],
    ...     columns=["document", "layer", "position", "token_id", "start", "end"],
    ... )
    >>> acts = Activations(np.eye(2), provenance, ["to sum"])
    >>> acts
    Activations(2 rows x 2 features, layers [3], 1 documents)
    >>> acts.tokens()
    ['to', 'sum']
    """

    X: np.ndarray
    provenance: pd.DataFrame
    texts: Texts

    def __post_init__(self):
        X = np.asarray(self.X).view()
        if X.ndim != 2:
            raise ValueError(f"X has {X.ndim} dimensions; rows of hidden states have 2.")
        X.flags.writeable = False
        missing = [name for name in PROVENANCE_COLUMNS if name not in self.provenance]
        if missing:
            raise ValueError(f"provenance lacks the columns {missing}.")
        if len(self.provenance) != len(X):
            raise ValueError(f"X has {len(X)} rows and provenance {len(self.provenance)}.")
        object.__setattr__(self, "X", X)
        if not isinstance(self.texts, Texts):
            object.__setattr__(self, "texts", Texts.numbered(self.texts))

    @property
    def shape(self) -> tuple[int, int]:
        """Shape of `X`."""
        return self.X.shape

    @property
    def dtype(self) -> np.dtype:
        """Data type of `X`."""
        return self.X.dtype

    @property
    def layers(self) -> list[int]:
        """Layers that occur, in order of first appearance."""
        return [int(layer) for layer in pd.unique(self.provenance["layer"])]

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
        return len(self.X)

    def __getitem__(self, rows) -> "Activations":
        if isinstance(rows, (int, np.integer)):
            raise TypeError(f"Activations are sliced by rows: use [{rows}:{rows + 1}], or .X[{rows}] for the vector.")
        return Activations(self.X[rows], self.provenance.iloc[rows].reset_index(drop=True), self.texts)

    def __array__(self, dtype=None, copy=None) -> np.ndarray:
        if copy:
            return np.array(self.X, dtype=dtype)
        return np.asarray(self.X, dtype=dtype)

    def __repr__(self) -> str:
        return (
            f"Activations({len(self)} rows x {self.X.shape[1]} features, layers {self.layers}, "
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
            Of the same width.

        Returns
        -------
        Activations

        Raises
        ------
        ValueError
            If there are no parts, or their widths differ.
        """
        parts = list(parts)
        if not parts:
            raise ValueError("nothing to concatenate: parts is empty.")
        widths = sorted({part.X.shape[1] for part in parts})
        if len(widths) > 1:
            raise ValueError(f"the parts have different widths: {widths}.")
        if not _one_corpus(parts):
            parts = _numbered_on(parts)
        by_number = {number: text for part in parts for number, text in part.texts.items()}
        return cls(
            np.concatenate([part.X for part in parts]),
            pd.concat([part.provenance for part in parts], ignore_index=True),
            Texts(dict(sorted(by_number.items()))),
        )


def _one_corpus(parts: list[Activations]) -> bool:
    seen = {}
    return all(seen.setdefault(number, text) == text for part in parts for number, text in part.texts.items())


def _numbered_on(parts: list[Activations]) -> list[Activations]:
    numbered, following = [], 0
    for part in parts:
        numbers = [number for number, _ in part.texts.items()]
        shift = following - min(numbers, default=0)
        provenance = part.provenance.assign(document=part.provenance["document"] + shift)
        numbered.append(Activations(part.X, provenance, part.texts.shifted(shift)))
        following = max(numbers, default=-1) + shift + 1
    return numbered
