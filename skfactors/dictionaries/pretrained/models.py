"""Dictionaries that other tools have learned, whose encoders are not those of a SparseAutoencoder."""

import numpy as np
import scipy.sparse
import torch
from sklearn.utils._param_validation import StrOptions
from sklearn.utils.validation import check_is_fitted

from skfactors.codes import LARGEST, csr_of, require_finite, require_squares
from skfactors.devices import keep_to_one_thread_if_forked, resolve_device
from skfactors.dictionaries.base import FactorModel
from skfactors.dictionaries.learned_from import SOURCE
from skfactors.dictionaries.predicting import PredictorMixin
from skfactors.dictionaries.pretrained.encoders import ENCODERS
from skfactors.dictionaries.rows import batches_of, check_rows
from skfactors.records import mismatch

_ROWS_AT_A_TIME = 4096
_WEIGHTS = "weights_."


class PretrainedDictionary(FactorModel):
    """
    A dictionary that another tool has learned, whose encoder is none of a :class:`SparseAutoencoder`'s.

    :func:`skfactors.load_dictionary` makes it. There is nothing to learn: `fit` checks rows, and a clone is the model
    itself.

    Parameters
    ----------
    architecture : str
        Name in `ENCODERS`.
    settings : dict, default=None
        Of the encoder.
    device : str, default="auto"
        "auto" is the first of cuda, mps and cpu that is there.
    sparse_output : bool, default=True
        Whether codes are a csr_array.

    Attributes
    ----------
    components_ : ndarray of shape (n_components, n_outputs)
        The factors.
    intercept_ : ndarray of shape (n_outputs,)
        What a row of no factors is reconstructed as.
    weights_ : dict of str to ndarray
        Of the encoder.
    source_ : dict
        What the files say about where they are from.
    n_features_in_ : int

    See Also
    --------
    skfactors.load_dictionary : Reads files of other tools.
    skfactors.SparseAutoencoder : What most files are read as.

    Examples
    --------
    >>> import numpy as np
    >>> from skfactors.dictionaries import PretrainedDictionary
    >>> settings = {"n_steps": 2, "rectified": True, "stop_on_same_factors": False, "residual": 0.0}
    >>> pursuit = PretrainedDictionary.from_arrays("matching_pursuit", np.eye(3), np.zeros(3), {}, settings, {})
    >>> pursuit.transform([[3.0, 1.0, 2.0]]).toarray()
    array([[3., 0., 2.]], dtype=float32)
    """

    _no_effect_on_codes = frozenset({"sparse_output"})
    _parameter_constraints = {
        "architecture": [StrOptions(set(ENCODERS))],
        "settings": [dict, None],
        "device": [str],
        "sparse_output": ["boolean"],
    }
    _fitted_arrays = {"components_": ("n_components", "n_outputs"), "intercept_": ("n_outputs",)}
    _fitted_facts = {"source_": SOURCE}
    # Whether it gives rows of another width than it reads.
    _predicts = False

    def __init__(self, architecture, *, settings=None, device="auto", sparse_output=True):
        self.architecture = architecture
        self.settings = settings
        self.device = device
        self.sparse_output = sparse_output

    @classmethod
    def from_arrays(cls, architecture, components, intercept, weights, settings, source):
        """
        Make a model of what a file holds.

        Parameters
        ----------
        architecture : str
            Name in `ENCODERS`.
        components : ndarray of shape (n_components, n_outputs)
            The factors.
        intercept : ndarray of shape (n_outputs,)
            What a row of no factors is reconstructed as.
        weights : dict of str to ndarray
            Of the encoder.
        settings : dict
            Of the encoder.
        source : dict
            What the files say about where they are from.

        Returns
        -------
        PretrainedDictionary
            Fitted.
        """
        model = cls(architecture, settings=settings)
        model.components_, model.intercept_ = (
            np.array(array, np.float32, order="C") for array in (components, intercept)
        )
        model._weights = {name: np.array(array, np.float32, order="C") for name, array in weights.items()}
        model.source_ = source
        model.n_features_in_ = model._width_of_rows(model._saved_arrays())
        return model

    @property
    def weights_(self):
        """Arrays of the encoder, by name."""
        return self._weights

    def fit(self, X, y=None):
        """
        Check rows; there is nothing to learn.

        Parameters
        ----------
        X : array-like of shape (n_rows, n_features)
            Rows that could be coded.
        y : None
            Ignored.

        Returns
        -------
        self
            As it was.
        """
        check_is_fitted(self)
        self._checked(X)
        return self

    def transform(self, X):
        """
        Code rows as the other tool does.

        Parameters
        ----------
        X : array-like of shape (n_rows, n_features)
            Rows to code. Where codes depend on the tokens before, (n_texts, n_tokens, n_features).

        Returns
        -------
        codes : csr_array or ndarray of shape (n_rows, n_components)
            Activations of the factors, one token after the other.
        """
        check_is_fitted(self)
        codes = [csr_of(part.reshape(-1, len(self.components_))) for part in self._through("encode", X)]
        codes = scipy.sparse.vstack(codes, format="csr")
        return codes if self.sparse_output else codes.toarray()

    def reconstruct(self, X):
        """
        Reconstruct rows.

        Parameters
        ----------
        X : array-like of shape (n_rows, n_features)
            Rows to code. Where codes depend on the tokens before, (n_texts, n_tokens, n_features).

        Returns
        -------
        ndarray of the shape of X
            What their codes stand for, with all that the tool adds to it.
        """
        check_is_fitted(self)
        return np.concatenate([part.cpu().numpy() for part in self._through("__call__", X)])

    def to_torch(self, device="cpu"):
        """
        Return the model as a torch module with differentiable `encode`, `decode` and `forward`.

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
        device = resolve_device(device)
        arrays = [self.components_, self.intercept_, *self.weights_.values()]
        components, intercept, *weights = (torch.tensor(array, device=device) for array in arrays)
        return self._kind()(components, intercept, dict(zip(self.weights_, weights, strict=True)), self.settings or {})

    def _through(self, method, X):
        """Yield what a method of the torch module makes of rows, a batch at a time."""
        X = self._checked(X)
        keep_to_one_thread_if_forked()
        device = resolve_device(self.device)
        module = self.to_torch(device)
        with torch.no_grad():
            for rows in batches_of(X, len(X) if module.of_batches else _ROWS_AT_A_TIME):
                yield getattr(module, method)(torch.tensor(np.asarray(rows, np.float32), device=device))

    def _checked(self, X):
        if not self._kind().of_sequences:
            return check_rows(self, X, reset=False, largest=LARGEST["float32"])
        X = np.asarray(X)
        if X.ndim != 3 or X.shape[2] != self.n_features_in_:
            raise ValueError(
                "codes of this dictionary depend on the tokens before: pass rows of shape (n_texts, n_tokens, "
                f"{self.n_features_in_}), got {X.shape}."
            )
        require_finite(X, "X")
        require_squares(X, "X", LARGEST["float32"])
        return X

    def _kind(self) -> type[torch.nn.Module]:
        if self.architecture not in ENCODERS:
            raise ValueError(f"architecture is {self.architecture!r}; known here are {', '.join(ENCODERS)}.")
        return ENCODERS[self.architecture]

    def _listed(self, of):
        listed = super()._listed(of)
        if of == "_fitted_arrays":
            shapes = self._kind().shapes_for(self.settings or {}, self._weights)
            listed |= {f"{_WEIGHTS}{name}": shape for name, shape in shapes.items()}
        return listed

    def _mismatch_of_fitted(self, facts, arrays):
        settings, self._weights = self.settings or {}, _weights_among(arrays)
        problem = mismatch(settings, self._kind().schema, "settings") or super()._mismatch_of_fitted(facts, arrays)
        if problem is not None:
            return problem
        if any(array.dtype != np.float32 for array in arrays.values()):
            return "its arrays are not all of float32"
        shapes = {name: array.shape for name, array in self._weights.items()}
        n_outputs = arrays["components_"].shape[1]
        if not self._predicts and n_outputs != facts["n_features_in_"]:
            return f"it reads rows of {facts['n_features_in_']} features and gives rows of {n_outputs}"
        return self._kind().misfit(settings, shapes | {"components": arrays["components_"].shape})

    def _width_of_rows(self, arrays):
        readers = (f"{_WEIGHTS}encoder", f"{_WEIGHTS}layer.0.weight", "components_")
        return next(arrays[name].shape[1] for name in readers if name in arrays)

    def _fitted_that_decides(self):
        return super()._fitted_that_decides() | {"weights_": self._weights}

    def _saved_arrays(self):
        return super()._saved_arrays() | {f"{_WEIGHTS}{name}": array for name, array in self.weights_.items()}

    def _restore(self, facts, arrays):
        super()._restore(facts, arrays)
        self._weights = _weights_among(arrays)

    def __sklearn_clone__(self):
        return self


class PretrainedTranscoder(PredictorMixin, PretrainedDictionary):
    """
    A dictionary of another tool that reads rows of one place in a model and predicts those of another.

    Parameters
    ----------
    architecture : str
        Name in `ENCODERS`.
    settings : dict, default=None
        Of the encoder.
    device : str, default="auto"
        "auto" is the first of cuda, mps and cpu that is there.
    sparse_output : bool, default=True
        Whether codes are a csr_array.

    Attributes
    ----------
    components_ : ndarray of shape (n_components, n_outputs)
        The factors, in the space of what is predicted.
    intercept_ : ndarray of shape (n_outputs,)
        What is predicted from no factors.
    weights_ : dict of str to ndarray
        Of the encoder.
    source_ : dict
        What the files say about where they are from.
    n_features_in_ : int

    See Also
    --------
    skfactors.load_dictionary : Reads files of other tools.
    skfactors.Transcoder : What most files are read as.

    Examples
    --------
    >>> import numpy as np
    >>> from skfactors.dictionaries import PretrainedTranscoder
    >>> weights = {"encoder": np.eye(3), "encoder_intercept": np.zeros(3)}
    >>> transcoder = PretrainedTranscoder.from_arrays(
    ...     "linear", 2 * np.ones((3, 2)), np.zeros(2), weights, {"selection": "positive"}, {}
    ... )
    >>> transcoder.predict([[1.0, -1.0, 0.5]])
    array([[3., 3.]], dtype=float32)
    """

    _predicts = True

    @property
    def skip_(self):
        """What of the row itself is added to the prediction: ndarray (n_outputs, n_features), or None."""
        return self.weights_.get("skip")

    def _predicted(self, X):
        return PretrainedDictionary.reconstruct(self, X)


def _weights_among(arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {name.removeprefix(_WEIGHTS): array for name, array in arrays.items() if name.startswith(_WEIGHTS)}
