"""TopK."""


class TopK:
    """The activation "topk"."""

    selection = "largest"
