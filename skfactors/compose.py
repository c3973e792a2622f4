"""What joins extraction and dictionary: one row of factor activations for each text."""

from collections.abc import Callable

import numpy as np
from sklearn.base import BaseEstimator, MetaEstimatorMixin, TransformerMixin, _fit_context, clone
from sklearn.exceptions import NotFittedError
from sklearn.pipeline import Pipeline
from sklearn.utils._param_validation import HasMethods, StrOptions
from sklearn.utils.validation import check_is_fitted, has_fit_parameter

from skfactors.codes import check_codes
from skfactors.dictionaries.adapters import as_factor_model, steps_of
from skfactors.extraction.activations import Activations
from skfactors.extraction.pooling import GroupPool
from skfactors.extraction.text.corpus import held
from skfactors.output import framed

# Bounds the dense codes held at a time.
_ROWS_CODED_AT_A_TIME = 4096


class DocumentFactors(MetaEstimatorMixin, TransformerMixin, BaseEstimator):
    """
    Turn each text into one row of factor activations, for models that need one row per text.

    Every token is coded in every layer of the extractor, and a text's codes are pooled.

    Parameters
    ----------
    extractor : TransformerFeatureExtractor
        Makes the hidden states; its `level` does not matter.
    dictionary : FactorModel or Pipeline
        A Pipeline ends in a dictionary, after scalers or other steps that can be undone. A fitted one is used as it is.
        :meth:`fit` fits one that is not, on the hidden states of its texts, with the weights of their tokens if it
        takes weights.
    pooling : {"max", "mean", "sum"}, default="max"
        How the activations of a factor over a text's tokens and layers become one.

    Attributes
    ----------
    extractor_ : TransformerFeatureExtractor
    dictionary_ : FactorModel or Pipeline

    See Also
    --------
    TransformerFeatureExtractor : With `level="document"`, pools hidden states themselves.

    Notes
    -----
    Cross-validation clones what it fits, and a clone is not fitted: to keep one learned dictionary in every fold, wrap
    it in :class:`sklearn.frozen.FrozenEstimator`. A text without tokens is a row of zeros.

    Examples
    --------
    >>> from sklearn.linear_model import LogisticRegression
    >>> from sklearn.pipeline import make_pipeline
    >>> from skfactors import DocumentFactors, SparseDictionary, TransformerFeatureExtractor
    >>> from skfactors.datasets import demo_model
    >>> extractor = TransformerFeatureExtractor(demo_model(), layers=[2, 4])
    >>> factors = DocumentFactors(extractor, SparseDictionary(8, alpha=1.0, random_state=0))
    >>> texts = ["A fine film.", "A dull film.", "Such a fine play.", "Such a dull play."]
    >>> classifier = make_pipeline(factors, LogisticRegression()).fit(texts, [1, 0, 1, 0])
    >>> classifier[0].transform(texts).shape
    (4, 8)
    """

    _parameter_constraints = {
        "extractor": [HasMethods(["fit", "iter_extract"])],
        "dictionary": [HasMethods(["fit", "transform"])],
        "pooling": [StrOptions({"max", "mean", "sum"})],
    }

    def __init__(self, extractor, dictionary, pooling="max"):
        self.extractor = extractor
        self.dictionary = dictionary
        self.pooling = pooling

    @_fit_context(prefer_skip_nested_validation=False)
    def fit(self, texts, y=None):
        """
        Check the model, and learn the factors unless the dictionary is fitted.

        Parameters
        ----------
        texts : iterable of str of length n_texts
            What the dictionary is learned from, unless it is fitted already. Read once, so a generator will do.
        y : None
            Ignored.

        Returns
        -------
        self : DocumentFactors
            With `extractor_` and `dictionary_` fitted.
        """
        texts = held(texts)
        self.extractor_ = clone(self.extractor).fit(texts)
        self.dictionary_ = self.dictionary if _is_fitted(self.dictionary) else self._learn(texts)
        return self

    def fit_transform(self, texts, y=None):
        """
        Fit, and turn each text into a row of factor activations.

        Parameters
        ----------
        texts : iterable of str of length n_texts
            Read once, so a generator will do.
        y : None
            Ignored.

        Returns
        -------
        X : ndarray of shape (n_texts, n_components)
            Activations of the factors, pooled over the tokens and layers of each text.
        """
        texts = held(texts)
        return self.fit(texts, y).transform(texts)

    def transform(self, texts):
        """
        Turn each text into a row of factor activations.

        Parameters
        ----------
        texts : iterable of str of length n_texts
            A generator is read once, and kept in memory.

        Returns
        -------
        X : ndarray of shape (n_texts, n_components)
            Activations of the factors, pooled over the tokens and layers of each text.
        """
        check_is_fitted(self)
        texts = held(texts)
        model = as_factor_model(self.dictionary_)
        pool = GroupPool(len(texts), len(self.get_feature_names_out()), self.pooling, dtype=np.float32)
        for acts in self.extractor_.iter_extract(texts):
            add_codes(pool, model.transform, acts)
        return framed(self, pool.result(), texts)

    def get_feature_names_out(self, input_features=None):
        """
        Name the columns: the dictionary's factors.

        Parameters
        ----------
        input_features : None
            Ignored.

        Returns
        -------
        names : ndarray of str of shape (n_components,)
            Those of the dictionary's factors.
        """
        check_is_fitted(self)
        return steps_of(self.dictionary_)[-1].get_feature_names_out()

    def _learn(self, texts):
        acts = self.extractor_.extract(texts)
        dictionary = clone(self.dictionary)
        return dictionary.fit(acts, **weights_for(dictionary, acts.sample_weight))

    def __sklearn_is_fitted__(self):
        return hasattr(self, "dictionary_")

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.two_d_array = False
        tags.input_tags.string = True
        tags.transformer_tags.preserves_dtype = []
        return tags


def add_codes(pool: GroupPool, code: Callable, acts: Activations) -> None:
    """
    Code rows, so many at a time that dense codes stay small, and pool them by document.

    Parameters
    ----------
    pool : GroupPool
    code : callable
        Rows to codes, dense or sparse.
    acts : Activations
    """
    documents = acts.provenance["document"].to_numpy()
    for start in range(0, len(acts), _ROWS_CODED_AT_A_TIME):
        rows = slice(start, start + _ROWS_CODED_AT_A_TIME)
        pool.add(check_codes(code(acts.X[rows])), documents[rows])


def weights_for(estimator, sample_weight) -> dict:
    """Return weights under the name that an estimator, or the last step of a pipeline, takes them by."""
    prefix = ""
    while isinstance(estimator, Pipeline):
        name, estimator = estimator.steps[-1]
        prefix += f"{name}__"
    return {f"{prefix}sample_weight": sample_weight} if has_fit_parameter(estimator, "sample_weight") else {}


def _is_fitted(estimator) -> bool:
    try:
        check_is_fitted(estimator)
    except NotFittedError:
        return False
    return True
