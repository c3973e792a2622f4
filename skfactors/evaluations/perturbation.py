"""Whether factors that make up a class can be taken out without a loss to other classes."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from scipy import sparse

from skfactors.dictionaries.one_place import model_of_one_place
from skfactors.evaluations.controls import UNLEARNED, make_controls
from skfactors.evaluations.figures import CLASS_MEANS, DICTIONARY, STATES, Figures
from skfactors.evaluations.probes import additions, checked_labels, checked_numbers, dense_probes, halved, left_out
from skfactors.extraction.text.corpus import held

_FEWEST_CLASSES, _FEWEST_TEXTS = 3, 4
# Of a probe on the states, halfway between chance and perfection; below, it does not know the class.
_LEAST_ACCURACY = 0.75


def targeted_perturbation(
    extractor,
    dictionary,
    texts,
    labels,
    *,
    n_ablated: int | Sequence[int] = (2, 10, 50),
    site=None,
    layer=None,
    controls=UNLEARNED,
    n_resamples=1000,
    random_state=0,
    verbose=False,
) -> pd.DataFrame:
    """
    Tell whether taking the factors of a class out of states harms the probe of that class, and no other's.

    On one half of the texts a probe for each class is learned from their mean states, and the factors of a class are
    those with the largest w · d · Δf: what a factor's component d weighs with the probe's direction w, times the
    difference Δf between its mean activations in the class and in the others. They are taken out of the states of the
    other half.

    Parameters
    ----------
    extractor : TransformerFeatureExtractor
        Makes the rows of texts.
    dictionary : FactorModel, Pipeline or estimator
        Fitted to rows of one place.
    texts : sequence of str
        Others than the dictionary learned from.
    labels : sequence of length n_texts
        The class of each text. There are three classes at least: of two, each probe is the other's mirror image.
    n_ablated : int or sequence of int, default=(2, 10, 50)
        How many factors of a class are taken out; no more than there are.
    site, layer : default=None
        The place; None is the only one that the extractor reads.
    controls : sequence of str or mapping, default=("random factors", "hidden dimensions", "principal components")
        Of `CONTROLS`, or a dict of fitted dictionaries by name. The difference of class means is always there: in
        place of factors, one direction is levelled to the mean of the other classes.
    n_resamples : int, default=1000
        Of the bootstrap for intervals, over the texts of each class, of which there must be 5 in the second half.
    random_state : int, default=0
        For the halves, random factors and the bootstrap.
    verbose : bool, default=False
        Ignored: what takes time is the extractor, which has a parameter of its own.

    Returns
    -------
    DataFrame
        Columns as :func:`ground_truth` has them, over texts. Measures are `accuracy`, of the probes, with "hidden
        states" only, and for each of `n_ablated` such as 10 `targeted_10`: the drop of a class's accuracy when its own
        factors are taken out, less the mean drop of the others, in the mean of classes. In an accuracy, a class and all
        others count as much. Classes whose probe has an accuracy below 0.75 are left out, and the note says so; if
        fewer than three remain, the figures mean nothing and are NaN.

    Raises
    ------
    NotFittedError, OSError, TypeError, ValueError
        If the dictionary is not fitted, or has rows of another width; there is no such place or control; there are not
        as many labels as texts; or there are fewer than three classes of four texts.

    See Also
    --------
    absorption : Whether a factor falls silent where a more special one takes its part.

    References
    ----------
    Karvonen et al. (2025), "SAEBench: a comprehensive benchmark for sparse autoencoders in language model
    interpretability", arXiv 2503.09532, for targeted probe perturbation.

    Examples
    --------
    >>> from skfactors import SparseDictionary, TransformerFeatureExtractor
    >>> from skfactors.datasets import demo_model
    >>> from skfactors.evaluations import targeted_perturbation
    >>> extractor = TransformerFeatureExtractor(demo_model(), layers=[3])
    >>> subjects = {"sport": "match goal team", "money": "bank loan share", "food": "bread soup rice"}
    >>> labels = [subject for subject in subjects for _ in range(6)]
    >>> texts = [f"The {word} of {n}." for words in subjects.values() for word in words.split() for n in ("old", "May")]
    >>> dictionary = SparseDictionary(16, n_nonzero_coefs=4, random_state=0).fit(extractor.extract(texts).X)
    >>> table = targeted_perturbation(extractor, dictionary, texts, labels, n_ablated=2, controls="random factors")
    >>> table["scored"].unique().tolist()
    ['hidden states', 'dictionary', 'random factors', 'difference of class means']
    """
    texts, labels, n_ablated = list(held(texts)), checked_labels(labels), checked_numbers(n_ablated, "n_ablated")
    if len(labels) != len(texts):
        raise ValueError(f"There are {len(labels)} labels of {len(texts)} texts: each text needs one.")
    model = model_of_one_place(dictionary, reconstructs=True)
    acts = extractor.extract(texts).at(site, layer)
    rows, documents = np.asarray(acts.X), acts.provenance["document"].to_numpy()
    mean_of = _means_by(documents)
    labels = labels[np.unique(documents)]
    classes = classes_of(labels)
    X, members, is_tested = mean_of @ rows.astype(np.float64), labels[:, None] == classes, halved(labels, random_state)
    learned_from, truth = members[~is_tested], members[is_tested]
    directions, offsets = dense_probes(X[~is_tested], learned_from)
    before = X[is_tested] @ directions.T + offsets
    # A class and all others count as much, and all texts together as much as there are. Intervals keep these numbers.
    weights = np.where(truth, 0.5 / truth.sum(axis=0), 0.5 / (~truth).sum(axis=0)) * len(truth)
    is_right = (before > 0) == truth
    is_known = (weights * is_right).mean(axis=0) >= _LEAST_ACCURACY
    note = left_out(classes, is_known, at_least=_FEWEST_CLASSES)
    figures = Figures(n_resamples, random_state)
    tested_classes = labels[is_tested]
    figures.add("accuracy", STATES, (weights * is_right).mean(axis=1), classes=tested_classes)

    def add(measure, name, changes):
        """Add what comes of changes to decisions, of shape (n_classes, n_texts, n_classes): by the ablated class."""
        drops = weights * (is_right.astype(float) - ((before + changes > 0) == truth))
        drops = drops[is_known][:, :, is_known]
        own = drops.diagonal(axis1=0, axis2=2)
        others = (drops.sum(axis=2).T - own) / max(len(drops) - 1, 1)
        of_texts = (own - others).mean(axis=1) if len(drops) else np.empty(0)
        figures.add(
            measure, name, of_texts, units="texts", classes=tested_classes if len(of_texts) else None, note=note
        )

    for name, of in {DICTIONARY: model, **make_controls(model, rows, controls, random_state)}.items():
        of = model_of_one_place(of, reconstructs=True)
        activations, weighed = (mean_of @ additions(of, rows)).toarray(), of.components_ @ directions.T
        ranked = np.argsort(-weighed * _differences(activations[~is_tested], learned_from).T, axis=0, kind="stable")
        for number in n_ablated:
            add(
                f"targeted_{number}",
                name,
                np.stack([-activations[is_tested][:, best] @ weighed[best] for best in ranked[:number].T]),
            )
    differences = _differences(X[~is_tested], learned_from)
    differences /= np.maximum(np.linalg.norm(differences, axis=1, keepdims=True), np.finfo(float).tiny)
    levels = np.stack([X[~is_tested][~is_in].mean(axis=0) for is_in in learned_from.T])
    levelled = np.stack(
        [
            np.outer((level - X[is_tested]) @ difference, directions @ difference)
            for level, difference in zip(levels, differences, strict=True)
        ]
    )
    for number in n_ablated:
        add(f"targeted_{number}", CLASS_MEANS, levelled)
    return figures.table()


def classes_of(labels) -> np.ndarray:
    """
    Return the classes of labels, which :func:`checked_labels` returned.

    Raises
    ------
    ValueError
        If there are fewer than three, or one has fewer than four texts.
    """
    classes, counts = np.unique(labels, return_counts=True)
    if len(classes) < _FEWEST_CLASSES or counts.min() < _FEWEST_TEXTS:
        raise ValueError(
            f"There are {len(classes)} classes, and the smallest has {counts.min()} texts with tokens; "
            f"{_FEWEST_CLASSES} classes of {_FEWEST_TEXTS} texts are needed, and better of some dozens."
        )
    return classes


def _means_by(groups) -> sparse.csr_array:
    """Return what makes means of rows by group."""
    _, numbers, counts = np.unique(groups, return_inverse=True, return_counts=True)
    shares = 1 / counts[numbers]
    return sparse.csr_array((shares, (numbers, np.arange(len(groups)))), shape=(len(counts), len(groups)))


def _differences(values, members) -> np.ndarray:
    """Return by how much the mean of each class is above that of the others, of shape (n_classes, n_values)."""
    return np.stack([values[is_in].mean(axis=0) - values[~is_in].mean(axis=0) for is_in in members.T])
