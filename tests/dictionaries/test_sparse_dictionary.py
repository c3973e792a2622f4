"""SparseDictionary as a user meets it: learning, coding, weights, streams, files, errors."""

import json
import pickle

import numpy as np
import pytest
import scipy.sparse
import torch
from sklearn.base import clone
from sklearn.decomposition import MiniBatchDictionaryLearning, sparse_encode
from sklearn.exceptions import ConvergenceWarning, NotFittedError
from sklearn.model_selection import GridSearchCV

from skfactors import SparseDictionary
from skfactors.dictionaries import SOLVERS, UPDATES
from skfactors.learning.batches import merge_repeats


@pytest.fixture(scope="module")
def X():
    """Sparse non-negative sums of known factors, with a little noise."""
    rng = np.random.default_rng(0)
    factors = rng.standard_normal((20, 15))
    factors /= np.linalg.norm(factors, axis=1, keepdims=True)
    codes = rng.random((600, 20)) * (rng.random((600, 20)) < 0.12) * 3
    return codes @ factors + 0.01 * rng.standard_normal((600, 15))


@pytest.fixture(scope="module")
def fitted(X):
    return SparseDictionary(20, alpha=0.1, max_iter=5, batch_size=128, random_state=0).fit(X)


def test_factors_of_synthetic_rows_are_found_again():
    rng = np.random.default_rng(0)
    factors = rng.standard_normal((20, 30))
    factors /= np.linalg.norm(factors, axis=1, keepdims=True)
    X = (rng.random((4000, 20)) * (rng.random((4000, 20)) < 0.1)) @ factors * 3
    dictionary = SparseDictionary(30, alpha=0.1, max_iter=10, batch_size=256, random_state=0).fit(X)
    best = (dictionary.components_ @ factors.T).max(axis=0)
    assert (best > 0.95).all()


@pytest.mark.parametrize("update", ["block", "hessian"])
def test_learning_lowers_the_objective_and_keeps_components_in_the_unit_ball(X, update):
    dictionary = SparseDictionary(20, alpha=0.1, update=update, max_iter=8, batch_size=100, random_state=0).fit(X)
    history = dictionary.history_
    assert np.mean([step["objective"] for step in history[-6:]]) < 0.9 * history[0]["objective"]
    assert np.linalg.norm(dictionary.components_, axis=1).max() <= 1 + 1e-5
    assert dictionary.n_steps_ == len(history) == 8 * 6
    assert dictionary.n_iter_ == 8


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_held_out_objective_on_real_activations_is_no_worse_than_scikit_learns(demo_rows):
    train, held_out, alpha = demo_rows[:2000], demo_rows[2000:2400], 1.0
    peer = MiniBatchDictionaryLearning(
        64, alpha=alpha, max_iter=2, batch_size=256, fit_algorithm="cd", positive_code=True, random_state=0
    )
    peer.fit(train)
    ours = SparseDictionary(64, alpha=alpha, max_iter=2, batch_size=256, random_state=0).fit(train)

    def held_out_objective(components):
        codes = sparse_encode(held_out, components, algorithm="lasso_cd", alpha=alpha, positive=True, max_iter=5000)
        residual = held_out - codes @ components
        return (np.square(residual).sum(1) / 2 + alpha * codes.sum(1)).mean()

    assert held_out_objective(ours.components_) <= held_out_objective(peer.components_)


def test_codes_are_sorted_csr_of_the_estimators_dtype(X, fitted):
    codes = fitted.transform(X)
    assert isinstance(codes, scipy.sparse.csr_array)
    assert codes.has_sorted_indices
    assert codes.dtype == np.float32
    assert (codes.data > 0).all()
    dense = clone(fitted).set_params(sparse_output=False, dtype="float64").fit(X).transform(X)
    assert isinstance(dense, np.ndarray)
    assert dense.dtype == np.float64


def test_codes_close_the_gap_that_duality_gap_measures(X, fitted):
    assert fitted.duality_gap(X, fitted.transform(X)).max() <= fitted.tol
    assert fitted.duality_gap(X, fitted.transform(X) * 1.5).mean() > 0.01


