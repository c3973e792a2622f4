"""TransformerFeatureExtractor as an estimator: clone, pickle, parameters, output, pipelines, errors."""

import pickle
import shutil

import joblib
import numpy as np
import pandas as pd
import pytest
from safetensors.torch import load_file, save_file
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.utils import estimator_html_repr
from sklearn.utils.estimator_checks import check_estimator

from skfactors import SparseDictionary, TransformerFeatureExtractor

TWO_TEXTS = ["a muddy bank", "the report"]


@pytest.fixture
def extractor(tiny_model):
    return TransformerFeatureExtractor(tiny_model, layers=[0, 2])


def test_it_passes_the_checks_that_scikit_learn_has_for_texts(extractor):
    check_estimator(extractor)


def test_constructing_loads_nothing():
    assert TransformerFeatureExtractor("no/such model anywhere").get_params()["layers"] == "all"


def test_a_clone_has_the_parameters_and_shares_the_loaded_model(extractor, monkeypatch):
    from skfactors.extraction import models

    loads, load_model = [], models.load_model
    monkeypatch.setattr(models, "load_model", lambda source: loads.append(source) or load_model(source))
    twin = clone(extractor)
    assert twin.get_params() == extractor.get_params()
    extractor.extract(TWO_TEXTS)
    clone(twin).extract(TWO_TEXTS)
    assert len(loads) == 1
    twin.set_params(dtype="float64").extract(TWO_TEXTS)
    assert len(loads) == 2


def test_a_model_folder_that_changes_is_loaded_anew(tiny_models, tmp_path):
    folder = tmp_path / "model"
    shutil.copytree(tiny_models["bert"], folder)
    extractor = TransformerFeatureExtractor(str(folder), layers=1)
    before = extractor.extract(TWO_TEXTS).X
    weights = load_file(folder / "model.safetensors")
    save_file({name: tensor * 1.5 for name, tensor in weights.items()}, folder / "model.safetensors", {"format": "pt"})
    assert not np.allclose(before, extractor.extract(TWO_TEXTS).X)


def test_pickles_are_small_and_work(extractor, tmp_path):
    rows = extractor.fit(TWO_TEXTS).transform(TWO_TEXTS)
    content = pickle.dumps(extractor)
    assert len(content) < 2_000
    np.testing.assert_array_equal(pickle.loads(content).transform(TWO_TEXTS), rows)
    joblib.dump(extractor, tmp_path / "extractor.joblib")
    np.testing.assert_array_equal(joblib.load(tmp_path / "extractor.joblib").transform(TWO_TEXTS), rows)


def test_rows_need_a_fit_and_extraction_does_not(extractor):
    for call in (lambda: extractor.transform(TWO_TEXTS), extractor.get_feature_names_out):
        with pytest.raises(NotFittedError):
            call()
    assert len(extractor.extract(TWO_TEXTS)) > 0


def test_parameters_are_set_and_checked(extractor):
    extractor.set_params(layers=1, max_length=8)
    assert extractor.fit(TWO_TEXTS).layers_ == [1]
    with pytest.raises(ValueError, match="Invalid parameter"):
        extractor.set_params(layer=1)
    with pytest.raises(ValueError, match="'level' parameter"):
        extractor.set_params(level="word").fit(TWO_TEXTS)


def test_feature_names_count_the_columns(extractor):
    names = extractor.fit(TWO_TEXTS).get_feature_names_out()
    assert list(names[:2]) == ["transformerfeatureextractor0", "transformerfeatureextractor1"]
    assert len(names) == 32
    assert len(extractor.set_params(level="document").fit(TWO_TEXTS).get_feature_names_out()) == 64


