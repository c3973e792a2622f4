"""How much is lost by codes that are only near the best."""

import numpy as np
import torch
from scipy.sparse import issparse
from sklearn.utils import check_scalar

from skfactors.codes import check_codes
from skfactors.dictionaries.sparse_coding.objective import objective
from skfactors.dictionaries.sparse_coding.solvers import SOLVERS
from skfactors.metrics._arrays import check_dense, row_batches

_TOL = 1e-8


def amortization_gap(X, codes, components, alpha, *, positive=True, intercept=None) -> float:
    """Return by what share the sparse coding objective of some codes exceeds that of the best codes.

    An encoder that codes any row in one pass, such as that of a sparse autoencoder, pays for its speed with codes
    that are not the best for its own dictionary. The gap is what that costs ::

        Σ P(x, a) / Σ P(x, a*) - 1        with P(x, a) = ½‖x - b - aD‖² + alpha·‖a‖₁

    over rows x and their codes a, with b the intercept, and a* the exact minimiser for each row.

    Parameters
    ----------
    X : array-like of shape (n_rows, n_features)
        The activations.
    codes : array-like or sparse array of shape (n_rows, n_components)
        From any source.
    components : array-like of shape (n_components, n_features)
        The dictionary that the codes belong to.
    alpha : float
        The L1 penalty.
    positive : bool, default=True
        Whether the best codes may not be negative.
    intercept : array-like of shape (n_features,), default=None
        What a row of no factors is reconstructed as; zeros if None.

    Returns
    -------
    float
        0 for codes that are exact, 0.1 for an objective a tenth above the best. Where all rows equal the
        intercept: 0 if all codes are zero, else infinity.

    Raises
    ------
    ValueError
        If shapes do not fit, values are NaN or infinite, or `alpha` is not positive.

    References
    ----------
    Cremer, Li, Duvenaud (2018), "Inference suboptimality in variational autoencoders", for the term.

    Examples
    --------
    >>> from skfactors.metrics import amortization_gap
    >>> float(round(amortization_gap([[2.0, 0.0]], [[0.5, 0.0]], [[1.0, 0.0], [0.0, 1.0]], alpha=1.0), 3))
    0.083
    """
    X, codes, components = check_dense(X, "X"), check_codes(codes), check_dense(components, "components")
    check_scalar(alpha, "alpha", (int, float, np.number), min_val=0, include_boundaries="neither")
    if codes.shape != (len(X), len(components)) or X.shape[1] != components.shape[1]:
        raise ValueError(
            f"X of shape {X.shape}, codes of shape {codes.shape} and components of shape {components.shape} do not fit."
        )
    origin = check_dense(np.zeros((1, X.shape[1])) if intercept is None else [intercept], "intercept")
    if origin.shape[1] != X.shape[1]:
        raise ValueError(f"intercept has {origin.shape[1]} values, and X {X.shape[1]} features.")
    atoms = torch.tensor(components, dtype=torch.float64)
    solver = SOLVERS["active_set"](atoms, alpha=float(alpha), positive=positive, tol=_TOL, max_iter=10_000)
    reached = best = 0.0
    for rows in row_batches(codes):
        batch = torch.tensor(X[rows] - origin, dtype=torch.float64)
        given = codes[rows].toarray() if issparse(codes) else codes[rows]
        reached += objective(batch, torch.tensor(given, dtype=torch.float64), atoms, alpha).sum().item()
        best += objective(batch, solver.solve(batch)[0], atoms, alpha).sum().item()
    if best == 0:
        return 0.0 if reached == 0 else float("inf")
    return reached / best - 1
