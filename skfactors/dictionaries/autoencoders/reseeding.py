"""Where factors that never fire are to point: at what is reconstructed worst, each at something else."""

import numpy as np


def spread(left, rows, n_directions, smallest, *, own_residual=True):
    """
    Choose the longest residuals one after the other, each without what those before it explain.

    Residuals that point away from their row, where others overshoot, are passed over. All that a choice needs is
    products of residuals, which are taken once.

    Parameters
    ----------
    left, rows : ndarray of float64 of shape (n_rows, n_features)
        What is left of each row, and the row.
    n_directions : int
        As many at most.
    smallest : float
        Shorter ones are rounding.
    own_residual : bool, default=True
        Whether encoders listen for what is left of the row, or for the row itself.

    Returns
    -------
    heard, directions : ndarray of shape (n_chosen, n_features)
        What encoders are to listen for, and where components are to point; of length 1.
    lengths : ndarray of shape (n_chosen,)
        Of encoders, with which the code of its own row is as large as what is left of it.
    """
    most = min(n_directions, len(left))
    chosen, lengths = np.empty(most, int), np.empty(most)
    # A direction is a sum of residuals: by their weights, and its products with all residuals, and with all rows.
    weights, with_left, with_rows = np.empty((3, most, len(left)))
    taken = np.empty((len(left), most))
    left_by_left, rows_by_left = left @ left.T, rows @ left.T
    squares = np.diag(left_by_left).copy()
    row_lengths = np.linalg.norm(rows, axis=1)
    along = np.diag(rows_by_left).copy() if own_residual else row_lengths**2
    found = 0
    while found < most:
        norms = np.sqrt(np.where(along > 0, squares, 0).clip(0))
        worst = norms.argmax()
        if norms[worst] <= smallest:
            break
        before, norm = taken[worst, :found], norms[worst]
        for products, of_all in ((with_left, left_by_left), (with_rows, rows_by_left)):
            products[found] = (of_all[:, worst] - before @ products[:found]) / norm
        weights[found] = -before @ weights[:found] / norm
        weights[found, worst] += 1 / norm
        by_earlier = with_left[:found] @ weights[found]
        part = np.maximum(with_left[found] - taken[:, :found] @ by_earlier, 0)
        part[worst] = norm
        listened = with_rows[found, worst] if own_residual else row_lengths[worst]
        chosen[found], lengths[found], taken[:, found] = worst, norm / listened, part
        squares -= part**2
        squares[worst] = 0
        if own_residual:
            along -= part * with_rows[found]
        found += 1
    directions = weights[:found] @ left
    heard = directions if own_residual else rows[chosen[:found]] / row_lengths[chosen[:found], None]
    return heard, directions, lengths[:found]
