"""The places of a token: the rows of one, several side by side, and places of different widths."""

import pickle

import numpy as np
import pandas as pd
import pytest
from sklearn.utils import shuffle

from skfactors import Activations, TransformerFeatureExtractor

TEXTS = ["the bank of the river", "the left bank", "muddy"]


@pytest.fixture(scope="module")
def acts(tiny_model):
    return TransformerFeatureExtractor(tiny_model, layers=[2, 0]).extract(TEXTS)


def provenance_of(layers, n_tokens=3, **columns):
    """Return the provenance of one document's tokens, in each layer."""
    rows = [(0, layer, position, 7 + position, 0, 1) for layer in layers for position in range(n_tokens)]
    numbers = pd.DataFrame(rows, columns=["document", "layer", "position", "token_id", "start", "end"])
    return numbers.assign(**columns)


def rows_by_token(acts):
    """Return the vector of each token in each layer, read off one by one."""
    return {
        (row.document, row.position, row.layer): vector
        for row, vector in zip(acts.provenance.itertuples(), acts.X, strict=True)
    }


def test_every_place_has_the_same_tokens_in_the_same_order(acts):
    for rows in (acts, shuffle(acts, random_state=0)):
        first, other = rows.at(layer=0), rows.at("hidden_states", 2)
        assert first.tokens() == other.tokens() == [token for text in TEXTS for token in text.split()]
        assert first.layers == [0] and other.layers == [2]
        columns = ["document", "position", "token_id", "start", "end"]
        pd.testing.assert_frame_equal(first.provenance[columns], other.provenance[columns])


def test_rows_of_a_place_are_those_of_its_tokens(acts):
    vectors = rows_by_token(acts)
    of_layer = acts.at(layer=2)
    for row, vector in zip(of_layer.provenance.itertuples(), of_layer.X, strict=True):
        np.testing.assert_array_equal(vector, vectors[row.document, row.position, 2])


@pytest.mark.parametrize(("layers", "order"), [(None, [2, 0]), ([0, 2], [0, 2]), (2, [2])])
def test_places_stand_side_by_side_in_the_order_asked_for(acts, layers, order):
    vectors = rows_by_token(acts)
    tokens = sorted({(document, position) for document, position, _ in vectors})
    expected = [np.concatenate([vectors[*token, layer] for layer in order]) for token in tokens]
    np.testing.assert_array_equal(acts.side_by_side(layers), expected)
    np.testing.assert_array_equal(acts.side_by_side(layers, "hidden_states"), expected)


def test_places_that_are_not_there_are_refused_and_those_there_are_named(acts):
    there = r"There are layers \[2, 0\] of 'hidden_states'"
    with pytest.raises(ValueError, match=f"no rows of layer=5. {there}"):
        acts.at(layer=5)
    with pytest.raises(ValueError, match=f"no rows of site='mlp_output' and layer=0. {there}"):
        acts.at("mlp_output", 0)
    with pytest.raises(ValueError, match=f"Name the site and the layer of one place. {there}"):
        acts.at()
    with pytest.raises(ValueError, match=f"layer=5. {there}"):
        acts.side_by_side([0, 5])
    with pytest.raises(ValueError, match=f"site='mlp_output'. {there}"):
        acts.side_by_side(sites="mlp_output")
    with pytest.raises(ValueError, match="no rows"):
        acts[:0].side_by_side()


def test_tokens_that_lack_a_place_do_not_go_side_by_side(acts):
    with pytest.raises(ValueError, match=r"The 8 tokens at \('hidden_states', 0\) are not the 9 tokens"):
        acts[np.arange(len(acts)) != len(acts) - 1].side_by_side()


def test_rows_of_a_place_that_follow_each_other_in_order_are_not_copied():
    in_order = Activations(np.arange(12.0).reshape(6, 2), provenance_of([3, 4]), ["a"])
    assert np.shares_memory(in_order.at(layer=4).X, in_order.X)
    backwards = in_order[::-1].at(layer=4)
    np.testing.assert_array_equal(backwards.X, in_order.X[3:])


def test_a_negative_layer_is_told_that_layers_count_from_0(acts):
    with pytest.raises(ValueError, match="no rows of layer=-1.* Layers are counted from 0"):
        acts.at(layer=-1)


def test_rows_of_a_single_place_need_no_name(acts):
    of_layer = acts.at(layer=0)
    np.testing.assert_array_equal(of_layer.at().X, of_layer.X)


def test_the_site_is_a_category_of_a_byte_a_row(acts):
    site = acts.provenance["site"]
    assert isinstance(site.dtype, pd.CategoricalDtype) and set(site) == {"hidden_states"}
    assert site.cat.codes.dtype == np.int8


def test_provenance_without_a_site_is_of_the_hidden_states():
    acts = Activations(np.eye(3), provenance_of([4]), ["abc"])
    assert acts.at("hidden_states", 4).shape == (3, 3)


@pytest.mark.parametrize("missing", [None, np.nan])
@pytest.mark.parametrize("dtype", [object, "category"])
def test_a_row_without_a_site_is_refused(missing, dtype):
    sites = pd.Series(["mlp_output", missing, "mlp_output"], dtype=dtype)
    with pytest.raises(ValueError, match="row 1 of the provenance has no site"):
        Activations(np.eye(3), provenance_of([3], site=sites), ["a"])


