"""ReLU."""


class ReLU:
    """The activation "relu"."""

    selection = "positive"
