"""Whether a few factors tell what texts are about."""

from collections.abc import Callable, Mapping, Sequence
from numbers import Integral
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy.stats import rankdata
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import StratifiedKFold, train_test_split
from sklearn.preprocessing import StandardScaler
from sklearn.utils import check_scalar

from skfactors.callers import warn_caller
from skfactors.compose import add_codes
from skfactors.datasets import load_probing_tasks
from skfactors.dictionaries.one_place import model_of_one_place
from skfactors.evaluations.controls import make_controls
from skfactors.evaluations.figures import CLASS_MEANS, COMPONENTS, DENSE, DICTIONARY, FEWEST_UNITS, RAW, Figures
from skfactors.evaluations.probes import checked_labels, checked_numbers
from skfactors.extraction.pooling import GroupPool
from skfactors.extraction.text.corpus import held
from skfactors.progress import progress_bar

_N_TRAIN = 1024
_CS = np.logspace(-5, 5, 11)
_FOLDS = 3
_SHARE_LEARNED_FROM = 0.8
_FEWEST_OF_A_CLASS = 10


def sparse_probing(
    extractor,
    dictionary,
    texts,
    tasks=None,
    *,
    site=None,
    layer=None,
    pooling="mean",
    k=(1, 2, 5, 16),
    n_train=_N_TRAIN,
    n_test=None,
    controls=("random factors",),
    n_resamples=1000,
    random_state=0,
    verbose=False,
) -> pd.DataFrame:
    """
    Tell how well the best few factors answer binary questions about texts.

    Of each task the factors are chosen on one part of its texts, by the difference of their class means, each divided
    by its mean activation where it is active. A logistic regression on them learns from the same part, its penalty
    chosen by cross-validation, and is scored on the other texts by the area under the ROC curve (AUC).

    Parameters
    ----------
    extractor : TransformerFeatureExtractor
        Makes the rows of texts.
    dictionary : FactorModel, Pipeline or estimator
        Fitted to rows of one place.
    texts : sequence of str
        Their rows give the mean that controls start from, how many active factors a row these have, and principal
        components.
    tasks : dict of str to (sequence of str, array-like), default=None
        By name, texts and their labels, of two classes, at least 10 texts of each. None loads 113 of them, by
        :func:`~skfactors.datasets.load_probing_tasks`.
    site, layer : default=None
        The place; None is the only one that the extractor reads.
    pooling : {"mean", "max"}, default="mean"
        How the activations of a factor over the tokens of a text become one.
    k : int or sequence of int, default=(1, 2, 5, 16)
        How many factors a probe has.
    n_train : int, default=1024
        Texts of a task to learn from, at most; never more than four in five of them.
    n_test : int, default=None
        Texts of a task to score on, at most; None is all others.
    controls : sequence of str, default=("random factors",)
        Of `CONTROLS`, coded with as many active factors a row. Others, without codes, are always there, see Notes.
    n_resamples : int, default=1000
        Of the bootstrap for intervals, over tasks.
    random_state : int, default=0
        For random factors, the parts of tasks and of cross-validation, and the bootstrap.
    verbose : bool, default=False
        Show a progress bar.

    Returns
    -------
    DataFrame
        Columns as :func:`ground_truth` has them, over tasks. Measures are `auc_1`, `auc_2`, `auc_5` and `auc_16`, the
        mean AUC of probes with so many factors. `difference` is task by task, which tells more than intervals that
        overlap because some tasks are hard for all.

    Raises
    ------
    NotFittedError, OSError, TypeError, ValueError
        If the dictionary is not fitted, or has rows of another width; the model cannot be loaded; there is no such
        place, control or pooling; or a task does not have two classes with enough texts of each.

    See Also
    --------
    skfactors.DocumentFactors : Factors of texts, for classifiers of one's own.

    Notes
    -----
    Always scored are "raw hidden dimensions" and "projections on principal components", rows without the mean, of which
    as many are chosen as of factors (where the maximum is pooled, of both signs); and, whatever k, "difference of class
    means", the one direction between these, and "the whole hidden state", a logistic regression on all dimensions. The
    last is what a dictionary cannot be expected to beat [1]_. Random factors come close to learned ones [2]_.

    References
    ----------
    .. [1] Kantamneni, Engels, Rajamanoharan, Tegmark, Nanda (2025), "Are Sparse Autoencoders Useful? A Case Study in
       Sparse Probing", arXiv 2502.16681.
    .. [2] "Sanity Checks for Sparse Autoencoders: Do SAEs Beat Random Baselines?", arXiv 2602.14111.

    Examples
    --------
    >>> from skfactors import SparseDictionary, TransformerFeatureExtractor
    >>> from skfactors.datasets import demo_model
    >>> from skfactors.evaluations import sparse_probing
    >>> extractor = TransformerFeatureExtractor(demo_model(), layers=[3])
    >>> words = "fine", "dull", "long", "new", "sad", "good", "poor", "big", "odd", "old"
    >>> films = [f"A {word} film." for word in words]
    >>> rivers = [text.replace("film", "river") for text in films]
    >>> dictionary = SparseDictionary(16, n_nonzero_coefs=4, random_state=0).fit(extractor.extract(films + rivers).X)
    >>> tasks = {"rivers": (films + rivers, [0] * 10 + [1] * 10), "films": (films + rivers, [1] * 10 + [0] * 10)}
    >>> table = sparse_probing(extractor, dictionary, films, tasks, k=[1])
    >>> table.loc[(table["measure"] == "auc_1") & (table["scored"] == "dictionary"), "value"].tolist()
    [1.0]
    """
    tasks = check_tasks(load_probing_tasks() if tasks is None else tasks, n_train, n_test, random_state)
    k = checked_numbers(k, "k")
    if len(tasks) < FEWEST_UNITS:
        warn_caller(f"{len(tasks)} tasks give no interval: {FEWEST_UNITS} are needed.")
    probing = Probing(site, layer, pooling, k, random_state)
    model = model_of_one_place(dictionary)
    coders = {DICTIONARY: model.transform, **probing.controls(extractor, model, texts, controls)}
    with progress_bar("sparse probing", total=len(tasks), enabled=verbose) as advance:
        scores = {}
        for name, task in tasks.items():
            scores[name] = probing.scores(probing.features(extractor, coders, task.texts), task)
            advance(1)
    return table_of_scores(scores.values(), n_resamples, random_state)


