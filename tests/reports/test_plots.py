"""Each plot against the numbers it shows, read back from its axes; and what it refuses."""

import sys

import matplotlib.pyplot
import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure
from scipy import sparse
from sklearn.model_selection import GridSearchCV

from skfactors import SparseDictionary
from skfactors.metrics import density, explained_variance_scorer, l0_scorer
from skfactors.reports import FactorReport
from skfactors.reports.plots import (
    plot_activations,
    plot_attribution,
    plot_density,
    plot_frontier,
    plot_importance,
    plot_importance_heatmap,
    plot_token_saliency,
)

IMPORTANCE = pd.DataFrame(
    [[0.0, 1.0, 4.0], [2.0, 1.0, 0.0], [0.0, 0.0, 0.0], [4.0, 2.0, 2.0], [1.0, 3.0, 2.0]], columns=[0, 2, 10]
)
CODES = sparse.csr_array(np.array([[0, 2.0], [0, 0], [0.5, 1.0], [-1.0, 4.0], [0, 4.0]]))
CONTRIBUTIONS = pd.DataFrame(
    [
        ["a", 3, 0, "Paris", 7, 1.5],
        ["a", 3, 1, " $is$", 2, -2.0],
        ["a", 9, 1, " $is$", 7, 0.5],
        ["a", 3, 1, " $is$", 7, 1.0],
    ],
    columns=["site", "layer", "position", "token", "factor", "contribution"],
)
WEIGHTS = pd.Series([0.5, -0.25, 0.0], index=pd.Index(["the", "left", "park"], name="token"))

# Each plot with the arguments that it cannot do without.
CALLS = {
    plot_importance: (IMPORTANCE, 0),
    plot_importance_heatmap: (IMPORTANCE,),
    plot_activations: (CODES, 1),
    plot_density: ([0.5, 0.1, 0.0],),
    plot_frontier: ([[1.0, 5.0, 0.6], [2.0, 2.0, 0.4]],),
    plot_token_saliency: (WEIGHTS,),
    plot_attribution: (CONTRIBUTIONS,),
}


@pytest.fixture(autouse=True)
def no_figure_stays_open():
    matplotlib.use("agg")
    yield
    matplotlib.pyplot.close("all")


@pytest.fixture
def report(make_corpus):
    corpus = make_corpus(5)
    return FactorReport.from_codes(corpus.codes, corpus)


def heights(ax):
    return [int(bar.get_height()) for bar in ax.patches]


@pytest.mark.parametrize(("plot", "arguments"), CALLS.items(), ids=lambda call: getattr(call, "__name__", ""))
def test_a_plot_goes_into_the_axes_given_and_else_into_a_new_figure(plot, arguments):
    ax = Figure(figsize=(6, 4)).subplots()
    assert plot(*arguments, ax=ax) is ax
    new = plot(*arguments)
    assert new.figure is not ax.figure
    for axes in (ax, new):
        axes.figure.canvas.draw()