def test_sites_of_one_layer_are_different_places():
    provenance = provenance_of([1, 1], site=["mlp_output"] * 3 + ["block_output"] * 3)
    X = np.arange(12.0).reshape(6, 2)
    acts = Activations(X, provenance, ["abc"])
    assert acts.layers == [1]
    np.testing.assert_array_equal(acts.at("block_output").X, X[3:])
    np.testing.assert_array_equal(acts.side_by_side(), np.hstack([X[:3], X[3:]]))
    np.testing.assert_array_equal(acts.side_by_side(sites=["block_output", "mlp_output"]), np.hstack([X[3:], X[:3]]))
    np.testing.assert_allclose(acts.sample_weight, 1)


def test_sites_stay_a_category_when_parts_of_different_ones_are_joined():
    parts = [Activations(np.eye(3), provenance_of([1], site=site), ["abc"]) for site in ("mlp_output", "block_output")]
    joined = Activations.concat(parts)
    assert joined.provenance["site"].tolist() == ["mlp_output"] * 3 + ["block_output"] * 3
    assert isinstance(joined.provenance["site"].dtype, pd.CategoricalDtype)


@pytest.fixture
def uneven():
    """Rows of layer 0, four wide, and of layer 1, two wide."""
    X = np.arange(1.0, 25).reshape(6, 4)
    X[3:, 2:] = 0
    return Activations(X, provenance_of([0, 1]), ["abc"], {("hidden_states", 1): 2})


def test_rows_of_different_widths_make_no_table(uneven):
    for read in (lambda: uneven.X, lambda: np.asarray(uneven), lambda: uneven.shape):
        with pytest.raises(ValueError, match=r"differ in width: 2 at .*, and 4 elsewhere.*at\(layer=0\)"):
            read()
    assert "6 rows x 2 or 4 features" in repr(uneven) and len(uneven) == 6


def test_each_place_has_its_own_width(uneven):
    assert uneven.at(layer=0).shape == (3, 4)
    np.testing.assert_array_equal(uneven.at(layer=1).X, [[13, 14], [17, 18], [21, 22]])
    np.testing.assert_array_equal(uneven.side_by_side()[0], [1, 2, 3, 4, 13, 14])
    assert uneven[3:5].X.shape == (2, 2)
    assert uneven[:3].X.shape == (3, 4)


def test_different_widths_stay_when_rows_are_joined_indexed_and_pickled(uneven):
    for same in (Activations.concat([uneven[:4], uneven[4:]]), uneven[::1], pickle.loads(pickle.dumps(uneven))):
        np.testing.assert_array_equal(same.side_by_side(), uneven.side_by_side())


@pytest.fixture(scope="module")
def opt(tmp_path_factory):
    """Return the folder of a model whose last hidden state is narrower than the others, as that of OPT-350m is."""
    import torch
    from support.tiny_models import word_piece_tokenizer
    from transformers import OPTConfig, OPTModel

    path = tmp_path_factory.mktemp("opt")
    size = {"vocab_size": 400, "hidden_size": 32, "ffn_dim": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = OPTModel(OPTConfig(**size, word_embed_proj_dim=16, do_layer_norm_before=False))
    model.save_pretrained(path)
    word_piece_tokenizer(TEXTS).save_pretrained(path)
    return str(path)


@pytest.fixture(scope="module")
def of_opt(opt):
    """Return rows of each layer, extracted one layer at a time."""
    return [TransformerFeatureExtractor(opt, layers=layer).extract(TEXTS).X for layer in range(3)]


def test_layers_of_different_widths_are_extracted_together(opt, of_opt):
    acts = TransformerFeatureExtractor(opt).extract(TEXTS)
    assert [rows.shape[1] for rows in of_opt] == [32, 32, 16]
    np.testing.assert_allclose(acts.side_by_side(), np.hstack(of_opt), rtol=1e-5, atol=1e-6)


def test_layers_of_different_widths_come_back_from_a_cache_and_a_store(opt, of_opt, tmp_path):
    extractor = TransformerFeatureExtractor(opt, cache_dir=tmp_path / "cache")
    for acts in (extractor.extract(TEXTS), extractor.extract(TEXTS)):
        np.testing.assert_allclose(acts.side_by_side(), np.hstack(of_opt), rtol=1e-5, atol=1e-6)
    store = extractor.extract_to(TEXTS, tmp_path / "store")
    np.testing.assert_allclose(store[:].side_by_side(), np.hstack(of_opt), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(np.asarray(store.at(layer=2)), of_opt[2], rtol=1e-5, atol=1e-6)
    assert "16 or 32 features" in repr(store)
    with pytest.raises(ValueError, match=r"differ in width: \[16, 32\].*layers \[0, 1, 2\]"):
        store.shape


def test_layers_of_different_widths_stand_in_columns_or_are_pooled(opt, of_opt):
    columns = TransformerFeatureExtractor(opt, arrange="columns")
    np.testing.assert_allclose(columns.fit_transform(TEXTS), np.hstack(of_opt), rtol=1e-5, atol=1e-6)
    assert len(columns.get_feature_names_out()) == 80
    pooled = TransformerFeatureExtractor(opt, level="document").fit_transform(TEXTS)
    np.testing.assert_allclose(pooled[0], np.hstack([rows[:5].mean(axis=0) for rows in of_opt]), rtol=1e-4, atol=1e-5)
    with pytest.raises(ValueError, match="different widths: 32 in layers .*16 in layers"):
        TransformerFeatureExtractor(opt).fit(TEXTS)
