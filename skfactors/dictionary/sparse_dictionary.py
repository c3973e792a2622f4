"""SparseDictionary: the paper's dictionary learning as a scikit-learn transformer."""

import warnings
from numbers import Integral, Real

import numpy as np
import torch
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, TransformerMixin, _fit_context
from sklearn.utils import check_array, check_random_state
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.validation import check_is_fitted

from skfactors._version import __version__
from skfactors.devices import resolve_device
from skfactors.dictionary.encoding import encode, row_gaps, warn_of_open_rows
from skfactors.dictionary.learning import IDLE_BATCHES, Learner, Problem, initial_components
from skfactors.dictionary.persistence import read_folder, write_folder
from skfactors.dictionary.rows import check_codes, check_rows, check_weight, merge_repeats, shuffled_batches
from skfactors.dictionary.solvers import SOLVERS, fastest_solver
from skfactors.dictionary.updates import UPDATES, best_update
from skfactors.metrics.reconstruction import explained_variance
from skfactors.progress import progress_bar

# Share of the held-out objective that an epoch must take off for another to follow.
_LEAST_GAIN = 1e-3
_DTYPES = {"float32": torch.float32, "float64": torch.float64}


class SparseDictionary(ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseEstimator):
    """
    Learn factors of which every row is a sparse, non-negative sum.

    Minimises, over codes A and components D,

        Σ_i w_i [ ½‖x_i - Σ_j a_ij d_j‖² + alpha ‖a_i‖₁ ]   with A ⪰ 0 and ‖d_j‖ ≤ 1

    one minibatch at a time: its rows are coded to optimality, then the components are updated.

    Parameters
    ----------
    n_components : int, default=None
        Number of factors; None is the number of features.
    alpha : float, default=1.0
        Sparsity penalty, the same in learning and in coding.
    positive_code : bool, default=True
        False allows negative codes.
    debias : bool, default=False
        Whether `transform` refits each code, on the factors that are active in it, by (non-negative) least squares.
        The penalty chooses factors well but makes codes too small; with fewer than it was, the fit can be far better.
    n_nonzero_coefs : int, default=None
        The most factors a code may have. Codes are then made by orthogonal matching pursuit, in learning as in
        `transform`, and `alpha`, `solver`, `tol`, `max_solver_iter` and `debias` have no effect. None leaves it to
        the penalty.
    solver : {"auto", "active_set", "batched_active_set", "fista"}, default="auto"
        How rows are coded, all to the same gap. "active_set" solves for each row's few active factors, on the CPU;
        "batched_active_set" does so for many rows at once, on any device; "fista" is accelerated gradient descent on
        all factors. "auto" is the first on a CPU and the second elsewhere, or the third where memory is short of an
        array of shape (n_components, n_components).
    tol : float, default=1e-4
        Relative duality gap at which a row's code is done: its objective is then at most that share of itself above
        the optimum.
    max_solver_iter : int, default=1000
        Solver steps (rounds of "active_set") after which a code is taken as it is.
    update : {"auto", "block", "hessian"}, default="auto"
        How the components are updated. "block" is block coordinate descent on sufficient statistics (Mairal et al.);
        "hessian" the paper's gradient step with a diagonal second-order scaling, meant for batches of 100. "auto" is
        "block" unless memory is short of an array of shape (n_components, n_components).
    max_iter : int, default=2
        Epochs.
    early_stopping : bool, default=False
        Whether to hold rows out and stop after the epoch that lowers their mean objective by less than a thousandth.
        `max_iter` is then the most epochs there may be.
    validation_fraction : float, default=0.1
        Share of the rows that is held out for early stopping.
    batch_size : int, default=1024
        Rows in a minibatch. They are shuffled in every epoch.
    dict_init : array-like of shape (n_components, n_features), default=None
        Components to start from. None takes the directions of random rows, and random ones where rows are too few.
    warm_start : bool, default=False
        Whether `fit` goes on from the components and statistics of the last fit.
    random_state : int, RandomState instance or None, default=None
        For the initial components and the shuffling.
    device : str, default="auto"
        "auto" takes cuda, then mps, then cpu.
    dtype : {"float32", "float64"}, default="float32"
        Precision of codes and components.
    sparse_output : bool, default=True
        Whether codes are a `scipy.sparse.csr_array`; dense codes are needed for pandas output.
    verbose : bool, default=False
        Show a progress bar with explained variance, the number of active factors a row and of silent factors.

    Attributes
    ----------
    components_ : ndarray of shape (n_components, n_features)
        The factors.
    n_iter_ : int
        Epochs run by the last `fit`; 1 after `partial_fit`.
    n_steps_ : int
        Minibatches learned from since learning began.
    n_features_in_ : int
        Number of features.
    feature_names_in_ : ndarray of shape (n_features_in_,)
        Names of features, where X had any.
    history_ : list of dict
        For each step: `step`, `n_rows`, and over its batch, coded before the update, `objective` (weighted mean),
        `explained_variance`, `l0`, `n_silent`, `n_reseeded`, `n_open` (rows above `tol`); with early stopping, for the
        last step of each epoch, `validation_objective`.
    device_ : str
        Where it was learned.

    See Also
    --------
    TransformerFeatureExtractor : Makes the rows from texts.
    sklearn.decomposition.MiniBatchDictionaryLearning : Dense codes, without a guarantee of how exact they are.

    Notes
    -----
    Factors that stay silent in the first minibatch, and later for an epoch or 256 minibatches, are pointed at the
    residuals of the rows that are reconstructed worst. A weight of 2 counts like a row given twice, a weight of 0 like
    no row.

    References
    ----------
    Yun, Chen, Olshausen, LeCun (2021), "Transformer visualization via dictionary learning: contextualized embedding as
    a linear superposition of transformer factors", DeeLIO.

    Mairal, Bach, Ponce, Sapiro (2010), "Online learning for matrix factorization and sparse coding", JMLR 11.

    Examples
    --------
    >>> import numpy as np
    >>> from skfactors import SparseDictionary
    >>> X = np.random.default_rng(0).random((200, 6))
    >>> dictionary = SparseDictionary(n_components=8, alpha=0.1, random_state=0).fit(X)
    >>> codes = dictionary.transform(X)
    >>> codes.shape, bool((codes.data > 0).all())
    ((200, 8), True)
    >>> bool(dictionary.duality_gap(X, codes).max() <= 1e-4)
    True
    """

    _parameter_constraints = {
        "n_components": [Interval(Integral, 1, None, closed="left"), None],
        "alpha": [Interval(Real, 0, None, closed="neither")],
        "positive_code": ["boolean"],
        "debias": ["boolean"],
        "n_nonzero_coefs": [Interval(Integral, 1, None, closed="left"), None],
        "solver": [StrOptions({"auto", *SOLVERS})],
        "tol": [Interval(Real, 0, 1, closed="neither")],
        "max_solver_iter": [Interval(Integral, 1, None, closed="left")],
        "update": [StrOptions({"auto", *UPDATES})],
        "max_iter": [Interval(Integral, 1, None, closed="left")],
        "early_stopping": ["boolean"],
        "validation_fraction": [Interval(Real, 0, 1, closed="neither")],
        "batch_size": [Interval(Integral, 1, None, closed="left")],
        "dict_init": ["array-like", None],
        "warm_start": ["boolean"],
        "random_state": ["random_state"],
        "device": [str],
        "dtype": [StrOptions(set(_DTYPES))],
        "sparse_output": ["boolean"],
        "verbose": ["verbose"],
    }

    def __init__(
        self,
        n_components=None,
        *,
        alpha=1.0,
        positive_code=True,
        debias=False,
        n_nonzero_coefs=None,
        solver="auto",
        tol=1e-4,
        max_solver_iter=1000,
        update="auto",
        max_iter=2,
        early_stopping=False,
        validation_fraction=0.1,
        batch_size=1024,
        dict_init=None,
        warm_start=False,
        random_state=None,
        device="auto",
        dtype="float32",
        sparse_output=True,
        verbose=False,
    ):
        self.n_components = n_components
        self.alpha = alpha
        self.positive_code = positive_code
        self.debias = debias
        self.n_nonzero_coefs = n_nonzero_coefs
        self.solver = solver
        self.tol = tol
        self.max_solver_iter = max_solver_iter
        self.update = update
        self.max_iter = max_iter
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.batch_size = batch_size
        self.dict_init = dict_init
        self.warm_start = warm_start
        self.random_state = random_state
        self.device = device
        self.dtype = dtype
        self.sparse_output = sparse_output
        self.verbose = verbose

    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X, y=None, sample_weight=None):
        """
        Learn the factors of X.

        Parameters
        ----------
        X : array-like of shape (n_rows, n_features)
            An array, a memory-mapped array (read a minibatch at a time), or Activations.
        y : None
            Ignored.
        sample_weight : array-like of shape (n_rows,), default=None
            How much each row counts in the update of the components.

        Returns
        -------
        self : SparseDictionary

        Raises
        ------
        ValueError
            If X is not finite or has fewer rows than `n_components` asks for, or no weight is positive.

        Warns
        -----
        ConvergenceWarning
            If rows of the last epoch were left above `tol`.
        """
        going_on = self.warm_start and hasattr(self, "components_")
        X = check_rows(self, X, reset=not going_on)
        weight = check_weight(sample_weight, X)
        if self.n_components is not None and self.n_components > len(X):
            raise ValueError(f"n_components={self.n_components} is more than the {len(X)} rows of X: give more rows.")
        random_state = check_random_state(self.random_state)
        learner = self._learner(X, weight, random_state, going_on)
        held_out = self._hold_out(weight, random_state) if self.early_stopping else None
        history = self.history_ if going_on else []
        self.n_iter_ = self._learn(learner, X, weight, self.max_iter, random_state, history, held_out)
        return self

    @_fit_context(prefer_skip_nested_validation=True)
    def partial_fit(self, X, y=None, sample_weight=None):
        """
        Learn from some more rows, once each.

        Parameters
        ----------
        X : array-like of shape (n_rows, n_features)
        y : None
            Ignored.
        sample_weight : array-like of shape (n_rows,), default=None

        Returns
        -------
        self : SparseDictionary
        """
        going_on = hasattr(self, "components_")
        X = check_rows(self, X, reset=not going_on)
        weight = check_weight(sample_weight, X)
        random_state = self._random_state if going_on else check_random_state(self.random_state)
        learner = self._learner(X, weight, random_state, going_on)
        self.n_iter_ = self._learn(learner, X, weight, 1, random_state, self.history_ if going_on else [])
        return self

    def transform(self, X):
        """
        Code rows as sparse sums of the factors.

        Parameters
        ----------
        X : array-like of shape (n_rows, n_features)

        Returns
        -------
        codes : csr_array or ndarray of shape (n_rows, n_components)

        Warns
        -----
        ConvergenceWarning
            If rows were left above `tol`.
        """
        check_is_fitted(self)
        X = check_rows(self, X, reset=False)
        return self._encode(X, self.sparse_output)

    def inverse_transform(self, codes):
        """
        Sum factors up to rows.

        Parameters
        ----------
        codes : array-like or sparse array of shape (n_rows, n_components)

        Returns
        -------
        X : ndarray of shape (n_rows, n_features)
        """
        check_is_fitted(self)
        return check_codes(codes, len(self.components_)) @ self.components_

    def score(self, X, y=None):
        """
        Share of the variance of X that its codes explain, higher is better.

        Parameters
        ----------
        X : array-like of shape (n_rows, n_features)
        y : None
            Ignored.

        Returns
        -------
        float
            1 - Σ‖x - x̂‖² / Σ‖x - μ‖², with μ the mean of each feature of X.
        """
        check_is_fitted(self)
        X = check_rows(self, X, reset=False)
        return explained_variance(X, self.inverse_transform(self._encode(X, sparse=True)))

    def duality_gap(self, X, codes):
        """
        How far each code is from the best, at most, as a share of its objective.

        Parameters
        ----------
        X : array-like of shape (n_rows, n_features)
        codes : array-like or sparse array of shape (n_rows, n_components)
            From any source; if `positive_code`, none may be negative.

        Returns
        -------
        gaps : ndarray of float64 of shape (n_rows,)
            In [0, 1]: the relative duality gap, (primal - dual) / primal.
        """
        check_is_fitted(self)
        X = check_rows(self, X, reset=False)
        codes = check_codes(codes, len(self.components_), len(X))
        if self.positive_code and codes.size and codes.min() < 0:
            raise ValueError("codes are negative in places, which positive_code=True rules out.")
        return row_gaps(X, codes, self.components_, self.alpha, self.positive_code)

    def save(self, path):
        """
        Save to a folder of two files, config.json and dictionary.safetensors.

        Parameters
        ----------
        path : path-like
            Made if need be.
        """
        check_is_fitted(self)
        parameters = {name: _plain(value) for name, value in self.get_params().items() if name != "dict_init"}
        if not isinstance(self.random_state, (Integral, type(None))):
            warnings.warn("random_state is no integer and is not saved.", UserWarning, stacklevel=2)
            parameters["random_state"] = None
        fitted = {name: getattr(self, name) for name in ("n_iter_", "n_features_in_", "device_", "history_")}
        if hasattr(self, "feature_names_in_"):
            fitted["feature_names_in_"] = self.feature_names_in_.tolist()
        arrays = {"components_": self.components_}
        arrays |= {f"state.{name}": array for name, array in self._learner_state.items()}
        if self.dict_init is not None:
            arrays["dict_init"] = np.asarray(self.dict_init)
        config = {
            "skfactors": __version__,
            "estimator": type(self).__name__,
            "parameters": parameters,
            "fitted": fitted,
        }
        write_folder(path, config, arrays)

    @classmethod
    def load(cls, path):
        """
        Load what :meth:`save` saved, on any machine.

        Parameters
        ----------
        path : path-like

        Returns
        -------
        SparseDictionary

        Raises
        ------
        FileNotFoundError
            If the folder holds no saved dictionary.
        ValueError
            If a file was cut short or altered.
        """
        config, arrays = read_folder(path)
        dictionary = cls(dict_init=arrays.get("dict_init"), **config["parameters"])
        dictionary.components_ = arrays["components_"]
        dictionary._learner_state = {
            name.removeprefix("state."): array for name, array in arrays.items() if name.startswith("state.")
        }
        for name, value in config["fitted"].items():
            setattr(dictionary, name, np.asarray(value, dtype=object) if name == "feature_names_in_" else value)
        dictionary._random_state = check_random_state(dictionary.random_state)
        return dictionary

    @property
    def n_steps_(self):
        """Minibatches learned from since learning began."""
        return int(self._learner_state["n_steps"])

    @property
    def _n_features_out(self):
        return len(self.components_)

    def _problem(self) -> Problem:
        device, dtype = resolve_device(self.device), _DTYPES[self.dtype]
        n_components = self.n_components or self.n_features_in_
        return Problem(
            alpha=float(self.alpha),
            positive=self.positive_code,
            solver=fastest_solver(device, n_components, dtype) if self.solver == "auto" else self.solver,
            tol=self.tol,
            max_iter=self.max_solver_iter,
            n_nonzero_coefs=self.n_nonzero_coefs,
            device=device,
            dtype=dtype,
        )

    def _encode(self, X, sparse):
        debias = self.debias and self.n_nonzero_coefs is None
        return encode(X, self.components_, self._problem(), batch_size=self.batch_size, sparse=sparse, debias=debias)

    def _learner(self, X, weight, random_state, going_on) -> Learner:
        components = self.components_ if going_on else self._initial_components(X, weight, random_state)
        problem = self._problem()
        update = best_update(problem.device, len(components)) if self.update == "auto" else self.update
        learner = Learner(problem, update, components)
        if going_on:
            learner.restore(self._learner_state)
        return learner

    def _initial_components(self, X, weight, random_state) -> np.ndarray:
        n_components = self.n_components or self.n_features_in_
        if self.dict_init is None:
            # A state of their own, so that they depend on which rows there are and not on how often.
            own_state = check_random_state(random_state.randint(np.iinfo(np.int32).max))
            n_rows = max(n_components, self.batch_size)
            chosen = next(shuffled_batches(np.flatnonzero(weight), n_rows, random_state))
            rows, _ = merge_repeats(X[chosen], weight[chosen])
            return initial_components(rows, n_components, own_state)
        components = check_array(self.dict_init, dtype=np.float64)
        if components.shape != (n_components, self.n_features_in_):
            raise ValueError(
                f"dict_init has shape {components.shape}, not (n_components, n_features) = "
                f"({n_components}, {self.n_features_in_})."
            )
        return components / np.maximum(np.linalg.norm(components, axis=1, keepdims=True), 1)

    def _hold_out(self, weight, random_state) -> np.ndarray:
        rows = np.flatnonzero(weight)
        n_held_out = int(np.ceil(self.validation_fraction * len(rows)))
        if n_held_out == len(rows):
            raise ValueError(f"early_stopping leaves none of the {len(rows)} rows to learn from: give more rows.")
        return np.sort(random_state.permutation(rows)[:n_held_out])

    def _learn(self, learner, X, weight, n_epochs, random_state, history, held_out=None) -> int:
        rows = np.flatnonzero(weight)
        if held_out is not None:
            rows = np.setdiff1d(rows, held_out, assume_unique=True)
        total_weight = weight[rows].sum()
        patience = min(total_weight, IDLE_BATCHES * self.batch_size * total_weight / len(rows))
        best = np.inf
        history = list(history)
        with progress_bar("learning factors", total=n_epochs * len(rows), enabled=self.verbose) as advance:
            for epoch in range(1, n_epochs + 1):
                n_open = 0
                for batch in shuffled_batches(rows, self.batch_size, random_state):
                    record = learner.step(*merge_repeats(X[batch], weight[batch]), patience)
                    history.append(record)
                    n_open += record["n_open"]
                    advance(len(batch), _status(record))
                if held_out is not None:
                    reached = learner.objective(X, weight, held_out, self.batch_size)
                    history[-1]["validation_objective"] = reached
                    if reached > (1 - _LEAST_GAIN) * best:
                        break
                    best = reached
        self.components_ = learner.components.cpu().numpy()
        self.history_ = history
        self.device_ = learner.problem.device
        self._learner_state = learner.state()
        self._random_state = random_state
        warn_of_open_rows(n_open, len(rows), learner.problem)
        return epoch

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.transformer_tags.preserves_dtype = [self.dtype]
        return tags


def _status(record: dict) -> str:
    return f"explained {record['explained_variance']:.3f}, L0 {record['l0']:.1f}, silent {record['n_silent']}"


def _plain(value):
    """Turn a NumPy scalar, as a grid search sets it, into the Python number that JSON can hold."""
    return value.item() if isinstance(value, np.generic) else value
