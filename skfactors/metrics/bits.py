"""How many bits a row of activations takes when it is told through its factors."""

import math

import numpy as np
from scipy import sparse
from scipy.special import entr

from skfactors.codes import check_codes
from skfactors.metrics._arrays import check_dense, row_batches
from skfactors.metrics.sparsity import density


def description_length(X, codes, components, *, reconstruction=None, precision: float = 0.1) -> float:
    """Return the bits per row that it takes to send `X` as its codes and what they leave over.

    Sparse codes are short but leave a large residual, dense codes are long and leave little. Where the factors
    suit the activations the sum is smallest in between, so that a search over the sparsity penalty has an answer.

    Parameters
    ----------
    X : array-like of shape (n_rows, n_features)
        The activations.
    codes : array-like or sparse array of shape (n_rows, n_components)
        Activations of the factors in each row.
    components : array-like of shape (n_components, n_features)
        The factors, in the space of `X`.
    reconstruction : array-like of shape (n_rows, n_features), default=None
        What the codes stand for, where that is not ``codes @ components``: a dictionary with an intercept adds it.
    precision : float, default=0.1
        Width of a step of the grid on which numbers are sent, as a share of the root-mean-square deviation of
        the entries of `X` from the mean of their feature.

    Returns
    -------
    float
        Bits per row, not negative; smaller is better.

    Raises
    ------
    ValueError
        If the shapes do not fit, an array is empty or holds NaN or infinite values, or `precision` is not
        positive.

    Notes
    -----
    The principle is Rissanen's [1]_: among models of the same data, prefer the one with which model and
    data together are the shortest to write down. To weigh sparsity against fidelity by it in dictionaries of
    neural activations is the idea of [2]_; the formulas here are not theirs. With Δ the step of the grid, a row
    takes the sum of

    1. where the codes are: ``Σ_j H(p_j)``, with ``p_j`` the density of factor j and H the entropy of a coin in
       bits;
    2. their values, sent as exponentially distributed: ``log2(e m / Δ)`` bits for each nonzero code and not
       less than 0, with m their mean absolute value, and one bit more for the sign if any code is
       negative. A code counts in units of x, that is, times the norm of its factor, so that nothing is
       gained by scaling factors up and codes down;
    3. the residual, sent as Gaussian: ``½ log2(1 + 2πe s_f² / Δ²)`` bits for each feature f, with ``s_f²`` its mean
       square residual.

    The entropy of a Gaussian on a grid is ``½ log2(2πe s² / Δ²)`` where s is large against Δ, and 0 where it is
    small. The formula under 3 grows with s, agrees with both ends, and lies between 0.05 bits under and 0.3 over the
    exact entropy. The residual has mean zero in the model, so a constant offset that the factors miss takes
    bits too. The error of rounding the codes is left out: it is about ``l0 / n_features`` times the error of
    rounding the residual.

    Densities, means and variances are taken from these rows. They and the dictionary itself are not counted,
    as if sent once for any number of rows. Lengths are therefore comparable between dictionaries that code the
    same `X` at the same `precision`, and best on rows that were not used to fit them.

    Where all rows of `X` are equal, the root mean square of `X` stands in for its deviation, and 1 if `X` is zero.

    References
    ----------
    .. [1] Rissanen, J. (1978). Modeling by shortest data description. Automatica, 14(5), 465-471.
    .. [2] Ayonrinde, K., Pearce, M. T. and Sharkey, L. (2024). Interpretability as compression: reconsidering SAE
       explanations of neural activations with MDL-SAEs. arXiv:2410.11179.

    Examples
    --------
    >>> import numpy as np
    >>> from skfactors.metrics import description_length
    >>> X = np.kron(np.eye(2), np.ones((4, 4)))
    >>> told_by_factors = description_length(X, codes=X[:, ::4], components=X[::4])
    >>> told_by_residual = description_length(X, codes=np.zeros((8, 2)), components=X[::4])
    >>> round(told_by_factors, 2), round(told_by_residual, 2)
    (8.76, 46.95)
    """
    X = check_dense(X, "X")
    codes = check_codes(codes)
    components = check_dense(components, "components").astype(np.float64)
    _require_matching_shapes(X, codes, components)
    if reconstruction is not None:
        reconstruction = check_dense(reconstruction, "reconstruction")
        if reconstruction.shape != X.shape:
            raise ValueError(f"X has shape {X.shape} and its reconstruction {reconstruction.shape}.")
    if not (math.isfinite(precision) and precision > 0):
        raise ValueError(f"precision must be a positive number, got {precision!r}.")
    step = precision * _typical_deviation(X)
    return (
        _position_bits(density(codes))
        + _value_bits(codes, np.linalg.norm(components, axis=1), step)
        + _residual_bits(_mean_square_residuals(X, codes, components, reconstruction), step)
    )


def _require_matching_shapes(X, codes, components):
    if X.shape[0] != codes.shape[0]:
        raise ValueError(f"X has {X.shape[0]} rows but codes has {codes.shape[0]}; pass the codes of the same rows.")
    if codes.shape[1] != components.shape[0]:
        raise ValueError(
            f"codes has {codes.shape[1]} columns but components has {components.shape[0]} rows; "
            "pass the codes and the components of the same dictionary."
        )
    if X.shape[1] != components.shape[1]:
        raise ValueError(
            f"X has {X.shape[1]} features but components has {components.shape[1]}; "
            "pass the rows that the dictionary codes."
        )


def _typical_deviation(X):
    """Return the root-mean-square deviation of `X`, or what stands in for it where `X` does not vary."""
    deviation = math.sqrt(_squared_deviations(X) / X.size)
    return deviation or float(np.sqrt(np.mean(np.square(X[0], dtype=np.float64)))) or 1.0


def _squared_deviations(X):
    """Return Σ‖x - μ‖² over the rows of `X`, μ being their mean; exactly 0 where all rows are equal."""
    # Means are taken of differences from the first row: equal rows then differ from their mean by exactly
    # nothing, and a large common offset costs no digits.
    origin = X[0].astype(np.float64)
    mean = origin + sum((X[rows] - origin).sum(axis=0) for rows in row_batches(X)) / len(X)
    return float(sum(np.square(X[rows] - mean).sum() for rows in row_batches(X)))


def _position_bits(densities):
    """Return the bits per row that say which factors are active: a biased coin for each factor."""
    return float((entr(densities) + entr(1 - densities)).sum() / math.log(2))


def _value_bits(codes, component_norms, step):
    """Return the bits per row for the values of the nonzero codes, each in units of the activations."""
    codes = sparse.csr_array(codes)
    n_values = np.count_nonzero(codes.data)
    if n_values == 0:
        return 0.0
    mean_size = np.dot(np.abs(codes.data), component_norms[codes.indices]) / n_values
    size_bits = math.log2(max(1.0, math.e * mean_size / step))
    sign_bits = float(np.any(codes.data < 0))
    return float(n_values / codes.shape[0] * (size_bits + sign_bits))


def _mean_square_residuals(X, codes, components, reconstruction):
    """Return the mean square residual of each feature."""
    squares = np.zeros(X.shape[1])
    for rows in row_batches(X):
        told = codes[rows] @ components if reconstruction is None else reconstruction[rows]
        squares += np.square(np.subtract(X[rows], told, dtype=np.float64)).sum(axis=0)
    return squares / len(X)


def _residual_bits(mean_squares, step):
    """Return the bits per row for the residual, each feature Gaussian with its own variance."""
    return float(0.5 * np.log2(1 + 2 * math.pi * math.e * mean_squares / step**2).sum())
