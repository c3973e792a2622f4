"""What a dictionary finds of known features."""

from numbers import Integral

import numpy as np
import pandas as pd
from scipy import sparse
from scipy.optimize import linear_sum_assignment
from sklearn.metrics.pairwise import cosine_similarity
from sklearn.utils import check_scalar

from skfactors.codes import check_codes
from skfactors.dictionaries.adapters import as_factor_model, reconstruction_of
from skfactors.evaluations.controls import UNLEARNED, coded_by_pursuit, make_controls
from skfactors.evaluations.figures import DICTIONARY, TRUE_FEATURES, Figures
from skfactors.evaluations.superposition import Superposition
from skfactors.metrics import l0

# Far from those that anybody learns from.
_FIRST_ROW = 2**40


def ground_truth(
    dictionary,
    truth: Superposition,
    *,
    n_rows=10_000,
    first_row=_FIRST_ROW,
    controls=UNLEARNED,
    n_resamples=1000,
    random_state=0,
) -> pd.DataFrame:
    """
    Tell how well a dictionary finds features that are known.

    Factors and features are paired, one with one, such that the sum of their absolute cosines is largest.

    Parameters
    ----------
    dictionary : FactorModel, Pipeline or estimator
        Fitted to rows of `truth`.
    truth : Superposition
        The features.
    n_rows : int, default=10000
        Rows to score on.
    first_row : int, default=2**40
        The number of the first of them: so far that they are not those that the dictionary learned from.
    controls : sequence of str or mapping, default=those of `CONTROLS` that are not learned
        What it is compared with, coded with as many active factors a row: names of `CONTROLS`, or a dict of fitted
        dictionaries by name.
    n_resamples : int, default=1000
        Of the bootstrap for intervals, over rows or over pairs.
    random_state : int, default=0
        For random factors and the bootstrap.

    Returns
    -------
    DataFrame
        A line for each measure and what is scored by it: `measure`, `scored` ("dictionary", a control, or "true
        features", the features themselves coded by pursuit, as a ceiling), `value`, the 95 % interval `low` and `high`,
        `difference`, the dictionary's value minus this one, with the interval `difference_low` and `difference_high`,
        which is over the same units and so narrower than the two intervals suggest (none where they are over different
        numbers of units), `n_units`, the rows or pairs, `inside`, the controls whose intervals hold the dictionary's
        figure, and `note`, what else a reader must know of it, such as that there are too few units for an interval, or
        which controls it is behind.
        Measures are `explained_variance`, `l0`, `mcc` (mean absolute cosine of pairs) and `f1` (mean over pairs
        of the F1 by which a factor's activity tells the feature's).

    Raises
    ------
    NotFittedError, TypeError, ValueError
        If the dictionary is not fitted, is none, or has rows of another width; or there is no such control.

    See Also
    --------
    make_superposition : Makes the features.

    Notes
    -----
    Reconstruction is not truth: of methods at one L0 that with the largest explained variance can find the fewest
    features [1]_.

    References
    ----------
    .. [1] "SynthSAEBench: Evaluating Sparse Autoencoders on Scalable Realistic Synthetic Data", arXiv 2602.14687.

    Examples
    --------
    >>> from skfactors import SparseDictionary
    >>> from skfactors.evaluations import ground_truth, make_superposition
    >>> truth = make_superposition(64, 16, n_roots=2, depth=1, rank=2)
    >>> dictionary = SparseDictionary(32, n_nonzero_coefs=4, random_state=0).fit(truth.sample(1000)[0])
    >>> table = ground_truth(dictionary, truth, n_rows=500, controls=["random factors"], n_resamples=100)
    >>> table["scored"].unique().tolist()
    ['dictionary', 'random factors', 'true features']
    """
    check_scalar(n_rows, "n_rows", Integral, min_val=2)
    model = as_factor_model(dictionary)
    n_dims = truth.features_.shape[1]
    if model.components_.shape[1] != n_dims:
        raise ValueError(f"The dictionary has rows {model.components_.shape[1]} wide, and the features {n_dims}.")
    X, activations = truth.sample(n_rows, first_row=first_row)
    scored = {DICTIONARY: model, **make_controls(model, X, controls, random_state)}
    scored[TRUE_FEATURES] = coded_by_pursuit(truth.features_, truth.intercept_, l0(model.transform(X)))
    figures = Figures(n_resamples, random_state)
    deviations = ((X - X.mean(axis=0, dtype=np.float64)) ** 2).sum(axis=1)
    for name, of in scored.items():
        of = as_factor_model(of)
        made = of.transform(X)
        codes = sparse.csr_array(check_codes(made))
        residuals = ((X - reconstruction_of(of, X, made).astype(np.float64)) ** 2).sum(axis=1)
        figures.add("explained_variance", name, residuals, deviations, units="rows", complement=True)
        figures.add("l0", name, np.diff((codes != 0).indptr), units="rows")
        found, cosines, f1 = matched(of.components_, codes, truth.features_, activations)
        figures.add("mcc", name, cosines, units=found)
        figures.add("f1", name, f1, units=found)
    return figures.table()


def matched(components, codes, features, activations) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """
    Pair factors and features, and tell how alike each pair is.

    Parameters
    ----------
    components : ndarray of shape (n_components, n_dims)
    codes : csr_array of shape (n_rows, n_components)
    features : ndarray of shape (n_features, n_dims)
    activations : csr_array of shape (n_rows, n_features)

    Returns
    -------
    found : ndarray of int, shape (n_pairs,)
        Features, in their order.
    cosines : ndarray of shape (n_pairs,)
        Absolute ones.
    f1 : ndarray of shape (n_pairs,)
        0 where neither is ever active.
    """
    cosines = np.abs(cosine_similarity(features, components))
    found, factors = linear_sum_assignment(cosines, maximize=True)
    fires, true = (codes != 0).tocsc()[:, factors], (activations != 0).tocsc()[:, found]
    both, either = (fires * true).sum(axis=0), np.diff(fires.indptr) + np.diff(true.indptr)
    return found, cosines[found, factors], 2 * both / np.maximum(either, 1)
