"""SparseDictionary: the paper's dictionary learning as a scikit-learn transformer."""

from dataclasses import fields, replace
from functools import partial
from numbers import Integral, Real
from os import PathLike

import numpy as np
import torch
from sklearn.base import _fit_context
from sklearn.utils import check_random_state
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.validation import check_is_fitted

from skfactors.codes import LARGEST, check_codes
from skfactors.devices import resolve_device
from skfactors.dictionaries.base import FactorModel
from skfactors.dictionaries.groups import ends_of_groups
from skfactors.dictionaries.rows import check_rows, check_weight
from skfactors.dictionaries.sparse_coding.encoding import LARGEST_CODED, Coding, encode, row_gaps, warn_of_open_rows
from skfactors.dictionaries.sparse_coding.module import SparseCodingModule
from skfactors.dictionaries.sparse_coding.solvers import SOLVERS, fastest_solver
from skfactors.dictionaries.sparse_coding.starting import drawn_components, given_components, usual_penalty
from skfactors.dictionaries.sparse_coding.step import SparseCodingStep, raise_overflow
from skfactors.dictionaries.sparse_coding.updates import UPDATES, best_update
from skfactors.learning.callbacks import CallbackSupportMixin, watcher_of
from skfactors.learning.loop import Schedule, learn
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
_DTYPES = {"float32": torch.float32, "float64": torch.float64}


