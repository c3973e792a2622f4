import sys

import numpy as np
import pytest

from skfactors.reports import FactorReport


@pytest.fixture
def report(make_corpus):
    corpus = make_corpus(5)
    return FactorReport.from_codes(corpus.codes, corpus)


def test_each_factor_is_a_line_of_its_importance_over_the_layers(report):
    ax = report.plot_importance([3, 1])
    assert [line.get_label() for line in ax.get_lines()] == ["factor 3", "factor 1"]
    for line, factor in zip(ax.get_lines(), [3, 1], strict=True):
        np.testing.assert_array_equal(line.get_xdata(), [0, 2, 10])
        np.testing.assert_array_equal(line.get_ydata(), report.importance_by_layer().loc[factor])


def test_the_plot_goes_into_the_axes_given(report):
    from matplotlib.figure import Figure

    ax = Figure().subplots()
    assert report.plot_importance(2, ax=ax) is ax
    assert len(ax.get_lines()) == 1


def test_an_unknown_factor_is_refused(report):
    with pytest.raises(ValueError, match="no factor 5"):
        report.plot_importance(5)


def test_without_matplotlib_the_message_says_what_to_install(report, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(ImportError, match=r'pip install "skfactors\[plots\]"'):
        report.plot_importance(0)
