"""Texts to windows of tokens, each token knowing its place in its document. No model runs here."""

import re
import unicodedata
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from functools import cache
from importlib.metadata import version

import numpy as np

from skfactors.extraction.turns import Turns

_LONE_SURROGATE = re.compile("[\ud800-\udfff]")
_REPLACEMENT = "\N{REPLACEMENT CHARACTER}"

# Tokenized together: enough for the tokenizer's own threads, little enough to keep a stream's memory small.
_TEXTS_AT_A_TIME = 256
_CHARACTERS_AT_A_TIME = 1_000_000

# A tokenizer holds the length that it cuts at, so a thread that sets another would cut the texts of the first.
_tokenizing = Turns()

# Vowels and final consonants of Korean, where each is written as a character of its own, and tones of skin.
_LATER_PARTS = re.compile("[\u1160-\u11ff\ud7b0-\ud7fb\U0001f3fb-\U0001f3ff]")


@dataclass(frozen=True, eq=False)
class Window:
    """
    What one forward pass sees of a document, and which of its tokens become rows.

    Attributes
    ----------
    document : int
        Number of the document in the corpus.
    input_ids : ndarray of shape (n_tokens,)
        Token ids, special tokens included.
    of_text : slice
        The tokens of this window that are text, not special tokens.
    rows : slice
        The tokens of this window that become rows: neither special tokens nor those that an earlier, overlapping
        window has given already.
    position : int
        Place of the first of them in the document, counted in tokens of the text.
    offsets : ndarray of shape (n_rows, 2)
        Where their text starts and ends, in characters of the document.
    """

    document: int
    input_ids: np.ndarray
    of_text: slice
    rows: slice
    position: int
    offsets: np.ndarray

    @property
    def n_rows(self) -> int:
        """Number of tokens that become rows."""
        return len(self.offsets)

    @property
    def row_ids(self) -> np.ndarray:
        """Ids of the tokens that become rows."""
        return self.input_ids[self.rows]


def check_windowing(tokenizer, max_length: int, stride: int, add_special_tokens: bool) -> None:
    """
    Check that windows of this size leave room for text.

    Raises
    ------
    ValueError
        If the tokenizer gives no character offsets, or special tokens and overlap fill the window.
    """
    if not tokenizer.is_fast:
        raise ValueError(
            f"{type(tokenizer).__name__} is a slow tokenizer, which gives no character offsets. "
            "Use a model that comes with a fast tokenizer (a tokenizer.json)."
        )
    n_special = tokenizer.num_special_tokens_to_add() if add_special_tokens else 0
    if max_length - n_special <= stride:
        raise ValueError(
            f"max_length={max_length} leaves no room for new text beside {n_special} special tokens and an overlap of "
            f"stride={stride}: max_length must be at least {n_special + stride + 1}."
        )


def windows_of_model(
    texts: Iterable[str], tokenizer, n_embeddings: int | None, **windowing
) -> Iterator[tuple[str, list[Window]]]:
    """
    Cut every text into windows for a model, as :func:`iter_windows` does.

    Where a tokenizer cuts a letter from its accents, which Unicode may write as characters of their own, the tokens on
    both sides have the whole letter for their text.

    Parameters
    ----------
    texts : iterable of str
    tokenizer : transformers fast tokenizer
    n_embeddings : int or None
        Number of token ids that the model has; None is not checked.
    **windowing
        As :func:`iter_windows` takes it.

    Yields
    ------
    text : str
    windows : list of Window

    Raises
    ------
    ValueError
        If the tokenizer fails at a text, or gives a token that the model does not have; text and token are named.
    """
    for text, windows in iter_windows(texts, tokenizer, **windowing):
        for window in windows:
            _check_ids(window, text, tokenizer, n_embeddings)
        yield text, _with_whole_letters(text, windows)


def _check_ids(window: Window, text: str, tokenizer, n_embeddings: int | None) -> None:
    too_large = window.input_ids[window.input_ids >= n_embeddings] if n_embeddings else ()
    if len(too_large):
        token = tokenizer.convert_ids_to_tokens(int(too_large[0]))
        raise ValueError(
            f"texts[{window.document}], which begins {text[:60]!r}, has the token {token!r} of id {too_large[0]}, and "
            f"the model has embeddings for ids up to {n_embeddings - 1}. Tokens were added to the tokenizer and not to "
            "the model: model.resize_token_embeddings(len(tokenizer)), and train it."
        )


def _with_whole_letters(text: str, windows: list[Window]) -> list[Window]:
    if text.isascii() or not any(map(_continues_a_letter, set(text))):
        return windows
    continues = np.array([*map(_continues_a_letter, text), False])
    starts = np.flatnonzero(~continues)
    # Of each character the first of its letter, and the first after it.
    first = starts[np.maximum(np.searchsorted(starts, np.arange(len(continues)), side="right") - 1, 0)]
    after = starts[np.searchsorted(starts, np.arange(len(continues)))]
    return [replace(window, offsets=_widened(window.offsets, first, after)) for window in windows]


