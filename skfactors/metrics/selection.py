"""Choices among the candidates of a search, for `refit=`."""

from dataclasses import dataclass

import numpy as np


def sparsest_within(loss: str = "explained_variance", tolerance: float = 0.02) -> "SparsestWithin":
    """Make a `refit` rule: the sparsest candidate that is nearly as good as the best.

    Parameters
    ----------
    loss : str, default="explained_variance"
        Name, in the search's `scoring`, of the score to give a little of. Greater is better.
    tolerance : float, default=0.02
        How far below the best candidate's mean score a candidate may lie, in the units of that score.

    Returns
    -------
    callable
        Takes `cv_results_` and returns the index of the candidate with the smallest mean L0 among those within
        `tolerance` of the best; of equals, the first. It can be pickled and compared. It raises ValueError if
        `scoring` lacks `loss` or ``"l0"``, or if every candidate failed. Candidates with a NaN score are left out.

    Raises
    ------
    ValueError
        If `tolerance` is negative or NaN.

    Examples
    --------
    >>> from skfactors.metrics import sparsest_within
    >>> rule = sparsest_within(tolerance=0.05)
    >>> rule({"mean_test_explained_variance": [0.90, 0.87, 0.60], "mean_test_l0": [-40.0, -12.0, -3.0]})
    1
    """
    return SparsestWithin(loss, tolerance)


def best_below_l0(k: float, loss: str = "explained_variance") -> "BestBelowL0":
    """Make a `refit` rule: the best candidate with at most `k` active factors per row.

    Parameters
    ----------
    k : float
        Largest mean L0 allowed.
    loss : str, default="explained_variance"
        Name, in the search's `scoring`, of the score to maximise.

    Returns
    -------
    callable
        Takes `cv_results_` and returns the index of the candidate with the greatest mean score among those whose
        mean L0 is at most `k`; of equals, the first. It can be pickled and compared. It raises ValueError if
        `scoring` lacks `loss` or ``"l0"``, if every candidate failed, or if none is sparse enough. Candidates with
        a NaN score are left out.

    Raises
    ------
    ValueError
        If `k` is negative or NaN.

    Examples
    --------
    >>> from skfactors.metrics import best_below_l0
    >>> rule = best_below_l0(20)
    >>> rule({"mean_test_explained_variance": [0.90, 0.87, 0.60], "mean_test_l0": [-40.0, -12.0, -3.0]})
    1
    """
    return BestBelowL0(k, loss)


@dataclass(frozen=True)
class SparsestWithin:
    """The rule that :func:`sparsest_within` makes."""

    loss: str
    tolerance: float

    def __post_init__(self):
        """Refuse a tolerance that no candidate could meet."""
        if not self.tolerance >= 0:
            raise ValueError(f"tolerance must be at least 0, got {self.tolerance!r}.")

    def __call__(self, cv_results) -> int:
        """Return the index of the chosen candidate."""
        losses, l0s, usable = _mean_scores(cv_results, self.loss)
        allowed = usable & (losses >= losses[usable].max() - self.tolerance)
        return int(np.argmin(np.where(allowed, l0s, np.inf)))


@dataclass(frozen=True)
class BestBelowL0:
    """The rule that :func:`best_below_l0` makes."""

    k: float
    loss: str

    def __post_init__(self):
        """Refuse a bound that no candidate could meet."""
        if not self.k >= 0:
            raise ValueError(f"k must be at least 0, got {self.k!r}.")

    def __call__(self, cv_results) -> int:
        """Return the index of the chosen candidate."""
        losses, l0s, usable = _mean_scores(cv_results, self.loss)
        allowed = usable & (l0s <= self.k)
        if not allowed.any():
            raise ValueError(
                f"No candidate has a mean L0 of {self.k} or less; the smallest reached is {l0s[usable].min():.4g}. "
                "Search over larger penalties or allow a larger k."
            )
        return int(np.argmax(np.where(allowed, losses, -np.inf)))


def _mean_scores(cv_results, loss):
    """Return every candidate's mean loss, its mean L0, and whether both are finite."""
    missing = [name for name in (loss, "l0") if f"mean_test_{name}" not in cv_results]
    if missing:
        scoring = ", ".join(f"{name!r}: {name}_scorer" for name in dict.fromkeys((loss, "l0")))
        raise ValueError(
            f"cv_results_ has no {' and no '.join(f'mean_test_{name}' for name in missing)}; "
            f"search with scoring={{{scoring}}}."
        )
    losses = np.asarray(cv_results[f"mean_test_{loss}"], dtype=np.float64)
    # The L0 scorer negates, because a greater score has to be a better one.
    l0s = np.abs(np.asarray(cv_results["mean_test_l0"], dtype=np.float64))
    usable = np.isfinite(losses) & np.isfinite(l0s)
    if not usable.any():
        raise ValueError(
            f"Every candidate has a NaN or infinite {loss} or l0; search with error_score='raise' to see why."
        )
    return losses, l0s, usable