def test_pandas_output_says_where_each_row_is_from(extractor):
    extractor.set_output(transform="pandas")
    frame = extractor.fit_transform(TWO_TEXTS)
    assert frame.index.names == ["document", "layer", "position"]
    assert frame.index[0] == (0, 0, 0)
    series = pd.Series(TWO_TEXTS, index=["first", "second"])
    assert set(extractor.fit_transform(series).index.get_level_values("document")) == {"first", "second"}
    documents = extractor.set_params(level="document").fit_transform(series)
    assert list(documents.index) == ["first", "second"]


def test_a_series_or_array_of_texts_is_read_like_a_list(extractor):
    expected = extractor.fit_transform(TWO_TEXTS)
    for texts in (
        pd.Series(TWO_TEXTS, index=[7, 3]),
        np.array(TWO_TEXTS),
        np.array(TWO_TEXTS, dtype=object),
        tuple(TWO_TEXTS),
    ):
        np.testing.assert_array_equal(extractor.fit_transform(texts), expected)
    np.testing.assert_array_equal(extractor.extract(text for text in TWO_TEXTS).X, expected)


@pytest.mark.filterwarnings("ignore:1 of the texts")
@pytest.mark.parametrize("pooling", ["mean", "max", "first", "last"])
def test_document_rows_pool_each_layers_tokens_side_by_side(extractor, texts, pooling):
    pooled = extractor.set_params(level="document", pooling=pooling, max_length=10).fit_transform(texts)
    acts = extractor.extract(texts)
    how = {
        "mean": lambda rows: rows.mean(axis=0),
        "max": lambda rows: rows.max(axis=0),
        "first": lambda rows: rows[0],
        "last": lambda rows: rows[-1],
    }[pooling]
    for document, row in enumerate(pooled):
        for place, layer in enumerate([0, 2]):
            mine = (acts.provenance["document"] == document) & (acts.provenance["layer"] == layer)
            expected = how(acts.X[mine]) if mine.any() else np.zeros(32)
            np.testing.assert_allclose(row[32 * place : 32 * (place + 1)], expected, atol=1e-5)


def test_texts_without_tokens_are_kept_and_counted(extractor):
    with pytest.warns(UserWarning, match="2 of the texts are empty"):
        acts = extractor.extract(["a bank", " \n\t", ""])
    assert len(acts.texts) == 3
    assert set(acts.provenance["document"]) == {0}
    with pytest.warns(UserWarning, match="1 of the texts"):
        assert extractor.extract([""]).X.shape == (0, 32)


def test_documents_can_be_classified_and_searched(extractor, texts):
    labelled = ["a muddy river bank", "the report on shares"] * 6
    y = [0, 1] * 6
    pipeline = make_pipeline(extractor.set_params(level="document"), LogisticRegression())
    assert cross_val_score(pipeline, labelled, y, cv=2, error_score="raise").mean() == 1
    search = GridSearchCV(pipeline, {"transformerfeatureextractor__layers": [0, 2]}, cv=2, error_score="raise")
    assert search.fit(labelled, y).best_score_ == 1
    assert "TransformerFeatureExtractor" in estimator_html_repr(pipeline)


def test_folds_of_a_search_are_documents(extractor):
    documents = [f"the bank of river number {number}" for number in range(9)]
    pipeline = make_pipeline(extractor, SparseDictionary(4, alpha=0.1, random_state=0))
    search = GridSearchCV(
        pipeline, {"sparsedictionary__alpha": [0.1, 1000.0]}, cv=3, error_score="raise", n_jobs=2
    ).fit(documents)
    assert search.best_params_ == {"sparsedictionary__alpha": 0.1}
    assert search.best_estimator_.transform(documents).shape[1] == 4


