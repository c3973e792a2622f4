"""An autoencoder whose components are random and stay so: what learning an encoder alone comes to."""

import numpy as np
import torch
from scipy import sparse
from sklearn.utils import check_random_state

from skfactors.codes import check_codes
from skfactors.dictionaries import SparseAutoencoder, as_factor_model
from skfactors.dictionaries.adapters import PipelineModel
from skfactors.dictionaries.autoencoders.step import AutoencoderStep
from skfactors.metrics import l0

_ROWS_COUNTED_ON = 4096


def frozen_control(dictionary, X, random_state=0, sample_weight=None) -> SparseAutoencoder:
    """
    Learn an autoencoder with random components that stay as they are, as many as another dictionary has.

    Parameters
    ----------
    dictionary : FactorModel, Pipeline or estimator
        Fitted.
    X : array-like or ActivationStore of shape (n_rows, n_features)
        What the dictionary was learned from, or rows like these: others than it is scored on.
    random_state : int, RandomState instance or None, default=0
        For a seed of its own, so that with the dictionary's number the components are others than it began with.
    sample_weight : array-like of shape (n_rows,), default=None
        Weights of the rows, if the dictionary learned with some.

    Returns
    -------
    SparseAutoencoder
        Fitted, with as many epochs as the dictionary, or the last step of a pipeline, says that it had, and as many
        active factors a row as the dictionary gives it. Of an autoencoder it takes the other parameters; otherwise
        codes have signs if those of the dictionary have.

    See Also
    --------
    random_control : Random factors, coded by pursuit: nothing is learned.

    References
    ----------
    "Sanity Checks for Sparse Autoencoders: Do SAEs Beat Random Baselines?", arXiv 2602.14111.

    Examples
    --------
    >>> import numpy as np
    >>> from skfactors import SparseDictionary
    >>> from skfactors.evaluations import evaluate, frozen_control
    >>> X = np.random.default_rng(0).random((200, 6))
    >>> dictionary = SparseDictionary(n_components=8, n_nonzero_coefs=2, random_state=0).fit(X)
    >>> frozen_control(dictionary, X).transform(X).shape
    (200, 8)
    """
    model = as_factor_model(dictionary)
    X = X if hasattr(X, "shape") else np.asarray(X)
    shape = np.shape(model.components_)
    codes = model.transform(np.asarray(X[:: -(-len(X) // _ROWS_COUNTED_ON)]))
    if type(model) is SparseAutoencoder:
        like = model.get_params() | {"alpha": None, "checkpoint_dir": None, "warm_start": False}
    else:
        like = {"activation": "abs_topk"} if has_signs(codes) else {}
    learned = model.model if isinstance(model, PipelineModel) else model
    # Of one that was opened from another tool's file the epochs are not known.
    if getattr(learned, "n_iter_", 0) > 0:
        like["max_iter"] = learned.n_iter_
    seed = check_random_state(random_state).randint(np.iinfo(np.int32).max)
    like |= {"n_nonzero_coefs": max(1, min(round(l0(codes)), shape[0]))}
    like |= {"n_components": shape[0], "dict_init": "random", "random_state": seed}
    return _FrozenDecoder(**like).fit(X, sample_weight=sample_weight)


def has_signs(codes) -> bool:
    """Tell whether some codes are negative."""
    return bool((sparse.csr_array(check_codes(codes)).data < 0).any())


class _FrozenStep(AutoencoderStep):
    """Learn all but the components."""

    def __init__(self, engine, *args):
        super().__init__(engine, *args)
        self._components = torch.as_tensor(engine.weights.factors)[1].clone()

    def _reseed(self, outcome, total, patience):
        self.idle_weight = np.where(outcome.fired, 0, self.idle_weight + total)
        torch.as_tensor(self.engine.weights.factors)[1] = self._components
        return 0


class _FrozenDecoder(SparseAutoencoder):
    _step_class = _FrozenStep
