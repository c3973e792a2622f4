"""How much of the activations a reconstruction accounts for."""

import numpy as np

from skfactors.metrics._arrays import check_dense, row_batches

# Below this, digits of squares are lost.
_LEAST = 1e-280


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


def explained_share(unexplained: float, variation: float) -> float:
    """Return the share of a variation that is not left unexplained; of none, whether nothing is."""
    return 1 - unexplained / variation if variation > 0 else float(unexplained == 0)


class VarianceSums:
    """
    The explained variance of rows that come in parts, with memory for one part.

    Notes
    -----
    Of the rows so far it holds the mean and the squared deviations from it, in float64. What a part adds is put
    together by the formula of Chan, Golub and LeVeque (1983), hence a large common offset costs no digits, and parts
    can be counted apart and merged.
    """

    def __init__(self):
        self._n_rows, self._mean, self._variation, self._unexplained = 0, np.empty(0), 0.0, 0.0

    def add(self, X, X_reconstructed) -> None:
        """
        Take in some rows and what was made of them.

        Parameters
        ----------
        X, X_reconstructed : ndarray of shape (n_rows, n_features)

        Raises
        ------
        ValueError
            If a value is NaN, infinite, or too large to be squared, or all vary too little to be.
        """
        if len(X) == 0:
            return
        # What overflows is told below.
        with np.errstate(over="ignore", invalid="ignore"):
            residual = np.subtract(X, X_reconstructed, dtype=np.float64)
            # The first row as an origin, so that the mean of equal rows is exactly that row.
            deviations = np.subtract(X, X[0], dtype=np.float64)
            shift = deviations.mean(axis=0)
            deviations -= shift
            variation, unexplained = float(np.vdot(deviations, deviations)), float(np.vdot(residual, residual))
        if not np.isfinite([variation, unexplained]).all():
            raise ValueError(
                "the rows or their reconstructions hold values that are NaN, infinite or too large to be squared; "
                "remove or repair those rows first."
            )
        if variation + unexplained < _LEAST and (deviations.any() or residual.any()):
            raise ValueError("the rows vary too little to be squared, by less than 1e-140: scale them up.")
        self._combine(len(X), X[0] + shift, variation, unexplained)

    @property
    def n_features(self) -> int | None:
        """Width of the rows so far; None where there were none."""
        return len(self._mean) if self._n_rows else None

    def merge(self, other) -> None:
        """Take in what another holds."""
        if other._n_rows:
            self._combine(other._n_rows, other._mean, other._variation, other._unexplained)

    def state(self) -> dict[str, np.ndarray]:
        """Return everything there is to keep, as arrays."""
        return {
            "n_rows": np.array([self._n_rows]),
            "mean": self._mean,
            "sums": np.array([self._variation, self._unexplained]),
        }

    def restore(self, state) -> None:
        """Take the place of the sums whose :meth:`state` this is."""
        self._n_rows, self._mean = int(state["n_rows"][0]), state["mean"]
        self._variation, self._unexplained = state["sums"].tolist()

    def explained_variance(self) -> float | None:
        """Return it, as :func:`explained_variance` has it of all rows at once; None where there were none."""
        if self._n_rows == 0:
            return None
        return explained_share(self._unexplained, self._variation)

    def _combine(self, n_rows, mean, variation, unexplained):
        before, self._n_rows = self._n_rows, self._n_rows + n_rows
        if before == 0:
            self._mean = np.asarray(mean, dtype=np.float64)
        else:
            apart = mean - self._mean
            self._mean = self._mean + apart * (n_rows / self._n_rows)
            variation += float(np.vdot(apart, apart)) * (before * (n_rows / self._n_rows))
        self._variation += variation
        self._unexplained += unexplained
