"""Texts as they come in, checked one by one, and as they are looked up, by document number."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from os import PathLike
from pathlib import Path

import numpy as np
import pandas as pd


def iter_texts(texts: Iterable[str]) -> Iterator[str]:
    """
    Yield every text after checking that it is one.

    Parameters
    ----------
    texts : iterable of str
        A list, tuple, pandas Series, 1-D array, generator, ...

    Yields
    ------
    str

    Raises
    ------
    TypeError
        If `texts` is not a collection of texts, or an element is not a str; the element's index is named.
    ValueError
        If there is no text at all.
    """
    check_is_collection(texts)
    index = -1
    for index, text in enumerate(texts):
        if not isinstance(text, str):
            raise TypeError(
                f"texts[{index}] is {_describe(text)}, not a str. "
                "Drop it or replace it, for example by an empty string."
            )
        yield text
    if index < 0:
        raise ValueError("texts is empty: at least one text is needed.")


def check_is_collection(texts) -> None:
    """
    Refuse what iterates but is not a collection of texts.

    Raises
    ------
    TypeError
        For a bare string, bytes, a DataFrame, a mapping, an array that is not 1-D, or what is not iterable.
    """
    if isinstance(texts, str):
        raise TypeError("texts is a single str; put it into a list: [text].")
    if isinstance(texts, pd.DataFrame):
        raise TypeError("texts is a DataFrame; pass the column that holds the texts.")
    if isinstance(texts, np.ndarray) and texts.ndim != 1:
        raise TypeError(f"texts is an array of shape {texts.shape}; a 1-D array of str is needed.")
    if isinstance(texts, (bytes, Mapping)) or not isinstance(texts, Iterable):
        raise TypeError(f"texts is {_describe(texts)}; a list or another iterable of str is needed.")


def held(texts):
    """Return texts whose number is known and that can be read more than once: a list of those that have no length."""
    check_is_collection(texts)
    return texts if hasattr(texts, "__len__") else list(texts)


class Corpus:
    """
    Texts from where corpora lie, read as they are asked for and as often.

    Parameters
    ----------
    read : callable
        Returns an iterator over the texts.
    """

    def __init__(self, read: Callable[[], Iterator[str]]):
        self._read = read

    def __iter__(self) -> Iterator[str]:
        return self._read()


def open_corpus(texts, column: str):
    """
    Find the texts in what may be a file or a dataset.

    Parameters
    ----------
    texts : path-like, datasets.Dataset, datasets.IterableDataset or iterable of str
        A file has one text per line, in UTF-8.
    column : str
        Of a dataset.

    Returns
    -------
    iterable of str

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    TypeError, ValueError
        If the dataset has no such column, or it is not a collection of texts.
    """
    if isinstance(texts, PathLike):
        if not Path(texts).is_file():
            raise FileNotFoundError(f"there is no text file {str(texts)!r}.")
        return Corpus(lambda: _lines(texts))
    if hasattr(texts, "column_names"):
        if texts.column_names is not None and column not in texts.column_names:
            raise ValueError(f"the dataset has no column {column!r}: its columns are {texts.column_names}.")
        return Corpus(lambda: (row[column] for row in texts))
    check_is_collection(texts)
    return texts


def _lines(path) -> Iterator[str]:
    # Some editors and spreadsheets begin a file with a byte order mark, which is not part of its first text.
    with open(path, encoding="utf-8-sig") as file:
        try:
            for line in file:
                yield line.removesuffix("\n")
        except UnicodeDecodeError as error:
            raise ValueError(f"{str(path)!r} is not UTF-8 text: {error}. Convert it first.") from error


def _describe(value) -> str:
    return "None" if value is None else f"of type {type(value).__name__}"


class Texts(Sequence):
    """
    Texts by document number: ``texts[document]``.

    Iterates and compares like a list of its texts. The part of a corpus that one step of a stream holds keeps
    the corpus's own document numbers, so they need not start at 0.

    Parameters
    ----------
    by_number : mapping of int to str
        In ascending order of document number.
    """

    def __init__(self, by_number: Mapping[int, str]):
        self._by_number = dict(by_number)

    @classmethod
    def numbered(cls, texts: Iterable[str], first: int = 0) -> "Texts":
        """Give `texts` consecutive numbers from `first` on."""
        return cls(dict(enumerate(texts, start=first)))

    def __getitem__(self, document: int) -> str:
        try:
            return self._by_number[document]
        except KeyError:
            raise IndexError(f"no document {document!r} among these {len(self)} texts") from None

    def __iter__(self) -> Iterator[str]:
        return iter(self._by_number.values())

    def __len__(self) -> int:
        return len(self._by_number)

    def __eq__(self, other) -> bool:
        if isinstance(other, Texts):
            return self._by_number == other._by_number
        if isinstance(other, (list, tuple)):
            return list(self) == list(other)
        return NotImplemented

    __hash__ = None

    def __repr__(self) -> str:
        return f"Texts({len(self)} documents)"

    def items(self):
        """Return (document number, text) pairs."""
        return self._by_number.items()

    def shifted(self, by: int) -> "Texts":
        """Return the same texts with every document number raised by `by`."""
        return Texts({number + by: text for number, text in self.items()})
