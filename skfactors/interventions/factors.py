"""Factors: a dictionary that codes tensors, wherever a model runs."""

import numpy as np
import torch

from skfactors.dictionaries import as_factor_model


class Factors:
    """
    A dictionary on the tensors of a running model.

    Parameters
    ----------
    dictionary : FactorModel, Pipeline or estimator
        Fitted.
    device : torch.device

    Attributes
    ----------
    directions : Tensor of shape (n_components, width)
        What an activation of 1 adds.
    n_features : int
        Width of the rows that are coded.
    predicts : bool
        Whether it predicts rows of another place than it codes, as transcoders do.
    has_gradients : bool
        Whether autograd can follow its codes.

    Raises
    ------
    NotFittedError, TypeError
        If it is not fitted, or no dictionary.
    ValueError
        If the codes of a token depend on the tokens before.
    """

    def __init__(self, dictionary, device: torch.device):
        model = as_factor_model(dictionary)
        self.has_gradients = hasattr(model, "to_torch")
        self.predicts = self.has_gradients and hasattr(model, "predict")
        self.directions = torch.as_tensor(np.array(model.components_), device=device)
        self._module = model.to_torch(str(device)) if self.has_gradients else _OfArrays(model)
        self._module.requires_grad_(False)
        if getattr(self._module, "of_sequences", False):
            raise ValueError(
                f"Codes of this {type(model).__name__} depend on the tokens before, which a generation does not run "
                "again: it cannot be put into a running model."
            )
        self.n_features = getattr(model, "n_features_in_", self.directions.shape[1])
        self.source = getattr(model, "source_", {})

    def encode(self, rows: torch.Tensor) -> torch.Tensor:
        """Return codes of shape (n_rows, n_components)."""
        return self._module.encode(rows).to(self.directions)

    def decoded(self, rows: torch.Tensor) -> torch.Tensor:
        """Return what the codes of rows stand for: their reconstruction, or what is predicted from them."""
        return self._module(rows).to(self.directions)

    def sizes(self, rows: torch.Tensor):
        """Return by what an activation counts in each row: more than 1 where the dictionary scaled a long row down."""
        scaled = getattr(self._module, "scaled", getattr(self._module, "scale", None))
        undone = getattr(self._module, "settings", {}).get("undo_scaling", True)
        return scaled(rows)[2] if scaled is not None and undone else 1.0


class _OfArrays(torch.nn.Module):
    """A dictionary that is read through arrays, without gradients."""

    def __init__(self, model):
        super().__init__()
        self._model = model

    def encode(self, rows):
        codes = self._model.transform(_array(rows))
        return torch.as_tensor(codes.toarray() if hasattr(codes, "toarray") else np.asarray(codes)).to(rows)

    def forward(self, rows):
        return torch.as_tensor(np.asarray(self._model.reconstruct(_array(rows)))).to(rows)


def _array(rows):
    return rows.detach().cpu().numpy()