def held_tasks(tasks=None) -> dict:
    """
    Return tasks whose texts can be read more than once.

    Parameters
    ----------
    tasks : dict of str to (sequence of str, array-like), default=None
        As :func:`sparse_probing` takes them.

    Returns
    -------
    dict of str to (list of str, ndarray)

    Raises
    ------
    TypeError, ValueError
        If they are no tasks, or one could not be asked about.
    """
    tasks = load_probing_tasks() if tasks is None else tasks
    if isinstance(tasks, Mapping):
        tasks = {name: (list(held(texts)), checked_labels(labels)) for name, (texts, labels) in tasks.items()}
    check_tasks(tasks, _N_TRAIN, None, 0)
    return tasks


def n_probed(tasks) -> int:
    """Count the texts of tasks, as :func:`held_tasks` returns them."""
    return sum(len(texts) for texts, _ in tasks.values())


class Task(NamedTuple):
    """Texts to learn from, then those to score on; which of them are of the second class; and how many are first."""

    texts: list[str]
    is_second: np.ndarray
    n_train: int


def check_tasks(tasks: Mapping, n_train: int, n_test: int | None, random_state: int) -> dict[str, Task]:
    """
    Check tasks, all of them before a model runs, and part each in two.

    Parameters
    ----------
    tasks : dict of str to (sequence of str, array-like)
    n_train, n_test, random_state
        As :func:`sparse_probing` takes them.

    Returns
    -------
    dict of str to Task

    Raises
    ------
    ValueError
        If there is none, or one does not have two classes with enough texts of each.
    """
    check_scalar(n_train, "n_train", Integral, min_val=2 * _FOLDS)
    if n_test is not None:
        check_scalar(n_test, "n_test", Integral, min_val=2)
    if not isinstance(tasks, Mapping):
        raise TypeError(f"tasks must be a dict of texts and labels by name, not a {type(tasks).__name__}.")
    if not tasks:
        raise ValueError("There is no task.")
    return {name: _task(name, texts, labels, n_train, n_test, random_state) for name, (texts, labels) in tasks.items()}


def _task(name, texts, labels, n_train, n_test, random_state) -> Task:
    texts, labels = list(held(texts)), checked_labels(labels)
    if len(texts) != len(labels):
        raise ValueError(f"The task {name!r} has {len(texts)} texts and {len(labels)} labels.")
    classes, counts = np.unique(labels, return_counts=True)
    if len(classes) != 2:
        raise ValueError(f"The task {name!r} has {len(classes)} classes, not two: {classes[:5].tolist()}.")
    if counts.min() < _FEWEST_OF_A_CLASS:
        raise ValueError(
            f"The task {name!r} has {counts.min()} texts of the class {classes.tolist()[counts.argmin()]!r}: "
            f"{_FEWEST_OF_A_CLASS} of each class are needed."
        )
    n_train = min(n_train, int(_SHARE_LEARNED_FROM * len(labels)))
    train, test = train_test_split(
        np.arange(len(labels)),
        train_size=n_train,
        test_size=len(labels) - n_train if n_test is None else min(n_test, len(labels) - n_train),
        stratify=labels,
        random_state=random_state,
    )
    is_second = labels == classes[1]
    for part, least, of in ((train, _FOLDS, "n_train"), (test, 1, "n_test")):
        fewest = min(is_second[part].sum(), (~is_second[part]).sum())
        if fewest < least:
            raise ValueError(
                f"The task {name!r} has {fewest} texts of its rarer class among the {len(part)} of {of}: "
                f"{least} are needed. Make {of} larger."
            )
    chosen = np.concatenate([train, test])
    return Task([texts[number] for number in chosen], is_second[chosen], len(train))


