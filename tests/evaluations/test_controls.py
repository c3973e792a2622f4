import numpy as np
import pytest

from skfactors import SparseAutoencoder, SparseDictionary
from skfactors.evaluations import CONTROLS, frozen_control, ground_truth, make_superposition, random_control
from skfactors.evaluations.controls import make_controls
from skfactors.metrics import l0


@pytest.fixture(scope="module")
def truth():
    return make_superposition(48, 16, n_roots=2, depth=1, rank=2)


@pytest.fixture(scope="module")
def rows(truth):
    return truth.sample(3000)[0]


@pytest.fixture(scope="module")
def dictionary(rows):
    return SparseDictionary(24, n_nonzero_coefs=4, max_iter=3, random_state=0).fit(rows)


def test_components_of_a_frozen_decoder_stay_where_they_began(dictionary, rows):
    shorter = SparseDictionary(24, n_nonzero_coefs=4, max_iter=1, random_state=0).fit(rows)
    first, last = frozen_control(shorter, rows), frozen_control(dictionary, rows)
    np.testing.assert_allclose(first.components_, last.components_, atol=1e-6)
    assert abs(first.encoder_ - last.encoder_).max() > 0.01


def test_an_encoder_is_learned_for_a_frozen_decoder(dictionary, rows, truth):
    control, elsewhere = frozen_control(dictionary, rows), truth.sample(1000, first_row=2**30)[0]
    by_chance = SparseAutoencoder(24, n_nonzero_coefs=4, dict_init="random", max_iter=1, random_state=0).fit(rows[:64])
    assert control.score(elsewhere) > by_chance.score(elsewhere)
    assert control.score(elsewhere) < dictionary.score(elsewhere)


def test_a_frozen_decoder_is_learned_as_long_and_codes_as_many_factors(dictionary, rows):
    control = frozen_control(dictionary, rows)
    assert control.n_iter_ == dictionary.n_iter_ == 3
    assert l0(control.transform(rows)) == pytest.approx(l0(dictionary.transform(rows)), abs=0.5)


def test_a_frozen_decoder_takes_the_parameters_of_an_autoencoder(rows):
    autoencoder = SparseAutoencoder(24, activation="topk", n_nonzero_coefs=3, max_iter=2, random_state=0).fit(rows)
    control = frozen_control(autoencoder, rows, random_state=5)
    assert control.activation == "topk" and control.n_iter_ == 2
    assert (np.diff(control.transform(rows).indptr) <= 3).all()


def test_a_frozen_decoder_is_not_learned_from_rows_that_are_scored(dictionary, truth):
    with pytest.raises(ValueError, match="'frozen decoder' is learned, from other rows than are scored"):
        ground_truth(dictionary, truth, n_rows=100, controls=["frozen decoder"])


def test_fitted_dictionaries_can_be_controls_under_names_of_ones_own(dictionary, rows, truth):
    controls = {"frozen decoder": frozen_control(dictionary, rows), "another": dictionary, "random factors": None}
    table = ground_truth(dictionary, truth, n_rows=500, controls=controls, n_resamples=50)
    figures = table[table["measure"] == "explained_variance"].set_index("scored")["value"]
    assert figures["another"] == figures["dictionary"] > figures["frozen decoder"]
    assert "another" in table["inside"][0]


def test_random_factors_have_the_lengths_and_the_number_of_the_dictionary(dictionary, rows):
    control = make_controls(dictionary, rows, ["random factors"], 3)["random factors"]
    np.testing.assert_array_equal(
        control.transform(rows).toarray(), random_control(dictionary, rows, random_state=3).transform(rows).toarray()
    )


def test_an_unknown_control_is_refused(dictionary, rows):
    with pytest.raises(ValueError, match="There is no control 'luck'; there are 'random factors'"):
        make_controls(dictionary, rows, ["luck"], 0)
    assert "frozen decoder" in CONTROLS
