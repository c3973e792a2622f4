"""Pipelines that end in a dictionary, and dictionaries of other libraries, with the methods of a FactorModel."""

import joblib
import numpy as np
from scipy.sparse import issparse
from sklearn.frozen import FrozenEstimator
from sklearn.pipeline import Pipeline
from sklearn.utils.validation import check_is_fitted

from skfactors.dictionaries.base import FactorModel
from skfactors.dictionaries.predicting import PredictorMixin
from skfactors.fingerprints import fingerprint, fitted_state, name_of
from skfactors.metrics.reconstruction import VarianceSums
from skfactors.output import as_array, with_plain_output, without_feature_names

_NEEDED = ("transform", "inverse_transform", "components_")


def as_factor_model(dictionary):
    """
    Return what reads rows as a FactorModel does.

    Parameters
    ----------
    dictionary : FactorModel, Pipeline or estimator
        Fitted. A Pipeline of steps that can be undone (`inverse_transform`), such as scalers, that ends in a
        dictionary; or any estimator with `transform`, `inverse_transform` and `components_`, such as
        :class:`sklearn.decomposition.NMF`.

    Returns
    -------
    FactorModel, PipelineModel or OtherModel
        With `transform`, `inverse_transform`, `reconstruct`, `score`, `fingerprint`, `components_` and `intercept_`.
        They give arrays, whatever `set_output` and `set_config` ask for.

    Raises
    ------
    NotFittedError
        If it is not fitted.
    TypeError
        If it cannot be read as a dictionary; what is missing is named.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.pipeline import make_pipeline
    >>> from sklearn.preprocessing import StandardScaler
    >>> from skfactors import SparseDictionary
    >>> from skfactors.dictionaries import as_factor_model
    >>> X = np.tile([[1.0, 5.0], [3.0, 5.5]], (20, 1))
    >>> pipeline = make_pipeline(StandardScaler(), SparseDictionary(2, alpha=0.1, random_state=0)).fit(X)
    >>> as_factor_model(pipeline).intercept_.round(2)
    array([2.  , 5.25])
    """
    if isinstance(dictionary, (PipelineModel, OtherModel)):
        return dictionary
    if isinstance(dictionary, FrozenEstimator):
        return as_factor_model(dictionary.estimator)
    if isinstance(dictionary, Pipeline) and (steps := steps_of(dictionary)):
        return PipelineModel(steps) if len(steps) > 1 else as_factor_model(steps[0])
    if hasattr(dictionary, "reconstruct") and hasattr(dictionary, "fingerprint"):
        check_is_fitted(dictionary)
        return with_plain_output(dictionary)
    lacking = [name for name in _NEEDED if not hasattr(dictionary, name)]
    if lacking == ["components_"] or (lacking and hasattr(dictionary, "fit") and "components_" not in lacking):
        check_is_fitted(dictionary)
    if lacking:
        raise TypeError(
            f"{type(dictionary).__name__} has no {' and no '.join(lacking)}; pass a dictionary, such as "
            "SparseDictionary, or a pipeline whose last step is one."
        )
    return OtherModel(dictionary)


class OtherModel:
    """
    An estimator of another library, read as a dictionary.

    Parameters
    ----------
    estimator : estimator
        Fitted, with `transform`, `inverse_transform` and `components_`.
    """

    def __init__(self, estimator):
        self.estimator = with_plain_output(estimator)

    @property
    def verbose(self):
        """Whether it shows progress."""
        return getattr(self.estimator, "verbose", False)

    @property
    def components_(self):
        """The factors, in the space of the rows: ndarray of shape (n_components, n_features)."""
        return np.asarray(self.estimator.components_)

    @property
    def intercept_(self):
        """What codes of zero are reconstructed as: ndarray of shape (n_features,)."""
        return np.asarray(self.inverse_transform(np.zeros((1, len(self.components_)))))[0]

    def transform(self, X):
        """Return codes of shape (n_rows, n_components)."""
        return as_array(self.estimator.transform(X))

    def inverse_transform(self, codes):
        """Return rows of shape (n_rows, n_features)."""
        # Few other libraries take sparse codes, which are ours.
        return np.asarray(self.estimator.inverse_transform(codes.toarray() if issparse(codes) else codes))

    def reconstruct(self, X):
        """Return what the codes of rows stand for, of the shape of X."""
        return self._reconstruct_from(X, self.transform(X))

    def _reconstruct_from(self, X, codes):
        return self.inverse_transform(codes)

    def score(self, X, y=None):
        """Return the explained variance of :meth:`reconstruct`."""
        sums = VarianceSums()
        sums.add(np.asarray(X), self.reconstruct(X))
        return sums.explained_variance()

    def fingerprint(self):
        """Return a digest of everything that decides codes and reconstructions."""
        try:
            return fingerprint([name_of(type(self.estimator)), fitted_state(self.estimator)])
        except TypeError:
            # It holds what only its own library can tell apart.
            return joblib.hash(self.estimator)


