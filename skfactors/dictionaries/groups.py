"""Nested prefixes of the components (Matryoshka)."""

import numpy as np

_MOST_GROUPS = 100


def ends_of_groups(group_sizes, n_components: int) -> np.ndarray:
    """
    Return where nested prefixes of the components end.

    Parameters
    ----------
    group_sizes : sequence of int or float, or None
        Sizes of the groups, or their shares of the components; None is one group of all.
    n_components : int

    Raises
    ------
    ValueError
        If they do not add up.
    """
    if group_sizes is None:
        return np.array([n_components])
    sizes = np.asarray(group_sizes)
    if sizes.ndim != 1 or not len(sizes) or sizes.dtype.kind not in "iuf" or not (sizes > 0).all():
        raise ValueError(f"group_sizes={group_sizes!r} must be positive numbers, one for each group.")
    whole, wanted = (n_components, f"n_components={n_components}") if sizes.dtype.kind in "iu" else (1.0, "1")
    if not np.isclose(sizes.sum(), whole, rtol=1e-6):
        raise ValueError(f"group_sizes add up to {sizes.sum():g}, not to {wanted}.")
    ends = np.rint(np.cumsum(sizes) / whole * n_components).astype(np.int64)
    if (np.diff(ends, prepend=0) < 1).any() or len(sizes) > _MOST_GROUPS:
        raise ValueError(
            f"group_sizes={group_sizes!r} make a group without a component of {n_components}, or more than "
            f"{_MOST_GROUPS} groups: take fewer, or larger ones."
        )
    return ends
