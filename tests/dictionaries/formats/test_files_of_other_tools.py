"""Files as five tools saved them give the codes and reconstructions that these tools compute."""

import shutil

import numpy as np
import pytest
import torch
from sklearn.base import clone
from support.other_tools import FOLDER, NAMES, assert_close, opened, opened_anew, predicted, reference

from skfactors import FactorModel, SparseAutoencoder, load_dictionary
from skfactors.dictionaries import Crosscoder, PretrainedDictionary, Transcoder, check_l0

# Its codes start from random numbers in the tool.
RANDOM = "overcomplete/SemiNMF"
WRITERS = ("saelens", "dictionary_learning", "sparsify")
pytestmark = pytest.mark.filterwarnings("ignore:.*(was saved before its run|was not set|says that its run scaled rows)")


@pytest.mark.parametrize("name", [name for name in NAMES if name != RANDOM])
def test_codes_are_those_of_the_tool(name):
    known, model = reference(name), opened(name)
    assert_close(model.transform(known["x"]).toarray(), known["codes"])


@pytest.mark.parametrize("name", NAMES)
def test_reconstructions_are_those_of_the_tool(name):
    known, model = reference(name), opened(name)
    if name == RANDOM:
        assert_close(model.inverse_transform(known["codes"]), known["recon"])
    else:
        whole = known["forward"] if "forward" in known else known["recon"] + known.get("skip", 0)
        assert_close(predicted(model, known["x"]), whole)


@pytest.mark.parametrize("name", [name for name in NAMES if "skip" in reference(name) or "forward" in reference(name)])
def test_codes_alone_stand_for_what_the_tool_decodes_without_its_skip_or_prediction(name):
    known, model = reference(name), opened(name)
    codes = known["codes"].reshape(-1, known["codes"].shape[-1])
    assert_close(model.inverse_transform(codes), known["recon"].reshape(len(codes), -1))


@pytest.mark.parametrize("name", NAMES)
def test_a_model_that_was_read_is_saved_and_opens_again(name, tmp_path):
    known, model = reference(name), opened(name)
    model.save(tmp_path)
    again = FactorModel.load(tmp_path)
    assert (type(again), again.fingerprint(), again.source_) == (type(model), model.fingerprint(), model.source_)
    np.testing.assert_array_equal(again.transform(known["x"]).toarray(), model.transform(known["x"]).toarray())
    assert load_dictionary(tmp_path).fingerprint() == model.fingerprint()


@pytest.mark.parametrize("name", NAMES)
def test_its_torch_module_gives_the_same_codes_and_gradients_to_rows(name):
    known, model = reference(name), opened(name)
    X = torch.tensor(known["x"], requires_grad=True)
    module = model.to_torch()
    codes = module.encode(X)
    assert_close(codes.detach().numpy().reshape(-1, codes.shape[-1]), model.transform(known["x"]).toarray())
    module(X).square().sum().backward()
    assert X.grad.abs().sum() > 0


@pytest.mark.parametrize("name", NAMES)
def test_what_is_exported_reads_back_with_the_same_codes(name, tmp_path):
    known, model = reference(name), opened(name)
    for format in WRITERS:
        try:
            model.export(tmp_path / format, format=format)
        except ValueError as error:
            assert format in str(error).lower()
            assert not (tmp_path / format).exists()
            continue
        again = load_dictionary(tmp_path / format)
        assert_close(again.transform(known["x"]).toarray(), model.transform(known["x"]).toarray())
        assert_close(predicted(again, known["x"]), predicted(model, known["x"]))


@pytest.mark.parametrize(
    ("format", "activation"),
    [
        *(("saelens", activation) for activation in ("relu", "topk", "batch_topk", "jump_relu", "abs_topk")),
        *(("dictionary_learning", activation) for activation in ("relu", "topk", "batch_topk", "jump_relu")),
        ("sparsify", "topk"),
    ],
)
def test_each_activation_is_written_for_the_tools_that_have_it(format, activation, tmp_path):
    generator = np.random.default_rng(0)
    components, encoder, X = generator.standard_normal((3, 12, 6))
    intercept, bias = generator.standard_normal(6), generator.standard_normal(12)
    model = SparseAutoencoder._from_arrays(
        components,
        encoder,
        activation=activation,
        intercept=intercept,
        encoder_intercept=bias,
        threshold=0.1,
        n_nonzero_coefs=3,
    )
    model.export(tmp_path, format=format)
    again = load_dictionary(tmp_path)
    assert_close(again.transform(X).toarray(), model.transform(X).toarray())
    assert_close(again.reconstruct(X), model.reconstruct(X))


@pytest.mark.parametrize("name", NAMES)
def test_what_an_autoencoder_can_be_is_one(name):
    others = {
        **dict.fromkeys(("MpSAE", "OMPSAE", "QSAE", "SemiNMF", "mlp_ln_1"), PretrainedDictionary),
        **dict.fromkeys(
            ("matching_pursuit", "temporal", "checkpoint-batch", "checkpoint-matryoshka"), PretrainedDictionary
        ),
        **dict.fromkeys(("transcode",), Transcoder),
        "sparsify/topk-skip": PretrainedDictionary,
        "crosscoder/": Crosscoder,
    }
    expected = next((kind for part, kind in others.items() if part in name), SparseAutoencoder)
    assert type(opened(name)) is expected


