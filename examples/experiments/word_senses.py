"""
Does one factor tell the senses of a word apart?
================================================

WordNet quotes sentences that show a word in one of its senses. For every word form that it shows in two parts of
speech, at least three times in the rarer one, this asks how well a single number tells the uses in the form's most
frequent part of speech from its other uses: the activation of the single best factor, the single best hidden
dimension, the best principal component, and the best factor of a random dictionary as sparse as the learned one; with
a logistic regression on the full hidden state as the ceiling. Which number is the best, and where its threshold lies,
is decided on training folds.

    python examples/experiments/word_senses.py

The dictionary is learned on Wikipedia. Its size and penalty are those, of the ones tried, that do best on a third of
the word forms; the tables are of the other forms. With ``--senses`` the task is to tell a form's most frequent sense
from its other senses in the same part of speech.
"""

from functools import cache

import numpy as np
import pandas as pd
from common import (
    kept_dictionary,
    make_extractor,
    make_parser,
    print_table,
    random_dictionary,
    read_halves,
    sample_rows,
    save_figure,
)
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import precision_recall_fscore_support
from sklearn.model_selection import StratifiedKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skfactors.datasets import load_wordnet_examples

N_FOLDS = 3
SHOWN_IN_FULL = ("left", "mind")


def ambiguous_forms(examples, least=N_FOLDS):
    """
    Find the word forms that are used in two parts of speech, at least `least` times in the second.

    Parameters
    ----------
    examples : DataFrame
        Columns `form` and `pos`.
    least : int, default=3

    Returns
    -------
    list of str
        In alphabetical order.
    """
    counts = examples.groupby(["form", "pos"]).size().sort_values(ascending=False)
    second = counts.groupby(level="form").nth(1)
    return sorted(second.index.get_level_values("form")[second >= least])


def as_sense_task(examples):
    """Put the sense in the place of the part of speech, and make a form of its own of a word in each part of speech."""
    return examples.assign(form=examples["form"] + " (" + examples["pos"] + ")", pos=examples["synset"])


def is_main_use(pos):
    """Mark the uses in the most frequent part of speech, of equals the first in the alphabet."""
    return (pos == pos.value_counts().sort_index().idxmax()).to_numpy()


def states_of_words(extractor, examples):
    """
    Extract the hidden states of each example's word, at its first token.

    Parameters
    ----------
    extractor : TransformerFeatureExtractor
    examples : DataFrame
        Columns `text` and `start`.

    Returns
    -------
    layers : list of int
    states : ndarray of shape (n_examples, n_layers, hidden_size)
    """
    layers = extractor.fit(examples["text"].tolist()).layers_
    starts = examples["start"].to_numpy()
    states = np.full((len(examples), len(layers), extractor.hidden_size_), np.nan, dtype=np.float32)
    for acts in extractor.iter_extract(examples["text"].tolist()):
        places = acts.provenance
        documents = places["document"].to_numpy()
        # A byte-level token holds the space before its word.
        at_word = (places["start"].to_numpy() <= starts[documents]) & (places["end"].to_numpy() > starts[documents])
        columns = places["layer"].map({layer: column for column, layer in enumerate(layers)}).to_numpy()
        states[documents[at_word], columns[at_word]] = acts.X[at_word]
    return layers, states


def separation(features, labels):
    """
    Measure how well each feature separates two classes.

    Parameters
    ----------
    features : ndarray of shape (n_rows, n_features)
    labels : ndarray of bool of shape (n_rows,)

    Returns
    -------
    ndarray of shape (n_features,)
        Difference of the class means, divided by the standard deviation plus 0.3 of the greatest one: without the
        addition, features that hardly vary would look best in a few rows.
    """
    difference = np.abs(features[labels].mean(axis=0) - features[~labels].mean(axis=0))
    deviation = features.std(axis=0)
    return difference / (deviation + 0.3 * deviation.max() + np.finfo(np.float32).tiny)


