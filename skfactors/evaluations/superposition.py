"""Rows made of known sparse features, to see which of them a dictionary finds."""

from collections.abc import Iterator
from dataclasses import dataclass
from numbers import Integral, Real

import numpy as np
from scipy import sparse
from scipy.stats import norm
from sklearn.utils import check_scalar
from sklearn.utils._param_validation import Interval, validate_parameter_constraints

_PARAMETERS = {
    **dict.fromkeys(("n_features", "n_dims", "branching"), [Interval(Integral, 1, None, closed="left")]),
    **dict.fromkeys(("n_roots", "depth", "rank", "random_state"), [Interval(Integral, 0, None, closed="left")]),
    **dict.fromkeys(("correlation", "exponent"), [Interval(Real, 0, None, closed="left")]),
    "bias": [Interval(Real, None, None, closed="neither")],
}
_ROWS_A_BLOCK = 256
_N_STEPS = 100
# What random numbers are drawn for, so that one use does not move another.
_FEATURES, _ROWS = 0, 1


@dataclass(frozen=True, eq=False)
class Superposition:
    """
    Sparse features, and the rows that they make; :func:`make_superposition` makes one.

    Parameters
    ----------
    features_ : ndarray of shape (n_features, n_dims)
        Their directions, of unit length.
    intercept_ : ndarray of shape (n_dims,)
        What is added to each row.
    probabilities_ : ndarray of shape (n_features,)
        How often each would be active, were it not for its siblings.
    parents_ : ndarray of shape (n_features,)
        The feature without which each is not active; -1 where there is none.
    means_, stds_ : ndarray of shape (n_features,)
        Of the activations of each.
    loadings_ : ndarray of shape (n_features, rank)
        Factors of the correlation between features.
    branching : int
        Children of a feature that has any.
    random_state : int
        Seed of rows.

    Examples
    --------
    >>> from skfactors.evaluations import make_superposition
    >>> truth = make_superposition(64, 16, n_roots=2, depth=1, rank=2)
    >>> [X.shape for X, _ in truth.iter_rows(300, first_row=100)]
    [(156, 16), (144, 16)]
    """

    features_: np.ndarray
    intercept_: np.ndarray
    probabilities_: np.ndarray
    parents_: np.ndarray
    means_: np.ndarray
    stds_: np.ndarray
    loadings_: np.ndarray
    branching: int
    random_state: int

    def sample(self, n_rows: int, *, first_row: int = 0) -> tuple[np.ndarray, sparse.csr_array]:
        """
        Make rows; each has a number, and is the same whenever it is asked for.

        Parameters
        ----------
        n_rows : int
            How many.
        first_row : int, default=0
            The number of the first.

        Returns
        -------
        X : ndarray of shape (n_rows, n_dims)
            In float32.
        activations : csr_array of shape (n_rows, n_features)
            Which features are active in each, and how much.
        """
        parts = list(self.iter_rows(n_rows, first_row=first_row))
        return np.concatenate([X for X, _ in parts]), sparse.vstack([of for _, of in parts], format="csr")

    def iter_rows(self, n_rows: int, *, first_row: int = 0) -> Iterator[tuple[np.ndarray, sparse.csr_array]]:
        """
        Make rows a part at a time, with memory for one part, for `partial_fit` and the like.

        Parameters
        ----------
        n_rows : int
            How many.
        first_row : int, default=0
            The number of the first.

        Yields
        ------
        X : ndarray of shape (n_rows_of_part, n_dims)
            In float32.
        activations : csr_array of shape (n_rows_of_part, n_features)
            Which features are active in each, and how much.
        """
        check_scalar(n_rows, "n_rows", Integral, min_val=1)
        check_scalar(first_row, "first_row", Integral, min_val=0)
        end = first_row + n_rows
        for block in range(first_row // _ROWS_A_BLOCK, -(-end // _ROWS_A_BLOCK)):
            start = block * _ROWS_A_BLOCK
            activations = self._block(block)[max(0, first_row - start) : end - start]
            yield (activations @ self.features_ + self.intercept_).astype(np.float32), activations

    def _block(self, block: int) -> sparse.csr_array:
        random = np.random.default_rng([self.random_state, _ROWS, block])
        active = self._active(random)
        rows, features = np.nonzero(active)
        values = np.zeros(active.shape, dtype=np.float32)
        magnitudes = self.means_[features] + self.stds_[features] * random.standard_normal(len(features))
        values[rows, features] = np.maximum(magnitudes, 0)
        for children in self._generations():
            parents = self.parents_[children]
            values[:, children] *= values[:, parents] / self.means_[parents]
        return sparse.csr_array(values)

    def _active(self, random) -> np.ndarray:
        n_features, rank = self.loadings_.shape
        own = np.sqrt(1 - (self.loadings_**2).sum(axis=1)).astype(np.float32)
        scores = random.standard_normal((_ROWS_A_BLOCK, n_features), dtype=np.float32) * own
        scores += random.standard_normal((_ROWS_A_BLOCK, rank), dtype=np.float32) @ self.loadings_.T
        # A child has the whole probability within the rows of its parent.
        has_parent = self.parents_ >= 0
        given_parent = self.probabilities_.copy()
        given_parent[has_parent] /= self.probabilities_[self.parents_[has_parent]]
        active = scores > norm.isf(np.minimum(given_parent, 1)).astype(np.float32)
        for children in self._generations():
            wanting = active[:, children] & active[:, self.parents_[children]]
            families = wanting.reshape(_ROWS_A_BLOCK, -1, self.branching)
            lots = np.where(families, random.random(families.shape, dtype=np.float32), -1)
            chosen = lots == lots.max(axis=2, keepdims=True)
            active[:, children] = (families & chosen).reshape(wanting.shape)
        return active

    def _generations(self) -> Iterator[slice]:
        """Yield the features that have parents, generation by generation."""
        start = int(np.argmax(self.parents_ >= 0))
        end = start + np.count_nonzero(self.parents_ >= 0)
        while start < end:
            # The children of those before, and only those.
            stop = start + np.count_nonzero(self.parents_[start:end] < start)
            yield slice(start, stop)
            start = stop


def make_superposition(
    n_features=16_384,
    n_dims=768,
    *,
    n_roots=128,
    branching=4,
    depth=3,
    rank=25,
    correlation=0.1,
    most_frequent=0.4,
    least_frequent=5e-4,
    exponent=0.5,
    bias=0.5,
    random_state=0,
) -> Superposition:
    """
    Make sparse features in fewer dimensions, as a model of hidden states whose truth is known.

    The defaults are the configuration of SynthSAEBench [1]_. Nothing is stored but the features: rows are made when
    they are asked for.

    Parameters
    ----------
    n_features : int, default=16384
        Number of features, the most frequent first.
    n_dims : int, default=768
        Number of dimensions that they share.
    n_roots : int, default=128
        Trees of features. A child is active only where its parent is, at most one of its siblings with it, and as
        strongly as its parent; features in no tree are active by themselves. A tree that would need more features than
        there are is left out.
    branching : int, default=4
        Children of a feature that has any.
    depth : int, default=3
        Generations below a root.
    rank : int, default=25
        Of the correlation between features.
    correlation : float, default=0.1
        Standard deviation of its factors; it is the scale of correlations. 0 is none.
    most_frequent, least_frequent : float, default=0.4, 5e-4
        Probabilities of the first and the last feature.
    exponent : float, default=0.5
        Of Zipf's law, by which probabilities fall between these.
    bias : float, default=0.5
        Length of what is added to every row.
    random_state : int, default=0
        Of features and rows: the same features and rows for the same number, on any machine up to rounding.

    Returns
    -------
    Superposition
        With `sample` and `iter_rows`.

    Raises
    ------
    ValueError
        If a number is out of its range.

    See Also
    --------
    ground_truth : What a dictionary finds of the features.

    Notes
    -----
    Activations are normal, cut off at 0, with means that fall from 5 to 4 and standard deviations that are
    the absolute values of normal numbers of mean and standard deviation 0.5.
    Directions are random ones after 100 steps downhill on the sum of squared cosines.

    References
    ----------
    .. [1] "SynthSAEBench: Evaluating Sparse Autoencoders on Scalable Realistic Synthetic Data", arXiv 2602.14687.

    Examples
    --------
    >>> from skfactors.evaluations import make_superposition
    >>> truth = make_superposition(256, 32, n_roots=4, depth=2, rank=4)
    >>> X, activations = truth.sample(1000)
    >>> X.shape, activations.shape
    ((1000, 32), (1000, 256))
    """
    given = {"n_features": n_features, "n_dims": n_dims, "n_roots": n_roots, "branching": branching, "depth": depth}
    given |= {"rank": rank, "correlation": correlation, "bias": bias, "exponent": exponent}
    given["random_state"] = random_state
    validate_parameter_constraints(_PARAMETERS, given, "make_superposition")
    if not 0 < least_frequent <= most_frequent < 1:
        raise ValueError(
            f"least_frequent={least_frequent!r} and most_frequent={most_frequent!r} must be probabilities between 0 "
            "and 1, the first no larger than the second."
        )
    random = np.random.default_rng([random_state, _FEATURES])
    loadings = correlation * random.standard_normal((n_features, rank))
    # However they are drawn, no more than all of a feature's variance is shared.
    shared = np.maximum(np.linalg.norm(loadings, axis=1, keepdims=True), 0.99) / 0.99
    offset = random.standard_normal(n_dims)
    return Superposition(
        features_=_spread(random.standard_normal((n_features, n_dims))).astype(np.float32),
        intercept_=(bias * offset / np.linalg.norm(offset)).astype(np.float32),
        probabilities_=_probabilities(n_features, most_frequent, least_frequent, exponent),
        parents_=_parents(n_features, n_roots, branching, depth),
        means_=np.linspace(5, 4, n_features),
        stds_=np.abs(random.normal(0.5, 0.5, n_features)),
        loadings_=(loadings / shared).astype(np.float32),
        branching=branching,
        random_state=random_state,
    )


def _probabilities(n_features, most, least, exponent):
    if n_features == 1:
        return np.array([most])
    shares = np.arange(1, n_features + 1) ** -float(exponent)
    spread = shares[0] - shares[-1]
    return least + (most - least) * ((shares - shares[-1]) / spread if spread > 0 else np.ones(n_features))


def _parents(n_features, n_roots, branching, depth):
    """Return parents: roots come first, then their children, and so on."""
    a_tree = sum(branching**generation for generation in range(depth + 1))
    n_roots = min(n_roots, n_features // a_tree)
    parents = np.full(n_features, -1)
    start, n_parents = 0, n_roots
    for _ in range(depth):
        first = start + n_parents
        parents[first : first + n_parents * branching] = start + np.repeat(np.arange(n_parents), branching)
        start, n_parents = first, n_parents * branching
    return parents


def _spread(directions):
    """Turn directions away from each other: downhill on Σ (dᵢ·dⱼ)², whose gradient is 4 D DᵀD."""
    n_features, n_dims = directions.shape
    rate = 0.5 * min(1.0, n_dims / n_features)
    for _ in range(_N_STEPS):
        directions /= np.linalg.norm(directions, axis=1, keepdims=True)
        directions -= rate * (directions @ (directions.T @ directions) - directions)
    return directions / np.linalg.norm(directions, axis=1, keepdims=True)
