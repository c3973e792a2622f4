"""What a dictionary is compared with: dictionaries of no learned factors, with as many active ones a row."""

from collections.abc import Mapping

import numpy as np
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils import check_random_state

from skfactors.dictionaries import SparseAutoencoder, SparseDictionary, as_factor_model
from skfactors.dictionaries.one_place import predicts
from skfactors.evaluations.figures import TAKEN
from skfactors.evaluations.frozen import frozen_control, has_signs
from skfactors.metrics import l0


def random_control(dictionary, X=None, *, random_state=0) -> Pipeline:
    """
    Make a dictionary of random factors, as many as another has, as long, and as many a row.

    Parameters
    ----------
    dictionary : FactorModel, Pipeline or estimator
        Fitted.
    X : array-like of shape (n_rows, n_features), default=None
        Rows on which the control has the dictionary's mean number of active factors, and whose mean it starts from; its
        codes have signs if those of the dictionary have on these rows. None takes `n_nonzero_coefs` and the intercept
        of the dictionary, and codes that are not negative.
    random_state : int, RandomState instance or None, default=0
        For the factors.

    Returns
    -------
    Pipeline
        Fitted. It takes off the mean and codes the rest by matching pursuit, which makes more of random factors than
        an encoder would: what does not beat it has learned little.

    Raises
    ------
    ValueError
        If X is None and the dictionary does not say how many factors a row has, or is a transcoder, whose components
        and intercept are of other rows than it reads.

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
    if predicts(model):
        raise ValueError("a transcoder does not say what its rows are like: pass rows, X.")
    n_nonzero_coefs = getattr(dictionary, "n_nonzero_coefs", None) if _is_held_to_it(model) else None
    if n_nonzero_coefs is None:
        raise ValueError(
            f"{type(dictionary).__name__} does not say how many factors a row has: pass rows, X, to count them on."
        )
    return coded_by_pursuit(_random_factors(model, None, random_state), model.intercept_, n_nonzero_coefs)


def _is_held_to_it(model) -> bool:
    """Tell whether `n_nonzero_coefs` is more than a default beside a penalty, or beside the thresholds in a file."""
    if not isinstance(model, SparseAutoencoder):
        return True
    return model.alpha is None and (model.activation in ("topk", "abs_topk") or model.n_iter_ > 0)


def make_controls(dictionary, X, controls, random_state) -> dict:
    """
    Make the controls of a dictionary on some rows.

    Parameters
    ----------
    dictionary : FactorModel, PipelineModel or OtherModel
    X : ndarray of shape (n_rows, n_features)
        They start from its mean, and have as many active factors a row on it as the dictionary has.
    controls : str, sequence of str, or mapping of str to FactorModel, Pipeline, estimator or None
        As :func:`named` takes them.
    random_state : int, RandomState instance or None

    Returns
    -------
    dict of str to FactorModel, Pipeline or estimator

    Raises
    ------
    TypeError, ValueError
        As :func:`named` raises, or if a control must be learned from other rows than X.
    """
    given = named(controls)
    check_unlearned(given)
    names = [name for name, control in given.items() if control is None]
    codes = dictionary.transform(X) if names else None
    return given | {name: CONTROLS[name](dictionary, X, random_state, codes) for name in names}


def check_unlearned(controls: dict) -> None:
    """
    Refuse controls, by name, of which one is to be made and must be learned.

    Raises
    ------
    ValueError
        If there is one.
    """
    for name, control in controls.items():
        if control is None and name not in UNLEARNED:
            raise ValueError(
                f"The control {name!r} is learned, from other rows than are scored: pass training_rows= to evaluate, "
                f"or controls={{{name!r}: frozen_control(dictionary, rows)}}."
            )


def named(controls) -> dict:
    """
    Return controls by name, with None for those that are to be made.

    Parameters
    ----------
    controls : str, sequence of str, or mapping of str to FactorModel, Pipeline, estimator or None
        Names of `CONTROLS`; in a mapping, fitted dictionaries under names of one's own, too, and None for those to be
        made.

    Returns
    -------
    dict of str to FactorModel, Pipeline, estimator or None

    Raises
    ------
    TypeError
        If a name is no str.
    ValueError
        If there is no such control, something else in a table has the name, or it cannot be written.
    """
    controls = [controls] if isinstance(controls, str) else controls
    controls = dict(controls) if isinstance(controls, Mapping) else dict.fromkeys(controls)
    for name, control in controls.items():
        if not isinstance(name, str):
            raise TypeError(f"The name of a control must be a str, not {name!r}.")
        if control is None and name not in CONTROLS:
            raise ValueError(f"There is no control {name!r}; there are {', '.join(map(repr, CONTROLS))}.")
        if any("\ud800" <= character <= "\udfff" for character in name):
            raise ValueError(f"The name {name!r} of a control has half a surrogate pair: it cannot be written.")
        if name in TAKEN:
            raise ValueError(f"The name {name!r} is that of something else in a table: give the control another.")
    return controls


def _random_factors(model, X, random_state):
    components = np.asarray(model.components_)
    # A transcoder's are of another place than its rows.
    width = components.shape[1] if X is None else X.shape[1]
    directions = check_random_state(random_state).standard_normal((len(components), width))
    lengths = np.linalg.norm(components, axis=1, keepdims=True)
    return directions * (lengths / np.linalg.norm(directions, axis=1, keepdims=True))


# The directions of the next two are there with both signs.
def _dimensions(model, X, random_state):
    directions = np.eye(X.shape[1])
    return np.concatenate([directions, -directions])


def _principal_components(model, X, random_state):
    _, _, directions = np.linalg.svd(np.cov(X, rowvar=False, dtype=np.float64))
    directions = directions[: len(model.components_)]
    return np.concatenate([directions, -directions])


def _pursued(components_of):
    """Make of a function that returns components one that returns a dictionary."""

    def control(model, X, random_state, codes=None):
        codes = model.transform(X) if codes is None else codes
        components, mean = components_of(model, X, random_state), X.mean(axis=0, dtype=np.float64)
        return coded_by_pursuit(components, mean, l0(codes), positive=not has_signs(codes))

    return control


# By name: a function of a dictionary, rows and a seed, which returns a fitted dictionary.
CONTROLS = {
    "random factors": _pursued(_random_factors),
    "hidden dimensions": _pursued(_dimensions),
    "principal components": _pursued(_principal_components),
    "frozen decoder": frozen_control,
}
# Those that need no other rows than are scored.
UNLEARNED = ("random factors", "hidden dimensions", "principal components")


def coded_by_pursuit(components, mean, n_active: float, *, positive: bool = True) -> Pipeline:
    """Make a dictionary of components that codes what is left after a mean, with so many factors a row."""
    n_nonzero_coefs = max(1, min(round(n_active), len(components)))
    coder = SparseDictionary(len(components), n_nonzero_coefs=n_nonzero_coefs, positive_code=positive)
    coder.components_, coder.n_features_in_ = components.astype(np.float32), components.shape[1]
    return make_pipeline(StandardScaler(with_std=False).fit(np.asarray(mean, dtype=np.float64)[None]), coder)
