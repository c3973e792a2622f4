"""BatchTopK."""


class BatchTopK:
    """The activation "batch_topk"."""

    selection = "above"
