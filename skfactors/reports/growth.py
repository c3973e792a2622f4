"""Arrays with one entry a group, while groups are still being met."""

import numpy as np


def grown(values, length):
    """Return an array with zeros after its end, so that it has `length` rows; itself where it has them."""
    if len(values) == length:
        return values
    return np.concatenate([values, np.zeros((length - len(values), *values.shape[1:]), dtype=values.dtype)])


def added(values, others, groups, length):
    """Return `values` grown to `length` rows, with the rows of `others` added to those named by `groups`."""
    total = grown(values, length).copy()
    total[groups] += others
    return total