class Probing(NamedTuple):
    """
    How tasks are probed: place, pooling, numbers of features and seed.

    Parameters
    ----------
    site, layer, pooling, k, random_state
        As :func:`sparse_probing` takes them.
    """

    site: str | None
    layer: int | None
    pooling: str
    k: Sequence[int]
    random_state: int

    def controls(self, extractor, model, texts, names) -> dict[str, Callable]:
        """Return by name what else turns rows into features."""
        if self.pooling not in ("mean", "max"):
            raise ValueError(f"pooling={self.pooling!r} must be 'mean' or 'max'.")
        X = np.asarray(extractor.extract(texts).at(self.site, self.layer).X)
        pca = PCA(min(len(model.components_), *X.shape), random_state=self.random_state).fit(X)
        controls = make_controls(model, X, names, self.random_state)
        return {name: of.transform for name, of in controls.items()} | {
            RAW: self._signed(lambda rows: rows - pca.mean_),
            COMPONENTS: self._signed(pca.transform),
        }

    def _signed(self, project: Callable) -> Callable:
        if self.pooling == "mean":
            return project
        # The maximum is blind to what is below zero.
        return lambda rows: np.hstack([project(rows), -project(rows)])

    def features(self, extractor, coders: Mapping[str, Callable], texts) -> dict[str, np.ndarray]:
        """Run texts through the model once, and return what each coder makes of their rows, pooled by text."""
        pools = {}
        for acts in extractor.iter_extract(texts):
            acts = acts.at(self.site, self.layer)
            for name, code in coders.items():
                if name not in pools:
                    pools[name] = GroupPool(len(texts), code(acts.X[:1]).shape[1], self.pooling, dtype=np.float32)
                add_codes(pools[name], code, acts)
        return {name: pool.result() for name, pool in pools.items()}

    def scores(self, features: Mapping[str, np.ndarray], task: Task) -> pd.Series:
        """Return the AUC on one task, by number of features and by what made them."""
        train, test = slice(None, task.n_train), slice(task.n_train, None)
        labels, held_out = task.is_second[train], task.is_second[test]
        scores = {}
        for name, X in features.items():
            scales = np.abs(X[train]).sum(axis=0) / np.maximum((X[train] != 0).sum(axis=0), 1)
            # Under a strong penalty decisions differ by less than float32 tells apart.
            X = X.astype(np.float64) / np.where(scales > 0, scales, 1)
            best = np.argsort(-np.abs(_difference(X[train], labels)), kind="stable")
            for k in self.k:
                chosen = X[:, best[:k]]
                scores[k, name] = self._auc(chosen[train], labels, chosen[test], held_out)
        states = features[RAW].astype(np.float64)
        states = StandardScaler().fit(states[train]).transform(states)
        between = features[RAW][test] @ _difference(features[RAW][train], labels)
        whatever_k = {
            CLASS_MEANS: roc_auc_score(held_out, between),
            DENSE: self._auc(states[train], labels, states[test], held_out),
        }
        return pd.Series(scores | {(k, name): auc for k in self.k for name, auc in whatever_k.items()})

    def _auc(self, X, labels, X_held_out, labels_held_out) -> float:
        """Score a logistic regression whose penalty is chosen by cross-validation."""
        aucs = np.zeros(len(_CS))
        for train, test in StratifiedKFold(_FOLDS, shuffle=True, random_state=self.random_state).split(X, labels):
            # From strong to weak penalties, each from where the one before ended.
            probe = LogisticRegression(max_iter=1000, warm_start=True)
            decisions = [probe.set_params(C=C).fit(X[train], labels[train]).decision_function(X[test]) for C in _CS]
            aucs += _aucs(np.array(decisions), labels[test])
        probe = LogisticRegression(C=_CS[aucs.argmax()], max_iter=1000).fit(X, labels)
        return roc_auc_score(labels_held_out, probe.decision_function(X_held_out))


def _difference(X, is_second):
    return X[is_second].mean(axis=0) - X[~is_second].mean(axis=0)


def _aucs(decisions, is_second):
    """Return the AUC of each row of decisions; as the sum of ranks, since scikit-learn's takes longer than a fit."""
    n_second = is_second.sum()
    ranks = rankdata(decisions, axis=1)[:, is_second].mean(axis=1)
    return (ranks - (n_second + 1) / 2) / (len(is_second) - n_second)


def table_of_scores(scores, n_resamples: int, random_state: int) -> pd.DataFrame:
    """
    Make the table of what :meth:`Probing.scores` returned for each task.

    Parameters
    ----------
    scores : iterable of Series
    n_resamples, random_state : int

    Returns
    -------
    DataFrame
    """
    scores = pd.DataFrame(list(scores))
    figures = Figures(n_resamples, random_state)
    for k, of_k in scores.T.groupby(level=0, sort=False):
        of_k = of_k.droplevel(0).T
        for name in of_k:
            figures.add(f"auc_{k}", name, of_k[name], units="tasks")
    return figures.table()
