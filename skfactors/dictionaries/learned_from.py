"""What a dictionary was learned from: its `source_`, for interventions, model cards and checks. It decides no code."""

import re

from skfactors.records import ANY

_PLACES = [lambda place: isinstance(place, list) and list(map(type, place)) == [str, int]]
# Of a saved dictionary, whoever learned it.
SOURCE = {
    "model?": str,
    "model_fingerprint?": str,
    "places?": _PLACES,
    "places_out?": _PLACES,
    "format?": str,
    "l0?": float,
    ...: ANY,
}
# Places in the words of TransformerLens, which most files of other tools use.
_HOOK = re.compile(r"blocks\.(\d+)\.(.+)")
_SITES = {
    "hook_resid_pre": "block_input",
    "hook_resid_post": "block_output",
    "hook_attn_out": "attention_output",
    "attn.hook_z": "attention_heads",
    "ln2.hook_normalized": "mlp_input",
    "hook_mlp_out": "mlp_output",
}


def source_of(X, Y=None) -> dict:
    """
    Return what rows say of where they are from.

    Parameters
    ----------
    X : array-like
        Activations and stores say it by `source`; what says nothing is from nowhere that is known.
    Y : array-like, default=None
        What is to be predicted.

    Returns
    -------
    dict
        `model` (its name), `model_fingerprint` (of its weights) and `places` (each a site and a layer), with Y also
        `places_out`; empty where X says nothing.
    """
    said, of_Y = (found if isinstance(found := getattr(rows, "source", None), dict) else {} for rows in (X, Y))
    return said | {"places_out": of_Y["places"]} if said and "places" in of_Y else dict(said)


def joined(before: dict, after: dict) -> dict:
    """Return the source of what was learned from one and then from another: what is known of both."""
    same = {name: of for name, of in after.items() if name.startswith("model") and before.get(name) == of}
    places = {name: before[name] + after[name] for name in ("places", "places_out") if name in before and name in after}
    return same | {name: [list(place) for place in dict.fromkeys(map(tuple, of))] for name, of in places.items()}


def source_in_file(format: str, *, model=None, place=None, place_out=None, l0=None, **others) -> dict:
    """
    Put together what a file of another tool says.

    Parameters
    ----------
    format : str
        Name in `FORMATS`.
    model : str or None
        Whose hidden states the rows are.
    place : str or None
        Where in it they are read, in the tool's own words.
    place_out : str or None
        What they predict, where that is another place.
    l0 : float or None
        How many codes of a row are not zero, as the file states it.
    **others
        Anything else that JSON can hold.

    Returns
    -------
    dict
        Without what is None; with `places` and `places_out`, as :func:`source_of` has them, where words are known.
    """
    # Some files of tools are free to hold anything.
    model = model if isinstance(model, str) else None
    said = {"format": format, "model": model, "place": place, "place_out": place_out, "l0": l0, **others}
    said |= {"places": _in_our_words(place), "places_out": _in_our_words(place_out)}
    return {name: value for name, value in said.items() if value is not None}


def _in_our_words(place) -> list | None:
    match = _HOOK.fullmatch(place) if isinstance(place, str) else None
    return [[_SITES[match[2]], int(match[1])]] if match and match[2] in _SITES else None
