"""What a file says about where its dictionary is from, for model cards and checks; it decides no code."""


def source(format: str, *, model=None, place=None, place_out=None, l0=None, **others) -> dict:
    """
    Put it together.

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
        Without what is None.
    """
    said = {"format": format, "model": model, "place": place, "place_out": place_out, "l0": l0, **others}
    return {name: value for name, value in said.items() if value is not None}
