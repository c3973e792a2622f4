"""Saliency from hidden tokens: how an activation responds to versions of its window in which some are hidden.

`kept` is an array of bool of shape (n_versions, n_tokens), one row for each version of the text: False where a token is
hidden. The first version is always the whole text.
"""

from collections.abc import Iterator

import numpy as np

from skfactors.reports.saliency.targets import chunks, factor_activations


def by_perturbation(probe, model, groups, *, versions_of, weights_of, n_versions=None, method) -> Iterator:
    """
    Yield saliencies from how activations respond to versions of a text with tokens hidden.

    Parameters
    ----------
    probe : ModelProbe
    model : FactorModel
    groups : list of Group
    versions_of : callable
        From a Group to `kept`.
    weights_of : callable
        From a Group, one of its targets, `kept` and ndarray of responses, one for each version, to a weight for each
        token.
    n_versions : int, default=None
        How many `versions_of` gives, where that is the same for all.
    method : str
        What the saliencies are to say of themselves.

    Yields
    ------
    number : int
    saliency : Series
    """
    for chunk in chunks(probe, groups, lambda group: n_versions or len(group.tokens) + 2 * len(group.targets)):
        drawn = [versions_of(group) for group in chunk]
        responses = _responses(probe, model, chunk, drawn)
        for group, kept in zip(chunk, drawn, strict=True):
            for target in group.targets:
                response = responses[target.number]
                facts = {"activation": float(response[0]), "method": method, "n_samples": n_versions}
                yield group.saliency(target, weights_of(group, target, kept, response), **facts, masking=probe.masking)


def _responses(probe, model, groups, drawn) -> dict[int, np.ndarray]:
    """Activation of every target's factor in every version of its window."""
    windows, reads, factors, places = [], [], [], []
    responses = {}
    for group, kept in zip(groups, drawn, strict=True):
        distinct, version_of = np.unique(kept, axis=0, return_inverse=True)
        first = len(windows)
        windows.extend(probe.masked(group.window, version) for version in distinct)
        for target in group.targets:
            there, tokens = _place_in_versions(probe, group, target, distinct)
            reads.append(np.column_stack([first + there, np.full(len(there), target.layer), tokens]))
            factors.append(np.full(len(there), target.factor))
            places.append((target.number, there, len(distinct), version_of))
    states = probe.states_at(windows, np.concatenate(reads))
    activations = factor_activations(model, states, np.concatenate(factors))
    start = 0
    for number, there, n_distinct, version_of in places:
        distinct_responses = np.zeros(n_distinct)
        distinct_responses[there] = activations[start : start + len(there)]
        responses[number] = distinct_responses[version_of.ravel()]
        start += len(there)
    return responses


def _place_in_versions(probe, group, target, kept):
    """In which versions the target's token is there, and as which token of the window."""
    if probe.masking != "deletion":
        return np.arange(len(kept)), np.full(len(kept), target.token)
    own = target.token - group.window.of_text.start
    there = np.flatnonzero(kept[:, own])
    return there, target.token - (~kept[there, :own]).sum(axis=1)
