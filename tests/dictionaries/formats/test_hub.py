"""Dictionaries go to a hub of models with a card, and come from it. The hub is a server on this machine."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest
import yaml
from huggingface_hub import constants
from support.hub_server import hub
from support.other_tools import FOLDER, opened

from skfactors import FactorModel, SparseDictionary, load_dictionary
from skfactors.metrics import explained_variance, l0


@pytest.fixture(scope="module")
def X():
    return np.abs(np.random.default_rng(0).standard_normal((300, 8))).astype(np.float32)


@pytest.fixture(scope="module")
def dictionary(X):
    return SparseDictionary(20, n_nonzero_coefs=3, random_state=0, device="cpu").fit(X)


def head_of(card):
    return yaml.safe_load(card.split("---")[1])


def test_a_folder_is_saved_with_a_card_and_opens_again(dictionary, tmp_path):
    dictionary.save_pretrained(tmp_path, model="bert-base-uncased", site="hidden_states", layer=4, data="Wikipedia")
    card = (tmp_path / "README.md").read_text(encoding="utf-8")
    assert head_of(card)["base_model"] == "bert-base-uncased"
    assert head_of(card)["library_name"] == "skfactors"
    for said in (
        "| Site | hidden_states |",
        "| Layer | 4 |",
        "| Data | Wikipedia |",
        "| Explained variance | not said |",
    ):
        assert said in card
    again = SparseDictionary.from_pretrained(tmp_path)
    assert again.fingerprint() == dictionary.fingerprint()
    (tmp_path.parent / "above").mkdir()
    assert FactorModel.from_pretrained(tmp_path.parent, subfolder=tmp_path.name).fingerprint() == again.fingerprint()


def test_a_card_measures_the_dictionary_beside_random_factors(dictionary, X, tmp_path):
    dictionary.save_pretrained(tmp_path, X=X, license="mit", note_of_ours="yes")
    card = (tmp_path / "README.md").read_text(encoding="utf-8")
    rows = dict(
        line.strip("| ").split(" | ")
        for line in card.splitlines()
        if line.startswith("| ") and " | " in line.strip("| ")
    )
    assert head_of(card)["license"] == "mit"
    assert rows["Note of ours"] == "yes"
    assert rows["L0"] == f"{l0(dictionary.transform(X)):.1f}, on 300 rows"
    assert float(rows["Explained variance"]) == pytest.approx(
        explained_variance(X, dictionary.reconstruct(X)), abs=0.001
    )
    control = float(next(value for name, value in rows.items() if "random factors" in name))
    assert 0 < control < float(rows["Explained variance"])


def test_a_card_says_what_the_file_of_another_tool_says(tmp_path):
    opened("saelens/topk-bdec1-none").save_pretrained(tmp_path)
    card = (tmp_path / "README.md").read_text(encoding="utf-8")
    for said in ("| Model | toy |", "| Site | blocks.0.hook_resid_pre |", "| L0 | 8, as stated |"):
        assert said in card


def test_a_name_that_can_be_neither_folder_nor_repository_is_told(tmp_path):
    for load in (load_dictionary, FactorModel.from_pretrained):
        with pytest.raises(FileNotFoundError, match="not the name of a repository"):
            load(tmp_path / "nothing")


NAME = "saelens/topk-bdec1-none"
CODE = """
import json
from skfactors import FactorModel, load_dictionary
dictionary = FactorModel.load(FOLDER)
said = {
    "pushed": dictionary.push_to_hub("me/factors", token="hf_a", model="bert-base-uncased"),
    "come back": FactorModel.from_pretrained("me/factors").fingerprint(),
    "loaded": load_dictionary("me/factors").fingerprint(),
    "of another tool": load_dictionary("their/saes", subfolder="layer_3").fingerprint(),
    "a file of it": load_dictionary("their/saes", subfolder="layer_3/sae_weights.safetensors").fingerprint(),
}
try:
    load_dictionary("their/saes", subfolder="layer_5")
except FileNotFoundError as error:
    said["no such folder"] = str(error)
print(json.dumps(said))
"""


@pytest.fixture(scope="module")
def at_a_hub(dictionary, tmp_path_factory):
    """What a process has done at a hub: what it printed, the repositories since, and what was asked of the hub."""
    home = tmp_path_factory.mktemp("hub")
    dictionary.save(home / "saved")
    files = {path.name: path.read_bytes() for path in (FOLDER / NAME).iterdir()}
    repos = {"their/saes": {f"layer_3/{file}": of for file, of in files.items()} | {"layer_4/other.bin": b"1" * 100}}
    with hub(repos) as (address, asked):
        environment = os.environ | {
            "HF_ENDPOINT": address,
            "HF_HUB_OFFLINE": "0",
            "HF_HOME": str(home / "home"),
            "HF_HUB_DISABLE_XET": "1",
            "HF_HUB_DISABLE_PROGRESS_BARS": "1",
            "NO_PROXY": "127.0.0.1",
        }
        code = f"import sys; sys.path[:] = {sys.path!r}\n" + CODE.replace("FOLDER", repr(str(home / "saved")))
        done = subprocess.run(
            [sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=240
        )
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout), repos, asked, address, home / "home" / "hub"


def test_a_dictionary_goes_to_a_repository_and_comes_back(dictionary, at_a_hub):
    said, repos, _, address, _ = at_a_hub
    assert said["pushed"].startswith(f"{address}/me/factors/commit/")
    assert said["come back"] == said["loaded"] == dictionary.fingerprint()
    assert set(repos["me/factors"]) == {"README.md", "config.json", "dictionary.safetensors"}
    assert head_of(repos["me/factors"]["README.md"].decode())["base_model"] == "bert-base-uncased"


def test_of_a_repository_of_another_tool_only_what_is_read_is_downloaded(at_a_hub):
    said, _, asked, _, _ = at_a_hub
    assert said["of another tool"] == said["a file of it"] == opened(NAME).fingerprint()
    downloaded = {path for method, path in asked if method == "GET" and "their/saes/resolve" in path}
    assert {path.rpartition("/")[2] for path in downloaded} == {"cfg.json", "sae_weights.safetensors"}
    assert "2 folders, such as layer_3, layer_4" in said["no such folder"]


def test_what_was_downloaded_before_opens_without_a_hub(dictionary, at_a_hub, monkeypatch):
    assert constants.HF_HUB_OFFLINE
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(at_a_hub[-1]))
    assert load_dictionary("their/saes", subfolder="layer_3").fingerprint() == opened(NAME).fingerprint()
    assert FactorModel.from_pretrained("me/factors").fingerprint() == dictionary.fingerprint()
