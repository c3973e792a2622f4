"""How alike two dictionaries are."""

import numpy as np
from scipy.optimize import linear_sum_assignment
from sklearn.metrics.pairwise import cosine_similarity

from skfactors.metrics._arrays import check_dense


def factor_match(components_a, components_b, *, return_matching: bool = False):
    """Return the mean cosine of the factors of two dictionaries, paired as well as they can be.

    Every factor takes part in one pair at most, and the pairs are those whose cosines have the largest sum. Two
    fits that found the same factors in another order score 1.

    Parameters
    ----------
    components_a : array-like of shape (n_components_a, n_features)
        Factors of one dictionary, one per row.
    components_b : array-like of shape (n_components_b, n_features)
        Factors of the other.
    return_matching : bool, default=False
        Whether to return the pairs as well.

    Returns
    -------
    score : float
        Mean cosine of the min(n_components_a, n_components_b) pairs, between -1 and 1. A row of zeros has cosine
        0 with every other.
    indices_a : ndarray of shape (n_pairs,)
        Rows of `components_a` in ascending order. Only if `return_matching`.
    indices_b : ndarray of shape (n_pairs,)
        The row of `components_b` paired with each. Only if `return_matching`.
    cosines : ndarray of shape (n_pairs,)
        The cosine of each pair. Only if `return_matching`.

    Raises
    ------
    ValueError
        If the two differ in the number of features, or either is empty or holds NaN or infinite values.

    Notes
    -----
    The pairs solve the linear assignment problem [1]_.

    References
    ----------
    .. [1] Kuhn, H. W. (1955). The Hungarian method for the assignment problem. Naval Research Logistics
       Quarterly, 2(1-2), 83-97.

    Examples
    --------
    >>> from skfactors.metrics import factor_match
    >>> factor_match([[1.0, 0.0], [0.0, 1.0]], [[0.0, 3.0], [2.0, 0.0]])
    1.0
    """
    components_a = check_dense(components_a, "components_a").astype(np.float64)
    components_b = check_dense(components_b, "components_b").astype(np.float64)
    if components_a.shape[1] != components_b.shape[1]:
        raise ValueError(
            f"components_a has {components_a.shape[1]} features but components_b has {components_b.shape[1]}; "
            "only dictionaries of the same hidden states can be matched."
        )
    # Rounding can carry a cosine past 1.
    similarity = np.clip(cosine_similarity(_near_one(components_a), _near_one(components_b)), -1, 1)
    indices_a, indices_b = linear_sum_assignment(similarity, maximize=True)
    cosines = similarity[indices_a, indices_b]
    score = float(cosines.mean())
    return (score, indices_a, indices_b, cosines) if return_matching else score


def _near_one(components):
    """Scale rows by powers of two, which changes no direction and no digit, so that their squares are in range."""
    _, exponents = np.frexp(np.abs(components).max(axis=1, keepdims=True))
    return np.ldexp(components, -exponents)
