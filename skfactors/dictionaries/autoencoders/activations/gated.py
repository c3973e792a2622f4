"""Gated."""


class Gated:
    """The activation "gated"."""

    selection = "above"
