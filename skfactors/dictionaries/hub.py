"""Dictionaries on a hub of models, and the cards that say what they are."""

from tempfile import TemporaryDirectory

import numpy as np

from skfactors.dictionaries.rows import batches_of, check_rows
from skfactors.dictionaries.sparse_coding.sparse_dictionary import SparseDictionary
from skfactors.metrics import explained_variance, l0
from skfactors.output import with_plain_output

_ROWS_OF_CARD = 2048
_CARD = """---
{head}---

# {kind}

A dictionary of factors: rows of hidden states are sparse sums of them.

| | |
|---|---|
{table}

Explained variance is 1 - Σ‖x - x̂‖² / Σ‖x - μ‖². It says little without that of random factors beside it.

```python
from skfactors import FactorModel

dictionary = FactorModel.from_pretrained("this repository")
codes = dictionary.transform(X)
```
"""


def push(model, repo: str, *, private, revision, commit_message, token, X, about) -> str:
    """Upload a dictionary and its card; see :meth:`skfactors.FactorModel.push_to_hub`."""
    from huggingface_hub import HfApi

    api = HfApi(token=token)
    # What cannot be saved is to be known before a repository is made.
    with TemporaryDirectory() as folder:
        model.save_pretrained(folder, X=X, **about)
        repo = api.create_repo(repo, private=private, exist_ok=True).repo_id
        if revision is not None:
            api.create_branch(repo, branch=revision, exist_ok=True)
        done = api.upload_folder(repo_id=repo, folder_path=folder, revision=revision, commit_message=commit_message)
    return done.commit_url


def card(model, X, about: dict) -> str:
    """
    Write the card of a dictionary: what it is of, and how well it explains rows, beside a control.

    Parameters
    ----------
    model : FactorModel
        Fitted.
    X : array-like of shape (n_rows, n_features) or None
        Rows that it has not learned from.
    about : dict
        What is known: `model`, `site`, `layer`, `data`, `license`, or anything else.

    Returns
    -------
    str
        Markdown, with a head of YAML.
    """
    import yaml

    said = getattr(model, "source_", {})
    sites, layers = ({str(place[of]): None for place in said.get("places", ())} for of in (0, 1))
    about = {name: value for name, value in about.items() if value is not None}
    facts = {
        "Model": about.pop("model", said.get("model")),
        "Site": about.pop("site", said.get("place", ", ".join(sites) or None)),
        "Layer": about.pop("layer", said.get("layer", ", ".join(layers) or None)),
        "Data": about.pop("data", None),
    }
    head = {
        "library_name": "skfactors",
        "tags": ["dictionary-learning", "interpretability", "sparse-autoencoder"],
        "license": about.pop("license", None),
        "base_model": facts["Model"],
    }
    facts |= {name.replace("_", " ").capitalize(): value for name, value in about.items()}
    facts["Factors"] = f"{len(model.components_):,}, of rows {model.n_features_in_:,} wide"
    facts |= _measured(model, X, said.get("l0"))
    table = "\n".join(f"| {name} | {'not said' if value is None else value} |" for name, value in facts.items())
    head = yaml.safe_dump({name: value for name, value in head.items() if value is not None}, sort_keys=False)
    return _CARD.format(head=head, kind=type(model).__name__, table=table)


def _measured(model, X, stated_l0) -> dict:
    if X is None:
        return {"L0": f"{stated_l0:g}, as stated" if stated_l0 else None, "Explained variance": None}
    X = np.asarray(next(batches_of(check_rows(model, X, reset=False), _ROWS_OF_CARD)), np.float32)
    codes = with_plain_output(model).transform(X)
    found = l0(codes)
    measured = {"L0": f"{found:.1f}, on {len(X):,} rows"}
    if not hasattr(model, "predict"):
        measured["Explained variance"] = f"{explained_variance(X, model.reconstruct(X)):.3f}"
        measured["of as many random factors, coded exactly, as many a row"] = f"{_control(model, X, found):.3f}"
    return measured


def _control(model, X, found) -> float:
    """Return the explained variance of random factors, as many and as many a row."""
    random = np.random.default_rng(0).standard_normal(model.components_.shape).astype(np.float32)
    random /= np.linalg.norm(random, axis=1, keepdims=True)
    control = SparseDictionary(len(random), n_nonzero_coefs=max(1, round(found)))
    control.components_, control.n_features_in_ = random, X.shape[1]
    mean = X.mean(0)
    return explained_variance(X, control.reconstruct(X - mean) + mean)
