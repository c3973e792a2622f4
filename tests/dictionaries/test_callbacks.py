"""Callbacks of scikit-learn see epochs and minibatches, and may end a fit."""

import numpy as np
import pytest
from sklearn.base import clone

from skfactors import SparseDictionary

pytest.importorskip("sklearn.callback", reason="this version of scikit-learn has no callbacks")


class Listener:
    """Note the names of tasks as they end, and stop after so many minibatches."""

    def __init__(self, stop_after=None):
        self.stop_after = stop_after
        self.ended = []

    def setup(self, estimator, context):
        pass

    def teardown(self, estimator, context):
        self.ended.append("teardown")

    def on_fit_task_begin(self, estimator, context):
        pass

    def on_fit_task_end(self, estimator, context):
        self.ended.append(context.task_name)
        return self.stop_after is not None and self.ended.count("minibatch") >= self.stop_after


@pytest.fixture
def X():
    return np.random.default_rng(0).random((300, 6))


def dictionary():
    return SparseDictionary(8, alpha=0.1, batch_size=100, max_iter=3, random_state=0, device="cpu")


def test_each_epoch_and_minibatch_is_told(X):
    listener = Listener()
    dictionary().set_callbacks(listener).fit(X)
    assert listener.ended == [*(["minibatch"] * 3 + ["epoch"]) * 3, "fit", "teardown"]


def test_a_callback_may_end_the_fit(X):
    listener = Listener(stop_after=4)
    stopped = dictionary().set_callbacks(listener).fit(X)
    assert stopped.n_steps_ == 4 and stopped.n_iter_ == 2


def test_callbacks_change_nothing_and_go_with_clones(X):
    listener = Listener()
    twin = clone(dictionary().set_callbacks(listener))
    np.testing.assert_array_equal(twin.fit(X).components_, dictionary().fit(X).components_)
    assert listener.ended


def test_the_progress_bar_of_scikit_learn_shows_a_fit(X, capsys):
    from sklearn.callback import ProgressBar

    dictionary().set_callbacks(ProgressBar()).fit(X)
    assert "SparseDictionary" in capsys.readouterr().out


def test_a_callback_is_given_the_dictionary_as_it_is(X):
    class Scores(Listener):
        def on_fit_task_end(self, estimator, context, *, fitted_estimator):
            if context.task_name == "epoch":
                self.ended.append(fitted_estimator.score(X))

    listener = Scores()
    fitted = dictionary().set_callbacks(listener).fit(X)
    *scores, _ = listener.ended
    assert len(scores) == 3 and scores[-1] == pytest.approx(fitted.score(X), abs=1e-6)
    assert scores[0] != scores[-1]
