"""Orthogonal matching pursuit: codes of at most so many factors, one row a thread."""

import scipy.sparse
import torch

from skfactors.dictionaries.sparse_coding.solvers._pursuit import pursue_rows, refit_rows
from skfactors.dictionaries.sparse_coding.solvers.gram import GramSolver


class Pursuit(GramSolver):
    """
    Code rows with at most `n_nonzero_coefs` factors each, and no penalty.

    A row starts with no factor. Each round takes in the factor that correlates most with the residual, and solves the
    (non-negative) least squares problem of those at hand, of which some may drop out again.

    Parameters
    ----------
    components : Tensor of shape (n_components, n_features)
    n_nonzero_coefs : int
    positive : bool
        Whether codes are non-negative.

    Notes
    -----
    Gaps are NaN: which factors are best is not a convex problem, and has no duality gap.

    References
    ----------
    Pati, Rezaiifar, Krishnaprasad (1993), "Orthogonal matching pursuit".
    Bruckstein, Elad, Zibulevsky (2008), "On the uniqueness of nonnegative sparse solutions to underdetermined systems
    of equations", for non-negative codes.
    """

    def __init__(self, components: torch.Tensor, *, n_nonzero_coefs: int, positive: bool):
        super().__init__(components, alpha=0.0, positive=positive, tol=1.0, max_iter=n_nonzero_coefs)

    def code_task(self, rows, correlations):
        """Code some rows."""
        return pursue_rows(correlations, self._gram, self.max_iter, self.positive)


def refit(codes: scipy.sparse.csr_array, X: torch.Tensor, components: torch.Tensor, positive: bool):
    """
    Replace codes by the (non-negative) least squares codes on the factors that are active in them.

    Parameters
    ----------
    codes : csr_array of shape (n_rows, n_components)
        Changed in place.
    X : Tensor of shape (n_rows, n_features)
    components : Tensor of shape (n_components, n_features)
    positive : bool
        Whether codes are non-negative. Some of them may then come to be zero.

    Returns
    -------
    codes : csr_array of shape (n_rows, n_components)
    """
    refit_rows(codes.indptr, codes.indices, codes.data, X.cpu().numpy(), components.cpu().numpy(), positive)
    codes.eliminate_zeros()
    return codes
