"""The sparse coding objective, its optimality conditions and its duality gap, as functions of tensors.

For a row x, a dictionary D whose rows are the factors d_j, and a penalty λ > 0, a code a minimises

    P(a) = ½‖x − aD‖² + λ‖a‖₁        over a ⪰ 0, or over signed a.

Its dual maximises ⟨x, u⟩ − ½‖u‖² over the u with ⟨d_j, u⟩ ≤ λ for all j (|⟨d_j, u⟩| ≤ λ for signed codes). The residual
of the best code is the best u; scaling any residual until it is feasible gives a lower bound on P, and so a gap.
"""

import torch


def objective(X: torch.Tensor, codes: torch.Tensor, components: torch.Tensor, alpha: float) -> torch.Tensor:
    """
    Value of the objective, row by row.

    Parameters
    ----------
    X : Tensor of shape (n_rows, n_features)
    codes : Tensor of shape (n_rows, n_components)
    components : Tensor of shape (n_components, n_features)
    alpha : float
        The penalty λ.

    Returns
    -------
    Tensor of shape (n_rows,)
    """
    residual = X - codes @ components
    return residual.square().sum(1) / 2 + alpha * codes.abs().sum(1)


def relative_duality_gap(
    X: torch.Tensor, codes: torch.Tensor, components: torch.Tensor, alpha: float, positive: bool
) -> torch.Tensor:
    """
    How far each row's objective can be above the optimum, as a share of that objective.

    Returns
    -------
    Tensor of shape (n_rows,)
        In [0, 1]; 0 for a row of zeros, 1 where it cannot be told. Rounding bounds how small it can be seen to get.
    """
    residual = X - codes @ components
    return gap_from_residual(X, residual, residual @ components.T, codes.abs().sum(1), alpha, positive)


def gap_from_residual(
    X: torch.Tensor,
    residual: torch.Tensor,
    correlations: torch.Tensor,
    l1_norm: torch.Tensor,
    alpha: float,
    positive: bool,
) -> torch.Tensor:
    """
    Relative duality gap of rows whose residuals and correlations with the factors are at hand.

    Parameters
    ----------
    X, residual : Tensor of shape (n_rows, n_features)
    correlations : Tensor of shape (n_rows, n_components)
        ``residual @ components.T``.
    l1_norm : Tensor of shape (n_rows,)
        Of the codes.
    alpha : float
    positive : bool

    Returns
    -------
    Tensor of shape (n_rows,)
    """
    highest = (correlations if positive else correlations.abs()).amax(1).clamp_min(0)
    squared = residual.square().sum(1)
    along = (X * residual).sum(1)
    # The feasible multiple of the residual that gives the highest dual value.
    scale = torch.minimum(along / squared.clamp_min(torch.finfo(X.dtype).tiny), alpha / highest).clamp_min(0)
    primal = squared / 2 + alpha * l1_norm
    dual = scale * along - scale.square() * squared / 2
    # Of values that overflow nothing is known.
    return torch.where(primal == 0, 0, (1 - dual / primal).clamp_min(0)).nan_to_num(nan=1.0)
