import numpy as np
import pytest
from sklearn.decomposition import PCA

from skfactors import TransformerFeatureExtractor
from skfactors.evaluations.core import reconstruction


def test_the_mean_row_explains_nothing(tiny_model, texts):
    extractor = TransformerFeatureExtractor(tiny_model, layers=[1], device="cpu")
    texts = [text for text in texts if text]
    mean = PCA(4).fit(extractor.extract(texts).X)
    mean.components_ = np.zeros_like(mean.components_)
    table = reconstruction(extractor, mean, texts, controls=[], n_resamples=10).set_index("measure")
    assert table.loc["explained_variance", "value"] == pytest.approx(0, abs=1e-6)
