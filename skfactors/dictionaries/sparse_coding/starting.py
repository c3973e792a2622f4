"""Components to start from: given, or the directions of rows."""

import numpy as np
from sklearn.utils import check_array, check_random_state

from skfactors.codes import require_squares
from skfactors.dictionaries.rows import as_numbers
from skfactors.learning.batches import ArrayRows, StreamedRows, merge_repeats

# Shorter rows count as zeros: their squares vanish.
_SHORTEST = 1e-100
_USUAL_SHARE_OF_LENGTH = 0.1
_ROWS_AT_A_TIME = 16_384


def usual_penalty(rows: ArrayRows | StreamedRows) -> float:
    """Return a tenth of the root mean square length of rows, or 1 if all are zero."""
    squares = total = 0.0
    for X, weight in rows.to_measure(_ROWS_AT_A_TIME):
        squares += float(np.square(X, dtype=np.float64).sum(axis=1) @ weight)
        total += float(weight.sum())
    # A sum depends on its order in the last bits, and a row given twice may be elsewhere.
    return float(f"{_USUAL_SHARE_OF_LENGTH * (squares / total) ** 0.5:.12g}") if squares else 1.0


def drawn_components(
    rows: ArrayRows | StreamedRows, n_components: int, batch_size: int, random_state: np.random.RandomState
) -> np.ndarray:
    """Take the directions of random rows."""
    # A state of their own, so that they depend on which rows there are and not on how often.
    own_state = check_random_state(random_state.randint(np.iinfo(np.int32).max))
    drawn, _ = merge_repeats(*rows.draw(max(n_components, batch_size), random_state))
    return initial_components(drawn.astype(np.promote_types(drawn.dtype, np.float32)), n_components, own_state)


def given_components(components, shape: tuple[int, int]) -> np.ndarray:
    """
    Check components, and scale those down that are longer than 1.

    Raises
    ------
    ValueError
        If their shape is another, or they are not finite, or too large to be squared.
    """
    components = check_array(as_numbers(components), dtype=np.float64)
    require_squares(components, "dict_init")
    if components.shape != shape:
        raise ValueError(
            f"dict_init has shape {components.shape}, not (n_components, n_features) = ({shape[0]}, {shape[1]})."
        )
    return components / np.maximum(np.linalg.norm(components, axis=1, keepdims=True), 1)


def initial_components(rows: np.ndarray, n_components: int, random_state: np.random.RandomState) -> np.ndarray:
    """
    Draw rows and take their directions; where there are too few, draw directions uniformly.

    Parameters
    ----------
    rows : ndarray of shape (n_rows, n_features)
        Distinct.
    n_components : int
    random_state : RandomState

    Returns
    -------
    components : ndarray of shape (n_components, n_features)
        Rows of norm 1.
    """
    directions = random_state.standard_normal((n_components, rows.shape[1]))
    rows = rows[np.linalg.norm(rows.astype(np.float64), axis=1) > _SHORTEST]
    chosen = random_state.permutation(len(rows))[:n_components]
    directions[: len(chosen)] = rows[chosen]
    return directions / np.linalg.norm(directions, axis=1, keepdims=True)
