"""Sparse coding problems for tests."""

import numpy as np


def random_problem(seed, n_rows=20, n_components=30, n_features=12, dtype=np.float64):
    rng = np.random.default_rng(seed)
    components = rng.standard_normal((n_components, n_features)) + 0.3
    components /= np.linalg.norm(components, axis=1, keepdims=True)
    return rng.standard_normal((n_rows, n_features)).astype(dtype), components.astype(dtype)
