"""
Does one factor of a larger dictionary tell the senses of a word apart, over all layers?
========================================================================================

The question of word_senses.py on other models, with dictionaries and an autoencoder of 4,096 factors. A factor's
activation is here its highest over all layers, and so is that of a factor of a random dictionary with as many active
factors. Beside them: the single best hidden dimension and principal component, each at the layer that does best on a
third of the word forms, the dimension also by its highest or lowest value over layers, and, as the ceiling, a logistic
regression on the full hidden state. The tables are of the other forms; all features, and their thresholds, are chosen
on training folds.

    python examples/experiments/word_senses_of_models.py --model FOLDER --layers 1 2 3 4 5 6
"""

import numpy as np
import pandas as pd
from common import digest, make_extractor, make_parser, print_table, read_halves, sample_rows
from sklearn.base import clone
from sklearn.decomposition import PCA
from word_senses import (
    ambiguous_forms,
    apply_by_layer,
    best_layer,
    by_layer,
    interval,
    predict_by_all_features,
    predict_by_best_feature,
    scores_by_form,
    states_of_words,
)

from skfactors import FactorModel, SparseAutoencoder, SparseDictionary
from skfactors.datasets import load_wordnet_examples
from skfactors.evaluations import random_control
from skfactors.metrics import explained_variance, l0

REFERENCE = "hidden dimension"
OUTLIERS = 10
# Estimators, and what they are given beyond numbers of factors.
LEARNED = {
    "SparseDictionary": (SparseDictionary, {"max_iter": 1}),
    "SparseDictionary, nested": (SparseDictionary, {"max_iter": 2, "group_sizes": [1 / 8] * 8}),
    "SparseAutoencoder": (SparseAutoencoder, {"max_iter": 3}),
}


def learned(arguments, extractor, texts):
    """
    Learn two dictionaries and an autoencoder, or load them if an earlier run has learned them.

    Returns
    -------
    dict of str to FactorModel
    X : ndarray of shape (n_rows, hidden_size)
        What they were learned from.
    """
    X, _ = sample_rows(extractor, texts, arguments.n_rows)
    models = {}
    for name, (estimator, more) in LEARNED.items():
        settings = {"n_nonzero_coefs": arguments.n_nonzero_coefs, **more, "random_state": 0}
        folder = arguments.out / "dictionaries" / digest(f"{name} {arguments.n_components} {settings} {digest(X)}")
        if not folder.exists():
            folder.parent.mkdir(parents=True, exist_ok=True)
            estimator(arguments.n_components, **settings).fit(X).save(folder)
        models[name] = FactorModel.load(folder)
    return models, X


def highest(code, states):
    """
    Code the states of all layers, and take the highest activation of each factor over them.

    Parameters
    ----------
    code : callable
        Rows to codes, sparse or not.
    states : ndarray of shape (n_examples, n_layers, hidden_size)

    Returns
    -------
    ndarray of shape (n_examples, n_features)
    """
    best = None
    for place in range(states.shape[1]):
        codes = code(states[:, place])
        codes = codes.toarray() if hasattr(codes, "toarray") else codes
        best = codes if best is None else np.maximum(best, codes)
    return best


def scores_of_features(models, X, states, examples, choosing, scored):
    """
    Score each kind of feature on word forms.

    Parameters
    ----------
    models : dict of str to FactorModel
    X : ndarray of shape (n_rows, hidden_size)
    states : ndarray of shape (n_examples, n_layers, hidden_size)
    examples : DataFrame
    choosing, scored : list of str
        Word forms: those that layers are chosen by, and those that are scored.

    Returns
    -------
    dict of str to (str, DataFrame)
        The layer by its place, or "all", and scores by word form.
    """
    random = random_control(models["SparseDictionary"], X[:4000])
    codes = {name: model.transform for name, model in models.items()} | {"random dictionary": random.transform}
    codes["hidden dimension, highest or lowest"] = lambda rows: np.hstack([rows, -rows])
    scores = {name: ("all", scores_by_form(highest(code, states), examples, scored)) for name, code in codes.items()}
    pca = PCA(min(X.shape), random_state=0).fit(X)
    for name, features, predict in (
        (REFERENCE, states, predict_by_best_feature),
        ("principal component", apply_by_layer(pca.transform, states), predict_by_best_feature),
        ("full hidden state", states, predict_by_all_features),
    ):
        place = best_layer(by_layer(features, examples, choosing, predict))
        scores[name] = (place, scores_by_form(features[:, place], examples, scored, predict))
    return scores


def main():
    """Learn on one half of the corpus, choose layers on some word forms, score on the others."""
    parser = make_parser("Word senses, by the highest activation over layers.", one_dictionary=False)
    parser.add_argument("--layers", type=int, nargs="+", default=[1, 2, 3, 4, 5, 6])
    parser.add_argument("--n-components", type=int, default=4096, help="number of factors (default: %(default)s)")
    parser.add_argument("--n-nonzero-coefs", type=int, default=16, help="active factors (default: %(default)s)")
    parser.add_argument(
        "--characters", type=int, default=8000, help="of a document that are learned from (default: %(default)s)"
    )
    parser.add_argument("--examples", help="file .csv with columns of load_wordnet_examples (default: WordNet's files)")
    parser.add_argument("--n-forms", type=int, help="word forms to look at, drawn at random (default: all)")
    arguments = parser.parse_args()
    examples = pd.read_csv(arguments.examples, keep_default_na=False) if arguments.examples else load_wordnet_examples()
    examples["form"] = examples["word"].str.lower()
    forms = np.random.default_rng(0).permutation(ambiguous_forms(examples))[: arguments.n_forms]
    examples = examples[examples["form"].isin(forms)].reset_index(drop=True)
    choosing, scored = list(forms[: len(forms) // 3]), sorted(forms[len(forms) // 3 :])

    extractor = make_extractor(arguments, arguments.layers)
    texts = [text[: arguments.characters] for text in read_halves(arguments)[0]]
    # Squared errors of a few huge states, as first tokens have, would decide what is learned.
    models, X = learned(arguments, clone(extractor).set_params(drop_outliers=OUTLIERS), texts)
    for name, model in models.items():
        codes = model.transform(X[:4000])
        explained = explained_variance(X[:4000], model.inverse_transform(codes))
        print(
            f"{name}: {len(model.components_):,} factors of {len(X):,} rows, explained variance {explained:.3f}, ",
            end="",
        )
        print(f"{l0(codes):.1f} active")
    layers, states = states_of_words(extractor, examples)
    scores = scores_of_features(models, X, states, examples, choosing, scored)
    reference, rows = scores[REFERENCE][1]["F1"], []
    for name, (place, table) in scores.items():
        figures = {"F1": (table["F1"], ".3f"), "F1 less the dimension's": (table["F1"] - reference, "+.3f")}
        row = {"best single": name, "layer": place if place == "all" else str(layers[place])}
        for column, (of, form) in figures.items():
            low, high = interval(of)
            row[column] = f"{of.mean():{form}} ({low:{form}} to {high:{form}})"
        rows.append(row)
    print_table(f"{len(scored)} word forms; 95 % intervals over word forms", pd.DataFrame(rows))


if __name__ == "__main__":
    main()
