"""AbsTopK: the pre-activations of each row that are furthest from zero."""

from skfactors.dictionaries.autoencoders.activations.topk import TopK


class AbsTopK(TopK):
    """
    Keep the `n_nonzero_coefs` pre-activations of each row that are furthest from zero, with their signs.

    So a factor can stand for a direction and its opposite.
    """

    selection = "largest_magnitudes"
