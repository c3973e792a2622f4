"""What a dictionary says it was learned from, against where it is put."""

from pathlib import Path

from torch import nn

from skfactors.extraction.sites import Place, find_module, named

# Names of one model, in TransformerLens and on the hub.
_SAME = {"gpt2-small": "gpt2"}


def check_source(source: dict, extractor, model: nn.Module, reads: Place, writes: Place) -> None:
    """
    Refuse a dictionary of another model or place, as far as it says what it was learned from.

    Parameters
    ----------
    source : dict
        `source_` of the dictionary, or nothing.
    extractor : TransformerFeatureExtractor
        Of the model where it is put.
    model : torch.nn.Module
    reads, writes : Place
        Where it is put.

    Raises
    ------
    ValueError
        If one of them is another.
    """
    check_model(source, extractor)
    for name, place in (("places", reads), ("places_out", writes)):
        said = [Place(*one) for one in source.get(name, ())]
        if said and not any(_tap(model, one) == _tap(model, place) for one in said):
            raise ValueError(
                f"The dictionary was learned from {named(said)}, not from layer {place.layer} of {place.site!r}. Put "
                f"it where it was learned or, if this is what you want, delete {name!r} from its source_."
            )


def check_model(source: dict, extractor) -> None:
    """Refuse a dictionary of another model: by its weights where they are known, or else by its name on a hub."""
    said, weights = source.get("model"), source.get("model_fingerprint")
    if weights is not None:
        is_other, how = weights != extractor.model_fingerprint(), "with other weights than"
        known = "'model' and 'model_fingerprint'"
    else:
        # A folder may be of any model.
        is_other = said is not None and not Path(extractor.model).is_dir() and _short(said) != _short(extractor.model)
        how, known = "not", "'model'"
    if is_other:
        raise ValueError(
            f"The dictionary was learned from the model {said!r}, {how} {extractor.model!r}. Open the model that "
            f"it was learned from or, if both are the same, delete {known} from its source_."
        )


def _short(name: str) -> str:
    last = name.rstrip("/").rpartition("/")[2].lower()
    return _SAME.get(last, last)


def _tap(model: nn.Module, place: Place) -> tuple | None:
    """
    Return the module that reads or gives what flows at a place, and which; None where the model has no such place.

    What goes into a block is what the one before gave, whatever it is called.
    """
    try:
        module, side, block = find_module(model, place)
    except ValueError:
        return None
    if module is block and side == "input" and place.layer > 0:
        module, side, _ = find_module(model, Place("block_output", place.layer - 1))
    return module, side
