"""What is minimised, written out densely, for torch to differentiate."""

import torch


def loss(X, weight, factors, parameters, intercept, activation, group_ends, penalty, silent=(), auxk=0.0):
    """
    Mean loss of some rows.

    Of each row it is the mean of ½‖x - x̂‖² over reconstructions from nested prefixes of the factors, and the penalty of
    the activation. If there are silent factors, they are to reconstruct what is left, x - x̂, from the largest of their
    own pre-activations: `auxk` times the loss of that is added.

    Parameters
    ----------
    X : Tensor of shape (n_rows, n_features)
    weight : Tensor of shape (n_rows,)
        By which the losses of rows are multiplied.
    factors : Tensor of shape (2, n_components, n_features)
        Encoder and components.
    parameters : Tensor of shape (n_parameters, n_components)
    intercept : Tensor of shape (n_features,)
    activation : Activation
    group_ends : sequence of int
    penalty : float
    silent : sequence of int
    auxk : float

    Returns
    -------
    loss : Tensor
    codes : Tensor of shape (n_rows, n_components)
    entries : Tensor of bool of shape (n_rows, n_components)
        What the loss has to do with.
    residual : Tensor of shape (n_rows, n_features)
        x̂ - x.

    References
    ----------
    Bussmann, Nabeshima, Karvonen, Nanda (2025), "Learning multi-level features with Matryoshka sparse autoencoders",
    for nested prefixes.
    Gao et al. (2024), "Scaling and evaluating sparse autoencoders", for the loss of silent factors (AuxK).
    """
    encoder, components = factors
    Z = torch.nn.functional.linear(X, encoder, parameters[0]).to(X.dtype)
    codes, entries = activation.dense_codes(Z, parameters)
    errors, residual = _nested_errors(X, codes, components, intercept, group_ends)
    losses = errors + penalty * activation.dense_penalty(Z, parameters, codes)
    if activation.decodes_twice:
        second = (components.detach(), intercept.detach(), group_ends)
        losses = losses + _nested_errors(X, torch.relu(Z), *second)[0]
    if len(silent) and auxk:
        entries = entries.clone()
        largest = Z[:, silent].topk(min(max(X.shape[1] // 2, 1), len(silent)), dim=1)
        own = torch.zeros_like(Z[:, silent]).scatter(1, largest.indices, largest.values.relu())
        left = own @ components[silent] + residual.detach()
        losses = losses + auxk * left.square().sum(1) / 2
        entries[:, silent] |= own > 0
    return losses @ weight, codes, entries, residual.detach()


def _nested_errors(X, codes, components, intercept, group_ends):
    residual, total, start = intercept - X, 0.0, 0
    for end in group_ends:
        residual = residual + codes[:, start:end] @ components[start:end]
        total = total + residual.square().sum(1) / 2
        start = end
    return total / len(group_ends), residual
