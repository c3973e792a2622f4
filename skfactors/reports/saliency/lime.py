"""LIME: a linear model of the activation, fitted to versions of the text with random tokens hidden."""

import numpy as np
from sklearn.linear_model import Ridge

from skfactors.reports.saliency.perturbations import by_perturbation

KERNEL_WIDTH = 25.0
DISTANCE_SCALE = 100.0
RIDGE_ALPHA = 1.0


def lime(probe, model, groups, *, n_samples, seed):
    """Yield the number and the saliency of each context; versions are drawn anew from the seed for each window."""

    def versions_of(group):
        return draw_versions(len(group.tokens), n_samples, np.random.RandomState(seed))

    def weights_of(group, target, kept, responses):
        return local_weights(kept, responses)

    return by_perturbation(
        probe,
        model,
        groups,
        versions_of=versions_of,
        weights_of=weights_of,
        n_versions=n_samples,
        method="lime",
    )


def draw_versions(n_tokens, n_samples, random_state) -> np.ndarray:
    """
    Draw versions of a text as LIME does: how many tokens are hidden is uniform in 1..n_tokens, which ones too.

    Parameters
    ----------
    n_tokens, n_samples : int
    random_state : RandomState

    Returns
    -------
    kept : ndarray of bool of shape (n_samples, n_tokens)
    """
    kept = np.ones((n_samples, n_tokens), dtype=bool)
    n_hidden = random_state.randint(1, n_tokens + 1, n_samples - 1)
    for version, size in zip(kept[1:], n_hidden, strict=True):
        version[random_state.choice(n_tokens, size, replace=False)] = False
    return kept


def local_weights(kept, responses) -> np.ndarray:
    """
    Fit LIME's local linear model.

    Parameters
    ----------
    kept : ndarray of bool of shape (n_samples, n_tokens)
    responses : ndarray of float of shape (n_samples,)

    Returns
    -------
    weights : ndarray of float64 of shape (n_tokens,)
        Coefficients of a ridge regression (penalty 1, with an intercept) from tokens kept to responses. A version that
        is d = 100 · (1 - cosine similarity) from the whole text weighs √exp(-d² / 25²).

    References
    ----------
    Ribeiro, Singh, Guestrin (2016), "Why should I trust you? Explaining the predictions of any classifier", KDD.
    """
    # The cosine between a 0/1 vector and a vector of ones is the root of its share of ones.
    distances = DISTANCE_SCALE * (1 - np.sqrt(kept.mean(axis=1)))
    closeness = np.sqrt(np.exp(-(distances**2) / KERNEL_WIDTH**2))
    model = Ridge(alpha=RIDGE_ALPHA, fit_intercept=True)
    return model.fit(kept.astype(np.float64), responses, sample_weight=closeness).coef_
