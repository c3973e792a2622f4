"""SparseAutoencoder: a dictionary with an encoder, as a scikit-learn transformer."""

from dataclasses import fields
from functools import partial
from numbers import Integral, Real
from os import PathLike

import numpy as np
import torch
from scipy.sparse import csr_array, vstack
from sklearn.base import _fit_context
from sklearn.utils._param_validation import Interval, StrOptions, validate_parameter_constraints
from sklearn.utils.validation import check_is_fitted

from skfactors.codes import LARGEST
from skfactors.devices import resolve_device
from skfactors.dictionaries.adapters import as_factor_model
from skfactors.dictionaries.autoencoders.activations import ACTIVATIONS
from skfactors.dictionaries.autoencoders.activations.base import Activation
from skfactors.dictionaries.autoencoders.encoder import AutoencoderModule, Encoder
from skfactors.dictionaries.autoencoders.engines import engine_for
from skfactors.dictionaries.autoencoders.scalings import SCALINGS
from skfactors.dictionaries.autoencoders.selections import SELECTIONS, mismatch_of_rule
from skfactors.dictionaries.autoencoders.starting import (
    Standardizer,
    begin_from,
    exact_codes,
    first_rows,
    penalised,
    pursuit_of,
    regressed_encoder,
    sample_size,
    set_apart,
    unit_rows,
)
from skfactors.dictionaries.autoencoders.step import AutoencoderStep, Pace, shift_for
from skfactors.dictionaries.autoencoders.weights import Weights
from skfactors.dictionaries.base import FactorModel
from skfactors.dictionaries.groups import ends_of_groups
from skfactors.dictionaries.learned_from import source_of
from skfactors.dictionaries.rows import batches_of, check_rows, check_weight
from skfactors.dictionaries.sparse_coding.sparse_dictionary import random_state_of_its_own
from skfactors.dictionaries.sparse_coding.step import raise_overflow
from skfactors.learning.batches import is_streamed, merge_repeats, rows_of
from skfactors.learning.callbacks import CallbackSupportMixin, watcher_of
from skfactors.learning.loop import Schedule, learn
from skfactors.learning.processes import OneProcess
from skfactors.records import NATURAL

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
# Of the learning rate, times the root of the number of features: how far a step turns a factor.
_TURN = 0.1
_ROWS_CODED = 16_384
_N_NONZERO_COEFS = 32


