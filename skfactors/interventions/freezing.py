"""Models in which attention patterns or norms stay as they are, so that gradients take them for given."""

import re
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn

# What the modules of attention are called that make queries and keys.
_QUERIES_AND_KEYS = re.compile(r"q_proj|k_proj|query|key|q_lin|k_lin|query_proj|key_proj|q|k")
# Those that make queries, keys and values side by side, in thirds.
_IN_THIRDS = re.compile(r"c_attn|Wqkv")
_ATTENTION = re.compile(r"attn|attention", re.IGNORECASE)
_RMS_NORM = re.compile(r".*(RMSNorm|T5LayerNorm)")


@contextmanager
def frozen(model: nn.Module, what) -> Iterator[None]:
    """
    Freeze parts of a model until the context ends: what it computes stays, and its gradients change.

    Parameters
    ----------
    model : torch.nn.Module
        A copy that nobody else runs.
    what : iterable of {"attention", "norms"}
        Attention then has gradients through its values alone, and norms scale by what they scaled by.

    Raises
    ------
    ValueError
        If a name is another, or it is not known which modules of the model it means.
    """
    replaced = []
    for name in what:
        if name not in FREEZABLE:
            raise ValueError(f"freeze={name!r} is none of {', '.join(map(repr, FREEZABLE))}.")
        found = [
            (parent, child_name, child, stand_in)
            for path, parent in model.named_modules()
            for child_name, child in parent.named_children()
            if (stand_in := FREEZABLE[name](f"{path} {type(parent).__name__}", child_name, child)) is not None
        ]
        if not found:
            raise ValueError(f"It is not known which modules of {type(model).__name__} to freeze for {name!r}.")
        replaced += found
    try:
        for parent, child_name, _, stand_in in replaced:
            setattr(parent, child_name, stand_in)
        yield
    finally:
        for parent, child_name, child, _ in replaced:
            setattr(parent, child_name, child)


def _frozen_pattern(where, name, module):
    if not _ATTENTION.search(where):
        return None
    if _QUERIES_AND_KEYS.fullmatch(name):
        return _Detached(module, 1)
    return _Detached(module, 2 / 3) if _IN_THIRDS.fullmatch(name) else None


def _frozen_norm(where, name, module):
    if isinstance(module, nn.LayerNorm):
        return _FrozenNorm(module, module.eps, centred=True)
    if _RMS_NORM.fullmatch(type(module).__name__):
        return _FrozenNorm(module, getattr(module, "variance_epsilon", getattr(module, "eps", 0.0)), centred=False)
    return None


# What can be frozen; from where a module is, its name and itself to what stands in for it, or None.
FREEZABLE = {"attention": _frozen_pattern, "norms": _frozen_norm}


class _Detached(nn.Module):
    """Gives what a module gives, the first share of it without gradients."""

    def __init__(self, module, share):
        super().__init__()
        self.module, self._share = module, share

    def forward(self, *args, **kwargs):
        given = self.module(*args, **kwargs)
        width = round(given.shape[-1] * self._share)
        return torch.cat([given[..., :width].detach(), given[..., width:]], dim=-1)


class _FrozenNorm(nn.Module):
    """Gives what a norm gives, with the gradients of one whose scale does not go by its input."""

    def __init__(self, norm, epsilon, *, centred):
        super().__init__()
        self.norm, self._epsilon, self._centred = norm, epsilon, centred

    def forward(self, states):
        with torch.no_grad():
            given = self.norm(states)
            exact = states.float()
            variance = exact.var(-1, correction=0, keepdim=True) if self._centred else exact.square().mean(-1, True)
            scale = self._gain(states) * torch.rsqrt(variance + self._epsilon)
        moved = states - states.detach()
        if self._centred:
            moved = moved - moved.mean(-1, keepdim=True)
        return given + (moved * scale).to(given.dtype)

    def _gain(self, states):
        if self._centred:
            return 1.0 if self.norm.weight is None else self.norm.weight.float()
        # Some count it from 1: what the norm makes of ones tells.
        ones = torch.ones(states.shape[-1], dtype=states.dtype, device=states.device)
        return self.norm(ones).float() * (1 + self._epsilon) ** 0.5
