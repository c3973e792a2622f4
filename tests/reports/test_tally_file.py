import numpy as np
import pytest
from support.small_store import SmallStore, fitted_model

from skfactors.reports import FactorReport
from skfactors.reports.counting.tally import Tally, merged


@pytest.fixture
def state():
    report = FactorReport.from_store(SmallStore(n_documents=6), fitted_model(), k=2, top=2)
    return report._tally.state()


def test_a_tally_comes_back_from_its_state(state):
    description, arrays = Tally.from_state(*state).state()
    assert description == state[0]
    for name, array in state[1].items():
        np.testing.assert_array_equal(arrays[name], array)


@pytest.mark.parametrize(
    "name",
    [
        "groups.layers",
        "contexts.groups",
        "contexts.ranks",
        "contexts.activations",
        "contexts.excerpts",
        "contexts.thresholds",
        "values.table",
        "histogram.counts",
        "samples.factors",
        "samples.lots",
        "samples.excerpts",
        "samples.met_before",
        "activity.rows_by_slot",
        "activity.active_rows",
        "activity.used",
        "activity.lowest",
        "variance.sums",
    ],
)
def test_arrays_of_other_lengths_are_refused(state, name):
    description, arrays = state
    with pytest.raises(ValueError):
        Tally.from_state(description, arrays | {name: arrays[name][:-1]})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("contexts.groups", 10**6),
        ("contexts.groups", -1),
        ("contexts.ranks", 1),
        ("contexts.activations", np.nan),
        ("contexts.excerpts", 0),
        ("histogram.counts", -1),
        ("samples.factors", 10**6),
        ("samples.lots", -1),
        ("samples.layers", 99),
        ("samples.activations", -1.0),
        ("activity.active_rows", 10**6),
        ("activity.n_nonzero", 0),
        ("activity.digits", -1),
        ("activity.lowest", 10**9),
        ("documents.runs", 10**6),
        ("values.table", -1.0),
    ],
)
def test_arrays_that_contradict_each_other_are_refused(state, name, value):
    description, arrays = state
    array = arrays[name].copy()
    array.reshape(-1)[0] = value
    with pytest.raises(ValueError, match=name):
        Tally.from_state(description, arrays | {name: array})


def test_rows_without_a_mean_are_refused(state):
    description, arrays = state
    with pytest.raises(ValueError, match="variance.mean"):
        Tally.from_state(description, arrays | {"variance.mean": np.empty(0)})


def test_tallies_of_rows_of_different_widths_are_not_merged(state):
    description, arrays = state
    narrower = Tally.from_state(description, arrays | {"variance.mean": arrays["variance.mean"][:-1]})
    with pytest.raises(ValueError, match="reports 0 and 1 are of rows of different widths"):
        merged([Tally.from_state(*state), narrower])


def test_a_claim_of_many_factors_is_refused_before_memory_is_taken(state):
    description, arrays = state
    with pytest.raises(ValueError, match="shape"):
        Tally.from_state(description | {"n_components": 2**40}, arrays)


def test_arrays_that_are_missing_or_unknown_are_named(state):
    description, arrays = state
    missing = {name: array for name, array in arrays.items() if name != "values.table"}
    with pytest.raises(ValueError, match="values.table, values.tables"):
        Tally.from_state(description, missing | {"values.tables": arrays["values.table"]})
