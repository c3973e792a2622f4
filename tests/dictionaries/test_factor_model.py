"""What all dictionaries share: saving and opening, telling apart, reconstructing, and going to torch."""

import json

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.optimize import check_grad
from sklearn.decomposition import NMF
from sklearn.exceptions import NotFittedError
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import Normalizer, PowerTransformer, StandardScaler
from support.dictionaries import StandInModel
from support.problems import random_problem

from skfactors import FactorModel, SparseDictionary
from skfactors.commands import main
from skfactors.dictionaries import as_factor_model
from skfactors.dictionaries.persistence import read_dictionary, write_dictionary
from skfactors.metrics import explained_variance


@pytest.fixture(scope="module")
def X():
    rows, components = random_problem(0, n_rows=300, n_components=10, n_features=8)
    return np.abs(rows) @ np.eye(8) + 3 * np.abs(components[:1])


def fitted(X, **parameters):
    return SparseDictionary(10, **({"alpha": 0.2, "random_state": 0, "device": "cpu"} | parameters)).fit(X)


def test_a_folder_opens_as_the_class_it_holds_whichever_is_asked(X, tmp_path):
    dictionary = fitted(X)
    dictionary.save(tmp_path)
    opened = FactorModel.load(tmp_path)
    assert type(opened) is SparseDictionary
    np.testing.assert_array_equal(opened.transform(X).toarray(), dictionary.transform(X).toarray())


def test_a_folder_opens_where_its_device_is_not(X, tmp_path):
    dictionary = fitted(X)
    dictionary.set_params(device="cuda").save(tmp_path)
    np.testing.assert_array_equal(
        FactorModel.load(tmp_path).set_params(device="cpu").components_, dictionary.components_
    )
    assert FactorModel.load(tmp_path).device == "auto"


def rewritten(folder, **changes):
    """Write a configuration as a program would that knows of its checksum."""
    config, arrays = read_dictionary(folder)
    names = ("skfactors", "estimator", "module", "parameters", "fitted")
    write_dictionary(folder, {name: config[name] for name in names} | changes, arrays)


def test_a_folder_of_a_later_version_says_so(X, tmp_path):
    fitted(X).save(tmp_path)
    rewritten(tmp_path, estimator="HyperDictionary")
    with pytest.raises(ValueError, match="HyperDictionary.*update skfactors"):
        FactorModel.load(tmp_path)