@pytest.mark.parametrize(("plot", "arguments"), CALLS.items(), ids=lambda call: getattr(call, "__name__", ""))
def test_without_matplotlib_the_message_says_what_to_install(plot, arguments, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(ImportError, match=r'pip install "skfactors\[plots\]"'):
        plot(*arguments)


def test_each_factor_is_a_line_of_its_importance_over_the_layers(report):
    ax = report.plot_importance([3, 1])
    tokens = report.summary()["top_tokens"].str.split(", ").str[0]
    legend = [text.get_text() for text in ax.get_legend().get_texts()]
    assert legend == [f"factor 3: {tokens[3]}", f"factor 1: {tokens[1]}"]
    for line, factor in zip(ax.get_lines(), [3, 1], strict=True):
        np.testing.assert_array_equal(line.get_xdata(), [0, 2, 10])
        np.testing.assert_array_equal(line.get_ydata(), report.importance_by_layer().loc[factor])


def test_many_factors_are_coloured_by_their_peak_layer():
    importance = pd.concat([IMPORTANCE] * 2, ignore_index=True)
    lines = plot_importance(importance, range(10)).get_lines()
    colours = [line.get_color() for line in lines]
    assert len(lines) == 10
    assert colours[1] == colours[3] == colours[6]
    assert len(set(colours)) == 3


def test_the_heat_map_is_sorted_by_peak_and_relative_to_it():
    ax = plot_importance_heatmap(IMPORTANCE)
    assert [label.get_text() for label in ax.get_yticklabels()] == ["1", "3", "4", "0"]
    expected = [[1, 0.5, 0], [1, 0.5, 0.5], [1 / 3, 1, 2 / 3], [0, 0.25, 1]]
    np.testing.assert_allclose(ax.images[0].get_array(), expected)
    assert ax.get_ylabel() == "factor (1 that never fire left out)"
    np.testing.assert_allclose(
        plot_importance_heatmap(IMPORTANCE, [0, 1], relative=False).images[0].get_array(), [[2, 1, 0], [0, 1, 4]]
    )


def test_groups_of_many_factors_are_named_by_their_peak():
    ax = plot_importance_heatmap(pd.concat([IMPORTANCE] * 15, ignore_index=True))
    assert [label.get_text() for label in ax.get_yticklabels()] == ["layer 0: 30", "layer 2: 15", "layer 10: 15"]


def test_the_activations_above_zero_are_counted():
    assert heights(plot_activations(CODES, 1, bins=4)) == [0, 1, 1, 2]
    assert heights(plot_activations(CODES.toarray(), 0, bins=2)) == [0, 1]


def test_the_activations_of_each_layer_have_their_panel():
    layers = np.array([3, 3, 0, 0, 0])
    ax = plot_activations(CODES, 1, layers=layers, bins=4)
    ax.figure.canvas.draw()
    panels = sorted(ax.child_axes, key=lambda panel: -panel.get_position().y0)
    assert [panel.texts[0].get_text() for panel in panels] == ["layer 0: 3 rows", "layer 3: 1 rows"]
    whole = plot_activations(CODES, 1, bins=4)
    assert np.sum([heights(panel) for panel in panels], axis=0).tolist() == heights(whole)
    assert {panel.get_xlim() for panel in panels} == {ax.get_xlim()} == {whole.get_xlim()}


@pytest.mark.parametrize(
    ("l0s", "ticks"), [([2.2, 6, 14, 33], ["2", "5", "10", "20"]), ([28, 31, 33], ["28", "29", "30", "31", "32", "33"])]
)
def test_the_axis_of_l0_has_round_numbers_that_do_not_collide(l0s, ticks):
    ax = plot_frontier([[1 / l0, l0, 1 - 1 / l0] for l0 in l0s])
    ax.figure.canvas.draw()
    left, right = ax.get_xlim()
    shown = [label.get_text() for label in ax.get_xticklabels() if left <= label.get_position()[0] <= right]
    assert shown == ticks
    assert not any(label.get_text() for label in ax.get_xticklabels(minor=True))


def test_the_density_counts_factors_and_names_the_silent_ones():
    frequency = density(np.array([[1.0, 0, 0], [1, 0, 0], [1, 1, 0], [1, 0, 0]]))
    ax = plot_density(frequency, bins=2)
    assert heights(ax) == [1, 1]
    assert ax.get_title().startswith("1 of 3 never fire")
    assert (ax.patches[0].get_x(), ax.get_xscale()) == (0.25, "log")


def test_the_frontier_of_a_search_is_its_results_with_deviations_over_the_folds():
    X = np.abs(np.random.default_rng(0).normal(size=(60, 5)))
    scoring = {"l0": l0_scorer, "explained_variance": explained_variance_scorer}
    grid = {"alpha": [0.1, 0.5, 1.0], "max_iter": [1, 3]}
    search = GridSearchCV(SparseDictionary(4, random_state=0), grid, scoring=scoring, refit=False, cv=2)
    search.fit(X)
    for results in (search, search.cv_results_):
        ax = plot_frontier(results)
        lines = {lines.get_label(): np.asarray(lines[0].get_data(), dtype=float) for lines in ax.containers}
        assert set(lines) == {"max_iter=1", "max_iter=3"}
        for label, (l0, explained) in lines.items():
            of_line = [f"max_iter={candidate['max_iter']}" == label for candidate in search.cv_results_["params"]]
            order = np.argsort(-search.cv_results_["mean_test_l0"][of_line])
            np.testing.assert_allclose(l0, -search.cv_results_["mean_test_l0"][of_line][order])
            np.testing.assert_allclose(explained, search.cv_results_["mean_test_explained_variance"][of_line][order])


def test_the_frontier_of_rows_labels_their_alphas():
    rows = pd.DataFrame({"explained_variance": [0.6, 0.2], "l0": [20.0, 0.0], "alpha": [0.5, 4.0]})
    ax = plot_frontier(rows)
    assert {text.get_text() for text in ax.texts} == {"α=0.5", "α=4"}
    assert ax.get_xscale() == "linear"
    assert plot_frontier([[0.5, 20, 0.6]]).get_xscale() == "log"


def drawn_tokens(ax):
    """Return text and background of each token, in order."""
    texts = [text for text in ax.findobj(matplotlib.text.Text) if text.get_bbox_patch() is not None]
    return [(text.get_text(), text.get_bbox_patch()) for text in texts]


def test_tokens_are_shaded_by_weight_and_the_target_is_framed():
    tokens = drawn_tokens(plot_token_saliency(WEIGHTS, target=1))
    assert [token for token, _ in tokens] == ["the", "left", "park"]
    colours = matplotlib.colormaps["PuOr_r"]
    np.testing.assert_allclose([box.get_facecolor() for _, box in tokens], [colours(1.0), colours(0.25), colours(0.5)])
    assert [box.get_linewidth() > 0 for _, box in tokens] == [False, True, False]


def test_hostile_tokens_are_drawn_as_they_are():
    tokens = ["$x^2$", "\\alpha{", "<b>", "a\nb", "\ud800", "w" * 10_000, "%"]
    ax = plot_token_saliency(np.arange(7.0), tokens=tokens)
    ax.figure.canvas.draw()
    shown = [token for token, _ in drawn_tokens(ax)]
    assert shown[:5] == ["$x^2$", "\\alpha{", "<b>", "a\\nb", "\\ud800"]
    assert len(shown[5]) == 40


def test_the_factors_that_contribute_most_are_rows_and_the_tokens_are_columns():
    ax = plot_attribution(CONTRIBUTIONS, k=2)
    assert [label.get_text() for label in ax.get_yticklabels()] == ["3/2", "3/7"]
    assert [label.get_text() for label in ax.get_xticklabels()] == ["Paris", " $is$"]
    np.testing.assert_array_equal(ax.images[0].get_array(), [[0, -2], [1.5, 1]])
    both = plot_attribution(pd.concat([CONTRIBUTIONS, CONTRIBUTIONS.assign(site="b")]))
    assert both.get_yticklabels()[0].get_text() == "a 3/2"


@pytest.mark.parametrize(
    ("plot", "arguments", "error", "message"),
    [
        (plot_attribution, (CONTRIBUTIONS[:0],), ValueError, "table is empty"),
        (plot_importance, (IMPORTANCE, 5), ValueError, "5"),
        (plot_importance, (IMPORTANCE, []), ValueError, "factors is empty"),
        (plot_importance, (IMPORTANCE.iloc[:, :0], 0), ValueError, "importance is empty"),
        (plot_importance, (-IMPORTANCE, 0), ValueError, "negative"),
        (plot_importance_heatmap, (IMPORTANCE, 2), ValueError, "ever fires"),
        (plot_activations, (CODES, 2), ValueError, "2"),
        (plot_activations, (CODES, "1"), TypeError, "factor"),
        (plot_activations, (sparse.csr_array((4, 2)), 0), ValueError, "none of the 4 rows"),
        (plot_density, ([0.1, 2.0],), ValueError, "between 0 and 1"),
        (plot_density, ([0.0, 0.0],), ValueError, "ever fires"),
        (plot_density, ([],), ValueError, "empty"),
        (plot_density, ([np.nan],), ValueError, "NaN"),
        (plot_frontier, ({"params": []},), ValueError, "mean_test_l0"),
        (plot_frontier, ([[1.0, 2.0]],), ValueError, "shape"),
        (plot_frontier, ("rows",), TypeError, "rows of alpha"),
        (plot_frontier, ([[0.5, 0.6, 20]],), ValueError, "in this order"),
        (plot_token_saliency, ([0.5],), TypeError, "not a string"),
        (plot_token_saliency, (WEIGHTS, 3), ValueError, "target"),
    ],
)
def test_what_cannot_be_plotted_is_named(plot, arguments, error, message):
    with pytest.raises(error, match=message):
        plot(*arguments)


def test_codes_and_layers_of_different_length_are_refused():
    with pytest.raises(ValueError, match="5 rows"):
        plot_activations(CODES, 1, layers=[0, 1])


def test_tokens_that_do_not_fit_are_refused():
    ax = Figure(figsize=(1, 1)).subplots()
    with pytest.raises(ValueError, match="do not fit"):
        plot_token_saliency(np.ones(500), tokens=["token"] * 500, ax=ax)


def test_one_number_for_all_is_plotted_too():
    for ax in (
        plot_importance(IMPORTANCE[[2]], [0]),
        plot_importance_heatmap(IMPORTANCE[[2]]),
        plot_activations([[1.0]], 0),
        plot_density([0.25]),
        plot_token_saliency([0.0], tokens=["token"]),
    ):
        ax.figure.canvas.draw()