def _continues_a_letter(character: str) -> bool:
    return unicodedata.category(character)[0] == "M" or _LATER_PARTS.match(character) is not None


def _widened(offsets: np.ndarray, first: np.ndarray, after: np.ndarray) -> np.ndarray:
    start, end = offsets.T
    widened = np.column_stack([np.minimum(first[start], start), after[end]])
    return np.where((start < end)[:, np.newaxis], widened, offsets)


def iter_windows(
    texts: Iterable[str],
    tokenizer,
    *,
    max_length: int,
    stride: int = 0,
    add_special_tokens: bool = True,
    first_document: int = 0,
) -> Iterator[tuple[str, list[Window]]]:
    """
    Cut every text into windows of at most `max_length` tokens.

    Parameters
    ----------
    texts : iterable of str
        Read lazily, a few hundred at a time.
    tokenizer : transformers fast tokenizer
    max_length : int
        Tokens in a window, special tokens included.
    stride : int, default=0
        Tokens that a window repeats from the one before it, as context. They become rows of the earlier one.
    add_special_tokens : bool, default=True
    first_document : int, default=0
        Number of the first text.

    Yields
    ------
    text : str
    windows : list of Window
        Empty for a text that is empty, only white space, or without any token.

    Raises
    ------
    ValueError
        If the tokenizer fails at a text; the text is named.
    RuntimeError
        If the version of the tokenizers package would lose a part of long texts.
    """
    _check_that_all_windows_come()
    options = {
        "add_special_tokens": add_special_tokens,
        "truncation": True,
        "max_length": max_length,
        "stride": stride,
        "return_overflowing_tokens": True,
        "return_offsets_mapping": True,
        "return_special_tokens_mask": True,
        # A text that happens to hold "[SEP]" is a text about "[SEP]".
        "split_special_tokens": True,
    }
    first = first_document
    for batch in _batches(texts):
        encoded = tokenized(tokenizer, batch, first, options)
        windows = [[] for _ in batch]
        for index, source in enumerate(encoded["overflow_to_sample_mapping"]):
            if batch[source].isspace():
                continue
            before = windows[source][-1] if windows[source] else None
            window = _window(
                first + source,
                np.asarray(encoded["input_ids"][index], dtype=np.int64),
                np.asarray(encoded["special_tokens_mask"][index], dtype=bool),
                np.asarray(encoded["offset_mapping"][index], dtype=np.int64).reshape(-1, 2),
                repeated=stride if before else 0,
                position=before.position + before.n_rows if before else 0,
            )
            if window.n_rows:
                windows[source].append(window)
        yield from zip(batch, windows, strict=True)
        first += len(batch)


@cache
def _check_that_all_windows_come() -> None:
    """Refuse versions of the tokenizers package that stop at the end of a text's first window."""
    from tokenizers import Tokenizer, models, pre_tokenizers

    tokenizer = Tokenizer(models.WordLevel({"a": 0}, unk_token="a"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.enable_truncation(max_length=2)
    if len(tokenizer.encode("a a a a a a a").overflowing) != 3:
        raise RuntimeError(
            f"tokenizers {version('tokenizers')} loses what comes after the first window of a text: install another "
            "version, by pip install 'tokenizers!=0.23.1,!=0.23.2'."
        )


def tokenized(tokenizer, batch: list[str], first: int, options: dict):
    """Tokenize texts, which begin with the one of the number `first`, and name the one at which the tokenizer fails."""
    texts = [_LONE_SURROGATE.sub(_REPLACEMENT, text) for text in batch]
    try:
        with _tokenizing:
            return tokenizer(texts, **options)
    except BaseException as error:
        if _is_order_to_stop(error):
            raise
        failure = error
    for document, text in enumerate(texts, start=first):
        try:
            with _tokenizing:
                tokenizer([text], **options)
        except BaseException as error:
            if _is_order_to_stop(error):
                raise
            raise ValueError(
                f"the tokenizer fails at texts[{document}], which begins {text[:60]!r} ({error}). "
                "Put another text, or an empty one, in its place."
            ) from error
    raise failure


def _is_order_to_stop(error: BaseException) -> bool:
    # A panic of the tokenizer's compiled code is not an Exception, and must not be taken for an order to stop.
    return isinstance(error, (KeyboardInterrupt, SystemExit, GeneratorExit))


def _window(document, input_ids, is_special, offsets, *, repeated, position) -> Window:
    places = np.flatnonzero(~is_special)
    of_text = slice(places[0], places[-1] + 1) if len(places) else slice(0, 0)
    rows = slice(min(of_text.start + repeated, of_text.stop), of_text.stop)
    return Window(document, input_ids, of_text, rows, position, offsets[rows])


def _batches(texts: Iterable[str]) -> Iterator[list[str]]:
    batch, characters = [], 0
    for text in texts:
        batch.append(text)
        characters += len(text)
        if len(batch) == _TEXTS_AT_A_TIME or characters >= _CHARACTERS_AT_A_TIME:
            yield batch
            batch, characters = [], 0
    if batch:
        yield batch