class PipelineModel(OtherModel):
    """
    A pipeline whose last step is a dictionary, read as one dictionary of the rows that go into it.

    Parameters
    ----------
    steps : list of estimator
        Fitted. Those before the last have `inverse_transform`, which undoes them, and are affine, as scalers are.
    """

    def __init__(self, steps):
        first, *others = steps
        # Steps give each other arrays here, and would warn of names that they have learned from DataFrames.
        *self.before, last = first, *map(without_feature_names, others)
        self.model = as_factor_model(last)

    @property
    def verbose(self):
        """Whether the dictionary shows progress."""
        return getattr(self.model, "verbose", False)

    @property
    def components_(self):
        """The factors, in the space of the rows that go in, or that are predicted: (n_components, n_features)."""
        components = np.asarray(self.model.components_)
        if isinstance(self.model, PredictorMixin):
            return components
        origin = self._undone(np.zeros_like(components[:1]))
        directions = self._undone(components) - origin
        # Where steps bend space a factor has no direction in it: twice the factor must go twice as far.
        twice = self._undone(2 * components) - origin
        if not np.allclose(twice, 2 * directions, rtol=1e-3, atol=1e-3 * (abs(origin).max() + abs(directions).max())):
            names = ", ".join(type(step).__name__ for step in self.before)
            raise TypeError(
                f"the steps before the dictionary ({names}) are not affine, as scalers are, so factors have no "
                "direction in the space of the rows: take out the one that is not, or read the dictionary by itself."
            )
        return directions

    def transform(self, X):
        """Return codes of shape (n_rows, n_components)."""
        return self.model.transform(self.prepared(X))

    def inverse_transform(self, codes):
        """Return rows of shape (n_rows, n_features), as they go into the pipeline."""
        return self._undone(self.model.inverse_transform(codes))

    def reconstruct(self, X):
        """Return what the codes of rows stand for, of the shape of X."""
        return self._undone(self.model.reconstruct(self.prepared(X)))

    def fingerprint(self):
        """Return a digest of everything that decides codes and reconstructions."""
        return fingerprint(
            [*([name_of(type(step)), fitted_state(step)] for step in self.before), self.model.fingerprint()]
        )

    def prepared(self, X):
        """Return rows as the dictionary at the end of the pipeline gets them."""
        for step in self.before:
            X = as_array(with_plain_output(step).transform(X))
        return X

    def _undone(self, X):
        for step in reversed(self.before):
            if not hasattr(step, "inverse_transform"):
                raise TypeError(
                    f"the step {type(step).__name__} cannot be undone (it has no inverse_transform), so what the "
                    "dictionary after it reconstructs cannot be compared with rows: take it out of the pipeline."
                )
            X = np.asarray(step.inverse_transform(X))
        return X


def steps_of(estimator) -> list:
    """List the steps of a pipeline, and of the pipelines in it, that do anything; of another estimator itself."""
    if isinstance(estimator, FrozenEstimator):
        return steps_of(estimator.estimator)
    if not isinstance(estimator, Pipeline):
        return [estimator]
    steps = (step for _, step in estimator.steps if step is not None and not isinstance(step, str))
    return [inner for step in steps for inner in steps_of(step)]


def reconstruction_of(model, X, codes):
    """
    Reconstruct rows whose codes are known, without coding them again where the model can do without.

    Parameters
    ----------
    model : FactorModel, PipelineModel or OtherModel
    X : ndarray of shape (n_rows, n_features)
    codes : sparse array or ndarray of shape (n_rows, n_components)
        Those of X.

    Returns
    -------
    ndarray of shape (n_rows, n_features)
    """
    if isinstance(model, PipelineModel):
        return model._undone(reconstruction_of(model.model, model.prepared(X), codes))
    # One that reconstructs in a way of its own may need more than codes and rows.
    if type(model).reconstruct in (FactorModel.reconstruct, OtherModel.reconstruct):
        return model._reconstruct_from(X, codes)
    return model.reconstruct(X)
