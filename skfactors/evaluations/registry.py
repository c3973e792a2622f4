"""What a suite can ask, by name."""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import numpy as np

from skfactors.dictionaries.one_place import model_of_one_place
from skfactors.evaluations.absorbing import absorption
from skfactors.evaluations.again import seeds_of, stability
from skfactors.evaluations.core import reconstruction
from skfactors.evaluations.loss import loss_recovered
from skfactors.evaluations.perturbation import classes_of, targeted_perturbation
from skfactors.evaluations.probes import checked_labels
from skfactors.evaluations.probing import held_tasks, n_probed, sparse_probing

_PLAIN_IN_PROBES = ("hidden dimensions", "principal components")


class Evaluation(NamedTuple):
    """
    A question, and the function that answers it.

    Attributes
    ----------
    question : str
    answer : callable
        Of an extractor, a dictionary and texts, with keywords `site`, `layer`, `controls`, `n_resamples`,
        `random_state`, `verbose` and those of `also`. It returns a table with columns `COLUMNS`.
    n_passes, n_passes_a_control : int
        How often the texts run through the model, by itself and for each control.
    n_fits : int
        How often a dictionary is learned.
    also : tuple of str
        What else of :func:`evaluate` it is given.
    taken : callable
        Checks what else it is given before anything runs, and returns it by name, to be read more than once.
    n_of_tasks : callable or None
        For one that asks about labelled texts of its own: how many these are, of `tasks`.
    has_controls : bool
        Whether the controls that are asked for are scored; otherwise it has its own.
    check : callable
        Raises for a dictionary of which it cannot be asked.
    """

    question: str
    answer: Callable
    n_passes: int = 1
    n_passes_a_control: int = 0
    n_fits: int = 0
    also: tuple[str, ...] = ()
    taken: Callable = dict
    n_of_tasks: Callable | None = None
    has_controls: bool = True
    check: Callable = partial(model_of_one_place, reconstructs=True)


def _stability(
    extractor, dictionary, texts, *, site, layer, controls, training_rows, sample_weight, verbose, **settings
):
    rows = extractor.extract(texts).at(site, layer) if training_rows is None else training_rows[:]
    return stability(dictionary, np.asarray(rows), sample_weight=sample_weight, **settings)


def _taken_labels(labels):
    labels = checked_labels(labels)
    classes_of(labels)
    return {"labels": labels}


def _taken_tasks(tasks):
    return {"tasks": held_tasks(tasks)}


def _sparse_probing(*args, controls, **settings):
    # Probes have these as they are, not coded by pursuit.
    coded = {name: of for name, of in controls.items() if of is not None or name not in _PLAIN_IN_PROBES}
    return sparse_probing(*args, controls=coded, **settings)


EVALUATIONS = {
    "core": Evaluation("How much of the states is reconstructed, by how many factors?", reconstruction),
    "loss_recovered": Evaluation("What does the model still do with reconstructed states?", loss_recovered, 5, 1),
    "sparse_probing": Evaluation(
        "Do few factors tell classes of texts apart?",
        _sparse_probing,
        also=("tasks",),
        taken=_taken_tasks,
        n_of_tasks=n_probed,
        check=model_of_one_place,
    ),
    "absorption": Evaluation(
        "Does the factor of a first letter fall silent where a more special one takes its part?", absorption
    ),
    "targeted_perturbation": Evaluation(
        "Can the factors of one class be taken out without harm to the others?",
        targeted_perturbation,
        also=("labels",),
        taken=_taken_labels,
    ),
    "stability": Evaluation(
        "Do the same factors come back from another seed, and from other rows?",
        _stability,
        n_fits=4,
        also=("training_rows", "sample_weight"),
        has_controls=False,
        check=seeds_of,
    ),
}
