"""A checkpoint is taken up by the same fit and by no other, whatever types its arguments have."""

from functools import partial

import numpy as np
import pandas as pd
import pytest
import torch

from skfactors import SparseDictionary
from skfactors.fingerprints import fingerprint

X = np.random.default_rng(0).random((200, 6))
STARTS = [np.random.default_rng(seed).standard_normal((5, 6)) for seed in (1, 2)]


def fitted(folder, start):
    return SparseDictionary(5, alpha=0.1, max_iter=1, random_state=0, dict_init=start, checkpoint_dir=folder).fit(X)


@pytest.mark.parametrize("as_type", [np.asarray, pd.DataFrame, torch.tensor, lambda start: start.tolist()])
def test_a_fit_from_other_components_is_another_fit(as_type, tmp_path):
    one, other = (fitted(tmp_path, as_type(start)) for start in STARTS)
    alone = fitted(None, as_type(STARTS[1]))
    np.testing.assert_array_equal(other.components_, alone.components_)
    assert np.abs(one.components_ - other.components_).max() > 1e-3


def test_what_cannot_be_told_apart_is_refused():
    with pytest.raises(TypeError, match="object"):
        fingerprint([object()])


def scaled_by(factor):
    return lambda x: x * factor


@pytest.mark.parametrize(
    "one, other",
    [
        (np.arange(3), np.arange(3.0)),
        (np.zeros((2, 3)), np.zeros((3, 2))),
        ([1, [2]], [[1], 2]),
        ("1", 1),
        (True, 1),
        (None, "None"),
        ({"a": 1}, {"a": 2}),
        (np.random.RandomState(0), np.random.RandomState(1)),
        (pd.Series(["a", "b"]), pd.Series(["b", "a"])),
        (lambda x: x * 1.0, lambda x: x * 0.2),
        (scaled_by(1), scaled_by(2)),
        (partial(np.multiply, 2), partial(np.multiply, 3)),
        (torch.zeros(3, dtype=torch.bfloat16), torch.ones(3, dtype=torch.bfloat16)),
    ],
)
def test_different_content_has_different_fingerprints(one, other):
    assert fingerprint(one) != fingerprint(other)


def test_equal_content_has_one_fingerprint_whatever_its_layout():
    array = np.arange(6.0).reshape(2, 3)
    assert fingerprint(array) == fingerprint(np.asfortranarray(array)) == fingerprint(torch.tensor(array))
    assert fingerprint(array) == fingerprint(array.astype(">f8"))
    assert fingerprint({"a": 1, "b": 2}) == fingerprint({"b": 2.0, "a": np.int64(1)})
    assert fingerprint(scaled_by(2)) == fingerprint(scaled_by(2))
