"""The loop learns whatever has a step: here the mean of the rows, which has no penalty, no codes and no factors."""

import numpy as np
import pytest
from support.mean_step import X, run


def test_every_row_is_learned_from_once_an_epoch_by_its_weight():
    weight = np.random.default_rng(1).random(len(X))
    step, standing = run(weight)
    np.testing.assert_allclose(step.learned()["mean_"], np.average(X, axis=0, weights=weight))
    assert standing.n_epochs == 3 and len(standing.history) == 33
    assert sum(record["n_rows"] for record in standing.last_epoch) == len(X)


@pytest.mark.parametrize("stop_after", [1, 11, 12, 25])
def test_a_fit_that_was_stopped_goes_on_to_the_same_bits(stop_after, tmp_path):
    whole, standing = run()
    options = {"checkpoint_dir": tmp_path, "checkpoint_every": 1}
    with pytest.raises(KeyboardInterrupt):
        run(stop_after=stop_after, **options)
    resumed, resumed_standing = run(**options)
    np.testing.assert_array_equal(resumed.total, whole.total)
    assert resumed_standing.history == standing.history
    kinds = {name: type(value) for name, value in resumed_standing.history[0].items()}
    assert kinds == {"step": int, "n_rows": int, "share": float}
    assert resumed_standing.last_epoch == standing.last_epoch


def test_a_fit_that_ended_is_not_run_again_and_another_is(tmp_path):
    run(checkpoint_dir=tmp_path)
    step, _ = run(checkpoint_dir=tmp_path, stop_after=0)
    assert step.n_steps == 33
    with pytest.raises(KeyboardInterrupt):
        run(checkpoint_dir=tmp_path, stop_after=0, identity="median")


def test_rows_held_out_tell_when_to_stop():
    _, standing = run(early_stopping=True, max_iter=50)
    # After two epochs the mean has settled.
    assert standing.n_epochs < 5
    assert "validation_objective" in standing.history[-1]
