"""Folders that version 0.1.0 made before dictionaries had a common base still open."""

import shutil
from pathlib import Path

import numpy as np
import pytest

from skfactors import FactorModel, SparseDictionary

FOLDERS = Path(__file__).parent / "data" / "before_factor_model"


@pytest.fixture(scope="module")
def expected():
    return np.load(FOLDERS / "expected.npz")


def test_a_dictionary_opens(expected):
    dictionary = FactorModel.load(FOLDERS / "dictionary").set_params(device="cpu")
    np.testing.assert_array_equal(dictionary.components_, expected["components"])
    np.testing.assert_allclose(dictionary.transform(expected["X"]).toarray(), expected["codes"], atol=1e-3)
    assert dictionary.n_steps_ == len(dictionary.history_)


def test_a_fit_that_had_ended_returns_what_it_had_learned(expected, tmp_path, monkeypatch):
    shutil.copytree(FOLDERS / "checkpoints", tmp_path / "checkpoints")
    monkeypatch.setattr(
        "skfactors.dictionaries.sparse_coding.step.SparseCodingStep.learn_from",
        lambda *of: pytest.fail("the checkpoint was not taken up"),
    )
    settings = {"alpha": 0.5, "random_state": 0, "device": "cpu", "batch_size": 16, "checkpoint_every": 2}
    dictionary = SparseDictionary(6, checkpoint_dir=tmp_path / "checkpoints", **settings).fit(expected["X"])
    np.testing.assert_array_equal(dictionary.components_, expected["components"])
    assert dictionary.n_iter_ == 2 and dictionary.history_[0]["step"] == 1
