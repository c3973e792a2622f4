"""Where a tensor goes: the device that a string names."""

import torch


def resolve_device(device: str) -> str:
    """
    Name the device that `device` stands for on this machine.

    Parameters
    ----------
    device : str
        "auto" is the first of cuda, mps and cpu that is there; any other is a torch device string.

    Returns
    -------
    str

    Raises
    ------
    ValueError
        If torch knows no such device, or it is not on this machine.
    """
    if device == "auto":
        if torch.cuda.is_available():
            return "cuda"
        return "mps" if torch.backends.mps.is_available() else "cpu"
    try:
        kind = torch.device(device).type
    except RuntimeError as error:
        raise ValueError(f"device={device!r} is no device that torch knows: use 'auto', 'cpu', 'cuda' ...") from error
    available = {"cuda": torch.cuda.is_available, "mps": torch.backends.mps.is_available}
    if not available.get(kind, lambda: True)():
        raise ValueError(f"device={device!r} is not available on this machine: use 'auto' or 'cpu'.")
    return device
