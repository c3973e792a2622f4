"""Tokens whose states are of another size than all others', such as attention sinks: told, and left out."""

from collections.abc import Mapping

import numpy as np

from skfactors.extraction.activations import Activations
from skfactors.extraction.sites import Place

# What norms are compared with comes from these tokens, so that no text's rows depend on the texts beside it.
PASSAGE = (
    "In the spring the two sisters moved into a small house by the river, a mile from the old mill. They had bought it "
    "from a doctor who wanted to live nearer to his patients, and who left them his tools, four chairs and a map of "
    "the county. Every morning they walked to the market, where farmers sold eggs, apples and bread, and where they "
    "heard what had happened since the day before: who was ill, which bridge was closed, how much the new school would "
    "cost. In the evening they read the paper aloud to each other. It said that the government had raised the tax on "
    "land, that a ship with a cargo of wheat was late, and that it would rain until Sunday."
)


def median_norms(acts: Activations) -> dict[Place, float]:
    """
    Return the median norm of the rows of each place.

    Parameters
    ----------
    acts : Activations
        Of the passage.

    Raises
    ------
    ValueError
        If there are no rows.
    """
    if not len(acts):
        raise ValueError(
            "drop_outliers compares norms with those of an English passage, and the tokenizer makes no tokens of it. "
            "Leave drop_outliers off."
        )
    norms = _norms(acts)
    return {place: float(np.median(norms[acts.rows_at(place)])) for place in acts.places}


def without_outliers(acts: Activations, limits: Mapping[Place, float]) -> tuple[Activations, int]:
    """
    Leave out each token, with all its rows, whose norm at any place is above the limit of the place.

    Parameters
    ----------
    acts : Activations
    limits : mapping of Place to float

    Returns
    -------
    acts : Activations
        The same, where there is none.
    n_outliers : int
        Tokens left out.
    """
    norms, beyond = _norms(acts), np.zeros(len(acts), dtype=bool)
    for place in acts.places:
        rows = acts.rows_at(place)
        beyond[rows] = norms[rows] > limits[place]
    if not beyond.any():
        return acts, 0
    document, position = (acts.provenance[name].to_numpy() for name in ("document", "position"))
    tokens = document * (position.max() + 1) + position
    outliers = np.unique(tokens[beyond])
    return acts[~np.isin(tokens, outliers)], len(outliers)


def _norms(acts: Activations) -> np.ndarray:
    return np.sqrt(np.einsum("ij,ij->i", acts.padded, acts.padded, dtype=np.float64))