def test_reconstruction_and_score_are_what_they_say(X, fitted):
    codes = fitted.transform(X)
    reconstruction = fitted.inverse_transform(codes)
    np.testing.assert_allclose(reconstruction, codes.toarray() @ fitted.components_, atol=1e-6)
    np.testing.assert_allclose(reconstruction, fitted.inverse_transform(codes.toarray()), atol=1e-6)
    residual, deviation = X - reconstruction, X - X.mean(axis=0)
    assert fitted.score(X) == pytest.approx(1 - (residual**2).sum() / (deviation**2).sum())


def test_signed_codes_explain_more(X):
    signed = SparseDictionary(20, alpha=0.1, positive_code=False, random_state=0).fit(X)
    assert signed.transform(X).data.min() < 0
    positive = SparseDictionary(20, alpha=0.1, random_state=0).fit(X)
    assert signed.score(X) > positive.score(X)


def test_rows_are_shuffled_by_random_state_alone(X):
    options = {"n_components": 10, "alpha": 0.1, "batch_size": 100}
    torch_state, numpy_state, threads = torch.get_rng_state(), np.random.get_state()[1].copy(), torch.get_num_threads()
    first = SparseDictionary(**options, random_state=3).fit(X).components_
    np.testing.assert_array_equal(first, SparseDictionary(**options, random_state=3).fit(X).components_)
    assert not np.allclose(first, SparseDictionary(**options, random_state=4).fit(X).components_)
    assert torch.equal(torch_state, torch.get_rng_state())
    assert (numpy_state == np.random.get_state()[1]).all()
    assert threads == torch.get_num_threads()


def test_a_weight_of_zero_is_no_row_and_weights_pull_the_factors(X):
    options = {"n_components": 5, "alpha": 0.5, "random_state": 0, "max_iter": 5}
    weight = np.r_[np.ones(300), np.zeros(300)]
    masked = SparseDictionary(**options).fit(X, sample_weight=weight)
    np.testing.assert_array_equal(masked.components_, SparseDictionary(**options).fit(X[:300]).components_)
    pulled = SparseDictionary(**options).fit(X, sample_weight=np.where(weight, 100, 1))
    even = SparseDictionary(**options).fit(X)
    assert pulled.score(X[:300]) > even.score(X[:300])


def test_equal_rows_are_merged_with_their_weights():
    rows = np.array([[1.0, 2.0], [0.0, 5.0], [1.0, 2.0], [0.0, 5.0], [3.0, 3.0]])
    merged, weight = merge_repeats(rows, np.array([1.0, 2.0, 3.0, 4.0, 5.0]))
    assert sorted(zip(merged.tolist(), weight, strict=True)) == [
        ([0.0, 5.0], 6.0),
        ([1.0, 2.0], 4.0),
        ([3.0, 3.0], 5.0),
    ]


@pytest.mark.parametrize("n_features", [1, 2, 5])
def test_merged_rows_come_in_the_order_of_their_bytes_also_where_many_begin_alike(n_features):
    rng = np.random.default_rng(0)
    rows = np.concatenate([rng.standard_normal((50, n_features)), rng.integers(3, size=(200, n_features))])
    rows = rng.permutation(rows).astype(np.float32)
    weight = rng.random(len(rows))
    merged, merged_weight = merge_repeats(rows, weight)
    expected = {}
    for row, of_row in zip(rows, weight, strict=True):
        expected[row.tobytes()] = expected.get(row.tobytes(), 0) + of_row
    assert [row.tobytes() for row in merged] == sorted(expected)
    np.testing.assert_array_equal(merged_weight, [expected[row] for row in sorted(expected)])


def test_factors_that_never_fire_are_pointed_at_what_is_reconstructed_worst(X):
    start = np.r_[np.eye(15)[:2], -100 * np.ones((3, 15))]
    start[2:] /= -1e6  # too short to correlate with anything
    dictionary = SparseDictionary(5, alpha=0.5, dict_init=start, batch_size=200, random_state=0).fit(X)
    assert dictionary.history_[0]["n_reseeded"] == 3
    assert (np.linalg.norm(dictionary.components_, axis=1) > 0.9).all()
    assert (dictionary.transform(X) != 0).sum(axis=0).min() > 0


