"""Crosscoder: planted factors of several sites, and which of them are of one site alone."""

import numpy as np
import pytest
from scipy.optimize import linear_sum_assignment

from skfactors import Crosscoder, FactorModel, SparseAutoencoder, TransformerFeatureExtractor

WIDTH, N_SHARED, N_OWN = 24, 24, 12
N_FACTORS = N_SHARED + 2 * N_OWN
# Which site each planted factor is of; -1 for both.
SITE_OF = np.repeat([-1, 0, 1], [N_SHARED, N_OWN, N_OWN])


def unit(rows):
    return rows / np.linalg.norm(rows, axis=-1, keepdims=True)


def planted(n_rows, seed, alike=True):
    """Rows of two sites, side by side, the second three times as large; and their factors."""
    rng = np.random.default_rng(0)
    factors = unit(rng.standard_normal((2, N_FACTORS, WIDTH)))
    if alike:
        factors[1] = unit(factors[0] + 0.05 * rng.standard_normal((N_FACTORS, WIDTH)))
    factors[1, SITE_OF == 0] = factors[0, SITE_OF == 1] = 0
    rng = np.random.default_rng(seed)
    codes = (rng.random((n_rows, N_FACTORS)) < 0.06) * rng.exponential(1, (n_rows, N_FACTORS))
    X = 5 * codes @ np.hstack([factors[0], 3 * factors[1]]) + 0.1 * rng.standard_normal((n_rows, 2 * WIDTH)) + 1
    return X.astype(np.float32), factors


def plain(**parameters):
    defaults = {"n_components": N_FACTORS, "n_sites": 2, "n_nonzero_coefs": 4, "batch_size": 256, "random_state": 0}
    return Crosscoder(**defaults | {"device": "cpu"} | parameters)


@pytest.fixture(scope="module")
def fitted():
    return plain().fit(planted(8000, 1)[0])


def told_apart(model, factors):
    """Return the site that each planted factor is said to be of, and the mean cosine of the match."""
    scaled = np.hstack([factors[0], 3 * factors[1]])
    cosines = unit(scaled) @ unit(model.components_).T
    place, found = linear_sum_assignment(-cosines)
    specificity = model.specificity_[:, found]
    return np.where(specificity.max(0) > 0.5, specificity.argmax(0), -1), cosines[place, found].mean()


@pytest.mark.parametrize("alike", [True, False], ids=["two models", "two layers"])
def test_planted_factors_are_told_apart(alike):
    X, factors = planted(8000, 1, alike)
    site, cosine = told_apart(plain().fit(X), factors)
    assert (site == SITE_OF).mean() >= 0.9
    assert cosine > 0.85


def test_sites_count_alike_however_large_their_rows_are(fitted):
    X, _ = planted(4000, 2)
    parts = [(rows, fitted.reconstruct(X)[:, at]) for at in (slice(WIDTH), slice(WIDTH, None)) for rows in [X[:, at]]]
    shares = [1 - ((rows - again) ** 2).sum() / ((rows - rows.mean(0)) ** 2).sum() for rows, again in parts]
    assert min(shares) > 0.97


def test_components_have_a_place_and_a_length_in_each_site(fitted):
    by_site = fitted.components_by_site_
    assert by_site.shape == (2, N_FACTORS, WIDTH)
    np.testing.assert_array_equal(np.hstack(by_site), fitted.components_)
    np.testing.assert_allclose(fitted.site_norms_, np.linalg.norm(by_site, axis=2))
    assert fitted.specificity_.shape == (2, N_FACTORS)


def test_latent_scaling_finds_a_factor_that_a_component_of_zeros_hides():
    X, factors = planted(8000, 1)
    model = plain().fit(X)
    table = model.latent_scaling(X)
    shared = table.loc[(table.relative_norm > 0.8) & (table.site != table.own_site)].iloc[0]
    # The component of the other site is taken away, and what it stood for is in that site's error.
    start = int(shared.site) * WIDTH
    model.components_[int(shared.factor), start : start + WIDTH] = 0
    after = model.latent_scaling(X)
    hidden = after.loc[(after.factor == shared.factor) & (after.site == shared.site)].iloc[0]
    assert hidden.relative_norm == 0 and hidden.nu_error > 0.8
    assert after.loc[after.factor == shared.factor, "specificity"].max() < 0.2


