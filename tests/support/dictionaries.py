"""Stand-ins for any dictionary: a model with an intercept, an encoder and a threshold; and one behind a scaler."""

import numpy as np
import torch
from scipy import sparse
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skfactors import FactorModel
from skfactors.dictionaries.rows import check_rows


class StandInModel(FactorModel):
    """
    Codes are what ``(x - intercept_) @ encoder_.T`` is where it exceeds `threshold_`, and zero elsewhere.

    The arrays are drawn when it is fitted and do not depend on the rows. They hold quarters, so that codes of rows of
    halves are exact, and the same in whatever parts the rows come. The last factor never fires.
    """

    _no_effect_on_codes = frozenset({"sparse_output", "verbose"})
    _fitted_arrays = {"encoder_": ("n_components", "n_features"), "threshold_": ("n_components",)}

    def __init__(self, n_components=5, threshold=0.5, random_state=5, sparse_output=True, verbose=False):
        self.n_components = n_components
        self.threshold = threshold
        self.random_state = random_state
        self.sparse_output = sparse_output
        self.verbose = verbose

    def fit(self, X, y=None):
        n_features = check_rows(self, X, reset=True).shape[1]
        rng = np.random.default_rng(self.random_state)
        shape = self.n_components, n_features
        self.components_ = _quarters(rng.normal(size=shape))
        self.encoder_ = self.components_ + _quarters(0.2 * rng.normal(size=shape))
        self.components_[-1] = self.encoder_[-1] = 0
        self.intercept_ = _quarters(0.5 + 0.25 * rng.normal(size=n_features))
        self.threshold_ = np.full(self.n_components, float(self.threshold))
        return self

    def transform(self, X):
        X = np.asarray(check_rows(self, X, reset=False), dtype=np.float64)
        # Without a matrix product, whose last digits differ with the number of rows.
        values = np.einsum("ij,kj->ik", X - self.intercept_, self.encoder_)
        codes = np.where(values > self.threshold_, values, 0)
        return sparse.csr_array(codes) if self.sparse_output else codes

    def to_torch(self, device="cpu"):
        return _Module(self).to(device)


class _Module(torch.nn.Module):
    def __init__(self, model):
        super().__init__()
        for name in ("components", "encoder", "intercept", "threshold"):
            self.register_buffer(name, torch.tensor(getattr(model, f"{name}_"), dtype=torch.float32))

    def encode(self, X):
        values = (X.to(self.encoder) - self.intercept) @ self.encoder.T
        return values * (values > self.threshold)

    def decode(self, codes):
        return codes.to(self.components) @ self.components + self.intercept

    def forward(self, X):
        return self.decode(self.encode(X))


def scaled(X, dictionary=None):
    """Return a fitted pipeline of a StandardScaler and a dictionary, a :class:`StandInModel` by default."""
    return make_pipeline(StandardScaler(), StandInModel() if dictionary is None else dictionary).fit(X)


def _quarters(values):
    return np.round(4 * values) / 4