def predict_by_best_feature(features, labels, new_features):
    """
    Choose the feature that separates the rows given best, and classify others by it alone.

    Parameters
    ----------
    features : ndarray of shape (n_rows, n_features)
    labels : ndarray of bool of shape (n_rows,)
    new_features : ndarray of shape (n_new, n_features)

    Returns
    -------
    predicted : ndarray of bool of shape (n_new,)
        On which side of the middle between the class means a row lies.
    best : int
        The feature.
    """
    best = int(separation(features, labels).argmax())
    above, below = features[labels, best].mean(), features[~labels, best].mean()
    return (new_features[:, best] - (above + below) / 2) * (above - below) > 0, best


def predict_by_all_features(features, labels, new_features):
    """Classify rows by a logistic regression on all features, as :func:`predict_by_best_feature` does by one."""
    model = make_pipeline(StandardScaler(), LogisticRegression(C=0.1, class_weight="balanced", max_iter=500))
    return model.fit(features, labels).predict(new_features), None


def cross_validated(features, labels, predict, n_repeats=2):
    """
    Predict each row from folds that it is not in, several times with other folds.

    Parameters
    ----------
    features : ndarray of shape (n_rows, n_features)
    labels : ndarray of bool of shape (n_rows,)
    predict : callable
        `predict_by_best_feature` or `predict_by_all_features`.
    n_repeats : int, default=2

    Returns
    -------
    scores : ndarray of shape (3,)
        Precision, recall and F1, each the mean of both classes' and of the repeats.
    chosen : list of int or None
        The feature chosen in each fold.
    """
    scores, chosen = [], []
    for repeat in range(n_repeats):
        predicted = np.zeros(len(labels), dtype=bool)
        for train, test in StratifiedKFold(N_FOLDS, shuffle=True, random_state=repeat).split(features, labels):
            predicted[test], best = predict(features[train], labels[train], features[test])
            chosen.append(best)
        scores.append(precision_recall_fscore_support(labels, predicted, average="macro", zero_division=0)[:3])
    return np.mean(scores, axis=0), chosen


def scores_by_form(features, examples, forms, predict=predict_by_best_feature):
    """
    Score a kind of feature on every word form.

    Parameters
    ----------
    features : ndarray of shape (n_examples, n_features)
    examples : DataFrame
    forms : list of str
    predict : callable

    Returns
    -------
    DataFrame
        Index `forms`; columns `precision`, `recall`, `F1`.
    """
    scores = []
    for form in forms:
        rows = (examples["form"] == form).to_numpy()
        scores.append(cross_validated(features[rows], is_main_use(examples["pos"][rows]), predict)[0])
    return pd.DataFrame(scores, index=forms, columns=["precision", "recall", "F1"])


def interval(values, n_samples=2000, seed=0):
    """Return the 95 % bootstrap interval of a mean, drawing word forms."""
    drawn = np.random.default_rng(seed).integers(len(values), size=(n_samples, len(values)))
    return np.quantile(np.asarray(values)[drawn].mean(axis=1), [0.025, 0.975])


def by_layer(features, examples, forms, predict=predict_by_best_feature):
    """Return the scores of every word form at each layer, a list of DataFrames."""
    return [scores_by_form(features[:, place], examples, forms, predict) for place in range(features.shape[1])]


def apply_by_layer(function, states):
    """Turn states of shape (n_examples, n_layers, hidden_size) into features of the same first two dimensions."""
    return np.stack([function(states[:, place]) for place in range(states.shape[1])], axis=1)


def coded(dictionary):
    """Return the function from rows to dense activations."""
    return lambda X: dictionary.transform(X).toarray()


def best_layer(tables):
    """Return the place of the table with the greatest mean F1."""
    return int(np.argmax([table["F1"].mean() for table in tables]))


