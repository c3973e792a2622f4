"""FactorModel: what all dictionaries share."""

import json
from abc import ABC, abstractmethod
from importlib import import_module
from numbers import Integral
from pathlib import Path

import numpy as np
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.utils._param_validation import InvalidParameterError, validate_parameter_constraints
from sklearn.utils.validation import check_is_fitted

from skfactors._version import __version__
from skfactors.callers import warn_caller
from skfactors.codes import check_codes
from skfactors.dictionaries.learned_from import SOURCE, joined, source_of
from skfactors.dictionaries.persistence import FORMAT, REMEDY, mismatch_of_arrays, read_dictionary, write_dictionary
from skfactors.dictionaries.rows import as_numbers, batches_of, check_rows
from skfactors.files import replaced_file
from skfactors.fingerprints import fingerprint, name_of
from skfactors.metrics.reconstruction import VarianceSums
from skfactors.output import with_plain_output, without_feature_names
from skfactors.records import damaged, mismatch

# Where the classes are that a saved folder can name. Others are found once they are imported.
MODELS = {
    "Crosscoder": "skfactors.dictionaries.crosscoder",
    "PretrainedDictionary": "skfactors.dictionaries.pretrained",
    "PretrainedTranscoder": "skfactors.dictionaries.pretrained",
    "SparseAutoencoder": "skfactors.dictionaries.autoencoders.sparse_autoencoder",
    "SparseDictionary": "skfactors.dictionaries.sparse_coding.sparse_dictionary",
    "Transcoder": "skfactors.dictionaries.transcoder",
}
_ROWS_AT_A_TIME = 16_384
# Fitted attributes that tell of the fit, and decide no code.
_OF_THE_FIT = {
    "device_",
    "feature_names_in_",
    "history_",
    "n_features_in_",
    "n_iter_",
    "n_steps_",
    "source_",
    "specificity_",
}


