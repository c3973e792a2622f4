"""Several evaluations in one call."""

from collections.abc import Callable
from typing import NamedTuple

import pandas as pd

from skfactors._version import __version__
from skfactors.dictionaries import as_factor_model
from skfactors.evaluations.core import reconstruction
from skfactors.evaluations.evaluation_report import EvaluationReport
from skfactors.evaluations.loss import loss_recovered
from skfactors.evaluations.probing import n_probed, sparse_probing


class Evaluation(NamedTuple):
    """
    A function of an extractor, a dictionary and texts, and what it costs.

    Parameters
    ----------
    ask : callable
    n_passes, n_passes_of_control : int
        How often the texts run through the model, by itself and for each control.
    n_of_tasks : callable, default=None
        For one that asks about labelled texts: the number of these, of its tasks.
    """

    ask: Callable
    n_passes: int
    n_passes_of_control: int
    n_of_tasks: Callable | None = None


EVALUATIONS = {
    "core": Evaluation(reconstruction, 1, 0),
    "loss_recovered": Evaluation(loss_recovered, 5, 1),
    "sparse_probing": Evaluation(sparse_probing, 1, 0, n_probed),
}


def evaluate(
    extractor,
    dictionary,
    texts,
    suite=("core",),
    *,
    tasks=None,
    site=None,
    layer=None,
    controls=("random factors",),
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
        Of `EVALUATIONS`: "core" is explained variance, active factors a row and dead factors; "loss_recovered" is
        :func:`loss_recovered`; "sparse_probing" is :func:`sparse_probing`.
    tasks : dict of str to (sequence of str, array-like), default=None
        Labelled texts, as :func:`sparse_probing` takes them.
    site, layer : default=None
        The place; None is the only one that the extractor reads.
    controls : sequence of str, default=("random factors",)
        Of `CONTROLS`, coded with as many active factors a row.
    n_resamples : int, default=1000
        Of the bootstrap for intervals.
    random_state : int, default=0
        For all that is drawn.
    dry_run : bool, default=False
        Whether to tell the cost only: how many texts will run through the model for each evaluation.
    verbose : bool, default=False
        Show progress.

    Returns
    -------
    EvaluationReport or DataFrame
        With `dry_run`, a DataFrame with columns `evaluation`, `n_texts` and `n_passes`.

    Raises
    ------
    NotFittedError, OSError, TypeError, ValueError
        If there is no such evaluation, or as the evaluations raise.

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
    texts, suite = list(texts), [suite] if isinstance(suite, str) else list(suite)
    unknown = [name for name in suite if name not in EVALUATIONS]
    if unknown:
        raise ValueError(f"There is no evaluation {unknown[0]!r}; there are {', '.join(map(repr, EVALUATIONS))}.")
    if not suite or not texts:
        raise ValueError(f"There is nothing to evaluate: {len(suite)} evaluations on {len(texts)} texts.")
    if dry_run:
        asked = [EVALUATIONS[name] for name in suite]
        n_texts = [len(texts) + (of.n_of_tasks(tasks) if of.n_of_tasks else 0) for of in asked]
        n_passes = [of.n_passes + of.n_passes_of_control * len(controls) for of in asked]
        return pd.DataFrame({"evaluation": suite, "n_texts": n_texts, "n_passes": n_passes})
    tables = []
    for name in suite:
        table = EVALUATIONS[name].ask(
            extractor,
            dictionary,
            texts,
            **({"tasks": tasks} if EVALUATIONS[name].n_of_tasks else {}),
            site=site,
            layer=layer,
            controls=controls,
            n_resamples=n_resamples,
            random_state=random_state,
            verbose=verbose,
        )
        table.insert(0, "evaluation", name)
        tables.append(table)
    model = as_factor_model(dictionary)
    facts = {
        "model": str(extractor.model),
        "dictionary": model.fingerprint(),
        "n_components": len(model.components_),
        "n_texts": len(texts),
        "n_resamples": int(n_resamples),
        "random_state": int(random_state),
        "skfactors": __version__,
    }
    return EvaluationReport(pd.concat(tables, ignore_index=True), facts)
