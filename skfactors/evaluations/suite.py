"""Several evaluations in one call."""

from numbers import Integral

import numpy as np
import pandas as pd
from sklearn.utils import check_scalar

from skfactors._version import __version__
from skfactors.dictionaries import as_factor_model
from skfactors.dictionaries.one_place import model_of_one_place
from skfactors.evaluations.controls import CONTROLS, UNLEARNED, check_unlearned, make_controls, named
from skfactors.evaluations.evaluation_report import EvaluationReport
from skfactors.evaluations.registry import EVALUATIONS
from skfactors.extraction.text.corpus import held
from skfactors.reports.display import model_name

_LEARNED = "frozen decoder"
# Without it, an evaluation does with something else.
_OPTIONAL = {"tasks", "training_rows", "sample_weight"}
_ROWS_FOR_CONTROLS = 32_768


def evaluate(
    extractor,
    dictionary,
    texts,
    suite=("core",),
    *,
    labels=None,
    tasks=None,
    training_rows=None,
    sample_weight=None,
    site=None,
    layer=None,
    controls=UNLEARNED,
    n_resamples=1000,
    random_state=0,
    dry_run=False,
    verbose=False,
):
    """
    Ask a dictionary several questions, and put the answers of its controls beside its own.

    Parameters
    ----------
    extractor : TransformerFeatureExtractor
        Makes the rows of texts.
    dictionary : FactorModel, Pipeline or estimator
        Fitted to rows of one place.
    texts : sequence of str
        Others than the dictionary learned from.
    suite : sequence of str, default=("core",)
        Of `EVALUATIONS`: "core" is explained variance, active factors a row and dead factors; the others are
        the functions of the same name.
    labels : sequence of length n_texts, default=None
        The class of each text, for those that need one.
    tasks : dict of str to (sequence of str, array-like), default=None
        Labelled texts by name, for those that ask about these in place of `texts`.
    training_rows : array-like or ActivationStore of shape (n_rows, n_features), default=None
        What the dictionary learned from. With them there is the control "frozen decoder" too, which learns from them as
        long as the dictionary did, and other controls have their mean and principal components from them; "stability"
        is that of dictionaries learned from them. Otherwise all of these are of the rows of the texts, which favours
        controls, the more the fewer the texts.
    sample_weight : array-like of shape (n_rows,), default=None
        Weights of these rows, if the dictionary learned with some.
    site, layer : default=None
        The place; None is the only one that the extractor reads.
    controls : str, sequence of str or mapping, default=("random factors", "hidden dimensions", "principal components")
        Of `CONTROLS`, or a dict of fitted dictionaries by name, with None for those of `CONTROLS`. "stability" has its
        own instead, and "sparse_probing" takes dimensions and principal components as they are, without coding them.
    n_resamples : int, default=1000
        Of the bootstrap for intervals.
    random_state : int, default=0
        For all that is drawn.
    dry_run : bool, default=False
        Whether to tell the cost only.
    verbose : bool, default=False
        Show progress.

    Returns
    -------
    EvaluationReport or DataFrame
        With `dry_run`, a DataFrame with a line for each evaluation, and for a control that is learned: `n_texts`, how
        often they run through the model, `n_passes`, and how often a dictionary is learned, `n_fits`.

    Raises
    ------
    NotFittedError, OSError, TypeError, ValueError
        If there is no such evaluation or control, labels are needed, or there are not as many as texts; or as the
        evaluations raise. What can be known beforehand is raised before anything is computed.

    See Also
    --------
    ground_truth : On rows made of known features, which needs no texts.

    Examples
    --------
    >>> from skfactors import SparseDictionary, TransformerFeatureExtractor
    >>> from skfactors.datasets import demo_model
    >>> from skfactors.evaluations import evaluate
    >>> extractor = TransformerFeatureExtractor(demo_model(), layers=[3])
    >>> texts = ["The bank of the river.", "A bank lends money.", "He sat by the river."]
    >>> dictionary = SparseDictionary(4, n_nonzero_coefs=2, random_state=0).fit(extractor.extract(texts).X)
    >>> report = evaluate(extractor, dictionary, texts)
    >>> report.table["measure"].unique().tolist()
    ['explained_variance', 'l0', 'dead_fraction']
    """
    texts, suite = list(held(texts)), [suite] if isinstance(suite, str) else list(suite)
    unknown = [name for name in suite if name not in EVALUATIONS]
    if unknown:
        raise ValueError(f"There is no evaluation {unknown[0]!r}; there are {', '.join(map(repr, EVALUATIONS))}.")
    if not suite or not texts:
        raise ValueError(f"There is nothing to evaluate: {len(suite)} evaluations on {len(texts)} texts.")
    given = {"labels": labels, "tasks": tasks, "training_rows": training_rows, "sample_weight": sample_weight}
    given = _taken(suite, len(texts), given)
    check_scalar(n_resamples, "n_resamples", Integral, min_val=1)
    check_scalar(random_state, "random_state", Integral, min_val=0)
    controls = named(controls)
    are_scored = any(EVALUATIONS[name].has_controls for name in suite)
    if are_scored and training_rows is None:
        check_unlearned(controls)
    is_to_learn = are_scored and training_rows is not None and controls.setdefault(_LEARNED, None) is None
    if dry_run:
        return _cost(suite, texts, given["tasks"], len(controls), training_rows is not None, is_to_learn)
    # Rows of several places, side by side, can only be given.
    model = model_of_one_place(dictionary) if training_rows is None else as_factor_model(dictionary)
    for evaluation in map(EVALUATIONS.get, suite):
        evaluation.check(dictionary)
        for name, control in controls.items() if evaluation.has_controls else ():
            if control is not None:
                _check_control(evaluation, name, control)
    if len(suite) > 1:
        _check_rows(extractor, model, texts, site, layer)
    if is_to_learn:
        controls[_LEARNED] = CONTROLS[_LEARNED](model, training_rows, random_state, sample_weight)
    of_training_rows = controls
    if are_scored and training_rows is not None:
        rows = np.asarray(training_rows[:: -(-len(training_rows) // _ROWS_FOR_CONTROLS)])
        of_training_rows = make_controls(model, rows, controls, random_state)
    tables = []
    for name in suite:
        evaluation = EVALUATIONS[name]
        table = evaluation.answer(
            extractor,
            dictionary,
            texts,
            site=site,
            layer=layer,
            # One that has texts of its own is not scored on the others.
            controls=controls if evaluation.n_of_tasks else of_training_rows,
            n_resamples=n_resamples,
            random_state=random_state,
            verbose=verbose,
            **{needed: given[needed] for needed in evaluation.also},
        )
        table.insert(0, "evaluation", name)
        tables.append(table)
    facts = {
        "model": model_name(extractor) or type(extractor.model).__name__,
        "dictionary": model.fingerprint(),
        "n_components": len(model.components_),
        "n_texts": len(texts),
        "n_resamples": int(n_resamples),
        "random_state": int(random_state),
        "skfactors": __version__,
    }
    return EvaluationReport(pd.concat(tables, ignore_index=True), facts)


def _taken(suite, n_texts, given) -> dict:
    """Check what evaluations are given besides texts, and return it to be read more than once."""
    for name in suite:
        for needed in EVALUATIONS[name].also:
            if given[needed] is None and needed not in _OPTIONAL:
                raise ValueError(f"{name!r} needs {needed}=: leave it out of suite, or pass {needed}.")
    rows, weights, labels = given["training_rows"], given["sample_weight"], given["labels"]
    if labels is not None and len(labels := list(labels)) != n_texts:
        raise ValueError(f"There are {len(labels)} labels of {n_texts} texts: each text needs one.")
    if weights is not None and (rows is None or len(weights) != len(rows)):
        raise ValueError("sample_weight is of training_rows: give both, a weight for each row.")
    given = given | {"labels": labels}
    for evaluation in map(EVALUATIONS.get, suite):
        given |= evaluation.taken(**{needed: given[needed] for needed in evaluation.also})
    return given


def _check_rows(extractor, model, texts, site, layer) -> None:
    """Code what there is of the first text, so that a place or a width that does not fit loses no finished work."""
    acts = extractor.extract(texts[:1])
    if len(acts):
        model.transform(np.asarray(acts.at(site, layer).X))


def _check_control(evaluation, name, control):
    try:
        evaluation.check(control)
    except (TypeError, ValueError) as error:
        raise type(error)(f"The control {name!r}: {error}") from error


def _cost(suite, texts, tasks, n_controls, has_rows, is_to_learn) -> pd.DataFrame:
    rows = []
    for name in suite:
        evaluation = EVALUATIONS[name]
        n_texts = len(texts) + (evaluation.n_of_tasks(tasks) if evaluation.n_of_tasks else 0)
        n_passes = evaluation.n_passes + evaluation.n_passes_a_control * n_controls
        # Rows that are there need no texts.
        is_there = has_rows and "training_rows" in evaluation.also
        rows.append((name, n_texts, 0 if is_there else n_passes, evaluation.n_fits))
    rows += [(_LEARNED, 0, 0, 1)] * is_to_learn
    return pd.DataFrame(rows, columns=["evaluation", "n_texts", "n_passes", "n_fits"])
