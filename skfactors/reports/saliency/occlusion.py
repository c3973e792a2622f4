"""Occlusion: how far the activation drops where one token is hidden."""

import numpy as np

from skfactors.reports.saliency.perturbations import by_perturbation


def occlusion(probe, model, groups, **_):
    """Yield the number and the saliency of each context."""
    return by_perturbation(
        probe, model, groups, versions_of=versions_without_each, weights_of=drops, method="occlusion"
    )


def versions_without_each(group) -> np.ndarray:
    """Return the whole text and, for every token, the text without it: kept, of shape (1 + n_tokens, n_tokens)."""
    n_tokens = len(group.tokens)
    return np.concatenate([np.ones((1, n_tokens), dtype=bool), ~np.eye(n_tokens, dtype=bool)])


def drops(group, target, kept, responses) -> np.ndarray:
    """Return how far the response drops without each token, ndarray of shape (n_tokens,)."""
    return responses[0] - responses[1:]