def choose_dictionary(arguments, extractor, texts, states, examples, forms):
    """
    Learn a few dictionaries and take the one whose best factors do best on some word forms.

    Returns
    -------
    SparseDictionary
    """
    rows = []
    sample = cache(lambda: sample_rows(extractor, texts, arguments.n_rows))
    for n_components, penalty in arguments.try_dictionaries:
        arguments.n_components = n_components
        dictionary = kept_dictionary(arguments, extractor, texts, penalty=penalty, sample=lambda *_: sample())
        tables = by_layer(apply_by_layer(coded(dictionary), states), examples, forms)
        best = best_layer(tables)
        rows.append((n_components, penalty, extractor.layers_[best], tables[best]["F1"].mean(), dictionary))
    tried = pd.DataFrame(rows, columns=["factors", "penalty", "best layer", "mean F1", "dictionary"])
    title = f"Dictionaries tried on {len(forms)} word forms, which count no further"
    print_table(title, tried.drop(columns="dictionary"), decimals=3)
    return tried["dictionary"][tried["mean F1"].idxmax()]


def kinds_of_features(dictionary, X, states):
    """
    Make the features to compare.

    Parameters
    ----------
    dictionary : SparseDictionary
    X : ndarray of shape (n_rows, hidden_size)
        Hidden states of other texts, for principal components and the sparsity of the random dictionary.
    states : ndarray of shape (n_examples, n_layers, hidden_size)

    Returns
    -------
    dict of str to (ndarray of shape (n_examples, n_layers, n_features), callable)
        Features, and how rows are classified by them.
    """
    random = random_dictionary(dictionary, X[:2000])
    functions = {
        "factor": coded(dictionary),
        "hidden dimension": lambda X: X,
        "principal component": PCA(min(X.shape), random_state=0).fit(X).transform,
        "random dictionary": coded(random),
        "product with a factor's direction": lambda X: X @ dictionary.components_.T,
        "product with a random direction": lambda X: X @ random.components_.T,
    }
    kinds = {name: (apply_by_layer(of, states), predict_by_best_feature) for name, of in functions.items()}
    return kinds | {"full hidden state": (states, predict_by_all_features)}


def summary_table(scores, layers, chosen):
    """Return a row for each kind of feature: scores at the chosen layer, and F1 less that of the hidden dimension."""
    reference = scores["hidden dimension"][chosen["hidden dimension"]]["F1"]
    rows = []
    for name, tables in scores.items():
        table = tables[chosen[name]]
        row = {"best single": name, "layer": layers[chosen[name]]}
        for column in table:
            row[column] = "{:.3f} ({:.3f} to {:.3f})".format(table[column].mean(), *interval(table[column]))
        difference = table["F1"] - reference
        row["F1 less the dimension's"] = "{:+.3f} ({:+.3f} to {:+.3f})".format(difference.mean(), *interval(difference))
        rows.append(row)
    return pd.DataFrame(rows)


def by_labels(scores, chosen, n_rarer):
    """Return mean F1 by the number of examples outside the main part of speech."""
    groups = pd.cut(n_rarer, [0, 3, 5, 8, np.inf], labels=["3", "4 to 5", "6 to 8", "9 or more"])
    columns = {
        name: tables[chosen[name]]["F1"].groupby(groups, observed=True).mean() for name, tables in scores.items()
    }
    counts = groups.value_counts().reindex(groups.cat.categories)
    table = pd.DataFrame({"examples of other uses": counts.index.astype(str), "word forms": counts.to_numpy()})
    for name, values in columns.items():
        table[name] = values.reindex(counts.index).to_numpy()
    return table


