import numpy as np
import pytest
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.decomposition import sparse_encode


class FixedDictionary(ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseEstimator):
    """Non-negative lasso codes under factors that are given and not learned."""

    def __init__(self, factors=None, alpha=1.0):
        self.factors = factors
        self.alpha = alpha

    def fit(self, X, y=None):
        self.components_ = np.asarray(self.factors)
        self._n_features_out = len(self.components_)
        return self

    def transform(self, X):
        return sparse_encode(
            np.asarray(X), self.components_, algorithm="lasso_cd", alpha=self.alpha, positive=True, max_iter=5000
        )

    def inverse_transform(self, codes):
        return codes @ self.components_


class WordVectors(TransformerMixin, BaseEstimator):
    """One row for every word of every text: looked up in a table, words being row numbers."""

    def __init__(self, table=None):
        self.table = table

    def fit(self, texts, y=None):
        self.is_fitted_ = True
        return self

    def transform(self, texts):
        return np.asarray(self.table)[[int(word) for text in texts for word in text.split()]]


@pytest.fixture(scope="session")
def sparse_model():
    """Rows drawn from a sparse non-negative model: factors, true codes, rows with noise."""
    random = np.random.default_rng(0)
    factors = random.standard_normal((32, 24))
    factors /= np.linalg.norm(factors, axis=1, keepdims=True)
    codes = (random.random((300, 32)) < 0.1) * (1 + random.exponential(2.0, (300, 32)))
    rows = codes @ factors + 0.1 * random.standard_normal((300, 24))
    return factors, codes, rows


@pytest.fixture(scope="session")
def dictionary_class():
    return FixedDictionary


@pytest.fixture(scope="session")
def word_vectors_class():
    return WordVectors