@pytest.mark.parametrize(
    ("texts", "error", "message"),
    [
        ("a bare text", TypeError, r"put it into a list"),
        (["fine", None], TypeError, r"texts\[1\] is None"),
        (["fine", "fine", 3.5], TypeError, r"texts\[2\] is of type float"),
        (pd.Series(["fine", np.nan]), TypeError, r"texts\[1\]"),
        ([b"bytes"], TypeError, r"texts\[0\] is of type bytes"),
        ([], ValueError, "empty"),
        (None, TypeError, "None"),
        (5, TypeError, "int"),
        (pd.DataFrame({"text": ["fine"]}), TypeError, "column"),
        (np.array([["fine"]]), TypeError, r"\(1, 1\)"),
        ({"a": "fine"}, TypeError, "dict"),
    ],
)
@pytest.mark.parametrize("method", ["fit", "extract", "iter_extract", "fit_transform"])
def test_what_is_no_list_of_texts_is_refused_by_name(extractor, method, texts, error, message):
    with pytest.raises(error, match=message):
        result = getattr(extractor, method)(texts)
        list(result)


@pytest.mark.parametrize(
    ("layers", "error"),
    [
        (3, ValueError),
        (-4, ValueError),
        ([0, 9], ValueError),
        ([1, -2], ValueError),
        ([], ValueError),
        (["a"], TypeError),
    ],
)
def test_layers_that_the_model_lacks_are_refused(tiny_model, layers, error):
    with pytest.raises(error, match="layers="):
        TransformerFeatureExtractor(tiny_model, layers=layers).fit(TWO_TEXTS)


def test_layers_count_from_either_end(tiny_model):
    extractor = TransformerFeatureExtractor(tiny_model, layers=[-1, 0])
    assert extractor.fit(TWO_TEXTS).layers_ == [2, 0]
    assert TransformerFeatureExtractor(tiny_model).fit(TWO_TEXTS).layers_ == [0, 1, 2]
    assert TransformerFeatureExtractor(tiny_model, layers=np.array([1])).fit(TWO_TEXTS).layers_ == [1]


def _without(*names):
    def remove(folder):
        for name in names:
            (folder / name).unlink()

    return remove


def _cut_short(folder):
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:2000])


def _lose_a_layer(folder):
    weights = load_file(folder / "model.safetensors")
    kept = {name: tensor for name, tensor in weights.items() if "layer.1.attention" not in name}
    save_file(kept, folder / "model.safetensors", {"format": "pt"})


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (_without("tokenizer.json", "tokenizer_config.json"), "holds no tokenizer"),
        (_without("model.safetensors"), "weights of the model .* cannot be loaded"),
        (_without("config.json"), r"holds no config\.json"),
        (_cut_short, "weights of the model .* cannot be loaded"),
        (_lose_a_layer, "lack 10 of the model's tensors"),
    ],
)
def test_a_model_folder_that_is_incomplete_says_so_in_one_line(tiny_model, tmp_path, damage, message):
    folder = tmp_path / "model"
    shutil.copytree(tiny_model, folder)
    damage(folder)
    with pytest.raises(OSError, match=message) as caught:
        TransformerFeatureExtractor(str(folder)).extract(TWO_TEXTS)
    assert "\n" not in str(caught.value)


def test_a_folder_that_is_not_there_says_so(tmp_path):
    with pytest.raises(OSError, match="There is no folder"):
        TransformerFeatureExtractor(str(tmp_path / "nowhere")).fit(TWO_TEXTS)


def test_devices_and_dtypes_are_checked_and_rows_are_float(extractor):
    with pytest.raises(ValueError, match="is not a device that torch knows"):
        extractor.set_params(device="abacus").fit(TWO_TEXTS)
    extractor.set_params(device="cpu")
    exact = extractor.set_params(dtype="float64").extract(TWO_TEXTS).X
    assert exact.dtype == np.float64
    half = extractor.set_params(dtype="bfloat16").extract(TWO_TEXTS).X
    assert half.dtype == np.float32
    np.testing.assert_allclose(half, exact, atol=0.1)


def test_verbose_shows_a_bar_and_silence_is_the_default(extractor, capsys):
    extractor.extract(TWO_TEXTS)
    assert capsys.readouterr() == ("", "")
    extractor.set_params(verbose=True).extract(TWO_TEXTS)
    assert "tokens/s" in capsys.readouterr().out