def show_in_full(form, features, examples):
    """
    Print every use of a word form with the activation of one factor.

    Notes
    -----
    The factor is the one chosen in most folds; where uses are too few for folds, the one that separates them best,
    which is then an illustration and no score.
    """
    rows = (examples["form"] == form).to_numpy()
    if not rows.any():
        return
    uses, features, main_use = examples[rows], features[rows], is_main_use(examples["pos"][rows])
    if min(main_use.sum(), (~main_use).sum()) >= N_FOLDS:
        (precision, recall, f1), chosen = cross_validated(features, main_use, predict_by_best_feature)
        factor = max(set(chosen), key=chosen.count)
        how = f"chosen in {chosen.count(factor)} of {len(chosen)} folds; held-out precision {precision:.2f}, "
        how += f"recall {recall:.2f}, F1 {f1:.2f}"
    else:
        factor, how = int(separation(features, main_use).argmax()), "which separates these very uses best: no score"
    table = pd.DataFrame(
        {"part of speech": uses["pos"], "sense": uses["synset"], "activation": features[:, factor], "use": uses["text"]}
    )
    print_table(f'"{form}" by factor {factor}, {how}', table.sort_values("activation", ascending=False))


def main():
    """Choose the dictionary and the layers on some word forms, score everything on the others."""
    parser = make_parser("Word senses.", one_dictionary=False)
    parser.add_argument("--n-forms", type=int, help="word forms to look at, drawn at random (default: all)")
    parser.set_defaults(try_dictionaries=((256, 0.05), (512, 0.05), (2048, 0.1)))
    parser.add_argument(
        "--try",
        dest="try_dictionaries",
        type=lambda pair: (int(pair.split(":")[0]), float(pair.split(":")[1])),
        nargs="+",
        metavar="FACTORS:PENALTY",
        help="dictionaries to choose from (default: 256:0.05 512:0.05 2048:0.1)",
    )
    parser.add_argument("--senses", action="store_true", help="tell senses of one part of speech apart instead")
    arguments = parser.parse_args()
    examples = load_wordnet_examples()
    examples["form"] = examples["word"].str.lower()
    if arguments.senses:
        examples = as_sense_task(examples)
    forms = np.random.default_rng(0).permutation(ambiguous_forms(examples))[: arguments.n_forms]
    examples = examples[examples["form"].isin([*forms, *SHOWN_IN_FULL])].reset_index(drop=True)
    # What is shown in full is not chosen by.
    choosing = [form for form in forms if form not in SHOWN_IN_FULL][: max(1, len(forms) // 3)]
    scored = sorted(set(forms) - set(choosing))

    extractor = make_extractor(arguments)
    first, _ = read_halves(arguments)
    layers, states = states_of_words(extractor, examples)
    dictionary = choose_dictionary(arguments, extractor, first, states, examples, choosing)
    X, _ = sample_rows(extractor, first[:12], 20_000)

    kinds = kinds_of_features(dictionary, X, states)
    chosen, scores = {}, {}
    for name, (features, predict) in kinds.items():
        chosen[name] = best_layer(by_layer(features, examples, choosing, predict))
        scores[name] = by_layer(features, examples, scored, predict)
    title = f"{len(scored)} word forms, each feature at the layer that did best on the other forms"
    print_table(f"{title}; 95 % intervals over word forms", summary_table(scores, layers, chosen))
    curves = {name: [table["F1"].mean() for table in tables] for name, tables in scores.items()}
    curves = pd.DataFrame(curves, index=pd.Index(layers, name="layer"))
    print_table("Mean F1 by layer", curves.T.rename_axis("best single").reset_index(), decimals=3)
    n_rarer = pd.Series({form: (~is_main_use(examples["pos"][examples["form"] == form])).sum() for form in scored})
    print_table("Mean F1 by the number of labels", by_labels(scores, chosen, n_rarer), decimals=3)
    for form in SHOWN_IN_FULL:
        show_in_full(form, kinds["factor"][0][:, chosen["factor"]], examples)

    def draw(figure):
        axes = figure.subplots()
        curves.plot(ax=axes, marker="o")
        axes.set(ylabel="mean F1", xticks=layers)
        axes.legend(loc="upper left", bbox_to_anchor=(1, 1))

    save_figure(arguments, "word_senses", draw, figsize=(8, 5))


if __name__ == "__main__":
    main()
