"""Whether the factor of a general feature falls silent where a more special one takes its part."""

import re

import numpy as np
import pandas as pd
from sklearn.metrics import f1_score

from skfactors.dictionaries.one_place import model_of_one_place
from skfactors.evaluations.controls import UNLEARNED, make_controls
from skfactors.evaluations.figures import DICTIONARY, STATES, Figures
from skfactors.evaluations.probes import additions, dense_probes, halved, learn_probe, left_out
from skfactors.progress import progress_bar

_WORD = re.compile(r"[A-Za-z]{2,}")
_FEWEST_WORDS = 10
# Of a probe on the states; below, it does not know the letter.
_LEAST_F1 = 0.5
# By how much one more factor must raise the F1 of a sparse probe, and how many there may be.
_LEAST_RISE, _MOST_FACTORS = 0.03, 10
# Of a factor that absorbs: its share in the state's projection on the probe's direction, and its cosine with that.
_LEAST_SHARE, _LEAST_COSINE = 0.4, 0.1


def absorption(
    extractor,
    dictionary,
    texts,
    *,
    site=None,
    layer=None,
    controls=UNLEARNED,
    n_resamples=1000,
    random_state=0,
    verbose=False,
) -> pd.DataFrame:
    """
    Tell how often the factors of a word's first letter are silent where another factor carries that letter.

    Each word of the texts that is a single token counts once, where it first stands. On one half of them, a dense probe
    for each letter is learned from the states, and a sparse one from one to ten factors: those with the largest
    differences of class means, as long as each raises the F1 by 0.03. These are the letter's main factors. On the other
    half, among words that the dense probe knows, the main factors fail where none of them is active. Such a word is
    absorbed where a factor whose cosine with the probe's direction is at least 0.1 makes up at least 0.4 of the state's
    projection on it.

    Parameters
    ----------
    extractor : TransformerFeatureExtractor
        Of a language model: most encoders do not know how words are spelled, and the table says so then.
    dictionary : FactorModel, Pipeline or estimator
        Fitted to rows of one place.
    texts : sequence of str
        Others than the dictionary learned from, with some thousand different words.
    site, layer : default=None
        The place; None is the only one that the extractor reads. Spelling is best known in early layers.
    controls : sequence of str or mapping, default=("random factors", "hidden dimensions", "principal components")
        Of `CONTROLS`, or a dict of fitted dictionaries by name.
    n_resamples : int, default=1000
        Of the bootstrap for intervals, over words.
    random_state : int, default=0
        For the halves, random factors and the bootstrap.
    verbose : bool, default=False
        Show a progress bar.

    Returns
    -------
    DataFrame
        Columns as :func:`ground_truth` has them, over words. Measures are `probe_f1`, of the sparse probes, and of the
        dense ones as "hidden states"; `failed`, the share of words whose main factors are all silent; `absorbed`, the
        share of words that are absorbed. The last two are of letters whose dense probe has an F1 of at least 0.5: the
        note says which are left out. If these are more than half, the figures mean nothing and are NaN.

    Raises
    ------
    NotFittedError, OSError, TypeError, ValueError
        If the dictionary is not fitted, or has rows of another width; there is no such place or control; or no letter
        begins 10 words, or only one does.

    See Also
    --------
    targeted_perturbation : Whether factors of a class are of that class alone.

    Notes
    -----
    Little is absorbed where main factors fail without another one in their stead, as random ones do: read `absorbed`
    beside `failed`. States are projected without the intercept of the dictionary, which no factor is to make up for.

    References
    ----------
    Chanin, Wilken-Smith, Dulka, Bhatnagar, Golechha, Bloom (2024), "A is for Absorption: studying feature splitting and
    absorption in sparse autoencoders", arXiv 2409.14507.

    Examples
    --------
    >>> from skfactors import SparseDictionary, TransformerFeatureExtractor
    >>> from skfactors.datasets import demo_model, load_wikipedia
    >>> from skfactors.evaluations import absorption
    >>> extractor = TransformerFeatureExtractor(demo_model(), layers=[1])
    >>> texts = [article[:1500] for article in load_wikipedia(3)]
    >>> dictionary = SparseDictionary(64, n_nonzero_coefs=4, random_state=0).fit(extractor.extract(texts).X)
    >>> table = absorption(extractor, dictionary, texts, controls=[], n_resamples=100)
    >>> table["note"].iloc[-1]
    'means nothing: probes fail on the hidden states themselves'
    """
    model = model_of_one_place(dictionary, reconstructs=True)
    acts = extractor.extract(texts).at(site, layer)
    words, rows = first_of_each_word(acts)
    X, initials = np.asarray(acts.X, dtype=np.float64)[rows], np.array([word[0] for word in words], dtype="U1")
    letters, counts = np.unique(initials, return_counts=True)
    letters = letters[counts >= _FEWEST_WORDS]
    if len(letters) < 2:
        raise ValueError(
            f"Of the {len(words)} different words of one token in these texts, {_FEWEST_WORDS} must begin with one "
            f"letter and {_FEWEST_WORDS} with another, and better some thousand be there: give more texts."
        )
    members = initials[:, None] == letters
    is_tested = halved(initials, random_state)
    truth = members[is_tested]
    directions, offsets = dense_probes(X[~is_tested], members[~is_tested])
    dense = X[is_tested] @ directions.T + offsets > 0
    scores = np.array([f1_score(*pair, zero_division=0) for pair in zip(truth.T, dense.T, strict=True)])
    is_known = scores >= _LEAST_F1
    note = left_out(letters, is_known, at_least=-(-len(letters) // 2))
    known = truth & dense & is_known
    figures = Figures(n_resamples, random_state)
    scored = {DICTIONARY: model, **make_controls(model, X, controls, random_state)}
    with progress_bar("absorption", total=len(scored) * len(letters), enabled=verbose) as advance:
        for name, of in scored.items():
            of = model_of_one_place(of, reconstructs=True)
            codes = additions(of, X)
            predicted, is_active = np.zeros_like(truth), np.zeros_like(truth)
            for number, is_in in enumerate(members[~is_tested].T):
                main, probe = main_factors(codes[~is_tested], is_in)
                if len(main):
                    of_main = codes[is_tested][:, main].toarray()
                    predicted[:, number], is_active[:, number] = probe.predict(of_main), (of_main != 0).any(axis=1)
                advance(1)
            # A dictionary that scales each row has an intercept for each, too.
            intercepts = of.reconstruct(X[is_tested]) - codes[is_tested] @ of.components_
            is_carried = carried(codes[is_tested], of.components_, X[is_tested] - intercepts, directions)
            figures.add("probe_f1", name, *_f1_by_word(truth, predicted), units="words")
            figures.add("failed", name, ~is_active[known], units="words", note=note)
            figures.add("absorbed", name, (~is_active & is_carried)[known], units="words", note=note)
    figures.add("probe_f1", STATES, *_f1_by_word(truth, dense), units="words")
    return figures.table()


def first_of_each_word(acts) -> tuple[list[str], np.ndarray]:
    """Find the words that are single tokens, in lower case, and the rows where each first stands."""
    found = {}
    columns = (acts.provenance[name].tolist() for name in ("document", "start", "end"))
    for row, (document, start, end) in enumerate(zip(*columns, strict=True)):
        text = acts.texts[document]
        word = text[start:end].strip()
        first = end - len(text[start:end].lstrip())
        around = text[first - 1 : first] + text[end : end + 1]
        if _WORD.fullmatch(word) and not any(map(str.isalnum, around)):
            found.setdefault(word.lower(), row)
    return list(found), np.array(list(found.values()), dtype=np.int64)


def main_factors(codes, is_in):
    """
    Find the factors that tell rows of a class from others.

    Parameters
    ----------
    codes : csr_array of shape (n_rows, n_components)
    is_in : ndarray of bool of shape (n_rows,)

    Returns
    -------
    factors : ndarray of int
    probe : LogisticRegression or None
        On the codes of these; of no factor, None.
    """
    n_codes = np.diff(codes.tocsc().indptr)
    mean_code = np.abs(codes).sum(axis=0) / np.maximum(n_codes, 1)
    differences = codes[is_in].mean(axis=0) - codes[~is_in].mean(axis=0)
    differences = np.divide(differences, mean_code, out=np.zeros_like(differences), where=mean_code > 0)
    best = np.argsort(-differences, kind="stable")[:_MOST_FACTORS]
    best = best[differences[best] > 0]
    factors, probe, reached = best[:0], None, 0.0
    for number in range(1, len(best) + 1):
        values = codes[:, best[:number]].toarray()
        longer = _in_unit_of(values, mean_code[best[:number]], is_in)
        f1 = f1_score(is_in, longer.predict(values))
        if probe is not None and f1 < reached + _LEAST_RISE:
            break
        factors, probe, reached = best[:number], longer, f1
    return factors, probe


def _in_unit_of(values, unit, is_in):
    probe = learn_probe(values / unit, is_in)
    probe.coef_ = probe.coef_ / unit
    return probe


def carried(codes, components, X, directions) -> np.ndarray:
    """
    Tell where a factor makes up much of a row's projection on a direction that it is like.

    Parameters
    ----------
    codes : csr_array of shape (n_rows, n_components)
    components : ndarray of shape (n_components, n_features)
    X : ndarray of shape (n_rows, n_features)
        Without the intercept.
    directions : ndarray of shape (n_directions, n_features)

    Returns
    -------
    ndarray of bool of shape (n_rows, n_directions)
    """
    along = np.asarray(components, dtype=np.float64) @ directions.T
    lengths = np.linalg.norm(components, axis=1)[:, None] * np.linalg.norm(directions, axis=1)
    along[np.abs(along) < _LEAST_COSINE * lengths] = 0
    projections = X @ directions.T
    largest = np.stack([np.ravel((codes * of).max(axis=1).toarray()) for of in along.T], axis=1)
    return (projections > 0) & (largest >= _LEAST_SHARE * projections)


def _f1_by_word(truth, predicted):
    """Return twice the hits, and these with the misses and false alarms: F1 is the ratio of their sums."""
    hits = 2 * (truth & predicted).sum(axis=1)
    return hits, hits + (truth ^ predicted).sum(axis=1)