class FactorModel(ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseEstimator, ABC):
    """
    A dictionary of factors, and a way to code rows with it.

    A subclass gives `fit`, :meth:`transform`, and the attributes below. Everything that reads a dictionary uses the
    methods that are here.

    Attributes
    ----------
    components_ : ndarray of shape (n_components, n_features)
        The factors.
    intercept_ : ndarray of shape (n_features,)
        What a row of no factors is reconstructed as.
    source_ : dict
        What it was learned from, where that is known: Activations and stores say it by their `source`, and so do files
        of other tools.

    See Also
    --------
    SparseDictionary : Exact codes, by sparse coding.

    Notes
    -----
    A saved folder sets nothing but the parameters of its class and the fitted attributes that the class lists. Those of
    a subclass are listed in two class attributes, beside those of its base classes: arrays of floating point numbers by
    their shapes in `_fitted_arrays`, and what else JSON can hold by a schema (``skfactors.records.check_schema``)
    in `_fitted_facts`. A name that ends in ``?`` may be missing. For a model with an encoder and a count ::

        _fitted_arrays = {"encoder_": ("n_components", "n_features")}
        _fitted_facts = {"n_iter_": int}

    :meth:`save` refuses a model with other fitted attributes; those whose names begin with an underscore are not saved.
    Where there is an `encoder_`, saliency by gradients follows `encode` of :meth:`to_torch`, and the components where
    there is none.

    Examples
    --------
    >>> import numpy as np
    >>> from tempfile import TemporaryDirectory
    >>> from skfactors import FactorModel, SparseDictionary
    >>> dictionary = SparseDictionary(3, alpha=0.1, random_state=0).fit(np.tile(np.eye(3), (20, 1)))
    >>> with TemporaryDirectory() as folder:
    ...     dictionary.save(folder)
    ...     opened = FactorModel.load(folder)
    >>> type(opened).__name__, opened.fingerprint() == dictionary.fingerprint()
    ('SparseDictionary', True)
    """

    # Parameters that codes do not depend on, once the model is fitted.
    _no_effect_on_codes = frozenset()
    # Parameters that are of the machine or the run: not saved, and nothing that a folder may choose.
    _not_saved = frozenset({"callbacks", "checkpoint_dir", "device", "distributed", "n_jobs"})
    # Fitted attributes that a folder may hold; a subclass lists those of its own.
    _fitted_arrays = {"components_": ("n_components", "n_features"), "intercept_": ("n_features",)}
    _fitted_facts = {"n_features_in_": range(1, 2**62), "feature_names_in_?": [str], "source_?": SOURCE}

    @abstractmethod
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
            Activations of the factors.
        """

    def inverse_transform(self, codes):
        """
        Sum factors up to rows.

        Parameters
        ----------
        codes : array-like or sparse array of shape (n_rows, n_components)
            Activations of the factors.

        Returns
        -------
        X : ndarray of shape (n_rows, n_features)
            ``codes @ components_ + intercept_``.
        """
        check_is_fitted(self)
        rows = check_codes(codes, len(self.components_)) @ self.components_
        return rows + self.intercept_ if self.intercept_.any() else rows

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
        return self._reconstruct_from(X, with_plain_output(self).transform(X))

    def _reconstruct_from(self, X, codes):
        """Reconstruct rows whose codes are known: all that `reconstruct` does after it coded them."""
        return self.inverse_transform(codes)

    def score(self, X, y=None):
        """
        Share of the variance of X that its reconstruction explains, higher is better.

        Parameters
        ----------
        X : array-like of shape (n_rows, n_features)
            Rows to code and to compare with their reconstructions.
        y : None
            Ignored.

        Returns
        -------
        float
            1 - Σ‖x - x̂‖² / Σ‖x - μ‖², with μ the mean of each feature of X.
        """
        check_is_fitted(self)
        X = check_rows(self, X, reset=False)
        sums, model = VarianceSums(), without_feature_names(self)
        for batch in batches_of(X, _ROWS_AT_A_TIME):
            sums.add(batch, model.reconstruct(batch))
        return sums.explained_variance()

    def fingerprint(self):
        """
        Tell this model by everything that decides its codes and reconstructions.

        Returns
        -------
        str
            32 hexadecimal digits: the same for the same class, parameters and fitted arrays, on any machine.
        """
        check_is_fitted(self)
        parameters = {
            name: value
            for name, value in self.get_params(deep=False).items()
            if name not in self._no_effect_on_codes | self._not_saved
        }
        return fingerprint([_name_of_class(type(self)), parameters, self._fitted_that_decides()])

    @abstractmethod
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
            ``forward(X)`` is ``decode(encode(X))``, of tensors of shape (n_rows, n_features).
        """

    def save(self, path):
        """
        Save to a folder of two files, config.json and dictionary.safetensors.

        Parameters
        ----------
        path : path-like
            Made if need be. What it holds of these files is replaced: stopped anywhere, the old or the new ones stay.

        Raises
        ------
        ValueError
            If the model has a fitted attribute that its class does not list, or holds NaN or infinite values.

        Warns
        -----
        UserWarning
            If `random_state` is not an integer: it is not saved.
        """
        check_is_fitted(self)
        parameters, given = {}, {}
        for name, value in self.get_params(deep=False).items():
            if name in self._not_saved:
                continue
            value = _plain(value)
            if name == "random_state" and not isinstance(value, (Integral, type(None))):
                warn_caller("random_state is not an integer and is not saved.")
                value = None
            if _is_json(value):
                parameters[name] = value
            else:
                given[name] = _array_of(name, value)
        facts, arrays = self._saved_facts(), self._saved_arrays()
        self._refuse_unlisted()
        problem = self._mismatch_of_fitted(facts, arrays)
        if problem is not None:
            raise ValueError(f"this {type(self).__name__} cannot be saved: {problem}.")
        config = {
            "skfactors": __version__,
            "estimator": type(self).__name__,
            "module": type(self).__module__,
            "parameters": parameters,
            "fitted": facts,
        }
        write_dictionary(path, config, arrays | given)

    @classmethod
    def load(cls, path):
        """
        Load what :meth:`save` saved, on any machine.

        Parameters
        ----------
        path : path-like
            The folder.

        Returns
        -------
        FactorModel
            Of the class that the folder says, with ``device="auto"``.

        Raises
        ------
        FileNotFoundError
            If the folder holds no saved dictionary.
        ValueError
            If a file was cut short or altered, or a later version of skfactors wrote it.
        """
        config, arrays = read_dictionary(path)
        kind = _class_named(config["estimator"], config.get("module"), cls, path)
        parameters = config["parameters"]
        if config["format"] < 3:
            parameters = {name: value for name, value in parameters.items() if name not in kind._not_saved}
        allowed = set(kind._get_param_names()) - kind._not_saved
        unknown = sorted(set(parameters) - allowed)
        if unknown:
            raise ValueError(
                f"{str(path)!r} sets {', '.join(unknown)}, which a saved {kind.__name__} does not have here: it was "
                f"saved by skfactors {config['skfactors']}, and this is {__version__}. Update skfactors."
            )
        parameters = parameters | {name: arrays.pop(name) for name in allowed & set(arrays)}
        model = kind._made_of(parameters, config, path)
        problem = model._mismatch_of_fitted(config["fitted"], arrays)
        if problem is not None:
            raise damaged(path, problem, REMEDY)
        model._restore(config["fitted"], arrays)
        return model

    def export(self, path, *, format: str) -> None:
        """
        Write the files of another tool, such that it computes the same codes.

        Parameters
        ----------
        path : path-like
            A folder, made if need be.
        format : {"saelens", "dictionary_learning", "sparsify"}
            The tool.

        Raises
        ------
        ValueError
            If the tool has no such dictionaries; the message says what it lacks.

        See Also
        --------
        skfactors.load_dictionary : Reads them back.
        """
        from skfactors.dictionaries.formats import export

        check_is_fitted(self)
        export(self, path, format)

    def save_pretrained(self, path, *, X=None, **about) -> None:
        """
        Save to a folder as :meth:`save` does, and write a model card, README.md.

        Parameters
        ----------
        path : path-like
            Made if need be.
        X : array-like of shape (n_rows, n_features), default=None
            Rows that the model has not learned from: the card says the L0 and the explained variance on them, beside
            that of random factors. At most 2,048 are read.
        **about
            What the card should say: `model`, `site`, `layer`, `data`, `license`, or anything else.
        """
        from skfactors.dictionaries.hub import card

        self.save(path)
        with replaced_file(Path(path) / "README.md", text=True) as file:
            file.write(card(self, X, about))

    @classmethod
    def from_pretrained(cls, path_or_repo, *, revision=None, subfolder=None, token=None):
        """
        Load what :meth:`save_pretrained` saved or :meth:`push_to_hub` uploaded.

        Parameters
        ----------
        path_or_repo : path-like
            A folder, or a repository of the model hub.
        revision : str, default=None
            Of a repository: a branch, tag or commit.
        subfolder : str, default=None
            Where in it the files lie.
        token : str, default=None
            For the hub; by default the one that is stored there is used.

        Returns
        -------
        FactorModel
            Of the class that the folder says.

        See Also
        --------
        skfactors.load_dictionary : Reads what other tools saved, too.
        """
        from skfactors.dictionaries.formats.repositories import saved_folder

        with saved_folder(path_or_repo, revision, subfolder, token) as folder:
            return cls.load(folder)

    def push_to_hub(
        self,
        repo: str,
        *,
        private=None,
        revision=None,
        commit_message="Upload a dictionary",
        token=None,
        X=None,
        **about,
    ) -> str:
        """
        Upload to a repository of the model hub what :meth:`save_pretrained` saves.

        Parameters
        ----------
        repo : str
            As in ``"user/name"``, made if need be.
        private : bool, default=None
            Whether a repository that is made is private; None leaves it to the hub.
        revision : str, default=None
            Branch to upload to, made if need be.
        commit_message : str, default="Upload a dictionary"
            What the repository's history says.
        token : str, default=None
            For the hub; by default the one that is stored there is used.
        X : array-like of shape (n_rows, n_features), default=None
            Rows that the card measures the model on.
        **about
            What the card should say.

        Returns
        -------
        str
            Address of the commit.
        """
        from skfactors.dictionaries.hub import push

        check_is_fitted(self)
        return push(
            self,
            repo,
            private=private,
            revision=revision,
            commit_message=commit_message,
            token=token,
            X=X,
            about=about,
        )

    @classmethod
    def _made_of(cls, parameters: dict, config: dict, path) -> "FactorModel":
        """Make a model that is not fitted, of parameters that a folder holds."""
        missing = sorted(set(cls._get_param_names()) - cls._not_saved - set(parameters))
        # Another class may have gained a parameter since; those of this package do so with a new format.
        if missing and config["format"] == FORMAT and cls.__name__ in MODELS:
            raise damaged(path, f"it lacks the parameter {', '.join(missing)}", REMEDY)
        try:
            validate_parameter_constraints(getattr(cls, "_parameter_constraints", {}), parameters, cls.__name__)
            return cls(**parameters)
        except (InvalidParameterError, TypeError) as error:
            raise damaged(path, str(error).rstrip("."), REMEDY) from error

    def _mismatch_of_fitted(self, facts: dict, arrays: dict[str, np.ndarray]) -> str | None:
        """Say where fitted attributes, that are to be saved or were read, are not what the class lists."""
        problem = mismatch(facts, self._listed("_fitted_facts"), "fitted")
        problem = problem or mismatch_of_arrays(arrays, self._listed("_fitted_arrays"))
        if problem is not None:
            return problem
        names, n_features = facts.get("feature_names_in_"), facts["n_features_in_"]
        if names is not None and not len(set(names)) == len(names) == n_features:
            return "its feature_names_in_ are not one for each feature"
        if self._width_of_rows(arrays) != n_features:
            return "its n_features_in_ is not the width of its components_"
        return None

    def _width_of_rows(self, arrays: dict[str, np.ndarray]) -> int:
        return arrays["components_"].shape[1]

    def _refuse_unlisted(self) -> None:
        listed = {name.removesuffix("?") for of in ("_fitted_facts", "_fitted_arrays") for name in self._listed(of)}
        unlisted = sorted(name for name in vars(self) if _is_fitted_name(name) and name not in listed)
        if unlisted:
            raise ValueError(
                f"{type(self).__name__} has the fitted attribute {unlisted[0]} and does not list it: name it in the "
                "class attribute _fitted_arrays or _fitted_facts (FactorModel says how), or begin its name with an "
                "underscore, and it is not saved."
            )

    def _listed(self, of: str) -> dict:
        """Gather what a class and its base classes list, less what a class has as a property."""
        kinds = reversed(type(self).__mro__)
        listed = {name: what for kind in kinds for name, what in vars(kind).get(of, {}).items()}
        return {name: what for name, what in listed.items() if not hasattr(type(self), name)}

    def _source_with(self, going_on: bool, *rows) -> dict:
        """Return what is known of all that is learned from, once these rows are."""
        return joined(getattr(self, "source_", {}), source_of(*rows)) if going_on else source_of(*rows)

    def _learned_from(self, source: dict) -> "FactorModel":
        """Note what is known of what was learned from, in place of what was noted before."""
        vars(self).pop("source_", None)
        if source:
            self.source_ = source
        return self

    def _fitted_that_decides(self) -> dict:
        """Return the fitted attributes that codes and reconstructions depend on."""
        fitted = {name: value for name, value in vars(self).items() if _is_fitted_name(name)}
        return {name: value for name, value in fitted.items() if name not in _OF_THE_FIT}

    def _saved_arrays(self) -> dict[str, np.ndarray]:
        """Return the fitted arrays to save: those that are public."""
        return {name: value for name, value in vars(self).items() if _is_fitted_name(name) and _is_numbers(value)}

    def _saved_facts(self) -> dict:
        """Return the fitted attributes to save that are not arrays, in what JSON can hold."""
        facts = {name: _plain(value) for name, value in vars(self).items() if _is_fitted_name(name)}
        facts = {name: value for name, value in facts.items() if not _is_numbers(value)}
        if "feature_names_in_" in facts:
            facts["feature_names_in_"] = self.feature_names_in_.tolist()
        return facts

    def _restore(self, facts: dict, arrays: dict[str, np.ndarray]) -> None:
        """Set fitted attributes from what was saved."""
        for name, value in facts.items():
            setattr(self, name, np.asarray(value, dtype=object) if name == "feature_names_in_" else value)
        for name, array in arrays.items():
            if _is_fitted_name(name):
                setattr(self, name, array)

    @property
    def _n_features_out(self):
        return len(self.components_)


