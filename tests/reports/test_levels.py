import numpy as np
import pandas as pd
import pytest

from skfactors.reports import classify_levels, emergence

LAYERS = [0, 2, 4, 6, 8, 10]


def curve_with_peak(layer):
    return [4.0 if there == layer else 1.0 for there in LAYERS]


def curves(*rows):
    return pd.DataFrame(list(rows), columns=LAYERS)


@pytest.mark.parametrize(("peak", "level"), [(0, "low"), (2, "low"), (4, "mid"), (6, "mid"), (8, "mid"), (10, "mid")])
def test_a_factor_is_low_where_the_papers_low_factors_peak_and_mid_after(peak, level):
    assert classify_levels(curves(curve_with_peak(peak))).tolist() == [level]


def test_levels_keep_the_index_of_the_importance_and_are_named():
    importance = curves(curve_with_peak(2), curve_with_peak(8)).set_axis([17, 3], axis="index")
    levels = classify_levels(importance)
    assert levels.name == "level"
    assert levels.to_dict() == {17: "low", 3: "mid"}


def test_layers_in_another_order_give_the_same_levels():
    importance = curves(curve_with_peak(2), curve_with_peak(10))
    assert classify_levels(importance[LAYERS[::-1]]).tolist() == classify_levels(importance).tolist()


def test_depth_is_relative_to_the_layers_reported():
    importance = pd.DataFrame([[1.0, 5.0, 1.0]], columns=[20, 21, 24])
    assert classify_levels(importance).tolist() == ["low"]


def test_a_factor_that_never_fires_is_flat():
    assert classify_levels(curves([0.0] * 6)).tolist() == ["flat"]


def test_a_curve_that_hardly_varies_is_flat():
    hardly, enough = [10, 10, 10, 9.5, 10, 9.5], [10, 10, 10, 8.5, 10, 9.5]
    assert classify_levels(curves(hardly, enough)).tolist() == ["flat", "low"]


def test_a_single_layer_is_flat_whatever_its_importance():
    assert classify_levels(pd.DataFrame({6: [0.0, 3.0]}), span=[99, 99]).tolist() == ["flat", "flat"]


def test_a_long_span_makes_a_late_factor_high_and_leaves_low_and_flat_ones():
    importance = curves(curve_with_peak(10), curve_with_peak(10), curve_with_peak(0), [1.0] * 6)
    assert classify_levels(importance, span=[26, 25, 80, 80]).tolist() == ["high", "mid", "low", "flat"]


def test_a_series_of_spans_goes_by_factor_and_unknown_spans_leave_mid():
    importance = curves(curve_with_peak(10), curve_with_peak(10), curve_with_peak(10))
    spans = pd.Series({2: 60.0, 1: np.nan})
    assert classify_levels(importance, span=spans).tolist() == ["mid", "mid", "high"]


def test_emergence_is_what_the_embeddings_lack_of_the_peak():
    importance = curves([4.0, 1, 1, 1, 1, 1], [1.0, 1, 4, 1, 1, 1], [0.0, 0, 0, 0, 0, 5], [0.0] * 6)
    np.testing.assert_array_equal(emergence(importance), [0, 0.75, 1, np.nan])


@pytest.mark.parametrize("layers", [[2, 4], [0]])
def test_there_is_no_emergence_without_embeddings_or_without_other_layers(layers):
    assert emergence(pd.DataFrame([[1.0] * len(layers)], columns=layers)).isna().all()


def test_limits_can_be_set():
    importance = curves(curve_with_peak(4))
    assert classify_levels(importance, low_depth=0.4).tolist() == ["low"]
    assert classify_levels(importance, span=[3], long_span=2).tolist() == ["high"]
    assert classify_levels(importance, flat_tolerance=0.8).tolist() == ["flat"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"importance": curves([np.nan] * 6)}, "NaN"),
        ({"importance": curves([-1.0] * 6)}, "negative"),
        ({"importance": pd.DataFrame(index=[0, 1])}, "no layers"),
        ({"importance": curves([1.0] * 6), "span": [1, 2]}, "span has shape"),
        ({"importance": curves([1.0] * 6), "low_depth": 1.5}, "'low_depth' parameter .* Got 1.5"),
        ({"importance": curves([1.0] * 6), "long_span": np.nan}, "'long_span' parameter .* Got nan"),
    ],
)
def test_bad_arguments_are_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        classify_levels(**arguments)
