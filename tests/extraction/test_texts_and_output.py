"""Texts of every kind go in once, output comes out as it is asked for, and warnings name the user's line."""

import warnings

import numpy as np
import pandas as pd
import pytest
import sklearn
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skfactors import SparseDictionary, TransformerFeatureExtractor

TEXTS = ["a muddy bank", "", "the report"]
pytestmark = pytest.mark.filterwarnings("ignore:1 of the texts")


class Once:
    """Texts that have no length and can be read only once, and are not an iterator."""

    def __init__(self, texts):
        self._texts = iter(texts)

    def __iter__(self):
        return self._texts


WAYS = {
    "generator": lambda: (text for text in TEXTS),
    "map": lambda: map(str, TEXTS),
    "once": lambda: Once(TEXTS),
    "keys": lambda: dict.fromkeys(TEXTS).keys(),
    "Series": lambda: pd.Series(TEXTS, index=[2, 0, 1]),
}


@pytest.fixture
def extractor(tiny_model):
    return TransformerFeatureExtractor(tiny_model, layers=[0, 2])


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("parameters", [{"level": "document"}, {}, {"arrange": "columns"}], ids=str)
def test_texts_that_can_be_read_only_once_are_enough(extractor, way, parameters):
    extractor.set_params(**parameters)
    expected = extractor.fit_transform(TEXTS)
    np.testing.assert_array_equal(extractor.fit_transform(WAYS[way]()), expected)
    np.testing.assert_array_equal(make_pipeline(extractor, "passthrough").fit_transform(WAYS[way]()), expected)
    texts = WAYS[way]()
    np.testing.assert_array_equal(extractor.fit(texts).transform(texts), expected)


@pytest.mark.parametrize("way", WAYS)
def test_a_pipeline_learns_from_texts_that_can_be_read_only_once(extractor, way):
    pipeline = make_pipeline(extractor, StandardScaler(), SparseDictionary(3, alpha=0.1, random_state=0, device="cpu"))
    expected = pipeline.fit_transform(TEXTS)
    np.testing.assert_array_equal(pipeline.fit_transform(WAYS[way]()).toarray(), expected.toarray())


def test_columns_are_the_layers_of_a_token_side_by_side(extractor):
    acts = extractor.extract(TEXTS)
    columns = extractor.set_params(arrange="columns").fit(TEXTS)
    expected = np.hstack([acts.X[acts.provenance["layer"] == layer] for layer in (0, 2)])
    np.testing.assert_array_equal(columns.transform(TEXTS), expected)
    assert len(columns.get_feature_names_out()) == 64
    assert columns.transform([""]).shape == (0, 64)


@pytest.mark.parametrize(
    ("parameters", "names"),
    [({}, ["document", "layer", "position"]), ({"arrange": "columns"}, ["document", "position"])],
    ids=str,
)
def test_pandas_output_of_the_whole_configuration_says_where_rows_are_from(extractor, parameters, names):
    extractor.set_params(**parameters).fit(TEXTS)
    expected = extractor.transform(TEXTS)
    with sklearn.config_context(transform_output="pandas"):
        frame = extractor.transform(pd.Series(TEXTS, index=["first", "second", "third"]))
        acts = extractor.extract(TEXTS)
        assert extractor.transform([""]).shape == (0, expected.shape[1])
    np.testing.assert_array_equal(frame, expected)
    assert frame.index.names == names and frame.index[0][0] == "first"
    assert list(frame.columns) == list(extractor.get_feature_names_out())
    assert isinstance(acts.X, np.ndarray)


@pytest.mark.parametrize("parameters", [{}, {"level": "document"}, {"arrange": "columns"}], ids=str)
def test_polars_output_has_the_same_values(extractor, parameters):
    pytest.importorskip("polars")
    expected = extractor.set_params(**parameters).fit_transform(TEXTS)
    with sklearn.config_context(transform_output="polars"):
        np.testing.assert_array_equal(extractor.transform(TEXTS).to_numpy(), expected)


def test_an_arrangement_that_there_is_not_is_refused(extractor):
    with pytest.raises(ValueError, match="'arrange' parameter"):
        extractor.set_params(arrange="diagonal").fit(TEXTS)


CALLS = {
    "extract": lambda extractor, folder: extractor.extract(TEXTS),
    "iter_extract": lambda extractor, folder: list(extractor.iter_extract(TEXTS)),
    "transform": lambda extractor, folder: extractor.fit(TEXTS).transform(TEXTS),
    "fit_transform": lambda extractor, folder: extractor.fit_transform(TEXTS),
    "documents": lambda extractor, folder: extractor.set_params(level="document").fit_transform(TEXTS),
    "pipeline": lambda extractor, folder: make_pipeline(extractor, StandardScaler()).fit_transform(TEXTS),
    "extract_to": lambda extractor, folder: extractor.extract_to(TEXTS, folder),
}


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.filterwarnings("default:1 of the texts")
def test_warnings_name_the_line_that_called(extractor, tmp_path, call):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        CALLS[call](extractor, tmp_path / "store")
    assert [warning.filename for warning in caught if "1 of the texts" in str(warning.message)] == [__file__]


@pytest.mark.parametrize("max_rows", [0, -1])
def test_parts_of_no_rows_are_refused_by_name(tiny_model, max_rows):
    with pytest.raises(ValueError, match="max_rows"):
        TransformerFeatureExtractor(tiny_model).iter_extract(["the bank"], max_rows=max_rows)