def _name_of_class(kind: type) -> str:
    """Return the name of a class of this package, wherever it lies in it, or the full name of another."""
    return kind.__name__ if kind.__name__ in MODELS else name_of(kind)


def _class_named(name: str, module: str | None, asked: type[FactorModel], path) -> type[FactorModel]:
    """Find a class by the name that a folder has: one of this package, the one that is asked for, or a subclass."""
    if name in MODELS:
        return getattr(import_module(MODELS[name]), name)
    if asked.__name__ == name:
        return asked
    found, waiting = [], [FactorModel]
    while waiting:
        kind = waiting.pop(0)
        waiting += kind.__subclasses__()
        found += [kind] if kind.__name__ == name else []
    # Of classes that were defined again, as in a notebook, the last. No module is imported because a file names it.
    found = [kind for kind in found if kind.__module__ == module] or found
    if len({kind.__module__ for kind in found}) == 1:
        return found[-1]
    trouble = (
        "several classes here are called: load it by the one that it was saved from."
        if found
        else "this version of skfactors does not know: update skfactors, or import the module that defines it first."
    )
    raise ValueError(f"{str(path)!r} holds a {name!r}, which {trouble}")


def _is_fitted_name(name: str) -> bool:
    return name.endswith("_") and not name.startswith("_")


def _is_numbers(value) -> bool:
    return isinstance(value, np.ndarray) and value.dtype != object


def _plain(value):
    """Turn a NumPy scalar, as a grid search sets it, into the Python number that JSON can hold."""
    return value.item() if isinstance(value, np.generic) else value


def _is_json(value) -> bool:
    try:
        json.dumps(value, allow_nan=False)
    except (TypeError, ValueError):
        return False
    return True


def _array_of(name: str, value) -> np.ndarray:
    """Turn a parameter that JSON cannot hold into an array."""
    try:
        array = as_numbers(value)
    except (TypeError, ValueError):
        array = None
    if array is None or array.dtype.kind not in "biuf" or array.ndim == 0:
        raise ValueError(f"{name}={value!r} cannot be saved: set it to a finite number, a str, or an array of numbers.")
    return array
