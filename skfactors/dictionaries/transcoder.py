"""Transcoder: rows of one place in a model to those of another, by sparse codes."""

from numbers import Real

import numpy as np
from sklearn.base import _fit_context
from sklearn.utils._param_validation import Interval
from sklearn.utils.validation import check_is_fitted

from skfactors.codes import LARGEST
from skfactors.devices import resolve_device
from skfactors.dictionaries.autoencoders.encoder import TranscoderModule
from skfactors.dictionaries.autoencoders.sparse_autoencoder import SparseAutoencoder
from skfactors.dictionaries.autoencoders.starting import regressed_skip
from skfactors.dictionaries.predicting import PredictorMixin, paired
from skfactors.dictionaries.rows import batches_of, check_rows, check_targets
from skfactors.output import with_plain_output, without_feature_names

_ROWS_AT_A_TIME = 16_384


class Transcoder(PredictorMixin, SparseAutoencoder):
    """
    Learn factors of what a part of a model writes, with codes of what it reads.

    Minimises, over encoder W, biases b and c, components D of length 1, and with `skip` a matrix S,

        Σ_i w_i [ ½‖y_i - (a_i D + S x_i + b)‖² + penalty(a_i) ]   with a_i = keep(W x_i + c)

    as :class:`SparseAutoencoder` does, whose rows are their own targets. So an MLP is taken apart into factors that
    each listen in one direction and write in another.

    Parameters
    ----------
    n_components : int, default=None
        Number of factors; None is the number of features.
    skip : bool, default=False
        Whether a linear map from X to Y is learned along, so that the factors need to say only what it does not. It
        starts from a ridge regression.
    jacobian_penalty : float, default=0.0
        Weight of ½‖J‖² in the mean loss of a row, with J the derivatives of ŷ by x, of rows as they are scaled: the sum
        over active factors of ``outer(component, encoder)``, and the skip. It makes what is predicted change less
        with a row, by the squares of the singular values of J.
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
        A fixed penalty instead, for "relu", "jump_relu" and "gated", in the unit of ½‖y - ŷ‖² by a code, or for
        "jump_relu" by the number of codes.
    group_sizes : sequence of int or float, default=None
        Sizes of groups of components, or their shares, for nested prefixes (Matryoshka): the loss is then the mean over
        reconstructions from the first group, the first two, and so on, so that the first factors are the most general.
    dict_init : {"dictionary", "random"} or array-like of shape (n_components, n_outputs), default="dictionary"
        Components to start from. "dictionary" learns them from a sample of Y, less its skip, with exact codes, as
        :class:`SparseDictionary` does; the encoder starts from a regression of these codes to X, as it does for given
        components.
    normalize : {"rms", None}, default="rms"
        "rms" scales all rows of X alike, and all rows of Y, to a mean squared length of the larger of `n_features` and
        `n_outputs`, while it learns. The fitted attributes are for rows as they come. Rows are centred in any case.
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
    components_ : ndarray of shape (n_components, n_outputs)
        The factors, in the space of Y, of length 1.
    intercept_ : ndarray of shape (n_outputs,)
        What is predicted for a row of no factors, beside its skip.
    skip_ : ndarray of shape (n_outputs, n_features)
        ``X @ skip_.T`` is added to predictions; None without `skip`.
    encoder_ : ndarray of shape (n_components, n_features)
        Pre-activations are ``X @ encoder_.T + encoder_intercept_``.
    encoder_intercept_ : ndarray of shape (n_components,)
    threshold_ : ndarray of shape (n_components,)
        What a pre-activation must be above; for "batch_topk", "jump_relu" and "gated".
    history_ : list of dict
        For each step: `step`, `n_rows`, and over its batch, before the update, `objective` (weighted mean of ½‖y - ŷ‖²,
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
        What it was learned from, where X is Activations or a store: their `source`. The places of Y are its
        `places_out`.

    See Also
    --------
    SparseAutoencoder : Factors of the rows themselves.
    Crosscoder : Factors of several places at once.

    References
    ----------
    Dunefsky, Chlenski, Nanda (2024), "Transcoders find interpretable LLM feature circuits".

    Paulo, Shabalin, Belrose (2025), "Transcoders beat sparse autoencoders for interpretability", for the skip.

    Farnik, Lawson, Houghton, Aitchison (2025), "Jacobian sparse autoencoders", for learning with derivatives.

    Examples
    --------
    >>> import numpy as np
    >>> from skfactors import Transcoder
    >>> rng = np.random.default_rng(0)
    >>> X = rng.standard_normal((2000, 6))
    >>> Y = np.maximum(X, 0) @ rng.standard_normal((6, 4))
    >>> transcoder = Transcoder(n_components=12, n_nonzero_coefs=4, random_state=0).fit(X, Y)
    >>> transcoder.transform(X).shape, transcoder.predict(X).shape, bool(transcoder.score(X, Y) > 0.8)
    ((2000, 12), (2000, 4), True)
    """

    _no_effect_on_codes = SparseAutoencoder._no_effect_on_codes | {"jacobian_penalty", "skip"}

    _fitted_arrays = {
        "components_": ("n_components", "n_outputs"),
        "intercept_": ("n_outputs",),
        "skip_?": ("n_outputs", "n_features"),
        "state.factors?": (2, "n_components", "width"),
        "state.factor_moments?": (2, 2, "n_components", "width"),
        "state.intercept?": ("width",),
        "state.intercept_moments?": (2, "width"),
        "state.mean?": ("n_columns",),
        "state.scale?": (2,),
        "state.skip?": ("width", "width"),
        "state.skip_moments?": (2, "width", "width"),
    }

    # Where none is learned.
    skip_ = None

    _parameter_constraints = SparseAutoencoder._parameter_constraints | {
        "skip": ["boolean"],
        "jacobian_penalty": [Interval(Real, 0, None, closed="left")],
    }

    def __init__(
        self,
        n_components=None,
        *,
        skip=False,
        jacobian_penalty=0.0,
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
        super().__init__(
            n_components,
            activation=activation,
            n_nonzero_coefs=n_nonzero_coefs,
            alpha=alpha,
            group_sizes=group_sizes,
            dict_init=dict_init,
            normalize=normalize,
            auxk=auxk,
            learning_rate=learning_rate,
            max_iter=max_iter,
            batch_size=batch_size,
            early_stopping=early_stopping,
            validation_fraction=validation_fraction,
            warm_start=warm_start,
            random_state=random_state,
            device=device,
            dtype=dtype,
            distributed=distributed,
            checkpoint_dir=checkpoint_dir,
            checkpoint_every=checkpoint_every,
            sparse_output=sparse_output,
            verbose=verbose,
        )
        self.skip = skip
        self.jacobian_penalty = jacobian_penalty

    @classmethod
    def _from_arrays(cls, components, encoder, *, skip=None, **others):
        """Make a fitted transcoder of arrays that were learned elsewhere, of a skip (n_outputs, n_features), too."""
        model = super()._from_arrays(components, encoder, skip=skip is not None, **others)
        if skip is not None:
            model.skip_ = np.array(skip, np.float32, order="C")
        return model

    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X, y, sample_weight=None):
        """
        Learn factors of Y, and an encoder of X for them.

        Parameters
        ----------
        X : array-like or ActivationStore of shape (n_rows, n_features)
            What is read: an array, a memory-mapped array (read a minibatch at a time), or one place of a store.
        y : array-like or ActivationStore of shape (n_rows, n_outputs)
            What is to be predicted, Y: rows of the same tokens.
        sample_weight : array-like of shape (n_rows,), default=None
            How much each row counts. With a store, its own `sample_weight` is looked up a minibatch at a time.

        Returns
        -------
        self : Transcoder
            The fitted transcoder.

        Raises
        ------
        ValueError
            If X or Y is not finite or there are fewer rows than `n_components` asks for, no weight is positive,
            parameters do not fit each other, or a checkpoint is damaged.
        """
        return self._fit(X, y, sample_weight)

    @_fit_context(prefer_skip_nested_validation=True)
    def partial_fit(self, X, y, sample_weight=None):
        """
        Learn from some more rows, once each.

        Parameters
        ----------
        X : array-like of shape (n_rows, n_features)
            The next rows, cut into minibatches.
        y : array-like of shape (n_rows, n_outputs)
            What is to be predicted, Y.
        sample_weight : array-like of shape (n_rows,), default=None
            How much each row counts; None counts all alike.

        Returns
        -------
        self : Transcoder
            The transcoder, fitted to all rows that it was given so far.
        """
        return self._partial_fit(X, y, sample_weight)

    @classmethod
    def from_dictionary(cls, dictionary, X, **parameters):
        """
        Refuse, as a dictionary of Y says nothing of X.

        Parameters
        ----------
        dictionary : FactorModel
            Ignored.
        X : array-like of shape (n_rows, n_features)
            Ignored.
        **parameters
            Ignored.

        Raises
        ------
        TypeError
            Always.
        """
        raise TypeError("a transcoder starts from given components by dict_init: fit it to X and Y.")

    def exact_codes(self, X, *, alpha=None, n_nonzero_coefs=None):
        """
        Refuse, as the rows that components are to sum up to are not those that are read.

        Parameters
        ----------
        X : array-like of shape (n_rows, n_features)
            Ignored.
        alpha : float, default=None
            Ignored.
        n_nonzero_coefs : int, default=None
            Ignored.

        Raises
        ------
        TypeError
            Always.
        """
        raise TypeError("exact codes are of the rows that are predicted, and these a transcoder does not read.")

    def to_torch(self, device="cpu"):
        """
        Return the transcoder as a torch module with differentiable `encode`, `decode` and `forward`.

        Parameters
        ----------
        device : str, default="cpu"
            Where its tensors are.

        Returns
        -------
        torch.nn.Module
            Its codes are those of :meth:`transform`, to rounding, and ``forward(X)`` is what :meth:`predict` gives.
        """
        check_is_fitted(self)
        arrays = (self.components_, self.intercept_, self.skip_)
        return TranscoderModule(self._encoder(), *arrays, resolve_device(device))

    def _predicted(self, X):
        X, model = check_rows(self, X, reset=False), without_feature_names(with_plain_output(self))
        parts = []
        for rows in batches_of(X, _ROWS_AT_A_TIME):
            decoded = self.inverse_transform(model.transform(rows))
            parts.append(decoded if self.skip_ is None else decoded + rows @ self.skip_.T)
        return np.concatenate(parts)

    def _checked(self, X, y, sample_weight, *, reset):
        # A target that is missing is a mistake of its own, whatever X is.
        Y = check_targets(y, LARGEST[self._precision().__name__])
        X, weight = super()._checked(X, None, sample_weight, reset=reset)
        if not reset and Y.shape[1] != len(self.intercept_):
            raise ValueError(
                f"Y has {Y.shape[1]} features, and {len(self.intercept_)} were predicted before: fit anew."
            )
        if not reset and self.skip != ("skip" in self._learner_state):
            raise ValueError(f"skip={self.skip} is not what was learned before: fit anew.")
        self._n_outputs = Y.shape[1]
        return paired(X, Y), weight

    def _blocks(self):
        return {"widths": (self.n_features_in_, self._n_outputs), "predicts": True}

    def _skip_to_start_from(self, inputs, targets, weight):
        return regressed_skip(inputs, targets, weight) if self.skip else None

    def _take(self, step, device):
        super()._take(step, device)
        if not self.skip:
            vars(self).pop("skip_", None)

    def _width_of_rows(self, arrays):
        return arrays["encoder_"].shape[1]

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.target_tags.required = True
        tags.target_tags.single_output = False
        tags.target_tags.multi_output = True
        return tags
