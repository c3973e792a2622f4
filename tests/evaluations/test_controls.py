import numpy as np
import pytest
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from support.other_tools import opened, reference

from skfactors import SparseAutoencoder, SparseDictionary, Transcoder
from skfactors.evaluations import frozen_control, ground_truth, make_superposition, random_control
from skfactors.evaluations.controls import make_controls
from skfactors.metrics import explained_variance, l0


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


def test_codes_of_controls_have_signs_where_those_of_the_dictionary_have():
    noise = np.random.default_rng(0).standard_normal((600, 16))
    for is_positive in (True, False):
        unlearned = SparseDictionary(32, n_nonzero_coefs=4, positive_code=is_positive, random_state=0).fit(noise)
        unlearned.components_ = np.random.default_rng(1).standard_normal((32, 16))
        unlearned.components_ /= np.linalg.norm(unlearned.components_, axis=1, keepdims=True)
        control = random_control(unlearned, noise)
        assert (control.transform(noise).data < 0).any() != is_positive
        # It has learned no more than the control.
        assert explained_variance(noise, control.inverse_transform(control.transform(noise))) == pytest.approx(
            explained_variance(noise, unlearned.reconstruct(noise)), abs=0.03
        )
        frozen = frozen_control(unlearned, noise)
        assert (frozen.transform(noise).data < 0).any() != is_positive


def test_a_frozen_decoder_begins_elsewhere_than_an_autoencoder_of_the_same_seed(rows):
    autoencoder = SparseAutoencoder(24, dict_init="random", n_nonzero_coefs=4, max_iter=1, random_state=0).fit(rows)
    frozen = frozen_control(autoencoder, rows, random_state=0)
    cosines = np.sum(autoencoder.components_ * frozen.components_, axis=1)
    assert np.abs(cosines).mean() < 0.5


def test_a_frozen_decoder_is_learned_as_long_as_the_last_step_of_a_pipeline(rows):
    pipeline = make_pipeline(StandardScaler(), SparseDictionary(24, n_nonzero_coefs=4, max_iter=3, random_state=0))
    assert frozen_control(pipeline.fit(rows), rows).max_iter == 3


def test_controls_start_from_the_mean_of_many_rows_far_from_zero():
    X = np.full((300_000, 2), 1000.3, dtype=np.float32)
    dictionary = SparseDictionary(2, n_nonzero_coefs=1, random_state=0).fit(X[:100])
    control = random_control(dictionary, X)
    np.testing.assert_allclose(control[0].mean_, 1000.3, rtol=1e-6)


def test_an_autoencoder_with_a_penalty_does_not_say_how_many_factors_a_row_has(rows):
    autoencoder = SparseAutoencoder(8, activation="relu", alpha=1.0, max_iter=1, random_state=0).fit(rows)
    with pytest.raises(ValueError, match="does not say how many factors a row has: pass rows"):
        random_control(autoencoder)


@pytest.mark.parametrize(
    ("controls", "error", "said"),
    [
        (["luck"], ValueError, "There is no control 'luck'; there are 'random factors'"),
        ("luck", ValueError, "There is no control 'luck'; there are 'random factors'"),
        ({"dictionary": "another"}, ValueError, "The name 'dictionary' is that of something else in a table"),
        ({"zeros": "another"}, ValueError, "The name 'zeros' is that of something else in a table"),
        ({4: "another"}, TypeError, "The name of a control must be a str, not 4"),
        ({"half \ud800": "another"}, ValueError, "has half a surrogate pair: it cannot be written"),
    ],
)
def test_names_that_are_none_of_controls_are_refused(dictionary, rows, controls, error, said):
    with pytest.raises(error, match=said):
        make_controls(dictionary, rows, controls, 0)


def test_a_control_can_be_named_by_itself(dictionary, rows):
    assert list(make_controls(dictionary, rows, "random factors", 0)) == ["random factors"]


@pytest.mark.parametrize("name", ["overcomplete/BatchTopKSAE", "saelens/trained-jumprelu", "saelens/gated-bdec1-none"])
def test_of_a_file_that_says_no_number_of_factors_it_is_that_of_the_codes(name):
    model, X = opened(name), np.repeat(reference(name)["x"].astype(np.float32), 20, axis=0)
    frozen = frozen_control(model, X)
    assert frozen.n_nonzero_coefs == round(l0(model.transform(X)))
    with pytest.raises(ValueError, match="does not say how many factors a row has: pass rows"):
        random_control(model)


@pytest.mark.parametrize("name", ["sparsify/transcode"])
def test_of_a_file_of_a_transcoder_an_encoder_is_learned_too(name):
    model, X = opened(name), np.repeat(reference(name)["x"].astype(np.float32), 20, axis=0)
    frozen = frozen_control(model, X)
    assert frozen.components_.shape == (len(model.components_), X.shape[1])


def test_a_transcoder_does_not_say_what_its_rows_are_like(rows):
    transcoder = Transcoder(8, n_nonzero_coefs=2, max_iter=1, random_state=0).fit(rows, rows + 50)
    with pytest.raises(ValueError, match="does not say what its rows are like: pass rows"):
        random_control(transcoder)
    np.testing.assert_allclose(random_control(transcoder, rows)[0].mean_, rows.mean(axis=0), rtol=1e-4)
