"""What a dictionary says it was learned from, against where it is put."""

import re
from pathlib import Path

from skfactors.extraction.sites import HIDDEN_STATES, Place

# Places in the words of TransformerLens, which most files use.
_HOOK = re.compile(r"blocks\.(\d+)\.(.+)")
_SITES = {
    "hook_resid_pre": "block_input",
    "hook_resid_post": "block_output",
    "hook_attn_out": "attention_output",
    "attn.hook_z": "attention_heads",
    "hook_mlp_in": "mlp_input",
    "ln2.hook_normalized": "mlp_input",
    "hook_mlp_out": "mlp_output",
}
# Names of one model, in TransformerLens and on the hub.
_SAME = {"gpt2-small": "gpt2"}


def check_source(source: dict, model: str, place: Place) -> None:
    """
    Refuse a dictionary of another model or place, as far as it says what it was learned from.

    Parameters
    ----------
    source : dict
        `source_` of the dictionary, or nothing.
    model : str
        Name on the hub, or a folder, which may be of any model.
    place : Place
        Where it is put.

    Raises
    ------
    ValueError
        If one of them is another.
    """
    said = source.get("model")
    if said and not Path(model).is_dir() and _short(said) != _short(model):
        raise ValueError(
            f"The dictionary was learned from the model {said!r}, not {model!r}. If both are the same, delete 'model' "
            "from its source_."
        )
    match = _HOOK.fullmatch(source.get("place") or "")
    site = _SITES.get(match[2]) if match else None
    if site is not None and place not in _names_of(site, int(match[1])):
        raise ValueError(
            f"The dictionary was learned from {source['place']!r}, which is {site!r} in layer {match[1]}, not "
            f"{place.site!r} in layer {place.layer}."
        )


def _short(name: str) -> str:
    last = name.rstrip("/").rpartition("/")[2].lower()
    return _SAME.get(last, last)


def _names_of(site: str, layer: int) -> set[Place]:
    """Return all names of a place: between two blocks, the one's output, the other's input, and a hidden state."""
    if site not in ("block_input", "block_output"):
        return {Place(site, layer)}
    number = layer + (site == "block_output")
    return {Place("block_input", number), Place("block_output", number - 1), Place(HIDDEN_STATES, number)}
