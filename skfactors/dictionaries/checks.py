"""Checks that a dictionary that was read is what its files say."""

from skfactors.metrics import l0
from skfactors.output import with_plain_output


def check_l0(dictionary, X, expected=None, *, tolerance=0.25) -> float:
    """
    Compare how many codes of a row are not zero with what a dictionary's files state.

    A threshold that was dropped, a norm of rows that was forgotten or a bias that was subtracted twice give rows many
    more or fewer codes than the dictionary was made for. So do rows of another place than it was learned on.

    Parameters
    ----------
    dictionary : FactorModel
        Fitted, as :func:`skfactors.load_dictionary` gives it.
    X : array-like of shape (n_rows, n_features)
        Rows of the model and the place that it was learned on.
    expected : float, default=None
        What it should be; by default what the files state, ``dictionary.source_["l0"]``.
    tolerance : float, default=0.25
        By what share it may differ.

    Returns
    -------
    float
        What it is: the mean over rows.

    Raises
    ------
    ValueError
        If it differs by more, or the files state nothing and nothing is expected.

    Examples
    --------
    >>> import numpy as np
    >>> from skfactors import SparseDictionary
    >>> from skfactors.dictionaries import check_l0
    >>> dictionary = SparseDictionary(3, alpha=0.1, random_state=0).fit(np.tile(np.eye(3), (20, 1)))
    >>> check_l0(dictionary, np.eye(3), expected=1)
    1.0
    """
    stated = getattr(dictionary, "source_", {}).get("l0") if expected is None else expected
    if stated is None:
        raise ValueError("the files of this dictionary state no L0: pass expected=.")
    found = float(l0(with_plain_output(dictionary).transform(X)))
    if abs(found - stated) > tolerance * stated:
        raise ValueError(
            f"rows have {found:.1f} codes on average, and {stated:g} are stated: the dictionary was read wrongly, or "
            "these are not rows of the model and place that it was learned on."
        )
    return found
