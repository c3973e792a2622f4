"""Of each text, as much as one window of an extractor holds: what a model's own loss is measured on."""

import numpy as np

from skfactors.extraction.facts import n_positions_of
from skfactors.extraction.windows import tokenized


def window_length(extractor, model, tokenizer) -> int:
    """Return the tokens that a window holds: `max_length`, or the positions of the model where they are fewer."""
    return min(extractor.max_length, n_positions_of(model, tokenizer) or extractor.max_length)


def beginnings(extractor, model, tokenizer, texts, first: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """
    Tokenize the beginnings of texts as an extractor does.

    Parameters
    ----------
    extractor : TransformerFeatureExtractor
    model, tokenizer
        Its own, as :meth:`TransformerFeatureExtractor.language_model` returns them.
    texts : list of str
        Those of one batch.
    first : int
        The number of the first of them among all, for messages.

    Returns
    -------
    ids : ndarray of shape (n_texts, n_tokens)
        Padded on the right.
    mask : ndarray of shape (n_texts, n_tokens)
        1 for tokens, 0 for padding.
    is_word : ndarray of bool, shape (n_texts, n_tokens)
        Whether it is a token that is not special.
    """
    options = {
        "truncation": True,
        "max_length": window_length(extractor, model, tokenizer),
        "add_special_tokens": extractor.add_special_tokens,
        "split_special_tokens": True,
        "return_special_tokens_mask": True,
    }
    encoded = tokenized(tokenizer, texts, first, options)
    shape = len(texts), max(1, *map(len, encoded["input_ids"]))
    ids, mask, is_word = np.zeros(shape, np.int64), np.zeros(shape, np.int64), np.zeros(shape, bool)
    for number, (row, is_special) in enumerate(zip(encoded["input_ids"], encoded["special_tokens_mask"], strict=True)):
        ids[number, : len(row)], mask[number, : len(row)] = row, 1
        is_word[number, : len(row)] = np.array(is_special) == 0
    return ids, mask, is_word
