"""SparseAutoencoder: a dictionary with an encoder, as a scikit-learn transformer."""

from dataclasses import fields
from functools import partial
from numbers import Integral, Real
from os import PathLike

import numpy as np
import torch
from sklearn.base import _fit_context
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.validation import check_is_fitted

from skfactors.devices import resolve_device
from skfactors.dictionaries.autoencoders.activations import ACTIVATIONS
from skfactors.dictionaries.autoencoders.activations.base import Activation
from skfactors.dictionaries.autoencoders.dense_engine import DenseEngine
from skfactors.dictionaries.autoencoders.encoder import AutoencoderModule, Encoder
from skfactors.dictionaries.autoencoders.scalings import SCALINGS
from skfactors.dictionaries.autoencoders.sparse_engine import SparseEngine
from skfactors.dictionaries.autoencoders.starting import (
    Standardizer,
    learned_components,
    pursuit_of,
    random_components,
    regressed_encoder,
    unit_rows,
)
from skfactors.dictionaries.autoencoders.step import AutoencoderStep, Pace, shift_for
from skfactors.dictionaries.autoencoders.weights import Weights
from skfactors.dictionaries.base import FactorModel
from skfactors.dictionaries.rows import check_rows, check_weight
from skfactors.dictionaries.sparse_coding.sparse_dictionary import random_state_of_its_own
from skfactors.dictionaries.sparse_coding.starting import given_components
from skfactors.learning.batches import merge_repeats
from skfactors.learning.callbacks import CallbackSupportMixin, watcher_of
from skfactors.learning.loop import Schedule, learn
from skfactors.output import with_plain_output

