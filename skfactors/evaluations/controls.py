"""What a dictionary is compared with: dictionaries of no learned factors, with as many active ones a row."""

from collections.abc import Mapping

import numpy as np
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils import check_random_state

from skfactors.dictionaries import SparseDictionary, as_factor_model
from skfactors.evaluations.frozen import frozen_control
from skfactors.metrics import l0


def random_control(dictionary, X=None, *, random_state=0) -> Pipeline:
    """
    Make a dictionary of random factors, as many as another has, as long, and as many a row.

    Parameters
    ----------
    dictionary : FactorModel, Pipeline or estimator
        Fitted.
    X : array-like of shape (n_rows, n_features), default=None
        Rows on which the control has the dictionary's mean number of active factors, and whose mean it starts from.
        None takes `n_nonzero_coefs` and the intercept of the dictionary.
    random_state : int, RandomState instance or None, default=0
        For the factors.

    Returns
    -------
    Pipeline
        Fitted. It takes off the mean and codes the rest by non-negative matching pursuit, which makes more of random
        factors than an encoder would: what does not beat it has learned little.

    Raises
    ------
    ValueError
        If X is None and the dictionary does not say how many factors a row has.

    References
    ----------
    "Sanity Checks for Sparse Autoencoders: Do SAEs Beat Random Baselines?", arXiv 2602.14111.

    Examples
    --------
    >>> import numpy as np
    >>> from skfactors import SparseDictionary
    >>> from skfactors.evaluations import random_control
    >>> X = np.random.default_rng(0).random((200, 6))
    >>> dictionary = SparseDictionary(n_components=8, n_nonzero_coefs=2, random_state=0).fit(X)
    >>> random_control(dictionary).transform(X).shape
    (200, 8)
    """
    model = as_factor_model(dictionary)
    if X is not None:
        return CONTROLS["random factors"](model, np.asarray(X), random_state)
    n_nonzero_coefs = getattr(dictionary, "n_nonzero_coefs", None)
    if n_nonzero_coefs is None:
        raise ValueError(
            f"{type(dictionary).__name__} does not say how many factors a row has: pass rows, X, to count them on."
        )
    return coded_by_pursuit(_random_factors(model, None, random_state), model.intercept_, n_nonzero_coefs)


def make_controls(dictionary, X, controls, random_state) -> dict:
    """
    Make the controls of a dictionary on some rows.

    Parameters
    ----------
    dictionary : FactorModel, PipelineModel or OtherModel
    X : ndarray of shape (n_rows, n_features)
        They start from its mean, and have as many active factors a row on it as the dictionary has.
    controls : sequence of str, or mapping of str to FactorModel, Pipeline, estimator or None
        Names of `CONTROLS`; in a mapping, fitted dictionaries under names of one's own, too, and None for those to
        be made.
    random_state : int, RandomState instance or None

    Returns
    -------
    dict of str to FactorModel, Pipeline or estimator

    Raises
    ------
    ValueError
        If there is no such control, or it must be learned from other rows than X.
    """
    given = dict(controls) if isinstance(controls, Mapping) else dict.fromkeys(controls)
    names = [name for name, control in given.items() if control is None]
    check_names(names)
    learned = [name for name in names if name not in UNLEARNED]
    if learned:
        raise ValueError(
            f"The control {learned[0]!r} is learned, from other rows than are scored: pass training_rows= to evaluate, "
            f"or controls={{{learned[0]!r}: frozen_control(dictionary, rows)}}."
        )
    n_active = l0(dictionary.transform(X)) if names else None
    return given | {name: CONTROLS[name](dictionary, X, random_state, n_active) for name in names}


def check_names(names) -> None:
    """
    Refuse names that are none of controls.

    Raises
    ------
    ValueError
        Naming those that there are.
    """
    unknown = [name for name in names if name not in CONTROLS]
    if unknown:
        raise ValueError(f"There is no control {unknown[0]!r}; there are {', '.join(map(repr, CONTROLS))}.")


def _random_factors(model, X, random_state):
    components = np.asarray(model.components_)
    directions = check_random_state(random_state).standard_normal(components.shape)
    lengths = np.linalg.norm(components, axis=1, keepdims=True)
    return directions * (lengths / np.linalg.norm(directions, axis=1, keepdims=True))


# The directions of the next two are there with both signs, since codes are not negative.
def _dimensions(model, X, random_state):
    directions = np.eye(X.shape[1])
    return np.concatenate([directions, -directions])


def _principal_components(model, X, random_state):
    _, _, directions = np.linalg.svd(np.cov(X, rowvar=False))
    directions = directions[: len(model.components_)]
    return np.concatenate([directions, -directions])


def _pursued(components_of):
    """Make of a function that returns components one that returns a dictionary."""

    def control(model, X, random_state, n_active=None):
        n_active = l0(model.transform(X)) if n_active is None else n_active
        return coded_by_pursuit(components_of(model, X, random_state), X.mean(axis=0), n_active)

    return control


# By name: a function of a dictionary, rows and a seed, which returns a fitted dictionary.
CONTROLS = {
    "random factors": _pursued(_random_factors),
    "hidden dimensions": _pursued(_dimensions),
    "principal components": _pursued(_principal_components),
    "frozen decoder": frozen_control,
}
# Those that are made of the rows that are scored.
UNLEARNED = ("random factors", "hidden dimensions", "principal components")


def coded_by_pursuit(components, mean, n_active: float) -> Pipeline:
    """Make a dictionary of components that codes what is left after a mean, with so many factors a row."""
    coder = SparseDictionary(len(components), n_nonzero_coefs=max(1, min(round(n_active), len(components))))
    coder.components_, coder.n_features_in_ = components.astype(np.float32), components.shape[1]
    return make_pipeline(StandardScaler(with_std=False).fit(np.asarray(mean, dtype=np.float64)[None]), coder)
