import numpy as np
import pandas as pd
import pytest
from scipy.optimize import linear_sum_assignment
from sklearn.base import clone
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler, normalize

from skfactors import SparseAutoencoder, SparseDictionary
from skfactors.evaluations import stability
from skfactors.metrics import factor_match


@pytest.fixture(scope="module")
def rows():
    """Rows of one factor each, of eight that are orthogonal: any good fit finds them."""
    random = np.random.default_rng(0)
    directions = np.linalg.qr(random.standard_normal((8, 8)))[0]
    return directions[random.integers(8, size=400)] * random.uniform(1, 2, (400, 1))


def figure(table, measure, scored="dictionary"):
    return table.set_index(["measure", "scored"]).loc[(measure, scored)]


def test_cosines_are_those_of_two_fits_matched(rows):
    dictionary = SparseDictionary(5, n_nonzero_coefs=1)
    table = stability(dictionary, rows, n_resamples=20, random_state=3)
    fits = [SparseDictionary(5, n_nonzero_coefs=1, random_state=seed).fit(rows).components_ for seed in (3, 4)]
    cosines = factor_match(*fits, return_matching=True)[3]
    assert figure(table, "cosine_seeds").value == pytest.approx(cosines.mean())
    assert figure(table, "above_0.9_seeds").value == pytest.approx(np.mean(cosines > 0.9))
    halves = [
        SparseDictionary(5, n_nonzero_coefs=1, random_state=seed).fit(of).components_
        for seed, of in zip((3, 4), np.split(rows, 2), strict=True)
    ]
    assert figure(table, "cosine_halves").value == pytest.approx(factor_match(*halves))


def test_factors_that_are_there_come_back_and_random_ones_do_not(rows):
    table = stability(SparseDictionary(8, n_nonzero_coefs=1, max_iter=5), rows, n_resamples=100)
    assert figure(table, "cosine_seeds").low > figure(table, "cosine_seeds", "random factors").high
    assert figure(table, "above_0.9_seeds", "random factors").value < 0.5


def test_what_a_fit_of_noise_begins_with_is_no_stability():
    noise = np.random.default_rng(0).standard_normal((400, 16)).astype(np.float32)
    barely = SparseAutoencoder(24, dict_init="random", n_nonzero_coefs=4, max_iter=1)
    table = stability(barely, noise, n_resamples=10)
    assert figure(table, "cosine_halves").value < figure(table, "cosine_seeds").value + 0.1


def test_of_signed_codes_a_factor_and_its_opposite_are_one():
    random = np.random.default_rng(0)
    directions = np.linalg.qr(random.standard_normal((12, 12)))[0]
    codes = random.standard_normal((2000, 12)) * (random.random((2000, 12)) < 0.15)
    signed = SparseDictionary(12, n_nonzero_coefs=2, positive_code=False, max_iter=5)
    table = stability(signed, codes @ directions, n_resamples=10)
    fits = [clone(signed).set_params(random_state=seed).fit(codes @ directions).components_ for seed in (0, 1)]
    both = np.abs(normalize(fits[0]) @ normalize(fits[1]).T)
    assert figure(table, "cosine_seeds").value == pytest.approx(both[linear_sum_assignment(-both)].mean(), abs=1e-5)
    assert figure(table, "cosine_seeds").value > factor_match(*fits) + 0.1


def test_a_pipeline_is_learned_again_with_the_seeds_of_its_steps(rows):
    dictionary = SparseDictionary(5, n_nonzero_coefs=1)
    of_pipeline = stability(make_pipeline(StandardScaler(with_mean=False, with_std=False), dictionary), rows)
    pd.testing.assert_frame_equal(of_pipeline, stability(dictionary, rows))


def test_weights_are_those_of_both_fits(rows):
    weights = np.linspace(0.5, 1.5, len(rows))
    table = stability(SparseDictionary(5, n_nonzero_coefs=1), rows, sample_weight=weights, n_resamples=20)
    fits = [
        SparseDictionary(5, n_nonzero_coefs=1, random_state=seed).fit(rows, sample_weight=weights) for seed in (0, 1)
    ]
    expected = factor_match(*(fit.components_ for fit in fits))
    assert figure(table, "cosine_seeds").value == pytest.approx(expected)


def test_components_that_are_given_to_begin_with_are_refused(rows):
    begun = SparseDictionary(5, n_nonzero_coefs=1, dict_init=np.eye(5, 8))
    for dictionary in (begun, make_pipeline(StandardScaler(), begun)):
        with pytest.raises(ValueError, match="dict_init has components to begin with, which would come back"):
            stability(dictionary, rows)


def test_no_checkpoint_is_left(rows, tmp_path):
    stability(SparseDictionary(5, n_nonzero_coefs=1, checkpoint_dir=tmp_path), rows, n_resamples=5)
    assert not list(tmp_path.iterdir())


def test_the_dictionary_that_is_given_stays_as_it_was(rows):
    dictionary = SparseDictionary(4, n_nonzero_coefs=1, random_state=7).fit(rows)
    before = dictionary.fingerprint()
    stability(dictionary, rows, n_resamples=5)
    assert dictionary.fingerprint() == before


def test_too_few_rows_are_refused(rows):
    with pytest.raises(ValueError, match="n_components=5 is more than the 4 rows of X: give more rows"):
        stability(SparseDictionary(5), rows[:8])


def test_a_dictionary_without_seeds_is_refused(rows):
    with pytest.raises(ValueError, match="has no random_state: there is no other seed"):
        stability(StandardScaler(), rows)
