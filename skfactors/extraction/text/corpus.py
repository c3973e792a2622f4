"""Texts as they come in, checked one by one, and as they are looked up, by document number."""

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from io import TextIOWrapper
from os import PathLike

import numpy as np
import pandas as pd

from skfactors.files import open_plain


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
        If it is a folder, a pipe or a device, the dataset has no such column, or it is not a collection of texts.
    """
    if isinstance(texts, PathLike):
        try:
            with open_plain(texts):
                pass
        except FileNotFoundError:
            raise FileNotFoundError(f"there is no text file {str(texts)!r}.") from None
        return Corpus(lambda: _lines(texts))
    if hasattr(texts, "column_names"):
        if texts.column_names is not None and column not in texts.column_names:
            raise ValueError(f"the dataset has no column {column!r}: its columns are {texts.column_names}.")
        return Corpus(lambda: _of_column(texts, column))
    check_is_collection(texts)
    return texts


def _lines(path) -> Iterator[str]:
    # Some editors and spreadsheets begin a file with a byte order mark, which is not part of its first text.
    with open_plain(path) as content, TextIOWrapper(content, encoding="utf-8-sig") as file:
        before = _version(content)
        try:
            for line in file:
                yield line.removesuffix("\n")
        except UnicodeDecodeError as error:
            raise ValueError(f"{str(path)!r} is not UTF-8 text: {error}. Convert it first.") from error
        if _version(content) != before:
            raise ValueError(
                f"{str(path)!r} was changed while it was read, and what came of it may be partly of the old texts and "
                "partly of the new ones. Read it again once it stays as it is."
            )


def _version(file) -> tuple[int, int]:
    found = os.fstat(file.fileno())
    return found.st_size, found.st_mtime_ns


def _of_column(dataset, column: str) -> Iterator[str]:
    for number, row in enumerate(dataset):
        if column not in row:
            raise ValueError(f"row {number} of the dataset has no column {column!r}: its columns are {list(row)}.")
        yield row[column]


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
