import sys
from types import SimpleNamespace

import numpy as np
import pytest
from support.explorer_pages import page_data, report_of_words

from skfactors.reports.layout import map_asked_for, map_of_directions


def test_factors_of_like_directions_lie_near_each_other_on_the_map():
    rng = np.random.default_rng(0)
    components = np.repeat(np.eye(3, 8), 5, axis=0) + 0.05 * rng.normal(size=(15, 8))
    places = map_of_directions(components * rng.uniform(1, 9, size=(15, 1))).to_numpy()
    distances = np.linalg.norm(places[:, None] - places, axis=-1)
    same = np.repeat(np.arange(3), 5)[:, None] == np.repeat(np.arange(3), 5)
    assert distances[same].max() < distances[~same].min()


@pytest.mark.parametrize("components", [np.ones((4, 3)), np.zeros((2, 2)), np.ones((1, 5)), np.array([[1.0], [-1.0]])])
def test_a_map_of_hardly_anything_is_one_of_finite_places(components):
    assert np.isfinite(map_of_directions(components).to_numpy()).all()


def test_a_layout_that_is_none_is_refused(tmp_path):
    report = report_of_words(["a b"], np.ones((1, 2, 3)))
    for layout in ("tsne", np.zeros((2, 2)), np.full((3, 2), np.nan)):
        with pytest.raises(ValueError, match=r"layout must be 'pca', 'umap', or finite numbers of shape \(3, 2\)"):
            report.to_html(tmp_path / "page.html", layout=layout)
    with pytest.raises(ValueError, match="needs the dictionary, which this report does not know"):
        report.to_html(tmp_path / "page.html", layout="umap")
    assert not list(tmp_path.iterdir())


def test_a_layout_of_ones_own_is_on_the_page_with_one_scale_for_both_axes(tmp_path):
    report = report_of_words(["a b"], np.ones((1, 2, 3)))
    report.to_html(tmp_path / "page.html", layout=[[0, 0], [10, 5], [5, 5]])
    held = page_data(tmp_path / "page.html")["map"]
    assert held == {"method": "the layout given", "size": 2000, "x": [0, 2000, 1000], "y": [500, 1500, 1500]}


def test_umap_lays_out_the_directions_where_it_is_installed(monkeypatch):
    class Umap:
        def __init__(self, **settings):
            assert settings == {"metric": "cosine", "random_state": 0, "n_jobs": 1}

        def fit_transform(self, components):
            return components[:, :2]

    monkeypatch.setattr("skfactors.reports.layout.as_factor_model", lambda dictionary: dictionary)
    dictionary = SimpleNamespace(components_=np.eye(3))
    monkeypatch.setitem(sys.modules, "umap", SimpleNamespace(UMAP=Umap))
    places, method = map_asked_for("umap", None, dictionary, 3)
    assert method == "UMAP" and places.tolist() == [[1, 0], [0, 1], [0, 0]]
    monkeypatch.setitem(sys.modules, "umap", None)
    with pytest.raises(ImportError, match=r"pip install 'skfactors\[umap\]'"):
        map_asked_for("umap", None, dictionary, 3)
