"""Gradient: what masking each token takes away from the activation, to first order."""

import numpy as np
import torch

from skfactors.dictionaries.adapters import PipelineModel
from skfactors.reports.saliency.targets import chunks, factor_activations


def gradient(probe, model, groups, **_):
    """Yield the number and the saliency of each context."""
    for chunk in chunks(probe, groups, lambda group: len(group.targets)):
        pairs = [(group, target) for group in chunk for target in group.targets]
        windows = [group.window.input_ids for group, _ in pairs]
        reads = np.array([(target.layer, target.token) for _, target in pairs])
        factors = np.array([target.factor for _, target in pairs])
        states = probe.states_at(windows, np.column_stack([np.arange(len(pairs)), reads]))
        activations = factor_activations(model, states, factors)
        products = probe.gradients_times_embeddings(windows, reads, directions_at(model, states, factors))
        for (group, target), activation, product in zip(pairs, activations, products, strict=True):
            facts = {"activation": float(activation), "method": "gradient", "n_samples": None}
            yield group.saliency(target, product[group.window.of_text], **facts, masking=probe.masking)


def directions_at(model, states, factors) -> np.ndarray:
    """
    Return the direction in which a hidden state raises a factor most.

    Parameters
    ----------
    model : FactorModel, PipelineModel or OtherModel
    states : ndarray of shape (n_states, hidden_size)
    factors : ndarray of int of shape (n_states,)

    Returns
    -------
    ndarray of shape (n_states, hidden_size)
        Of a model with an encoder the derivative of the factor's code. Of another the factor's component, so that its
        product with the state is explained. What a pipeline does to a state before is undone by the chain rule.
    """
    if isinstance(model, PipelineModel):
        n_features = states.shape[1]
        matrix = model.prepared(np.eye(n_features)) - model.prepared(np.zeros((1, n_features)))
        return directions_at(model.model, model.prepared(states), factors) @ matrix.T
    if hasattr(model, "encoder_"):
        return _code_derivatives(model, states, factors)
    return np.asarray(model.components_)[factors]


def _code_derivatives(model, states, factors):
    with torch.inference_mode(False), torch.enable_grad():
        rows = torch.tensor(states, requires_grad=True)
        codes = model.to_torch().encode(rows)
        codes.gather(1, torch.as_tensor(factors)[:, None]).sum().backward()
        return rows.grad.numpy()
