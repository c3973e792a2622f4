"""Of each text, as much as one window of an extractor holds: what a model's own loss is measured on."""

import numpy as np

from skfactors.extraction.facts import n_positions_of


def window_length(extractor, model, tokenizer) -> int:
    """Return the tokens that a window holds: `max_length`, or the positions of the model where they are fewer."""
    return min(extractor.max_length, n_positions_of(model, tokenizer) or extractor.max_length)


def beginnings(extractor, model, tokenizer, texts) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """
    Tokenize the beginnings of texts as an extractor does.

    Parameters
    ----------
    extractor : TransformerFeatureExtractor
    model, tokenizer
        Its own, as :meth:`TransformerFeatureExtractor.language_model` returns them.
    texts : list of str
        Those of one batch.

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
    rows = [tokenizer(text, **options) for text in texts]
    shape = len(rows), max(1, *(len(row["input_ids"]) for row in rows))
    ids, mask, is_word = np.zeros(shape, np.int64), np.zeros(shape, np.int64), np.zeros(shape, bool)
    for number, row in enumerate(rows):
        n_tokens = len(row["input_ids"])
        ids[number, :n_tokens], mask[number, :n_tokens] = row["input_ids"], 1
        is_word[number, :n_tokens] = np.array(row["special_tokens_mask"]) == 0
    return ids, mask, is_word
