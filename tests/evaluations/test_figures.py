import numpy as np
import pytest

from skfactors.evaluations.figures import Figures, sums_by


@pytest.fixture
def figures():
    return Figures(n_resamples=2000, random_state=0)


def test_a_figure_is_a_ratio_of_sums(figures):
    figures.add("share", "dictionary", [1.0, 2.0, 3.0], [2.0, 4.0, 10.0])
    figures.add("rest", "dictionary", [1.0, 2.0, 3.0], [2.0, 4.0, 10.0], complement=True)
    assert figures.table()["value"].tolist() == [6 / 16, 1 - 6 / 16]


def test_the_interval_of_a_mean_is_that_of_its_standard_error(figures):
    values = np.random.default_rng(1).standard_normal(400)
    figures.add("mean", "dictionary", values)
    row = figures.table().iloc[0]
    width = 2 * 1.96 * values.std() / np.sqrt(400)
    assert row["high"] - row["low"] == pytest.approx(width, rel=0.1)
    assert row["low"] < values.mean() < row["high"]


def test_where_a_unit_counts_by_the_size_of_its_class_units_are_drawn_class_by_class(figures):
    """The mean of two class means varies by the variance of each; of constants it does not vary."""
    classes = np.repeat(["many", "few"], [380, 20])
    weights = np.where(classes == "many", 0.5 / 380, 0.5 / 20) * 400
    values = np.random.default_rng(1).standard_normal(400)
    figures.add("constant", "dictionary", weights, classes=classes)
    figures.add("mean", "dictionary", weights * values, classes=classes)
    constant, mean = (row for _, row in figures.table().iterrows())
    assert constant[["value", "low", "high"]].tolist() == pytest.approx([1, 1, 1])
    variances = [values[classes == name].var() / np.sum(classes == name) for name in ("many", "few")]
    assert mean["high"] - mean["low"] == pytest.approx(2 * 1.96 * np.sqrt(sum(variances) / 4), rel=0.1)
    figures.add("rare", "dictionary", weights, classes=np.repeat(["many", "few"], [397, 3]))
    assert figures.table()["note"].iloc[-1] == "3 units of a class; an interval needs 5"


def test_of_few_units_there_is_no_interval(figures):
    figures.add("mean", "dictionary", [1.0, 2.0, 3.0, 4.0])
    assert figures.table()[["low", "high"]].isna().all(axis=None)


def test_where_there_is_nothing_to_divide_by_the_figure_is_nan(figures):
    figures.add("share", "dictionary", [1.0, 1.0], [-1.0, 1.0])
    assert figures.table()["value"].isna().all()


def test_a_figure_within_a_controls_interval_says_so(figures):
    random = np.random.default_rng(2)
    figures.add("mean", "dictionary", np.full(50, 1.0))
    figures.add("mean", "near", 1 + random.permutation(np.repeat([-0.5, 0.5], 25)))
    figures.add("mean", "far", 5 + random.standard_normal(50))
    assert figures.table()["inside"].tolist() == ["near", "", ""]


def test_a_difference_is_over_the_same_units(figures):
    random = np.random.default_rng(3)
    hard, more = 10 * random.standard_normal(400), 1 + random.standard_normal(400)
    figures.add("mean", "dictionary", hard + more, units="texts")
    figures.add("mean", "control", hard, units="texts")
    own, control = (row for _, row in figures.table().iterrows())
    width = 2 * 1.96 * more.std() / np.sqrt(400)
    assert control["difference"] == pytest.approx(more.mean())
    assert control["difference_high"] - control["difference_low"] == pytest.approx(width, rel=0.1)
    assert control["difference_low"] < more.mean() < control["difference_high"]
    assert np.isnan([own["difference"], own["difference_low"]]).all()


@pytest.mark.parametrize(
    ("units", "of_others"),
    [(None, None), ("factors", None), (np.arange(400), np.arange(1, 401)), ("texts", "words")],
    ids=["no counterparts", "one has none", "other numbers", "other kinds"],
)
@pytest.mark.parametrize("n_others", [400, 300])
def test_a_difference_over_other_units_is_that_of_independent_samples(figures, units, of_others, n_others):
    values = 10 * np.random.default_rng(3).standard_normal(400)
    others = values[:n_others]
    figures.add("mean", "dictionary", values, units=units)
    figures.add("mean", "control", others, units=None if of_others is None else of_others[:n_others])
    control = figures.table().iloc[1]
    width = 2 * 1.96 * np.sqrt(values.var() / 400 + others.var() / n_others)
    assert control["difference_high"] - control["difference_low"] == pytest.approx(width, rel=0.1)


