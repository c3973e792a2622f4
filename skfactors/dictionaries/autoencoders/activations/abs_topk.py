"""AbsTopK."""


class AbsTopK:
    """The activation "abs_topk"."""

    selection = "largest_magnitudes"