def test_partial_fit_learns_from_a_stream_and_continues_after_load(X, tmp_path):
    options = {"n_components": 20, "alpha": 0.1, "batch_size": 100, "random_state": 0}
    stream = SparseDictionary(**options)
    for _ in range(4):
        for start in range(0, 600, 200):
            stream.partial_fit(X[start : start + 200])
    assert stream.n_steps_ == 4 * 6
    assert stream.score(X) > SparseDictionary(**options, max_iter=1).fit(X).score(X)

    stopped = SparseDictionary(**options).partial_fit(X[:300])
    stopped.save(tmp_path)
    loaded = SparseDictionary.load(tmp_path)
    loaded.random_state = stopped.random_state
    assert loaded.partial_fit(X[300:400]).n_steps_ == 4
    np.testing.assert_allclose(loaded.components_, stopped.partial_fit(X[300:400]).components_, atol=1e-6)


def test_warm_start_goes_on_where_fit_stopped(X):
    once = SparseDictionary(20, alpha=0.1, max_iter=2, batch_size=100, random_state=0, warm_start=True).fit(X)
    steps, objective = once.n_steps_, once.history_[-1]["objective"]
    once.fit(X)
    assert once.n_steps_ == 2 * steps == len(once.history_)
    assert once.history_[-1]["objective"] < objective
    again = SparseDictionary(20, alpha=0.1, max_iter=2, batch_size=100, random_state=0).fit(X)
    assert again.fit(X).n_steps_ == steps


def test_a_memory_mapped_array_and_activations_are_read_like_arrays(X, tmp_path, demo_activations):
    path = tmp_path / "rows.npy"
    np.save(path, X.astype(np.float32))
    mapped = np.load(path, mmap_mode="r")
    options = {"n_components": 10, "alpha": 0.1, "random_state": 0}
    from_disk = SparseDictionary(**options).fit(mapped)
    np.testing.assert_array_equal(
        from_disk.components_, SparseDictionary(**options).fit(X.astype(np.float32)).components_
    )
    acts = demo_activations[:200]
    np.testing.assert_array_equal(
        SparseDictionary(**options).fit(acts).components_, SparseDictionary(**options).fit(acts.X).components_
    )


def test_tensors_of_half_precision_are_read(X):
    rows = torch.tensor(X, dtype=torch.bfloat16)
    codes = SparseDictionary(5, alpha=0.1, random_state=0).fit(rows).transform(rows)
    assert codes.shape == (600, 5)


def test_a_saved_dictionary_is_the_same_dictionary(X, fitted, tmp_path):
    fitted.save(tmp_path / "factors")
    loaded = SparseDictionary.load(tmp_path / "factors")
    assert sorted(path.name for path in (tmp_path / "factors").iterdir()) == ["config.json", "dictionary.safetensors"]
    assert loaded.get_params() == fitted.get_params()
    np.testing.assert_array_equal(loaded.components_, fitted.components_)
    assert (loaded.transform(X) != fitted.transform(X)).nnz == 0
    assert loaded.history_ == fitted.history_
    assert loaded.n_steps_ == fitted.n_steps_


def test_a_search_winner_with_numpy_parameters_and_feature_names_is_saved(X, tmp_path):
    import pandas as pd

    frame = pd.DataFrame(X, columns=[f"f{i}" for i in range(15)])
    dictionary = SparseDictionary(np.int64(5), alpha=np.float64(0.5), dict_init=np.eye(15)[:5]).fit(frame)
    dictionary.save(tmp_path)
    loaded = SparseDictionary.load(tmp_path)
    assert list(loaded.feature_names_in_) == list(frame.columns)
    np.testing.assert_array_equal(loaded.dict_init, np.eye(15)[:5])


