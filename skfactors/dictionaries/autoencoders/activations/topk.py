"""TopK: the largest pre-activations of each row."""

from skfactors.dictionaries.autoencoders.activations.base import Activation
from skfactors.dictionaries.autoencoders.selections import SELECTIONS


class TopK(Activation):
    """
    Keep the `n_nonzero_coefs` largest pre-activations of each row, where they are positive.

    References
    ----------
    Gao, la Tour, Tillman, Goh, Troll, Radford, Sutskever, Leike, Wu (2024), "Scaling and evaluating sparse
    autoencoders".
    """

    selection = "largest"
    keeps_number = True

    def find(self, Z, P):
        """Return entries."""
        return SELECTIONS[self.selection](self.n_nonzero_coefs, None).sparse(Z)

    def dense_entries(self, Z, P):
        """Return which pre-activations are entries."""
        return SELECTIONS[self.selection](self.n_nonzero_coefs, None).kept(Z)
