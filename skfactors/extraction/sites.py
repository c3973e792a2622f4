"""The places inside a model that rows are read from: what they are called, and how one is asked for."""

from collections.abc import Sequence
from numbers import Integral
from typing import NamedTuple

HIDDEN_STATES = "hidden_states"

# What `site` can be. Layer 0 of the hidden states is the embeddings.
SITES = (HIDDEN_STATES,)


class Place(NamedTuple):
    """
    A site in one layer.

    Attributes
    ----------
    site : str
    layer : int
    """

    site: str
    layer: int


def find_place(places: Sequence[Place], site: str | None = None, layer: int | None = None) -> Place:
    """
    Find the one place that is asked for; None asks for the only one there is.

    Raises
    ------
    ValueError
        If there is no such place, or more than one; the message names those that there are.
    """
    found = [place for place in places if site in (None, place.site) and layer in (None, place.layer)]
    if len(found) == 1:
        return found[0]
    asked = " and ".join(f"{name}={value!r}" for name, value in (("site", site), ("layer", layer)) if value is not None)
    if not found:
        counting = " Layers are counted from 0." if isinstance(layer, Integral) and layer < 0 else ""
        raise ValueError(f"There are no rows of {asked or 'any place'}. There are {named(places)}.{counting}")
    raise ValueError(f"Name the site and the layer of one place. There are {named(found)}.")


def find_places(places: Sequence[Place], layers=None, sites=None) -> list[Place]:
    """
    Find places in the order that they are asked for: by site, then by layer; None asks for all.

    Raises
    ------
    ValueError
        If one is not there; the message names those that are.
    """
    sites = list(dict.fromkeys(place.site for place in places)) if sites is None else _listed(sites)
    if layers is not None:
        return [find_place(places, site, layer) for site in sites for layer in _listed(layers)]
    found = [place for site in sites for place in places if place.site == site]
    for site in sites:
        if site not in (place.site for place in found):
            find_place(places, site)
    return found


def named(places: Sequence[Place]) -> str:
    """Name places, for a message."""
    layers = {}
    for site, layer in places:
        layers.setdefault(site, []).append(layer)
    return " and ".join(f"layers {of_site} of {site!r}" for site, of_site in layers.items()) or "no rows"


def _listed(values) -> list:
    return [values] if isinstance(values, str) or not hasattr(values, "__iter__") else list(values)