class SparseAutoencoder(CallbackSupportMixin, FactorModel):
    """
    Learn factors, and an encoder that codes a row in one pass.

    Minimises, over encoder W, biases b and c, and components D of length 1,

        Σ_i w_i [ ½‖x_i - (a_i D + b)‖² + penalty(a_i) ]   with a_i = keep(W x_i + c)

    one minibatch at a time, by Adam. What is kept of the pre-activations, and whether there is a penalty, is up to the
    activation; however it goes about it, a row has `n_nonzero_coefs` codes in the mean.

    Parameters
    ----------
    n_components : int, default=None
        Number of factors; None is the number of features.
    activation : {"relu", "topk", "batch_topk", "jump_relu", "gated", "abs_topk"}, default="batch_topk"
        What makes codes of pre-activations. "topk" keeps the largest of each row, "abs_topk" those furthest from zero,
        with their signs. "batch_topk" keeps the largest of a minibatch, and learns a threshold for `transform`. "relu"
        keeps what is positive, under an L1 penalty; "jump_relu" what is above each factor's own threshold, under a
        penalty on the number of codes; "gated" decides by a gate which factors are active, apart from how much.
    n_nonzero_coefs : int, default=32
        Codes of a row asked for. "topk" and "abs_topk" keep at most so many of each; the others have so many in the
        mean, by steering their penalty while they learn, and in the end a threshold. The default asks for no more than
        there are components.
    alpha : float, default=None
        A fixed penalty instead, for "relu", "jump_relu" and "gated", in the unit of ½‖x - x̂‖² by a code, or for
        "jump_relu" by the number of codes.
    group_sizes : sequence of int or float, default=None
        Sizes of groups of components, or their shares, for nested prefixes (Matryoshka): the loss is then the mean over
        reconstructions from the first group, the first two, and so on, so that the first factors are the most general.
    dict_init : {"dictionary", "random"} or array-like of shape (n_components, n_features), default="dictionary"
        Components to start from. "dictionary" learns them from a sample, with exact codes, as
        :class:`SparseDictionary` does; the encoder starts from a regression to the exact codes, as it does for given
        components.
    normalize : {"rms", None}, default="rms"
        "rms" scales all rows alike, to a mean squared length of `n_features`, while it learns. The fitted attributes
        are for rows as they come. Rows are centred in any case.
    auxk : float, default=1/32
        Weight of the loss with which factors that have been silent for some time are to reconstruct what the others
        leave (AuxK); 0 does without.
    learning_rate : float or "auto", default="auto"
        Of Adam, at its highest: it grows over the first steps and falls to zero over the last seven tenths of a fit.
        "auto" is 0.1 / √n_features.
    max_iter : int, default=10
        Epochs.
    batch_size : int, default=1024
        Rows in a minibatch. They are shuffled in every epoch.
    early_stopping : bool, default=False
        Whether to hold rows out and stop after the epoch that lowers their mean error by less than a thousandth.
        `max_iter` is then the most epochs there may be.
    validation_fraction : float, default=0.1
        Share of the rows that is held out for early stopping.
    warm_start : bool, default=False
        Whether `fit` goes on from the weights of the last fit.
    random_state : int, RandomState instance or None, default=None
        For the start and the shuffling.
    device : str, default="auto"
        "auto" takes cuda, then mps, then cpu.
    dtype : {"float32", "float64", "bfloat16"}, default="float32"
        Precision of weights and codes. "bfloat16" multiplies matrices in it on an accelerator; weights and codes are
        float32.
    distributed : "auto" or bool, default="auto"
        Whether the processes of a torch.distributed group, such as torchrun starts, learn together, each from its share
        of every minibatch. "auto" does so where there is a group; True raises where there is none.
    checkpoint_dir : path-like, default=None
        Folder in which `fit` keeps what it needs to go on after it was killed. The same call, with the same parameters
        and rows, then ends at the same bits as one that was never stopped.
    checkpoint_every : int, default=1000
        Minibatches from one checkpoint to the next.
    sparse_output : bool, default=True
        Whether codes are a `scipy.sparse.csr_array`; dense codes are needed for pandas output.
    verbose : bool, default=False
        Show a progress bar with explained variance, codes per row and the number of silent factors.

    Attributes
    ----------
    components_ : ndarray of shape (n_components, n_features)
        The factors, of length 1.
    intercept_ : ndarray of shape (n_features,)
        What a row of no factors is reconstructed as.
    encoder_ : ndarray of shape (n_components, n_features)
        Pre-activations are ``X @ encoder_.T + encoder_intercept_``.
    encoder_intercept_ : ndarray of shape (n_components,)
    threshold_ : ndarray of shape (n_components,)
        What a pre-activation must be above; for "batch_topk", "jump_relu" and "gated".
    history_ : list of dict
        For each step: `step`, `n_rows`, and over its batch, before the update, `objective` (weighted mean of ½‖x - x̂‖²,
        of rows as they are scaled), `explained_variance`, `l0`, `n_silent`, `n_reseeded`, `penalty`; with early
        stopping, for the last step of each epoch, `validation_objective`.
    n_iter_ : int
        Epochs run by the last `fit`; 1 after `partial_fit`.
    n_features_in_ : int
        Number of features.
    feature_names_in_ : ndarray of shape (n_features,)
        Names of features, where X had any.
    device_ : str
        Where it was learned.
    source_ : dict
        What it was learned from, where X is Activations or a store: their `source`.

    See Also
    --------
    SparseDictionary : Exact codes, by sparse coding.
    skfactors.metrics.amortization_gap : What it costs that an encoder's codes are not the best.

    Notes
    -----
    On a CPU a step makes one dense product, for the pre-activations; everything else touches only what is active, and
    factors without a code in a minibatch stay as they are. On an accelerator arrays are dense. Factors that stay
    silent for an epoch or 256 minibatches, and for 25 at least, are pointed at the residuals of the rows that are
    reconstructed worst, a few at a time.

    At inference a gated autoencoder is a JumpReLU one: its gate's parameters are folded into `encoder_`,
    `encoder_intercept_` and `threshold_`.

    References
    ----------
    Bricken et al. (2023), "Towards monosemanticity: decomposing language models with dictionary learning".

    Gao, la Tour, Tillman, Goh, Troll, Radford, Sutskever, Leike, Wu (2024), "Scaling and evaluating sparse
    autoencoders", for TopK and AuxK.

    Bussmann, Leask, Nanda (2024), "BatchTopK sparse autoencoders".

    Rajamanoharan et al. (2024a), "Improving dictionary learning with gated sparse autoencoders".

    Rajamanoharan et al. (2024b), "Jumping ahead: improving reconstruction fidelity with JumpReLU sparse autoencoders".

    Bussmann, Nabeshima, Karvonen, Nanda (2025), "Learning multi-level features with Matryoshka sparse autoencoders".

    Examples
    --------
    >>> import numpy as np
    >>> from skfactors import SparseAutoencoder
    >>> X = np.random.default_rng(0).random((500, 6))
    >>> autoencoder = SparseAutoencoder(n_components=8, n_nonzero_coefs=3, random_state=0).fit(X)
    >>> codes = autoencoder.transform(X)
    >>> codes.shape, bool(2.8 < codes.nnz / len(X) < 3.2)
    ((500, 8), True)
    """

    _step_class = AutoencoderStep

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

    _fitted_facts = {
        "device_?": str,
        "history_": [{"step": NATURAL, "n_rows": NATURAL, ...: (float, None)}],
        "n_iter_": NATURAL,
        "scaling_": frozenset(SCALINGS),
        "selection_": frozenset(SELECTIONS),
    }
    # What learning goes on from is there as a whole, or not at all.
    _fitted_arrays = {
        "encoder_": ("n_components", "n_features"),
        "encoder_intercept_": ("n_components",),
        "threshold_?": ("n_components",),
        "state.factors?": (2, "n_components", "n_features"),
        "state.factor_moments?": (2, 2, "n_components", "n_features"),
        "state.parameters?": ("n_parameters", "n_components"),
        "state.parameter_moments?": (2, "n_parameters", "n_components"),
        "state.intercept?": ("n_features",),
        "state.intercept_moments?": (2, "n_features"),
        "state.n_updates?": (int, "n_components"),
        "state.n_steps?": (int, 1),
        "state.idle_weight?": ("n_components",),
        "state.penalty?": (),
        "state.mean?": ("n_features",),
        "state.scale?": (),
    }

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
        n_components, n_outputs = components.shape
        model = cls(n_components, activation=activation, **parameters)
        model.components_, model.encoder_ = components, encoder
        model.intercept_ = _vector(intercept, n_outputs)
        model.encoder_intercept_ = _vector(encoder_intercept, n_components)
        model.selection_ = selection or ACTIVATIONS[activation].selection
        model.scaling_ = scaling
        if model.selection_ == "above":
            model.threshold_ = _vector(threshold, n_components)
        model.history_, model.n_iter_, model.n_features_in_ = [], 0, encoder.shape[1]
        return model

    @classmethod
    def from_dictionary(
        cls, dictionary, X, *, sample_weight=None, activation="batch_topk", n_nonzero_coefs=None, **parameters
    ):
        """
        Give a dictionary an encoder, regressed to its codes of some rows.

        Parameters
        ----------
        dictionary : FactorModel
            Fitted, such as a :class:`SparseDictionary`, with codes that are exact.
        X : array-like or ActivationStore of shape (n_rows, n_features)
            Rows like those that it was fitted to. Of many, a sample is taken.
        sample_weight : array-like of shape (n_rows,), default=None
            How much each row counts.
        activation : str, default="batch_topk"
            As of the class.
        n_nonzero_coefs : int, default=None
            None is the mean number of factors in the dictionary's codes.
        **parameters
            Others of the class.

        Returns
        -------
        SparseAutoencoder
            With the components of the dictionary, scaled to length 1. With `warm_start` or by `partial_fit` it goes on
            learning from there.

        Examples
        --------
        >>> import numpy as np
        >>> from skfactors import SparseAutoencoder, SparseDictionary
        >>> X = np.random.default_rng(0).random((500, 6))
        >>> dictionary = SparseDictionary(n_components=8, alpha=0.1, random_state=0).fit(X)
        >>> autoencoder = SparseAutoencoder.from_dictionary(dictionary, X)
        >>> bool(autoencoder.score(X) > 0.5)
        True
        """
        dictionary = as_factor_model(dictionary)
        n_components = len(dictionary.components_)
        model = cls(n_components, activation=activation, **parameters)
        source = source_of(X) or getattr(dictionary, "source_", {})
        X = check_rows(model, X, reset=True, largest=LARGEST[model._precision().__name__])
        random_state = random_state_of_its_own(model.random_state)
        rows = rows_of(X, check_weight(sample_weight, X))
        drawn, weight = merge_repeats(*rows.draw(sample_size(n_components), random_state))
        codes = csr_array(dictionary.transform(drawn))
        model.n_nonzero_coefs = n_nonzero_coefs or max(1, round(float(np.diff(codes.indptr) @ weight / weight.sum())))
        model._validate_params()
        activation_ = model._activation(n_components)
        standardizer = Standardizer.of(drawn, weight, scaled=model.normalize == "rms", **model._blocks())
        components = dictionary.components_ * standardizer.by_column
        codes.data = codes.data * np.linalg.norm(components, axis=1)[codes.indices]
        components = unit_rows(components)
        device, group_ends = resolve_device(model.device), ends_of_groups(model.group_sizes, n_components)
        start = regressed_encoder(standardizer.apply(drawn, np.float64), weight, components, codes, device)[:2]
        encoder, bias = (np.ascontiguousarray(array, model._precision()) for array in start)
        components = components.astype(model._precision())
        step = model._step(
            (encoder, components, bias, None),
            standardizer,
            drawn,
            weight,
            activation_,
            group_ends,
            device,
            OneProcess(),
            None,
        )
        state = step.state()
        state["intercept"][:] = (dictionary.intercept_ - standardizer.mean) * standardizer.by_column
        step.restore({}, state)
        model._take(step, device)
        model.history_, model.n_iter_, model._random_state = [], 0, random_state
        return model._learned_from(source)

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
        return self._fit(X, None, sample_weight)

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
        return self._partial_fit(X, None, sample_weight)

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
        encoder = self._encoder()
        X = check_rows(self, X, reset=False, largest=LARGEST[self.encoder_.dtype.name])
        device = resolve_device(self.device)
        return encoder.encode(X, device, _DTYPES[self.dtype], sparse=self.sparse_output)

    def exact_codes(self, X, *, alpha=None, n_nonzero_coefs=None):
        """
        Code rows with the components as well as can be, without the encoder.

        Parameters
        ----------
        X : array-like or ActivationStore of shape (n_rows, n_features)
            Rows to code.
        alpha : float, default=None
            L1 penalty: codes are then those of :class:`SparseDictionary`, with a relative duality gap of at most 1e-4.
        n_nonzero_coefs : int, default=None
            The most factors a code may have: it is then found by orthogonal matching pursuit. None is that of the
            autoencoder, unless `alpha` is given.

        Returns
        -------
        codes : csr_array of shape (n_rows, n_components)
            For :meth:`inverse_transform`.

        See Also
        --------
        skfactors.metrics.amortization_gap : What the encoder's codes cost, in comparison.
        """
        check_is_fitted(self)
        X = check_rows(self, X, reset=False)
        if alpha is not None and n_nonzero_coefs is not None:
            raise ValueError("give alpha or n_nonzero_coefs, not both: pursuit has no penalty.")
        positive, device = self.selection_ != "largest_magnitudes", resolve_device(self.device)
        if alpha is None:
            most = min(n_nonzero_coefs or self.n_nonzero_coefs, len(self.components_))
            coding = pursuit_of(most, positive, device, self.components_.dtype)
        else:
            penalties = {"alpha": [Interval(Real, 0, None, closed="neither")]}
            validate_parameter_constraints(penalties, {"alpha": alpha}, "exact_codes")
            coding = penalised(float(alpha), positive, device, self.components_)
        rows = (
            SCALINGS[self.scaling_](torch.tensor(part))[0].numpy() - self.intercept_
            for part in batches_of(X, _ROWS_CODED)
        )
        return vstack([exact_codes(part, self.components_, coding) for part in rows], format="csr")

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

    def _reconstruct_from(self, X, codes):
        rows = self.inverse_transform(codes)
        if self.scaling_ == "none":
            return rows
        X = torch.tensor(np.asarray(check_rows(self, X, reset=False))).to(torch.float32)
        _, shift, scale = (torch.as_tensor(part) for part in SCALINGS[self.scaling_](X))
        return rows * scale.numpy() + shift.numpy()

    def _encoder(self) -> Encoder:
        # Of a fitted autoencoder they may have been set since.
        self._validate_params()
        has_threshold = hasattr(self, "threshold_")
        problem = mismatch_of_rule(self.selection_, self.n_nonzero_coefs, has_threshold, len(self.components_))
        if problem is not None:
            raise ValueError(f"this SparseAutoencoder cannot code rows: {problem}.")
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

    def _mismatch_of_fitted(self, facts, arrays):
        problem = super()._mismatch_of_fitted(facts, arrays)
        if problem is not None:
            return problem
        types = {array.dtype.name for name, array in arrays.items() if not name.startswith("state.")}
        if types not in ({"float32"}, {"float64"}):
            return f"its arrays are of {' and '.join(sorted(types))}"
        state, n_components = _state_among(arrays), len(arrays["components_"])
        # A skip is gone on from where there is one.
        listed = (name for name in self._listed("_fitted_arrays") if "skip" not in name or "skip_" in arrays)
        if state and len(state) < sum(name.startswith("state.") for name in listed):
            return "it lacks some of the arrays that it goes on from"
        if state and not (
            (state["scale"] > 0).all()
            and all((state[name] >= 0).all() for name in ("idle_weight", "penalty"))
            and all((state[f"{name}_moments"][1] >= 0).all() for name in ("factor", "parameter", "intercept"))
        ):
            return "the arrays that it goes on from hold numbers that none has learned"
        return mismatch_of_rule(facts["selection_"], self.n_nonzero_coefs, "threshold_" in arrays, n_components)

    def _restore(self, facts, arrays):
        super()._restore(facts, arrays)
        state = _state_among(arrays)
        if state:
            self._learner_state, self._random_state = state, random_state_of_its_own(self.random_state)

    def _fit(self, X, y, sample_weight):
        going_on = self.warm_start and hasattr(self, "_learner_state")
        source = self._source_with(going_on, X, y)
        rows, weight = self._checked(X, y, sample_weight, reset=not going_on)
        if self.n_components is not None and self.n_components > len(rows):
            raise ValueError(f"n_components={self.n_components} is more than the {len(X)} rows of X: give more rows.")
        random_state = random_state_of_its_own(self.random_state)
        return self._learn(rows, weight, random_state, going_on, self._schedule(), True)._learned_from(source)

    def _partial_fit(self, X, y, sample_weight):
        going_on = hasattr(self, "_learner_state")
        source = self._source_with(going_on, X, y)
        rows, weight = self._checked(X, y, sample_weight, reset=not going_on)
        random_state = self._random_state if going_on else random_state_of_its_own(self.random_state)
        schedule = self._schedule(max_iter=1, checkpoint_dir=None, early_stopping=False)
        return self._learn(rows, weight, random_state, going_on, schedule, False)._learned_from(source)

    def _checked(self, X, y, sample_weight, *, reset):
        """Return the rows to learn from, and their weights."""
        X = check_rows(self, X, reset=reset, largest=LARGEST[self._precision().__name__])
        return X, check_weight(sample_weight, X)

    def _learn(self, X, weight, random_state, going_on, schedule, has_end):
        widths = self._blocks()
        width = max(widths["widths"]) if widths.get("predicts") else X.shape[1]
        shape = (self.n_components or self.n_features_in_, width)
        group_ends = ends_of_groups(self.group_sizes, shape[0])
        activation = self._activation(shape[0])
        if going_on and self._learner_state["factors"].shape[1:] != shape:
            raise ValueError(f"n_components={shape[0]} is not the number that was learned before: fit anew.")
        if going_on and len(self._learner_state["parameters"]) != len(activation.parameters):
            raise ValueError(f"activation={self.activation!r} has other parameters than were learned before: fit anew.")
        parameters = {name: value for name, value in self.get_params().items() if name not in _NO_EFFECT_ON_FIT}
        measured = None
        if has_end and not is_streamed(X):
            weight, measured = set_apart(X, weight)
        begin = partial(self._begin, going_on, activation, group_ends, schedule, has_end, measured)
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
        self._take(step, schedule.device)
        self.history_, self.n_iter_, self._random_state = standing.history, standing.n_epochs, random_state
        return self

    def _begin(
        self, going_on, activation, group_ends, schedule, has_end, measured, rows, random_state, processes, methods
    ) -> AutoencoderStep:
        n_components = int(group_ends[-1])
        # A state of its own, so that the start depends on which rows there are and not on how often.
        own_state = np.random.RandomState(random_state.randint(np.iinfo(np.int32).max))
        drawn, weight = merge_repeats(*rows.draw(sample_size(n_components), random_state))
        if going_on:
            state = self._learner_state
            standardizer = Standardizer(state["mean"], state["scale"], **self._blocks())
            start = Weights.like(state, self._precision())
        else:
            standardizer = Standardizer.of(drawn, weight, scaled=self.normalize == "rms", **self._blocks())
            inputs, targets = standardizer.parted(standardizer.apply(drawn, self._precision()))
            skip = self._skip_to_start_from(inputs, targets, weight)
            if skip is not None:
                targets = targets - inputs @ skip.T
            # What a checkpoint holds takes the place of it.
            ask = "random" if methods is not None else self.dict_init
            start = begin_from(
                ask,
                inputs,
                targets,
                weight,
                n_components,
                standardizer.n_outputs,
                activation,
                self.group_sizes is not None,
                schedule.device,
                processes,
                own_state,
            )
            start = [*start, skip]
        n_batches = -(-len(rows) // schedule.batch_size)
        if schedule.early_stopping:
            n_batches = max(int(n_batches * (1 - schedule.validation_fraction)), 1)
        n_steps = n_batches * schedule.max_iter if has_end else None
        measured = (drawn, weight) if measured is None else measured
        step = self._step(start, standardizer, *measured, activation, group_ends, schedule.device, processes, n_steps)
        if going_on:
            step.restore({}, self._learner_state)
        return step

    def _step(self, start, standardizer, drawn, weight, activation, group_ends, device, processes, n_steps):
        """Make what learns, or goes on learning, from what there is to start from."""
        n_components = int(group_ends[-1])
        inputs, _ = standardizer.parted(standardizer.apply(drawn, self._precision()))
        sample = first_rows((inputs, weight), n_components)
        penalty = 0.0
        if not isinstance(start, Weights):
            encoder, components, bias, skip = start
            cutoff = shift_for(*sample, encoder, bias[None], Activation(activation.n_nonzero_coefs))
            start = Weights.begin(encoder, components, activation.begin(bias, cutoff), self._precision(), skip)
            penalty = activation.first_penalty(cutoff)
            if self.alpha is not None:
                penalty = self.alpha * standardizer.unit**activation.power_of_scale
        half, jacobian_penalty = self.dtype == "bfloat16", getattr(self, "jacobian_penalty", 0.0)
        engine = engine_for(
            device, start, activation, group_ends, processes, half=half, jacobian_penalty=jacobian_penalty
        )
        rate = _TURN / start.factors.shape[2] ** 0.5 if self.learning_rate == "auto" else self.learning_rate
        pace = Pace(rate, int(start.n_steps[0]), n_steps)
        return self._step_class(engine, standardizer, sample, pace, penalty, self.alpha is None, self.auxk, processes)

    def _take(self, step: AutoencoderStep, device: str) -> None:
        """Set what is learned as fitted attributes."""
        learned = step.learned()
        if not all(np.isfinite(array).all() for array in learned.values()):
            raise_overflow()
        for name, array in learned.items():
            setattr(self, name, array)
        if step.activation.selection != "above" and hasattr(self, "threshold_"):
            del self.threshold_
        self.selection_, self.scaling_, self.device_ = step.activation.selection, "none", device
        self._learner_state = step.state()

    def _blocks(self) -> dict:
        """Return the blocks of columns that are scaled each for itself, and whether one is predicted from another."""
        return {}

    def _skip_to_start_from(self, inputs, targets, weight):
        """Return the map from what is read to what is to be predicted that learning starts from; None for none."""

    def _precision(self):
        return np.float64 if self.dtype == "float64" else np.float32

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


def _state_among(arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Return what learning goes on from, of all that is saved."""
    return {name.removeprefix("state."): array for name, array in arrays.items() if name.startswith("state.")}


def _vector(values, size: int) -> np.ndarray:
    """Return values, or zeros, as a vector of a size."""
    return np.array(np.broadcast_to(0 if values is None else values, size), np.float32)