@pytest.mark.parametrize("damage", ["cut", "flip", "config", "version"])
def test_a_damaged_folder_is_refused_by_name(fitted, tmp_path, damage):
    fitted.save(tmp_path)
    tensors, config = tmp_path / "dictionary.safetensors", tmp_path / "config.json"
    if damage == "cut":
        tensors.write_bytes(tensors.read_bytes()[:-8])
    elif damage == "flip":
        content = bytearray(tensors.read_bytes())
        content[-5] ^= 1
        tensors.write_bytes(content)
    elif damage == "config":
        config.write_text(config.read_text()[:100])
    else:
        config.write_text(json.dumps(json.loads(config.read_text()) | {"format": 99}))
    with pytest.raises(ValueError, match="altered|damaged|format 99"):
        SparseDictionary.load(tmp_path)


def test_a_folder_without_a_dictionary_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"config\.json"):
        SparseDictionary.load(tmp_path)


def test_pickled_and_cloned_dictionaries_work(X, fitted):
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(fitted)).components_, fitted.components_)
    assert not hasattr(clone(fitted), "components_")


def test_open_rows_are_counted_in_a_warning(X, fitted):
    hurried = pickle.loads(pickle.dumps(fitted)).set_params(max_solver_iter=1)
    with pytest.warns(ConvergenceWarning, match=r"codes of \d+ of 600 rows"):
        hurried.transform(X)
    with pytest.warns(ConvergenceWarning, match="of 600 rows"):
        SparseDictionary(20, alpha=0.01, max_solver_iter=1, random_state=0).fit(X)


def test_bad_rows_are_named_with_their_number(X, fitted):
    bad = X.copy()
    bad[[3, 8], 2] = np.nan, np.inf
    bad[8, 4] = -np.inf
    with pytest.raises(ValueError, match="3 values in 2 rows, first row 3"):
        fitted.transform(bad)
    with pytest.raises(ValueError, match="15 features"):
        fitted.transform(X[:, :4])
    with pytest.raises(ValueError, match="n_components=601 is more than the 600 rows"):
        SparseDictionary(601).fit(X)
    with pytest.raises(ValueError, match=r"dict_init has shape \(2, 3\)"):
        SparseDictionary(2, dict_init=np.ones((2, 3))).fit(X)
    with pytest.raises(ValueError, match=r"codes of shape \(600, 3\)"):
        fitted.inverse_transform(np.ones((600, 3)))
    with pytest.raises(ValueError, match="600 rows and codes 5"):
        fitted.duality_gap(X, np.ones((5, 20)))
    with pytest.raises(ValueError, match="(?i)sample.weight.*zero"):
        SparseDictionary(5).fit(X, sample_weight=np.zeros(600))
    with pytest.raises(ValueError, match="negative"):
        fitted.duality_gap(X, -fitted.transform(X))
    with pytest.raises(NotFittedError):
        SparseDictionary().save("nowhere")


def test_pandas_output_carries_index_and_names(X):
    import pandas as pd

    frame = pd.DataFrame(X, index=[f"row {i}" for i in range(len(X))])
    frame.columns = frame.columns.astype(str)
    dictionary = SparseDictionary(5, alpha=0.1, sparse_output=False).set_output(transform="pandas")
    codes = dictionary.fit_transform(frame)
    assert list(codes.index) == list(frame.index)
    assert list(codes.columns) == [f"sparsedictionary{i}" for i in range(5)]


def test_sparsity_is_searched_with_the_estimators_own_score(X):
    search = GridSearchCV(SparseDictionary(10, random_state=0), {"alpha": [0.05, 5.0]}, cv=2, error_score="raise").fit(
        X
    )
    assert search.best_params_ == {"alpha": 0.05}


def test_verbose_shows_progress_with_the_figures_that_matter(X, capsys):
    SparseDictionary(5, alpha=0.1, verbose=True, random_state=0).fit(X)
    shown = capsys.readouterr().out
    assert "learning factors" in shown
    assert "explained" in shown
    SparseDictionary(5, alpha=0.1, random_state=0).fit(X)
    assert capsys.readouterr().out == ""


def test_early_stopping_ends_with_the_epoch_that_gains_less_than_a_thousandth(X):
    settings = {"alpha": 0.1, "batch_size": 64, "random_state": 0}
    dictionary = SparseDictionary(20, max_iter=200, early_stopping=True, **settings).fit(X)
    reached = [step["validation_objective"] for step in dictionary.history_ if "validation_objective" in step]
    assert len(reached) == dictionary.n_iter_ < 200
    gains = 1 - np.array(reached[1:]) / reached[:-1]
    assert (gains[:-1] >= 1e-3).all()
    assert gains[-1] < 1e-3


