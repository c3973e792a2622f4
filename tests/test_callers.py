"""Warnings name the user's line, by whatever way the package was called."""

import warnings

import numpy as np
import pytest
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skfactors import SparseDictionary

X = np.random.default_rng(0).standard_normal((60, 8))


def open_rows(**parameters):
    """Return a dictionary whose solver stops long before its tolerance."""
    # A single step, and a tolerance that it cannot reach.
    return SparseDictionary(
        6, alpha=0.01, max_iter=1, max_solver_iter=1, tol=1e-6, solver="fista", random_state=0, device="cpu"
    ).set_params(**parameters)


def files_warned_of(call):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        call()
    files = {warning.filename for warning in caught if warning.category is ConvergenceWarning}
    assert files
    return files


@pytest.mark.parametrize(
    "call",
    [
        lambda: open_rows().fit(X),
        lambda: open_rows().fit_transform(X),
        lambda: open_rows().fit(X).transform(X),
        lambda: open_rows().fit(X).score(X),
        lambda: open_rows().partial_fit(X),
        lambda: open_rows(sparse_output=False).set_output(transform="pandas").fit(X).transform(X),
        lambda: make_pipeline(StandardScaler(), open_rows()).fit_transform(X),
        lambda: GridSearchCV(open_rows(), {"alpha": [0.1]}, cv=2).fit(X),
    ],
    ids=["fit", "fit_transform", "transform", "score", "partial_fit", "set_output", "pipeline", "search"],
)
def test_rows_left_open_are_warned_of_at_the_users_line(call):
    assert files_warned_of(call) == {__file__}


def test_a_random_state_that_is_not_saved_is_warned_of_at_the_users_line(tmp_path):
    dictionary = SparseDictionary(4, random_state=np.random.RandomState(0), device="cpu").fit(X)
    with pytest.warns(UserWarning, match="random_state is not an integer") as caught:
        dictionary.save(tmp_path)
    assert [warning.filename for warning in caught] == [__file__]