def test_a_folder_with_parameters_of_a_later_version_says_so(X, tmp_path):
    fitted(X).save(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    rewritten(tmp_path, parameters=config["parameters"] | {"curvature": 3})
    with pytest.raises(ValueError, match="curvature.*Update skfactors"):
        FactorModel.load(tmp_path)


@pytest.mark.parametrize("change", [{"parameters": {"alpha": 0.5}}, {"fitted": {"n_features_in_": 3}}, {"spare": 1}])
def test_an_edited_configuration_is_refused_and_not_sound(X, tmp_path, change, capsys):
    fitted(X).save(tmp_path)
    path = tmp_path / "config.json"
    config = json.loads(path.read_text())
    for name, value in change.items():
        config[name] = config[name] | value if name in config else value
    path.write_text(json.dumps(config, indent=2))
    with pytest.raises(ValueError, match=r"config\.json.*altered"):
        FactorModel.load(tmp_path)
    assert main(["verify", str(tmp_path)]) == 1
    assert "altered" in capsys.readouterr().out


def test_a_configuration_that_lacks_a_part_is_damaged(X, tmp_path):
    fitted(X).save(tmp_path)
    path = tmp_path / "config.json"
    config = json.loads(path.read_text())
    del config["fitted"]
    path.write_text(json.dumps(config | {"format": 1}))
    with pytest.raises(ValueError, match="lacks fitted"):
        FactorModel.load(tmp_path)


def test_scoring_rows_with_names_warns_of_nothing(X, recwarn):
    frame = pd.DataFrame(X, columns=[f"unit {number}" for number in range(X.shape[1])])
    assert fitted(frame).score(frame) > 0
    assert not [str(warning.message) for warning in recwarn]


def test_a_pipeline_that_cannot_be_undone_codes_and_does_not_reconstruct(X):
    model = as_factor_model(make_pipeline(Normalizer(), SparseDictionary(10, alpha=0.05, device="cpu")).fit(X))
    assert model.transform(X).shape == (len(X), 10)
    with pytest.raises(TypeError, match="Normalizer cannot be undone"):
        model.reconstruct(X)


def test_scalars_that_a_model_has_learned_are_part_of_its_fingerprint():
    one, other = StandInModel(), StandInModel()
    for model, limit in ((one, 1.0), (other, 2.0)):
        model.fit(np.ones((3, 4)))
        model.limit_ = limit
    assert one.fingerprint() != other.fingerprint()


def test_steps_that_differ_in_what_they_keep_to_themselves_have_different_fingerprints(X):
    dictionary = fitted(X)
    one, other = (PowerTransformer().fit(rows) for rows in (X, X + 1))
    other.lambdas_ = one.lambdas_
    pipelines = (make_pipeline(step, dictionary) for step in (one, other))
    assert len({as_factor_model(pipeline).fingerprint() for pipeline in pipelines}) == 2


def test_no_rows_have_no_codes_in_torch(X):
    assert fitted(X).to_torch().encode(torch.zeros(0, X.shape[1])).shape == (0, 10)


def test_an_unfitted_model_has_no_fingerprint():
    with pytest.raises(NotFittedError):
        SparseDictionary().fingerprint()
    with pytest.raises(NotFittedError):
        as_factor_model(make_pipeline(StandardScaler(), SparseDictionary()))


@pytest.mark.parametrize(
    "change", [{"alpha": 0.3}, {"debias": True}, {"n_nonzero_coefs": 2}, {"tol": 1e-2}, {"positive_code": False}]
)
def test_what_changes_codes_changes_the_fingerprint(X, change):
    dictionary = fitted(X)
    before = dictionary.fingerprint()
    assert dictionary.set_params(**change).fingerprint() != before


def test_what_does_not_change_codes_leaves_the_fingerprint(X, tmp_path):
    dictionary = fitted(X)
    before = dictionary.fingerprint()
    dictionary.save(tmp_path)
    assert FactorModel.load(tmp_path).fingerprint() == before
    for change in ({"verbose": True}, {"batch_size": 7}, {"checkpoint_dir": "x"}, {"sparse_output": False}):
        assert dictionary.set_params(**change).fingerprint() == before
    assert fitted(X, random_state=1).fingerprint() != before


def test_pipelines_that_differ_in_their_scaler_have_different_fingerprints(X):
    dictionary = fitted(X)
    one, other = (make_pipeline(StandardScaler().fit(rows), dictionary) for rows in (X, 2 * X))
    assert as_factor_model(one).fingerprint() != as_factor_model(other).fingerprint()
    assert as_factor_model(one).fingerprint() != dictionary.fingerprint()


def test_a_pipeline_is_read_in_the_space_of_its_rows(X):
    pipeline = make_pipeline(StandardScaler(), fitted(X)).fit(X)
    model = as_factor_model(pipeline)
    codes = pipeline.transform(X)
    reconstructed = pipeline[0].inverse_transform(codes @ pipeline[-1].components_)
    np.testing.assert_allclose(model.reconstruct(X), reconstructed, atol=1e-5)
    np.testing.assert_allclose(codes @ model.components_ + model.intercept_, reconstructed, atol=1e-5)
    assert model.score(X) == pytest.approx(explained_variance(X, reconstructed))


def test_a_dictionary_of_another_library_is_read_alike(X):
    other = NMF(5, random_state=0, max_iter=2000).fit(np.abs(X))
    model = as_factor_model(other)
    np.testing.assert_allclose(model.reconstruct(np.abs(X)), other.transform(np.abs(X)) @ other.components_)
    before = model.fingerprint()
    other.components_ = other.components_ * 1.1
    assert as_factor_model(other).fingerprint() != before


def test_what_has_no_codes_is_refused_by_what_it_lacks():
    with pytest.raises(TypeError, match="StandardScaler has no components_"):
        as_factor_model(StandardScaler().fit(np.eye(3)))


@pytest.mark.parametrize("settings", [{}, {"debias": True}, {"n_nonzero_coefs": 3}, {"positive_code": False}])
def test_torch_codes_and_rows_are_those_of_the_estimator(X, settings):
    dictionary = fitted(X, dtype="float64", tol=1e-10, **settings)
    module = dictionary.to_torch()
    rows = torch.tensor(X)
    np.testing.assert_allclose(module.encode(rows).detach().numpy(), dictionary.transform(X).toarray(), atol=1e-5)
    np.testing.assert_allclose(module(rows).detach().numpy(), dictionary.reconstruct(X), atol=1e-5)


def test_gradients_of_torch_codes_are_those_of_finite_differences(X):
    dictionary = fitted(X, dtype="float64", tol=1e-12)
    module, row = dictionary.to_torch(), X[0]

    def value(x):
        return module.encode(torch.tensor(x[None])).square().sum().item()

    def gradient(x):
        x = torch.tensor(x[None], requires_grad=True)
        module.encode(x).square().sum().backward()
        return x.grad.numpy()[0]

    assert np.linalg.norm(gradient(row)) > 0.1
    assert check_grad(value, gradient, row, epsilon=1e-6) < 1e-3


def test_codes_have_indices_that_every_estimator_takes(X):
    assert fitted(X).transform(X).indices.dtype == np.int32
    assert fitted(X, n_nonzero_coefs=2).transform(X).indptr.dtype == np.int32


def test_a_class_that_was_defined_again_is_found_as_it_is_now(tmp_path):
    def defined():
        class Notebook(StandInModel):
            """As a cell of a notebook makes it, each time that it is run."""

        return Notebook

    old = defined()
    old().fit(np.ones((3, 4))).save(tmp_path)
    new = defined()
    assert type(FactorModel.load(tmp_path)) is new
    assert type(old.load(tmp_path)) is old
