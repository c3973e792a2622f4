"""What is minimised, written out densely, for torch to differentiate."""

import torch


def loss(
    X,
    Y,
    weight,
    factors,
    parameters,
    intercept,
    skip,
    activation,
    group_ends,
    penalty,
    jacobian_penalty=0.0,
    silent=(),
    auxk=0.0,
):
    """
    Mean loss of some rows.

    Of each row it is the mean of ½‖y - ŷ‖² over predictions from nested prefixes of the factors, the penalty of the
    activation, and `jacobian_penalty` times ½‖∂ŷ/∂x‖². If there are silent factors, they are to reconstruct what is
    left, y - ŷ, from the largest of their own pre-activations: `auxk` times the loss of that is added.

    Parameters
    ----------
    X, Y : Tensor of shape (n_rows, n_features)
        What is read, and what is to be predicted: the same, but for a transcoder.
    weight : Tensor of shape (n_rows,)
        By which the losses of rows are multiplied.
    factors : Tensor of shape (2, n_components, n_features)
        Encoder and components.
    parameters : Tensor of shape (n_parameters, n_components)
    intercept : Tensor of shape (n_features,)
    skip : Tensor of shape (n_features, n_features), or None
    activation : Activation
    group_ends : sequence of int
    penalty, jacobian_penalty : float
    silent : sequence of int
    auxk : float

    Returns
    -------
    loss : Tensor
    codes : Tensor of shape (n_rows, n_components)
    entries : Tensor of bool of shape (n_rows, n_components)
        What the loss has to do with.
    residual : Tensor of shape (n_rows, n_features)
        ŷ - y.

    References
    ----------
    Bussmann, Nabeshima, Karvonen, Nanda (2025), "Learning multi-level features with Matryoshka sparse autoencoders",
    for nested prefixes.
    Gao et al. (2024), "Scaling and evaluating sparse autoencoders", for the loss of silent factors (AuxK).
    """
    encoder, components = factors
    Z = torch.nn.functional.linear(X, encoder, parameters[0]).to(X.dtype)
    codes, entries = activation.dense_codes(Z, parameters)
    if skip is not None:
        Y = Y - torch.nn.functional.linear(X, skip)
    errors, residual = _nested_errors(Y, codes, components, intercept, group_ends)
    losses = errors + penalty * activation.dense_penalty(Z, parameters, codes)
    if activation.decodes_twice:
        second = (components.detach(), intercept.detach(), group_ends)
        losses = losses + _nested_errors(Y.detach(), torch.relu(Z), *second)[0]
    if jacobian_penalty:
        losses = (
            losses + jacobian_penalty * _squared_jacobians(codes, encoder, parameters, components, skip, activation) / 2
        )
    if len(silent) and auxk:
        entries = entries.clone()
        largest = Z[:, silent].topk(min(max(Y.shape[1] // 2, 1), len(silent)), dim=1)
        own = torch.zeros_like(Z[:, silent]).scatter(1, largest.indices, largest.values.relu())
        left = own @ components[silent] + residual.detach()
        losses = losses + auxk * left.square().sum(1) / 2
        entries[:, silent] |= own > 0
    return losses @ weight, codes, entries, residual.detach()


def _nested_errors(Y, codes, components, intercept, group_ends):
    residual, total, start = intercept - Y, 0.0, 0
    for end in group_ends:
        residual = residual + codes[:, start:end] @ components[start:end]
        total = total + residual.square().sum(1) / 2
        start = end
    return total / len(group_ends), residual


def _squared_jacobians(codes, encoder, parameters, components, skip, activation):
    """Return ‖J‖² of each row, the sum of the squares of all derivatives of its prediction by the row itself."""
    slopes, active = activation.slopes(parameters), (codes.detach() != 0).to(codes.dtype)
    encoder = encoder if slopes is None else encoder * slopes[:, None]
    squares = ((active @ ((components @ components.T) * (encoder @ encoder.T))) * active).sum(1)
    if skip is not None:
        squares = squares + 2 * active @ ((components @ skip) * encoder).sum(1) + skip.square().sum()
    return squares
