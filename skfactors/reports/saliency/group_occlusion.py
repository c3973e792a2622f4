"""Occlusion of groups: how far the activation drops where all tokens that are the same are hidden together."""

import numpy as np

from skfactors.reports.naming import token_name
from skfactors.reports.saliency.perturbations import by_perturbation


def group_occlusion(probe, model, groups, **_):
    """Yield the number and the saliency of each context."""
    return by_perturbation(
        probe, model, groups, versions_of=versions_without_groups, weights_of=shared_drops, method="group_occlusion"
    )


def versions_without_groups(group) -> np.ndarray:
    """
    Return versions of a window without each kind of token.

    Parameters
    ----------
    group : Group

    Returns
    -------
    kept : ndarray of bool of shape (1 + n_kinds + 2 * n_targets, n_tokens)
        The whole text; the text without all tokens of each kind; for every target the text without it, and without the
        others of its kind.
    """
    kinds = _kinds(group)
    own = np.array([_own(group, target) for target in group.targets])
    without_own = np.arange(len(kinds)) != own[:, None]
    others = (kinds == kinds[own][:, None]) & without_own
    without_kind = kinds != np.arange(kinds.max() + 1)[:, None]
    return np.concatenate([np.ones((1, len(kinds)), dtype=bool), without_kind, without_own, ~others])


def shared_drops(group, target, kept, responses) -> np.ndarray:
    """Return how far the response drops without each token's kind, shared among its tokens; ndarray of (n_tokens,)."""
    kinds = _kinds(group)
    drops, counts = responses[0] - responses, np.bincount(kinds)
    weights = (drops[1 : 1 + len(counts)] / counts)[kinds]
    own, of_targets = _own(group, target), drops[1 + len(counts) :].reshape(2, -1)
    of_token, of_others = of_targets[:, group.targets.index(target)]
    is_other = kinds == kinds[own]
    weights[is_other] = of_others / max(1, is_other.sum() - 1)
    weights[own] = of_token
    return weights


def _kinds(group):
    """Return a number for each token of a window, the same for all that are called the same."""
    return np.unique([token_name(token) for token in group.tokens], return_inverse=True)[1]


def _own(group, target):
    return target.token - group.window.of_text.start
