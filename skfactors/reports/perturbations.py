"""Which tokens to hide, and what responses to hidden tokens say of each: functions over arrays, without a model.

`kept` is an array of bool of shape (n_samples, n_tokens), a row a version of the text: False where a token is hidden.
The first version is always the whole text.
"""

import numpy as np
from sklearn.linear_model import Ridge

LIME_KERNEL_WIDTH = 25.0
LIME_DISTANCE_SCALE = 100.0
LIME_RIDGE_ALPHA = 1.0


def lime_versions(n_tokens, n_samples, random_state) -> np.ndarray:
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


def lime_weights(kept, responses) -> np.ndarray:
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
    distances = LIME_DISTANCE_SCALE * (1 - np.sqrt(kept.mean(axis=1)))
    closeness = np.sqrt(np.exp(-(distances**2) / LIME_KERNEL_WIDTH**2))
    model = Ridge(alpha=LIME_RIDGE_ALPHA, fit_intercept=True)
    return model.fit(kept.astype(np.float64), responses, sample_weight=closeness).coef_


def occlusion_versions(n_tokens, n_samples, random_state) -> np.ndarray:
    """
    Return the whole text and, for every token, the text without it.

    Parameters
    ----------
    n_tokens : int
    n_samples, random_state
        Ignored: nothing is drawn.

    Returns
    -------
    kept : ndarray of bool of shape (1 + n_tokens, n_tokens)
    """
    return np.concatenate([np.ones((1, n_tokens), dtype=bool), ~np.eye(n_tokens, dtype=bool)])


def occlusion_weights(kept, responses) -> np.ndarray:
    """
    Return how far the response drops without each token.

    Parameters
    ----------
    kept : ndarray of bool of shape (1 + n_tokens, n_tokens)
    responses : ndarray of float of shape (1 + n_tokens,)

    Returns
    -------
    weights : ndarray of float64 of shape (n_tokens,)
    """
    return responses[0] - responses[1:]


PERTURBATIONS = {
    "lime": (lime_versions, lime_weights),
    "occlusion": (occlusion_versions, occlusion_weights),
}