class SparseDictionary(CallbackSupportMixin, FactorModel):
    """
    Learn factors of which every row is a sparse, non-negative sum.

    Minimises, over codes A and components D,

        Σ_i w_i [ ½‖x_i - Σ_j a_ij d_j‖² + alpha ‖a_i‖₁ ]   with A ⪰ 0 and ‖d_j‖ ≤ 1

    one minibatch at a time: its rows are coded to optimality, then the components are updated.

    Parameters
    ----------
    n_components : int, default=None
        Number of factors; None is the number of features.
    alpha : float or "auto", default="auto"
        Sparsity penalty, the same in learning and in coding. "auto" is a tenth of the root mean square length of the
        rows that learning begins with; it is kept as `alpha_`.
    positive_code : bool, default=True
        False allows negative codes.
    debias : bool, default=False
        Whether `transform` refits each code, on the factors that are active in it, by (non-negative) least squares.
        The penalty chooses factors well but makes codes too small; with fewer than it was, the fit can be far better.
    n_nonzero_coefs : int, default=None
        The most factors a code may have. Codes are then made by orthogonal matching pursuit, in learning as in
        `transform`, and `alpha`, `solver`, `tol`, `max_solver_iter` and `debias` have no effect. None leaves it to
        the penalty. With `group_sizes` rows have so many in the mean, some more and some fewer.
    group_sizes : sequence of int or float, default=None
        Sizes of groups of components, or their shares, for nested codes: groups are coded one after the other, each on
        what those before it leave of a row, and so the first are not bent by the later ones. A group lets in, at once,
        the factors whose correlation with the rest of the row is above their threshold, and all codes are refitted by
        (non-negative) least squares. The threshold is `alpha` for a factor that is active in every second row, and
        more for rarer ones, as it was learned; `n_nonzero_coefs` steers it instead, such that rows have so many active
        factors in the (weighted) mean, and every group at least a quarter of those that its size would give it.
        `solver`, `tol`, `max_solver_iter` and `debias` have no effect.
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
    distributed : "auto" or bool, default="auto"
        Whether the processes of a torch.distributed group, such as torchrun starts, learn together: each is given the
        same rows and codes its share of every minibatch, and the components are those of one process with the same
        `batch_size`, up to rounding. "auto" does so where there is a group; True raises where there is none.
    checkpoint_dir : path-like, default=None
        Folder in which `fit` keeps what it needs to go on after it was killed. The same call, with the same parameters
        and rows, then ends at the same bits as one that was never stopped; and once it has ended, returns its result at
        once. Files go by parameters and rows, so the fits of a grid search may share a folder.
    checkpoint_every : int, default=1000
        Minibatches from one checkpoint to the next.
    sparse_output : bool, default=True
        Whether codes are a `scipy.sparse.csr_array`; dense codes are needed for pandas output.
    verbose : bool, default=False
        Show a progress bar with explained variance, active factors per row and the number of silent factors.

    Attributes
    ----------
    components_ : ndarray of shape (n_components, n_features)
        The factors.
    alpha_ : float
        The penalty that it was learned with.
    threshold_ : ndarray of shape (n_components,)
        With `group_sizes`: the correlation above which a factor is let in.
    n_iter_ : int
        Epochs run by the last `fit`; 1 after `partial_fit`.
    n_steps_ : int
        Minibatches learned from since learning began.
    n_features_in_ : int
        Number of features.
    feature_names_in_ : ndarray of shape (n_features,)
        Names of features, where X had any.
    history_ : list of dict
        For each step: `step`, `n_rows`, and over its batch, coded before the update, `objective` (weighted mean),
        `explained_variance`, `l0`, `n_silent`, `n_reseeded`, `n_open` (rows above `tol`); with early stopping, for the
        last step of each epoch, `validation_objective`.
    device_ : str
        Where it was learned.
    source_ : dict
        What it was learned from, where X is Activations or a store: their `source`.

    See Also
    --------
    TransformerFeatureExtractor : Makes the rows from texts.
    sklearn.decomposition.MiniBatchDictionaryLearning : Dense codes, without a guarantee of how exact they are.

    Notes
    -----
    Factors that stay silent in the first minibatch, and later for an epoch or 256 minibatches, are pointed at the
    residuals of the rows that are reconstructed worst. Callbacks of scikit-learn 1.9 and later are told of epochs and
    minibatches (``set_callbacks``). A weight of 2 counts like a row given twice, a weight of 0 like
    no row.

    References
    ----------
    Yun, Chen, Olshausen, LeCun (2021), "Transformer visualization via dictionary learning: contextualized embedding as
    a linear superposition of transformer factors", DeeLIO.

    Mairal, Bach, Ponce, Sapiro (2010), "Online learning for matrix factorization and sparse coding", JMLR 11.

    Bussmann, Nabeshima, Karvonen, Nanda (2025), "Learning multi-level features with Matryoshka sparse autoencoders",
    for nested groups.

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

    _no_effect_on_codes = frozenset(
        {
            "batch_size",
            "checkpoint_every",
            "dict_init",
            "distributed",
            "early_stopping",
            "max_iter",
            "n_components",
            "random_state",
            "sparse_output",
            "update",
            "validation_fraction",
            "verbose",
            "warm_start",
        }
    )

    _fitted_facts = {
        # Once it was always `alpha`, and not saved.
        "alpha_?": float,
        "device_": str,
        "history_": [{"step": NATURAL, "n_rows": NATURAL, ...: (float, None)}],
        "n_iter_": NATURAL,
    }
    # What learning goes on from: of its sums those of the one update or of the other.
    _fitted_arrays = {
        "threshold_?": ("n_components",),
        "state.threshold?": (),
        "state.frequencies?": ("n_components",),
        "state.scales?": ("n_components",),
        "state.idle_weight": ("n_components",),
        "state.n_steps": int,
        "state.update.n_batches": int,
        "state.update.codes_codes?": ("n_components", "n_components"),
        "state.update.codes_data?": ("n_components", "n_features"),
        "state.update.squared_codes?": ("n_components",),
    }

    _parameter_constraints = {
        "n_components": [Interval(Integral, 1, None, closed="left"), None],
        "alpha": [Interval(Real, 0, None, closed="neither"), StrOptions({"auto"})],
        "positive_code": ["boolean"],
        "debias": ["boolean"],
        "n_nonzero_coefs": [Interval(Integral, 1, None, closed="left"), None],
        "group_sizes": ["array-like", None],
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
        alpha="auto",
        positive_code=True,
        debias=False,
        n_nonzero_coefs=None,
        group_sizes=None,
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
        distributed="auto",
        checkpoint_dir=None,
        checkpoint_every=1000,
        sparse_output=True,
        verbose=False,
    ):
        self.n_components = n_components
        self.alpha = alpha
        self.positive_code = positive_code
        self.debias = debias
        self.n_nonzero_coefs = n_nonzero_coefs
        self.group_sizes = group_sizes
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
        self.distributed = distributed
        self.checkpoint_dir = checkpoint_dir
        self.checkpoint_every = checkpoint_every
        self.sparse_output = sparse_output
        self.verbose = verbose

    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X, y=None, sample_weight=None):
        """
        Learn the factors of X.

        Parameters
        ----------
        X : array-like or ActivationStore of shape (n_rows, n_features)
            An array, a memory-mapped array (read a minibatch at a time), Activations, or a store, which is read in
            shuffled order with memory that does not grow with it.
        y : None
            Ignored.
        sample_weight : array-like of shape (n_rows,), default=None
            How much each row counts in the update of the components. With a store, its own `sample_weight` is looked
            up a minibatch at a time.

        Returns
        -------
        self : SparseDictionary
            The fitted dictionary.

        Raises
        ------
        ValueError
            If X is not finite or has fewer rows than `n_components` asks for, no weight is positive, or a checkpoint is
            damaged.
        RuntimeError
            If one of several processes was lost.

        Warns
        -----
        ConvergenceWarning
            If rows of the last epoch were left above `tol`.
        """
        going_on = self.warm_start and hasattr(self, "components_")
        source = self._source_with(going_on, X)
        X = check_rows(self, X, reset=not going_on, largest=LARGEST[self.dtype])
        weight = check_weight(sample_weight, X)
        if self.n_components is not None and self.n_components > len(X):
            raise ValueError(f"n_components={self.n_components} is more than the {len(X)} rows of X: give more rows.")
        random_state = random_state_of_its_own(self.random_state)
        return self._learn(X, weight, random_state, going_on, self._schedule())._learned_from(source)

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
        self : SparseDictionary
            The dictionary, fitted to all rows that it was given so far.
        """
        going_on = hasattr(self, "components_")
        source = self._source_with(going_on, X)
        X = check_rows(self, X, reset=not going_on, largest=LARGEST[self.dtype])
        weight = check_weight(sample_weight, X)
        random_state = self._random_state if going_on else random_state_of_its_own(self.random_state)
        schedule = self._schedule(max_iter=1, checkpoint_dir=None, early_stopping=False)
        return self._learn(X, weight, random_state, going_on, schedule)._learned_from(source)

    def transform(self, X):
        """
        Code rows as sparse sums of the factors.

        Parameters
        ----------
        X : array-like of shape (n_rows, n_features)
            Rows to code.

        Returns
        -------
        codes : csr_array or ndarray of shape (n_rows, n_components)
            Activations of the factors; a csr_array if `sparse_output`.

        Warns
        -----
        ConvergenceWarning
            If rows were left above `tol`.
        """
        check_is_fitted(self)
        coding = self._fitted_coding()
        X = check_rows(self, X, reset=False, largest=LARGEST_CODED[self.dtype])
        return encode(X, self.components_, coding, batch_size=self.batch_size, sparse=self.sparse_output)

    def duality_gap(self, X, codes):
        """
        How far each code is from the best, at most, as a share of its objective.

        Parameters
        ----------
        X : array-like of shape (n_rows, n_features)
            Rows.
        codes : array-like or sparse array of shape (n_rows, n_components)
            From any source; if `positive_code`, none may be negative.

        Returns
        -------
        gaps : ndarray of float64 of shape (n_rows,)
            In [0, 1]: the relative duality gap, (primal - dual) / primal; 1 for codes that are not finite.
        """
        check_is_fitted(self)
        self._validate_params()
        X = check_rows(self, X, reset=False)
        codes = check_codes(codes, len(self.components_), len(X), finite=False)
        if self.positive_code and codes.size and codes.min() < 0:
            raise ValueError("codes are negative in places, which positive_code=True rules out.")
        return row_gaps(X, codes, self.components_, self._penalty, self.positive_code)

    @property
    def n_steps_(self):
        """Minibatches learned from since learning began."""
        return int(self._learner_state["n_steps"])

    @property
    def intercept_(self):
        """Zeros, of shape (n_features,): a row of no factors is reconstructed as zeros."""
        return np.zeros(self.components_.shape[1], self.components_.dtype)

    @property
    def _penalty(self):
        if self.alpha != "auto":
            return self.alpha
        # Pursuit has no penalty, and components that are set by hand bring none.
        return self.alpha_ if self.n_nonzero_coefs is None else getattr(self, "alpha_", 1.0)

    def _coding(self, alpha=None) -> Coding:
        # Of a fitted dictionary they may have been set since.
        self._validate_params()
        alpha = self._penalty if alpha is None else alpha
        least, largest = 1 / LARGEST[self.dtype], LARGEST[self.dtype]
        if not least <= alpha <= largest:
            raise ValueError(f"alpha={alpha!r} is not between {least:g} and {largest:g}: scale it and the rows.")
        device, dtype = resolve_device(self.device), _DTYPES[self.dtype]
        n_components = self.n_components or self.n_features_in_
        group_ends = tuple(ends_of_groups(self.group_sizes, n_components).tolist())
        return Coding(
            alpha=float(alpha),
            positive=self.positive_code,
            solver=fastest_solver(device, n_components, dtype) if self.solver == "auto" else self.solver,
            tol=self.tol,
            max_iter=self.max_solver_iter,
            n_nonzero_coefs=self.n_nonzero_coefs,
            debias=self.debias and self.n_nonzero_coefs is None and len(group_ends) < 2,
            device=device,
            dtype=dtype,
            group_ends=group_ends,
            threshold=getattr(self, "threshold_", None),
        )

    def _fitted_coding(self) -> Coding:
        coding = self._coding()
        if coding.nested and coding.threshold is None:
            raise ValueError("group_sizes was set after the fit: fit again, or set it to None.")
        return coding

    def to_torch(self, device="cpu"):
        """
        Return the dictionary as a torch module with differentiable `encode`, `decode` and `forward`.

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
        coding = replace(self._fitted_coding(), device=resolve_device(device))
        penalty = coding.alpha if coding.penalised and not coding.debias else 0.0
        return SparseCodingModule(coding.tensor(self.components_), coding.codes_of, penalty)

    def _saved_arrays(self):
        return super()._saved_arrays() | {f"state.{name}": array for name, array in self._learner_state.items()}

    def _fitted_that_decides(self):
        fitted = {"alpha_": self._penalty} if self.alpha == "auto" else {}
        fitted |= {"threshold_": self.threshold_} if hasattr(self, "threshold_") else {}
        return fitted | {"components_": self.components_}

    def _mismatch_of_fitted(self, facts, arrays):
        sums = sorted(name.removeprefix("state.update.") for name in arrays if name.startswith("state.update."))
        if sums not in (["codes_codes", "codes_data", "n_batches"], ["n_batches", "squared_codes"]):
            return f"the arrays {', '.join(sums)} that it goes on from are of no update"
        if facts.get("alpha_", 0.0 if self.alpha == "auto" else self.alpha) <= 0:
            return "it has no alpha_ that is positive"
        return super()._mismatch_of_fitted(facts, arrays)

    def _restore(self, facts, arrays):
        super()._restore({"alpha_": self.alpha} | facts, arrays)
        self._learner_state = {
            name.removeprefix("state."): array for name, array in arrays.items() if name.startswith("state.")
        }
        self._random_state = random_state_of_its_own(self.random_state)

    def _learn(self, X, weight, random_state, going_on, schedule):
        parameters = {name: value for name, value in self.get_params().items() if name not in _NO_EFFECT_ON_FIT}
        # Checkpoints of earlier versions know of no groups.
        if self.group_sizes is None:
            del parameters["group_sizes"]
        step, standing = learn(
            X,
            weight,
            partial(self._begin, going_on),
            schedule,
            random_state,
            identity=[parameters, [self.components_, self.n_steps_] if going_on else []],
            history=self.history_ if going_on else [],
            watcher=watcher_of(self, schedule.max_iter),
        )
        learned = step.learned()
        if not np.isfinite(learned["components_"]).all():
            raise_overflow()
        self.components_ = learned["components_"]
        self.alpha_ = step.coding.alpha
        vars(self).pop("threshold_", None)
        if "threshold_" in learned:
            self.threshold_ = learned["threshold_"]
        self.history_ = standing.history
        self.n_iter_ = standing.n_epochs
        self.device_ = step.coding.device
        self._learner_state = step.state()
        self._random_state = random_state
        n_open, n_rows = (sum(record[name] for record in standing.last_epoch) for name in ("n_open", "n_rows"))
        warn_of_open_rows(n_open, n_rows, step.coding)
        return self

    def _begin(self, going_on, rows, random_state, processes, methods) -> SparseCodingStep:
        coding = self._coding(usual_penalty(rows) if self.alpha == "auto" and not going_on else None)
        shape = (self.n_components or self.n_features_in_, self.n_features_in_)
        if going_on:
            components = self.components_
        elif self.dict_init is None:
            components = drawn_components(rows, shape[0], self.batch_size, random_state)
        else:
            components = given_components(self.dict_init, shape)
        update = best_update(coding.device, len(components)) if self.update == "auto" else self.update
        # What suits a machine depends on its memory: all processes do as the first, and as before they were stopped.
        methods = processes.share_bytes((methods or f"{coding.solver} {update}").encode()).decode()
        solver, update = methods.split()
        step = SparseCodingStep(replace(coding, solver=solver), update, components, processes)
        if going_on:
            step.restore({"components_": components}, self._learner_state)
        return step

    def _schedule(self, **others) -> Schedule:
        own = {field.name: getattr(self, field.name) for field in fields(Schedule)}
        return Schedule(**own | {"device": resolve_device(self.device)} | others)

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.transformer_tags.preserves_dtype = [self.dtype]
        return tags


def random_state_of_its_own(random_state) -> np.random.RandomState:
    """Return a random state that can be put back to where it was: NumPy's global one is for others too."""
    given = check_random_state(random_state)
    return np.random.RandomState(given.randint(2**31)) if given is check_random_state(None) else given
