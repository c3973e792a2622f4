"""Transcoders and crosscoders of rows as extractors and stores give them: two places, the same tokens."""

import numpy as np
import pytest
from sklearn.linear_model import Ridge

from skfactors import Crosscoder, Transcoder, TransformerFeatureExtractor
from skfactors.datasets import demo_model, load_wikipedia
from skfactors.metrics import explained_variance

pytestmark = pytest.mark.filterwarnings("ignore:1 of the texts")
SITES = ["mlp_input", "mlp_output"]
FAST = {"n_nonzero_coefs": 4, "batch_size": 16, "random_state": 0, "device": "cpu"}


@pytest.fixture(scope="module")
def extractor(tiny_model):
    return TransformerFeatureExtractor(tiny_model, site=SITES, layers=[1])


@pytest.fixture(scope="module")
def store(extractor, texts, tmp_path_factory):
    return extractor.extract_to(texts, tmp_path_factory.mktemp("places") / "store", rows_per_shard=60)


@pytest.fixture(scope="module")
def transcoder(store):
    X, Y = map(store.at, SITES)
    assert store.n_shards > 2
    return Transcoder(24, max_iter=30, dict_init="random", **FAST).fit(X, Y, sample_weight=X.sample_weight)


def test_a_transcoder_learns_from_two_places_of_a_store_what_it_learns_from_arrays(transcoder, store):
    X, Y = (np.asarray(store.at(site)) for site in SITES)
    weight = np.asarray(store.at("mlp_input").sample_weight[:])
    of_arrays = Transcoder(24, max_iter=30, dict_init="random", **FAST).fit(X, Y, sample_weight=weight)
    assert transcoder.score(X, Y) == pytest.approx(of_arrays.score(X, Y), abs=0.05) and of_arrays.score(X, Y) > 0.5
    assert transcoder.score(*map(store.at, SITES)) == pytest.approx(transcoder.score(X, Y), abs=1e-5)


def test_a_transcoder_learns_from_two_stores_of_the_same_tokens(transcoder, store, tiny_model, texts, tmp_path):
    one, other = (
        TransformerFeatureExtractor(tiny_model, site=site, layers=[1]).extract_to(
            texts, tmp_path / site, rows_per_shard=30
        )
        for site in SITES
    )
    same = Transcoder(24, max_iter=30, dict_init="random", **FAST).fit(one, other, sample_weight=one.sample_weight)
    places = map(store.at, SITES)
    assert same.score(one, other) == pytest.approx(transcoder.score(*places), abs=0.02)
    assert same.source_ == transcoder.source_


def test_stores_whose_rows_lie_in_another_order_are_refused(store, tiny_model, texts, tmp_path):
    other = TransformerFeatureExtractor(tiny_model, site="mlp_output", layers=[1])
    other = other.extract_to(texts, tmp_path / "store", rows_per_shard=7)
    with pytest.raises(ValueError, match="read in different orders: give two places of one store"):
        Transcoder(8, **FAST).fit(store.at("mlp_input"), other)
    with pytest.raises(ValueError, match="one of X and Y is a store and the other is not"):
        Transcoder(8, **FAST).fit(store.at("mlp_input"), np.asarray(other))


def test_a_crosscoder_learns_from_places_side_by_side(extractor, store, texts):
    acts = extractor.extract(texts)
    X = acts.side_by_side()
    crosscoder = Crosscoder(40, n_sites=2, max_iter=30, **FAST).fit(X, sample_weight=acts.at("mlp_input").sample_weight)
    assert crosscoder.components_by_site_.shape == (2, 40, 32)
    for site, rows, again in zip(SITES, np.hsplit(X, 2), np.hsplit(crosscoder.reconstruct(X), 2), strict=True):
        np.testing.assert_array_equal(rows, acts.at(site).X)
        assert explained_variance(rows, again) > 0.5
    np.testing.assert_allclose(store[:].side_by_side(), X, atol=1e-5)


def test_a_transcoder_of_a_real_mlp_predicts_better_than_the_mean_and_random_factors():
    texts = [article[:1500] for article in load_wikipedia(12)]
    acts = TransformerFeatureExtractor(demo_model(), site=SITES, layers=[3]).extract(texts)
    X, Y = map(acts.at, SITES)
    learned_from = X.provenance["document"].to_numpy() < 9
    held_out, wanted = X[~learned_from].X, Y[~learned_from].X
    n_components, n_codes = 256, 16
    transcoder = Transcoder(n_components, n_nonzero_coefs=n_codes, max_iter=5, batch_size=256, random_state=0)
    transcoder.set_params(device="cpu").fit(X[learned_from], Y[learned_from])
    # The score of the mean is 0. As many random directions, as many codes a row, and the best of linear decoders:
    directions = np.random.default_rng(0).standard_normal((384, n_components)).astype(np.float32)

    def codes(rows):
        values = (rows - X[learned_from].X.mean(axis=0)) @ directions
        return np.where(values >= np.sort(values)[:, [-n_codes]], np.maximum(values, 0), 0)

    control = Ridge().fit(codes(X[learned_from].X), Y[learned_from].X)
    of_control = explained_variance(wanted, control.predict(codes(held_out)))
    assert transcoder.score(held_out, wanted) > of_control + 0.1 > 0.1
    assert transcoder.transform(held_out).nnz / len(held_out) == pytest.approx(n_codes, rel=0.3)
