"""SparseAutoencoder: a dictionary with an encoder, as a scikit-learn transformer."""

from numbers import Integral, Real
from os import PathLike

import numpy as np
import torch
from sklearn.base import _fit_context
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.validation import check_is_fitted

from skfactors.devices import resolve_device
from skfactors.dictionaries.autoencoders.activations import ACTIVATIONS
from skfactors.dictionaries.autoencoders.encoder import AutoencoderModule, Encoder
from skfactors.dictionaries.autoencoders.scalings import SCALINGS
from skfactors.dictionaries.base import FactorModel
from skfactors.dictionaries.rows import check_rows
from skfactors.learning.callbacks import CallbackSupportMixin
from skfactors.output import with_plain_output

_DTYPES = {"float32": torch.float32, "float64": torch.float64, "bfloat16": torch.bfloat16}


class SparseAutoencoder(CallbackSupportMixin, FactorModel):
    """Learn factors, and an encoder that codes a row in one pass."""

    _no_effect_on_codes = frozenset(
        {
            "activation",
            "alpha",
            "auxk",
            "batch_size",
            "checkpoint_every",
            "dict_init",
            "distributed",
            "early_stopping",
            "group_sizes",
            "learning_rate",
            "max_iter",
            "n_components",
            "normalize",
            "random_state",
            "sparse_output",
            "validation_fraction",
            "verbose",
            "warm_start",
        }
    )

    _parameter_constraints = {
        "n_components": [Interval(Integral, 1, None, closed="left"), None],
        "activation": [StrOptions(set(ACTIVATIONS))],
        "n_nonzero_coefs": [Interval(Integral, 1, None, closed="left")],
        "alpha": [Interval(Real, 0, None, closed="neither"), None],
        "group_sizes": ["array-like", None],
        "dict_init": ["array-like", StrOptions({"dictionary", "random"})],
        "normalize": [StrOptions({"rms"}), None],
        "auxk": [Interval(Real, 0, None, closed="left")],
        "learning_rate": [Interval(Real, 0, None, closed="neither"), StrOptions({"auto"})],
        "max_iter": [Interval(Integral, 1, None, closed="left")],
        "batch_size": [Interval(Integral, 1, None, closed="left")],
        "early_stopping": ["boolean"],
        "validation_fraction": [Interval(Real, 0, 1, closed="neither")],
        "warm_start": ["boolean"],
        "random_state": ["random_state"],
        "device": [str],
        "dtype": [StrOptions(set(_DTYPES))],
        "distributed": [StrOptions({"auto"}), "boolean"],
        "checkpoint_dir": [str, PathLike, None],
        "checkpoint_every": [Interval(Integral, 1, None, closed="left")],
        "sparse_output": ["boolean"],
        "verbose": ["verbose"],
    }

    def __init__(
        self,
        n_components=None,
        *,
        activation="batch_topk",
        n_nonzero_coefs=32,
        alpha=None,
        group_sizes=None,
        dict_init="dictionary",
        normalize="rms",
        auxk=1 / 32,
        learning_rate="auto",
        max_iter=10,
        batch_size=1024,
        early_stopping=False,
        validation_fraction=0.1,
        warm_start=False,
        random_state=None,
        device="auto",
        dtype="float32",
        distributed="auto",
        checkpoint_dir=None,
        checkpoint_every=1000,
        sparse_output=True,
        verbose=False,
    ):
        self.n_components = n_components
        self.activation = activation
        self.n_nonzero_coefs = n_nonzero_coefs
        self.alpha = alpha
        self.group_sizes = group_sizes
        self.dict_init = dict_init
        self.normalize = normalize
        self.auxk = auxk
        self.learning_rate = learning_rate
        self.max_iter = max_iter
        self.batch_size = batch_size
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.warm_start = warm_start
        self.random_state = random_state
        self.device = device
        self.dtype = dtype
        self.distributed = distributed
        self.checkpoint_dir = checkpoint_dir
        self.checkpoint_every = checkpoint_every
        self.sparse_output = sparse_output
        self.verbose = verbose

    @classmethod
    def _from_arrays(
        cls,
        components,
        encoder,
        *,
        activation,
        intercept=None,
        encoder_intercept=None,
        threshold=None,
        selection=None,
        scaling="none",
        **parameters,
    ):
        """
        Make a fitted autoencoder of arrays that were learned elsewhere.

        Parameters
        ----------
        components, encoder : ndarray of shape (n_components, n_features)
        activation : str
            Name in `ACTIVATIONS`.
        intercept : ndarray of shape (n_features,), default=None
            Zeros if None.
        encoder_intercept : ndarray of shape (n_components,), default=None
            Zeros if None. What was subtracted from rows before they were encoded is folded in: ``- encoder @ shift``.
        threshold : float or ndarray of shape (n_components,), default=None
            Only what is above it is a code.
        selection : str, default=None
            Name in `SELECTIONS`, where it is not that of the activation.
        scaling : str, default="none"
            Name in `SCALINGS`.
        **parameters
            Others of the estimator, such as `n_nonzero_coefs`.

        Returns
        -------
        SparseAutoencoder
        """
        components, encoder = (np.array(array, np.float32, order="C") for array in (components, encoder))
        n_components, n_features = components.shape
        model = cls(n_components, activation=activation, **parameters)
        model.components_, model.encoder_ = components, encoder
        model.intercept_ = _vector(intercept, n_features)
        model.encoder_intercept_ = _vector(encoder_intercept, n_components)
        model.selection_ = selection or ACTIVATIONS[activation].selection
        model.scaling_ = scaling
        if model.selection_ == "above":
            model.threshold_ = _vector(threshold, n_components)
        model.history_, model.n_iter_, model.n_features_in_ = [], 0, n_features
        return model

    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X, y=None, sample_weight=None):
        """Learn factors and an encoder."""
        raise NotImplementedError

    def transform(self, X):
        """
        Code rows in one pass of the encoder.

        Parameters
        ----------
        X : array-like of shape (n_rows, n_features)
            Rows to code.

        Returns
        -------
        codes : csr_array or ndarray of shape (n_rows, n_components)
            Activations of the factors; a csr_array if `sparse_output`.
        """
        check_is_fitted(self)
        X = check_rows(self, X, reset=False)
        device = resolve_device(self.device)
        return self._encoder().encode(X, device, _DTYPES[self.dtype], sparse=self.sparse_output)

    def reconstruct(self, X):
        """
        Reconstruct rows from their codes.

        Parameters
        ----------
        X : array-like of shape (n_rows, n_features)
            Rows to code.

        Returns
        -------
        ndarray of shape (n_rows, n_features)
            What their codes stand for. Where rows are scaled one by one before they are coded, as some files of other
            tools have it, that is undone here, and not in :meth:`inverse_transform`.
        """
        check_is_fitted(self)
        X = check_rows(self, X, reset=False)
        rows = self.inverse_transform(with_plain_output(self).transform(X))
        if self.scaling_ == "none":
            return rows
        _, shift, scale = (
            torch.as_tensor(part) for part in SCALINGS[self.scaling_](torch.tensor(np.asarray(X)).to(torch.float32))
        )
        return rows * scale.numpy() + shift.numpy()

    def to_torch(self, device="cpu"):
        """
        Return the autoencoder as a torch module with differentiable `encode`, `decode` and `forward`.

        Parameters
        ----------
        device : str, default="cpu"
            Where its tensors are.

        Returns
        -------
        torch.nn.Module
            Its codes are those of :meth:`transform`, to rounding.
        """
        check_is_fitted(self)
        return AutoencoderModule(self._encoder(), self.components_, self.intercept_, resolve_device(device))

    def _encoder(self) -> Encoder:
        return Encoder(
            self.encoder_,
            self.encoder_intercept_,
            self.selection_,
            self.n_nonzero_coefs,
            getattr(self, "threshold_", None),
            self.scaling_,
        )

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.transformer_tags.preserves_dtype = ["float64" if self.dtype == "float64" else "float32"]
        return tags


def _vector(values, size: int) -> np.ndarray:
    """Return values, or zeros, as a vector of a size."""
    return np.array(np.broadcast_to(0 if values is None else values, size), np.float32)
