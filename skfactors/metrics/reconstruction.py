"""How much of the activations a reconstruction accounts for."""

import numpy as np

from skfactors.metrics._arrays import check_dense, row_batches


def explained_variance(X, X_reconstructed) -> float:
    """Return the share of the variance of `X` that a reconstruction accounts for.

    The share is one ratio of sums over all entries ::

        1 - Σ‖x - x̂‖² / Σ‖x - μ‖²

    with μ the mean of each feature over the rows of `X`.

    Parameters
    ----------
    X : array-like of shape (n_rows, n_features)
        The activations.
    X_reconstructed : array-like of shape (n_rows, n_features)
        What was made of them, row by row.

    Returns
    -------
    float
        1 for a perfect reconstruction, 0 for one as good as the mean row, negative for a worse one. Where all
        rows of `X` are equal there is no variance: 1 if they are reconstructed exactly, else 0.

    Raises
    ------
    ValueError
        If the shapes differ, or either array is empty or holds NaN or infinite values.

    Notes
    -----
    Features of large variance weigh more than others, unlike in the average of one coefficient of
    determination a feature that :func:`sklearn.metrics.r2_score` returns by default. The value is that of
    ``r2_score(X, X_reconstructed, multioutput="variance_weighted")``, except that features constant in `X` keep
    their residual here.

    Sums are accumulated in float64 a batch of rows at a time.

    Examples
    --------
    >>> from skfactors.metrics import explained_variance
    >>> explained_variance([[0.0, 1.0], [2.0, 1.0]], [[0.0, 1.0], [1.0, 1.0]])
    0.5
    """
    X = check_dense(X, "X")
    X_reconstructed = check_dense(X_reconstructed, "X_reconstructed")
    if X.shape != X_reconstructed.shape:
        raise ValueError(
            f"X has shape {X.shape} but X_reconstructed has shape {X_reconstructed.shape}; "
            "pass the reconstruction of the same rows."
        )
    sums = VarianceSums()
    for rows in row_batches(X):
        sums.add(X[rows], X_reconstructed[rows])
    return sums.explained_variance()


class VarianceSums:
    """
    The explained variance of rows that come in parts, with memory for one part.

    Sums are in float64, and of differences from the first row, so that a large common offset costs no digits.
    """

    def __init__(self):
        self._n_rows, self._unexplained = 0, 0.0
        self._origin = None

    def add(self, X, X_reconstructed) -> None:
        """Take in some rows and what was made of them, arrays of shape (n_rows, n_features)."""
        if self._origin is None:
            self._origin = X[0].astype(np.float64)
            self._sums, self._squares = np.zeros(X.shape[1]), np.zeros(X.shape[1])
        self._n_rows += len(X)
        residual = np.subtract(X, X_reconstructed, dtype=np.float64)
        self._unexplained += float(np.vdot(residual, residual))
        difference = X - self._origin
        self._sums += difference.sum(axis=0)
        self._squares += np.einsum("ij,ij->j", difference, difference)

    def explained_variance(self) -> float:
        """Return it, as :func:`explained_variance` has it of all rows at once."""
        variation = float((self._squares - self._sums**2 / self._n_rows).sum())
        if variation <= 0:
            return float(self._unexplained == 0)
        return 1 - self._unexplained / variation