def test_a_difference_of_ratios_is_resampled_as_ratios(figures):
    random = np.random.default_rng(4)
    above, below = random.random((2, 30)), 1 + random.random(30)
    for name, of in zip(("dictionary", "control"), above, strict=True):
        figures.add("rest", name, of, below, units="texts", complement=True)
    control = figures.table().iloc[1]
    draws = np.random.default_rng(5).integers(30, size=(4000, 30))
    rests = 1 - above[:, draws].sum(axis=2) / below[draws].sum(axis=1)
    expected = np.quantile(rests[0] - rests[1], (0.025, 0.975))
    np.testing.assert_allclose(control[["difference_low", "difference_high"]].astype(float), expected, atol=0.02)


@pytest.mark.parametrize(
    ("measure", "said"), [("mean", "better worse"), ("loss", "worse better"), ("absorbed", "more less")]
)
def test_what_lies_within_an_interval_and_yet_differs_says_so(figures, measure, said):
    hard = 10 * np.random.default_rng(3).standard_normal(50)
    noise = 0.1 * np.random.default_rng(4).standard_normal((3, 50))
    figures.add(measure, "dictionary", hard, units="texts")
    for name, more, of in (("lower", -1, noise[0]), ("higher, by name", 1, noise[1]), ("alike", 0, noise[2])):
        figures.add(measure, name, hard + more + of, units="texts")
    own, (first, second) = figures.table().iloc[0], said.split()
    assert own["inside"] == "lower, higher, by name, alike"
    expected = {f"{first} than lower", f"{second} than higher, by name"}
    assert set(own["note"].removeprefix("by the difference, ").split("; ")) == expected


@pytest.mark.parametrize("measure", ["mean", "loss"])
def test_what_lies_outside_an_interval_and_yet_may_differ_by_chance_says_so_alone(figures, measure):
    # A control of little spread: its interval leaves out what the dictionary's own spread does not tell from it.
    own = 10 * np.random.default_rng(3).standard_normal(50)
    own += 1 - own.mean()
    narrow = 0.1 * np.random.default_rng(4).standard_normal(50)
    for name in (measure, "l0"):
        figures.add(name, "dictionary", own, units="texts")
        figures.add(name, "narrow", narrow, units="texts")
        figures.add(name, "worse", np.full(50, 99.0 if measure == "loss" else -99.0), units="texts")
    table = figures.table()
    assert not table["inside"].any()
    assert table["note"].tolist()[:4] == ["by the difference, like narrow", "", "", ""]


@pytest.mark.parametrize(("measure", "behind"), [("mean", "high"), ("loss", "low"), ("absorbed", None)])
def test_a_figure_that_a_control_surpasses_says_so(figures, measure, behind):
    noise = np.random.default_rng(2).standard_normal(50)
    figures.add(measure, "dictionary", 3 + noise, note="of all")
    figures.add(measure, "low", 1 + noise)
    figures.add(measure, "high", 5 + noise)
    assert figures.table()["note"].tolist() == [f"of all; behind {behind}" if behind else "of all", "", ""]


def test_to_reach_a_ceiling_is_no_fault_and_to_be_behind_it_no_news(figures):
    noise = np.random.default_rng(2).standard_normal(50)
    for measure, ceiling in (("reached", 3), ("above", 5)):
        figures.add(measure, "dictionary", 3 + noise)
        figures.add(measure, "hidden states", ceiling + noise)
    table = figures.table()
    assert not table["inside"].any()
    assert not table["note"].any()


@pytest.mark.parametrize(
    ("above", "below", "note"),
    [
        ([1.0, 2.0], [1.0, 1.0], "2 units; an interval needs 5"),
        ([1.0] * 6, [0.0] * 6, "no figure: what it would be a share of is not above zero"),
        ([1.0] * 6, [3.0, -1, -1, 1, 1, 1], "no interval: in some resamples it would be a share of nothing"),
    ],
)
def test_a_figure_or_an_interval_that_is_not_there_has_a_reason(figures, above, below, note):
    figures.add("share", "dictionary", above, below, note="of some")
    expected = "of some" if sum(below) <= 0 else f"of some; {note}"
    assert figures.table()["note"].tolist() == [expected]
    figures.add("share", "control", above, below)
    assert figures.table()["note"].tolist()[1] == note


def test_a_control_with_other_numbers_of_active_factors_says_so(figures):
    for name, n_active in (("dictionary", 4.0), ("like it", 4.2), ("with more", 6.0)):
        figures.add("l0", name, np.full(10, n_active))
    assert figures.table()["note"].tolist() == ["", "", "6 active factors a row where the dictionary has 4"]


def test_sums_are_by_group():
    np.testing.assert_array_equal(sums_by(np.array([4, 2, 4]), np.array([1.0, 2.0, 3.0])), [2, 4])


def test_no_resamples_are_refused():
    with pytest.raises(ValueError, match="n_resamples == 0, must be >= 1"):
        Figures(n_resamples=0, random_state=0)