# Parameters that the result of a fit does not depend on.
_NO_EFFECT_ON_FIT = {
    "checkpoint_dir",
    "checkpoint_every",
    "device",
    "distributed",
    "sparse_output",
    "verbose",
    "warm_start",
}
_DTYPES = {"float32": torch.float32, "float64": torch.float64, "bfloat16": torch.bfloat16}
_RATE = 3e-3
_N_NONZERO_COEFS = 32
_MOST_GROUPS = 100
# Rows that learning starts from, and those of them by which the number of codes is made right.
_ROWS_TO_START_FROM, _ROWS_A_COMPONENT = 4096, 4
_ROWS_MEASURED, _VALUES_MEASURED = 4096, 2**24


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
        n_nonzero_coefs=_N_NONZERO_COEFS,
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
        """
        Learn factors of X, and an encoder for them.

        Parameters
        ----------
        X : array-like or ActivationStore of shape (n_rows, n_features)
            An array, a memory-mapped array (read a minibatch at a time), Activations, or a store, which is read in
            shuffled order with memory that does not grow with it.
        y : None
            Ignored.
        sample_weight : array-like of shape (n_rows,), default=None
            How much each row counts. With a store, its own `sample_weight` is looked up a minibatch at a time.

        Returns
        -------
        self : SparseAutoencoder
            The fitted autoencoder.

        Raises
        ------
        ValueError
            If X is not finite or has fewer rows than `n_components` asks for, no weight is positive, parameters do not
            fit each other, or a checkpoint is damaged.
        RuntimeError
            If one of several processes was lost.
        """
        going_on = self.warm_start and hasattr(self, "_learner_state")
        X = check_rows(self, X, reset=not going_on)
        weight = check_weight(sample_weight, X)
        if self.n_components is not None and self.n_components > len(X):
            raise ValueError(f"n_components={self.n_components} is more than the {len(X)} rows of X: give more rows.")
        return self._learn(X, weight, random_state_of_its_own(self.random_state), going_on, self._schedule(), True)

    @_fit_context(prefer_skip_nested_validation=True)
    def partial_fit(self, X, y=None, sample_weight=None):
        """
        Learn from some more rows, once each.

        Parameters
        ----------
        X : array-like of shape (n_rows, n_features)
            The next rows, cut into minibatches.
        y : None
            Ignored.
        sample_weight : array-like of shape (n_rows,), default=None
            How much each row counts; None counts all alike.

        Returns
        -------
        self : SparseAutoencoder
            The autoencoder, fitted to all rows that it was given so far.
        """
        going_on = hasattr(self, "_learner_state")
        X = check_rows(self, X, reset=not going_on)
        weight = check_weight(sample_weight, X)
        random_state = self._random_state if going_on else random_state_of_its_own(self.random_state)
        schedule = self._schedule(max_iter=1, checkpoint_dir=None, early_stopping=False)
        return self._learn(X, weight, random_state, going_on, schedule, False)

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

    def _saved_arrays(self):
        return super()._saved_arrays() | {
            f"state.{name}": array for name, array in getattr(self, "_learner_state", {}).items()
        }

    def _restore(self, facts, arrays):
        super()._restore(facts, arrays)
        state = {name.removeprefix("state."): array for name, array in arrays.items() if name.startswith("state.")}
        if state:
            self._learner_state, self._random_state = state, random_state_of_its_own(self.random_state)

    def _learn(self, X, weight, random_state, going_on, schedule, has_end):
        shape = (self.n_components or X.shape[1], X.shape[1])
        group_ends = check_group_sizes(self.group_sizes, shape[0])
        activation = self._activation(shape[0])
        if going_on and self._learner_state["factors"].shape[1:] != shape:
            raise ValueError(f"n_components={shape[0]} is not the number that was learned before: fit anew.")
        parameters = {name: value for name, value in self.get_params().items() if name not in _NO_EFFECT_ON_FIT}
        begin = partial(self._begin, going_on, activation, group_ends, schedule, has_end)
        step, standing = learn(
            X,
            weight,
            begin,
            schedule,
            random_state,
            identity=[parameters, dict(self._learner_state) if going_on else []],
            history=self.history_ if going_on else [],
            watcher=watcher_of(self, schedule.max_iter),
        )
        for name, array in step.learned().items():
            setattr(self, name, array)
        if activation.selection != "above" and hasattr(self, "threshold_"):
            del self.threshold_
        self.selection_, self.scaling_ = activation.selection, "none"
        self.history_, self.n_iter_, self.device_ = standing.history, standing.n_epochs, schedule.device
        self._learner_state, self._random_state = step.state(), random_state
        return self

    def _begin(
        self, going_on, activation, group_ends, schedule, has_end, rows, random_state, processes, methods
    ) -> AutoencoderStep:
        dtype = np.float64 if self.dtype == "float64" else np.float32
        n_components = int(group_ends[-1])
        drawn, drawn_weight = merge_repeats(*rows.draw(_sample_size(n_components), random_state))
        if going_on:
            state = self._learner_state
            standardizer = Standardizer(state["mean"], float(state["scale"]))
            weights, penalty = Weights.like(state), 0.0
        else:
            standardizer = Standardizer.of(drawn, drawn_weight, scaled=self.normalize == "rms")
        sample = standardizer.apply(drawn, dtype), drawn_weight
        if not going_on:
            encoder, components, bias = self._start(sample, activation, schedule, processes, random_state)
            measured = Activation(activation.n_nonzero_coefs)
            cutoff = shift_for(*_first(sample, n_components), encoder, bias[None], measured)
            weights = Weights.begin(encoder, components, activation.begin(bias, cutoff), dtype)
            penalty = activation.first_penalty(cutoff)
            if self.alpha is not None:
                penalty = self.alpha * standardizer.scale**activation.power_of_scale
        half, on_cpu = self.dtype == "bfloat16", torch.device(schedule.device).type == "cpu"
        engine = (
            SparseEngine(weights, activation, group_ends, processes)
            if on_cpu
            else DenseEngine(weights, activation, group_ends, processes, schedule.device, half)
        )
        n_batches = -(-len(rows) // schedule.batch_size)
        if schedule.early_stopping:
            n_batches = max(int(n_batches * (1 - schedule.validation_fraction)), 1)
        pace = Pace(
            _RATE if self.learning_rate == "auto" else self.learning_rate,
            int(weights.n_steps[0]),
            n_batches * schedule.max_iter if has_end else None,
        )
        is_steered = self.alpha is None
        sample = _first(sample, n_components)
        step = AutoencoderStep(engine, standardizer, sample, pace, penalty, is_steered, self.auxk, processes)
        if going_on:
            step.restore({}, self._learner_state)
        return step

    def _start(self, sample, activation, schedule, processes, random_state):
        """Return encoder, components and bias to start from, the same in all processes."""
        rows, weight = sample
        shape = (self.n_components or rows.shape[1], rows.shape[1])
        own_state = np.random.RandomState(random_state.randint(np.iinfo(np.int32).max))
        if isinstance(self.dict_init, str) and self.dict_init == "random":
            components = random_components(shape, own_state).astype(rows.dtype)
            return components, components, np.zeros(shape[0], rows.dtype)
        positive = activation.selection != "largest_magnitudes"
        coding = pursuit_of(activation.n_nonzero_coefs, positive, schedule.device, rows.dtype)
        if isinstance(self.dict_init, str):
            components = learned_components(rows, weight, shape[0], coding, processes, own_state)
        else:
            components = unit_rows(given_components(self.dict_init, shape))
        encoder, bias, use = regressed_encoder(rows, weight, components, coding)
        if self.group_sizes is not None and isinstance(self.dict_init, str):
            # The first groups get what is used most.
            order = np.argsort(-use, kind="stable")
            encoder, components, bias = encoder[order], components[order], bias[order]
        start = [np.ascontiguousarray(array, rows.dtype) for array in (encoder, components, bias)]
        return [
            np.frombuffer(bytearray(processes.share_bytes(array.tobytes())), rows.dtype).reshape(array.shape)
            for array in start
        ]

    def _activation(self, n_components) -> Activation:
        # The default asks for as many as there can be.
        if self.n_nonzero_coefs > n_components and self.n_nonzero_coefs != _N_NONZERO_COEFS:
            raise ValueError(
                f"n_nonzero_coefs={self.n_nonzero_coefs} is more than n_components={n_components}: a code has at "
                "most one coefficient for each component."
            )
        activation = ACTIVATIONS[self.activation](min(self.n_nonzero_coefs, n_components))
        if self.alpha is not None and not activation.is_steered:
            raise ValueError(
                f"alpha has no effect with activation={self.activation!r}, which has no penalty: leave it None, and "
                "set n_nonzero_coefs."
            )
        return activation

    def _schedule(self, **others) -> Schedule:
        own = {field.name: getattr(self, field.name) for field in fields(Schedule)}
        return Schedule(**own | {"device": resolve_device(self.device)} | others)

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.transformer_tags.preserves_dtype = ["float64" if self.dtype == "float64" else "float32"]
        return tags


def check_group_sizes(group_sizes, n_components: int) -> np.ndarray:
    """
    Return where nested prefixes of the components end.

    Parameters
    ----------
    group_sizes : sequence of int or float, or None
        Sizes of the groups, or their shares of the components; None is one group of all.
    n_components : int

    Raises
    ------
    ValueError
        If they do not add up.
    """
    if group_sizes is None:
        return np.array([n_components])
    sizes = np.asarray(group_sizes)
    if sizes.ndim != 1 or not len(sizes) or sizes.dtype.kind not in "iuf" or not (sizes > 0).all():
        raise ValueError(f"group_sizes={group_sizes!r} must be positive numbers, one for each group.")
    whole, wanted = (n_components, f"n_components={n_components}") if sizes.dtype.kind in "iu" else (1.0, "1")
    if not np.isclose(sizes.sum(), whole, rtol=1e-6):
        raise ValueError(f"group_sizes add up to {sizes.sum():g}, not to {wanted}.")
    ends = np.rint(np.cumsum(sizes) / whole * n_components).astype(np.int64)
    if (np.diff(ends, prepend=0) < 1).any() or len(sizes) > _MOST_GROUPS:
        raise ValueError(
            f"group_sizes={group_sizes!r} make a group without a component of {n_components}, or more than "
            f"{_MOST_GROUPS} groups: take fewer, or larger ones."
        )
    return ends


def _sample_size(n_components: int) -> int:
    return max(_ROWS_TO_START_FROM, _ROWS_A_COMPONENT * n_components)


def _first(sample, n_components: int) -> list[np.ndarray]:
    """Return so many rows of a sample, chosen evenly, that their pre-activations fit in memory."""
    every = -(-len(sample[0]) // max(min(_ROWS_MEASURED, _VALUES_MEASURED // n_components), 512))
    return [np.ascontiguousarray(part[::every]) for part in sample]


def _vector(values, size: int) -> np.ndarray:
    """Return values, or zeros, as a vector of a size."""
    return np.array(np.broadcast_to(0 if values is None else values, size), np.float32)
