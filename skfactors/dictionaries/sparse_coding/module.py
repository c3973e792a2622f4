"""Sparse coding as a torch module whose codes have gradients."""

import torch


class SparseCodingModule(torch.nn.Module):
    """
    Exact codes, and what they are reconstructed as, with gradients to rows and components.

    A solver finds which factors are active in each row. On these the code is the solution of a linear system,
    ``a = (D Dᵀ)⁻¹ (D x - alpha·sign(a))``, whose derivative is the code's wherever the active factors stay the same,
    which is almost everywhere.

    Parameters
    ----------
    components : Tensor of shape (n_components, n_features)
    codes_of : callable
        From components and rows to codes, all of them tensors.
    penalty : float
        `alpha`; 0 where codes are refitted or pursued without a penalty.
    """

    def __init__(self, components: torch.Tensor, codes_of, penalty: float):
        super().__init__()
        self.components = torch.nn.Parameter(components)
        self._codes_of = codes_of
        self._penalty = penalty

    def encode(self, X: torch.Tensor) -> torch.Tensor:
        """Return codes of shape (n_rows, n_components)."""
        X = X.to(self.components)
        if len(X) == 0:
            return X.new_zeros(0, len(self.components))
        with torch.no_grad():
            codes = self._codes_of(self.components.detach(), X.detach())
            width = max(int((codes != 0).sum(1).max()), 1)
            factors = codes.abs().topk(width, dim=1).indices
            signs = codes.gather(1, factors).sign()
            active = signs != 0
        atoms = self.components[factors] * active[:, :, None]
        gram = atoms @ atoms.transpose(1, 2) + torch.diag_embed((~active).to(atoms))
        wanted = (atoms @ X[:, :, None])[:, :, 0] - self._penalty * signs
        values = torch.linalg.solve(gram, wanted) * active
        return X.new_zeros(len(X), len(self.components)).scatter(1, factors, values)

    def decode(self, codes: torch.Tensor) -> torch.Tensor:
        """Return rows of shape (n_rows, n_features)."""
        return codes.to(self.components) @ self.components

    def forward(self, X: torch.Tensor) -> torch.Tensor:
        """Return what rows are reconstructed as."""
        return self.decode(self.encode(X))