def test_early_stopping_learns_from_none_of_the_rows_held_out(X):
    dictionary = SparseDictionary(
        20, alpha=0.1, max_iter=1, early_stopping=True, validation_fraction=0.25, random_state=0
    ).fit(X)
    assert sum(step["n_rows"] for step in dictionary.history_) == 0.75 * len(X)


def test_early_stopping_with_a_single_row_is_refused():
    with pytest.raises(ValueError, match="give more rows"):
        SparseDictionary(early_stopping=True).fit(np.ones((1, 3)))


def test_a_dictionary_too_large_for_a_square_array_is_learned_without_one(X, monkeypatch):
    monkeypatch.setattr("skfactors.devices.free_memory", lambda device: 1000)
    # Both of these keep such an array.
    monkeypatch.delitem(SOLVERS, "active_set")
    monkeypatch.delitem(UPDATES, "block")
    dictionary = SparseDictionary(40, alpha=0.1, max_iter=5, random_state=0).fit(X)
    assert dictionary.duality_gap(X, dictionary.transform(X)).max() <= 1e-4
    assert dictionary.history_[-1]["objective"] < dictionary.history_[0]["objective"]


def root_mean_square_length(X, weight=None):
    return np.sqrt(np.average((np.asarray(X, np.float64) ** 2).sum(1), weights=weight))


@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e4])
def test_by_default_the_penalty_is_a_tenth_of_the_usual_length_of_rows(X, scale):
    dictionary = SparseDictionary(16, max_iter=1, random_state=0).fit(scale * X)
    assert dictionary.alpha == "auto"
    assert dictionary.alpha_ == pytest.approx(root_mean_square_length(scale * X) / 10)
    by_hand = SparseDictionary(16, alpha=dictionary.alpha_, max_iter=1, random_state=0).fit(scale * X)
    np.testing.assert_array_equal(dictionary.components_, by_hand.components_)
    np.testing.assert_array_equal(dictionary.transform(X).toarray(), by_hand.transform(X).toarray())
    assert dictionary.duality_gap(scale * X, dictionary.transform(scale * X)).max() <= 1e-4


def test_the_penalty_that_is_found_counts_weights(X):
    weight = np.random.default_rng(0).integers(0, 3, len(X)).astype(float)
    weighted = SparseDictionary(8, max_iter=1, random_state=0).fit(X, sample_weight=weight)
    repeated = SparseDictionary(8, max_iter=1, random_state=0).fit(np.repeat(X, weight.astype(int), axis=0))
    assert weighted.alpha_ == repeated.alpha_ == pytest.approx(root_mean_square_length(X, weight) / 10)


def test_the_penalty_that_is_found_stays_while_learning_goes_on_and_is_saved(X, tmp_path):
    dictionary = SparseDictionary(8, random_state=0).partial_fit(X)
    found = dictionary.alpha_
    dictionary.partial_fit(5 * X)
    assert dictionary.alpha_ == found
    dictionary.save(tmp_path / "saved")
    opened = SparseDictionary.load(tmp_path / "saved")
    assert (opened.alpha, opened.alpha_) == ("auto", found)
    np.testing.assert_array_equal(opened.transform(X).toarray(), dictionary.transform(X).toarray())


def test_a_penalty_that_is_set_after_fitting_is_the_one_of_codes(X):
    dictionary = SparseDictionary(16, max_iter=1, random_state=0).fit(X)
    fingerprint = dictionary.fingerprint()
    other = clone(dictionary).fit(2 * X)
    assert other.fingerprint() != fingerprint
    dense = dictionary.transform(X).nnz
    assert dictionary.set_params(alpha=3 * dictionary.alpha_).transform(X).nnz < dense


def test_rows_of_zeros_have_a_penalty_of_one():
    assert SparseDictionary(2, max_iter=1, random_state=0).fit(np.zeros((4, 3))).alpha_ == 1.0
