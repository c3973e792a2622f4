import numpy as np
import pytest
from sklearn.preprocessing import StandardScaler

from skfactors import SparseDictionary
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
    halves = [SparseDictionary(5, n_nonzero_coefs=1, random_state=3).fit(of).components_ for of in np.split(rows, 2)]
    assert figure(table, "cosine_halves").value == pytest.approx(factor_match(*halves))


def test_factors_that_are_there_come_back_and_random_ones_do_not(rows):
    table = stability(SparseDictionary(8, n_nonzero_coefs=1, max_iter=5), rows, n_resamples=100)
    assert figure(table, "cosine_seeds").low > figure(table, "cosine_seeds", "random factors").high
    assert figure(table, "above_0.9_seeds", "random factors").value < 0.5


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