def test_latent_scaling_finds_a_factor_that_two_factors_share():
    # One concept in both sites, for which the crosscoder has a factor in each.
    rng = np.random.default_rng(0)
    codes = (rng.random((4000, 3)) < 0.2) * rng.exponential(1, (4000, 3))
    concept, first, second = np.eye(8)[:3]
    X = codes @ np.stack([np.tile(concept, 2), np.r_[first, 0 * first], np.r_[0 * second, second]])
    components = np.stack([np.r_[concept, np.zeros(8)], np.r_[np.zeros(8), concept], np.r_[first, np.zeros(8)]])
    model = Crosscoder._from_arrays(components, components, activation="relu", n_sites=2)
    table = model.latent_scaling(X)
    specificity = table.groupby("factor")["specificity"].max()
    assert specificity[0] < 0.1 and specificity[1] < 0.1 and specificity[2] > 0.9
    elsewhere = table[table.site != table.own_site].set_index("factor")
    assert elsewhere.relative_norm.max() == 0 and elsewhere.nu_reconstruction[0] > 0.9


def test_latent_scaling_is_least_squares_row_by_row(fitted):
    X, _ = planted(1000, 3)
    codes, table = fitted.transform(X).toarray().astype(np.float64), fitted.latent_scaling(X)
    scale = np.concatenate(
        [
            np.full(WIDTH, 1 / np.sqrt(((rows - rows.mean(0)) ** 2).mean()))
            for rows in np.split(X.astype(float), 2, axis=1)
        ]
    )
    decoded = codes @ (fitted.components_ * scale)
    error = (X - fitted.intercept_) * scale - decoded
    decoded = decoded - decoded.mean(0)
    for factor in (0, 7, 30):
        of_factor = (fitted.components_[factor] * scale).reshape(2, WIDTH)
        own = int(np.linalg.norm(of_factor, axis=1).argmax())
        beta = {}
        for site in (0, 1):
            at = slice(site * WIDTH, (site + 1) * WIDTH)
            without = error[:, at] + np.outer(codes[:, factor], of_factor[site])
            design = np.outer(codes[:, factor], of_factor[own]).reshape(-1, 1)
            beta[site] = [
                np.linalg.lstsq(design, wanted.reshape(-1), rcond=None)[0][0] for wanted in (decoded[:, at], without)
            ]
        rows = table[(table.factor == factor) & (table.site != own)].iloc[0]
        expected = np.divide(beta[1 - own], beta[own])
        np.testing.assert_allclose([rows.nu_reconstruction, rows.nu_error], expected, atol=1e-5)


def test_a_crosscoder_of_one_site_is_an_autoencoder():
    X, _ = planted(3000, 1)
    parameters = {"n_nonzero_coefs": 4, "batch_size": 256, "random_state": 0, "device": "cpu", "max_iter": 2}
    one, other = Crosscoder(40, n_sites=1, **parameters).fit(X), SparseAutoencoder(40, **parameters).fit(X)
    np.testing.assert_allclose(one.components_, other.components_, atol=1e-5)
    np.testing.assert_allclose(one.encoder_, other.encoder_, atol=1e-5)


def test_a_saved_crosscoder_opens_and_goes_on(fitted, tmp_path):
    X, _ = planted(3000, 2)
    fitted.save(tmp_path)
    opened = FactorModel.load(tmp_path)
    assert type(opened) is Crosscoder and opened.fingerprint() == fitted.fingerprint()
    np.testing.assert_array_equal(opened.specificity_, fitted.specificity_)
    np.testing.assert_array_equal(opened.transform(X).toarray(), fitted.transform(X).toarray())
    assert opened.partial_fit(X).score(X) > 0.9


def test_sites_of_different_widths_are_refused():
    with pytest.raises(ValueError, match="n_sites=5 does not divide the 48 features"):
        plain(n_sites=5).fit(planted(100, 1)[0])


def test_rows_that_are_each_of_one_place_are_refused(tiny_models):
    acts = TransformerFeatureExtractor(tiny_models["gpt2"], layers=[0, 1], device="cpu").extract(
        ["the bank of the river"] * 9
    )
    for rows in (acts, acts.at(layer=0)):
        with pytest.raises(ValueError, match=r"each row of X is of one place.*side_by_side"):
            plain(n_components=4).fit(rows)
        with pytest.raises(ValueError, match="each row of X is of one place"):
            plain(n_components=4).partial_fit(rows)
    assert plain(n_components=4, n_sites=1).fit(acts).source_["places"] == [["hidden_states", 0], ["hidden_states", 1]]