def test_rows_of_zeros_have_no_codes_where_the_tool_divides_by_their_length():
    model = opened("saelens/jumprelu-bdec0-const")
    assert np.isnan(reference("saelens/jumprelu-bdec0-const")["codes"]).any()
    assert model.transform(np.zeros((2, 16))).nnz == 0
    np.testing.assert_array_equal(model.reconstruct(np.zeros((2, 16))), 0)


def test_codes_by_threshold_on_request():
    known = reference("dictionary_learning/AutoEncoderTopK")
    model = opened_anew("dictionary_learning/AutoEncoderTopK", use_threshold=True)
    assert_close(model.transform(known["x"]).toarray(), known["threshold_codes"])


def test_the_loader_of_dictionary_learning_makes_decoders_unit_and_files_do_not(tmp_path):
    folder = tmp_path / "AutoEncoder"
    shutil.copytree(FOLDER / "dictionary_learning" / "AutoEncoder", folder)
    state = torch.load(folder / "ae.pt", weights_only=True)
    state["decoder.weight"] *= torch.linspace(0.5, 2, 64)
    torch.save(state, folder / "ae.pt")
    X = reference("dictionary_learning/AutoEncoder")["x"]
    lengths = np.linalg.norm(state["decoder.weight"].numpy(), axis=0)
    tools, files = load_dictionary(folder), load_dictionary(folder, normalize_decoder=False)
    assert_close(tools.transform(X).toarray(), files.transform(X).toarray() * lengths)
    assert_close(tools.reconstruct(X), files.reconstruct(X))


def test_a_checkpoint_of_a_trainer_has_its_scale_folded_in_and_its_threshold_kept():
    name = "saelens/midrun-batchtopk-avg"
    known, model = reference(name), opened(name)
    assert type(model) is SparseAutoencoder
    assert_close(model.transform(known["x"][:7]).toarray(), known["codes"][:7])


def test_a_batch_topk_before_the_end_of_its_run_warns_that_codes_depend_on_the_batch():
    with pytest.warns(UserWarning, match="largest of all rows that are coded together"):
        model = opened_anew("saelens/checkpoint-batchtopk")
    X = reference("saelens/checkpoint-batchtopk")["x"]
    assert model.transform(X).nnz == int(8.5 * len(X))
    by_row = opened_anew("saelens/checkpoint-batchtopk", batch=False)
    np.testing.assert_array_equal(by_row.transform(X).toarray()[:5], by_row.transform(X[:5]).toarray())


def test_a_threshold_that_was_never_set_is_told():
    with pytest.warns(UserWarning, match="was not set"):
        opened_anew("dictionary_learning/BatchTopKSAE-unset_threshold")


def test_rows_of_a_temporal_autoencoder_come_as_texts():
    model = opened("saelens/temporal-topk-tied")
    with pytest.raises(ValueError, match="n_texts, n_tokens, 16"):
        model.transform(np.zeros((5, 16)))


def test_a_transcoder_predicts_and_does_not_reconstruct():
    known, model = reference("saelens/transcoder-out24-none"), opened("saelens/transcoder-out24-none")
    with pytest.raises(TypeError, match="predict"):
        model.reconstruct(known["x"])
    with pytest.raises(TypeError, match="as Y"):
        model.score(known["x"])
    assert model.score(known["x"], known["recon"]) == pytest.approx(1)
    assert model.skip_ is None
    assert opened("saelens/skip_transcoder-out24-none").skip_.shape == (24, 16)


def test_l0_on_rows_is_compared_with_what_the_file_states():
    name = "dictionary_learning/AutoEncoderTopK"
    model, X = opened(name), reference(name)["x"]
    assert model.source_["l0"] == 8
    found = check_l0(model, X[5:], tolerance=0.5)
    assert found == pytest.approx((reference(name)["codes"][5:] != 0).sum(1).mean())
    dense = opened("dictionary_learning/BatchTopKSAE-unset_threshold")
    with pytest.raises(ValueError, match="8 are stated"):
        check_l0(dense, X)
    with pytest.raises(ValueError, match="state no L0"):
        check_l0(opened("saelens/standard-bdec1-none"), X)


def test_a_clone_of_a_dictionary_that_was_read_is_itself():
    model = opened("overcomplete/MpSAE")
    assert clone(model) is model
    assert model.fit(np.eye(16)) is model


def test_a_file_may_be_named_itself():
    whole = opened("dictionary_learning/GatedAutoEncoder")
    named = load_dictionary(FOLDER / "dictionary_learning" / "GatedAutoEncoder" / "ae.pt")
    assert named.fingerprint() == whole.fingerprint()
