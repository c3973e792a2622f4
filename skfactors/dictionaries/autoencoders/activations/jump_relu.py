"""JumpReLU."""


class JumpReLU:
    """The activation "jump_relu"."""

    selection = "above"
