"""The only hooks: what flows at a place of a running model is read, or other values flow on in its stead."""

import copy
import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager

import torch
from torch import nn

from skfactors.extraction.sites import Place, find_module, reading_part


@contextmanager
def hooked(model: nn.Module, flows: Mapping[Place, Callable]) -> Iterator[None]:
    """
    Let functions see, and change, what flows at places of a model, until the context ends, in whatever way it does.

    Whoever runs the model meanwhile meets them, in other threads too: hold its turns, or hook a :func:`twin`. Of
    contexts within each other, the inner one's functions are called first.

    Parameters
    ----------
    model : torch.nn.Module
        With or without a head.
    flows : mapping of Place to callable
        Called each time that the model comes to the place, with a tensor of shape (n_windows, n_tokens, width). What it
        returns, of that shape, flows on in its stead; None leaves all as it is, to the last bit. In a generation with a
        cache, tokens are those of the step.

    Raises
    ------
    ValueError
        If the model has no such place, is compiled, or a function returns another shape.
    """
    if any(map(_is_compiled, model.modules())):
        raise ValueError(
            "The model is compiled by torch.compile, which leaves out what is to happen inside it: pass the model as "
            "it was before."
        )
    with ExitStack() as stack:
        for place, flow in flows.items():
            _Hook(place, flow).register(*find_module(model, place), stack)
        yield


@contextmanager
def reading(model: nn.Module, places: Iterable[Place]) -> Iterator[dict[Place, torch.Tensor]]:
    """
    Keep what flows at places during one pass of a model.

    Parameters
    ----------
    model : torch.nn.Module
    places : iterable of Place

    Yields
    ------
    dict of Place to tensor of shape (n_windows, n_tokens, width)
        Filled as the model runs, with copies: some models work on in the same memory.

    Raises
    ------
    ValueError
        As :func:`hooked`, or if the model comes to a place twice in the pass.
    """
    read = {}

    def keep(place):
        def flow(states):
            if place in read:
                raise ValueError(f"{tuple(place)} is no single place: its module runs more than once in a pass.")
            read[place] = states.clone()

        return flow

    with hooked(model, {place: keep(place) for place in places}):
        yield read


@contextmanager
def noting_inputs(model: nn.Module, note: Callable[[dict], None]) -> Iterator[None]:
    """
    Tell a function what the part of a model that reads texts is given, before each pass, until the context ends.

    Parameters
    ----------
    model : torch.nn.Module
        With or without a head.
    note : callable
        Called with a dict of arguments by name, such as `input_ids` and `attention_mask`.
    """
    part = reading_part(model)
    signature = inspect.signature(part.forward)

    def note_inputs(_, args, named):
        note(signature.bind_partial(*args, **named).arguments)

    handle = part.register_forward_pre_hook(note_inputs, with_kwargs=True)
    try:
        yield
    finally:
        handle.remove()


def twin(model: nn.Module) -> nn.Module:
    """
    Return a model with modules of its own and the same weights, not copied: hooks on it touch nobody else's passes.

    Parameters
    ----------
    model : torch.nn.Module

    Returns
    -------
    torch.nn.Module
    """
    return copy.deepcopy(model, {id(tensor): tensor for tensor in (*model.parameters(), *model.buffers())})


def _is_compiled(module: nn.Module) -> bool:
    return hasattr(module, "_orig_mod") or getattr(module, "_compiled_call_impl", None) is not None


class _Hook:
    """One place, and the function that sees what flows there."""

    def __init__(self, place: Place, flow: Callable):
        self._place = place
        self._flow = flow
        self._shape = None

    def register(self, module: nn.Module, side: str, block: nn.Module, stack: ExitStack) -> None:
        """Put the hooks on; the stack takes them off."""
        stack.callback(block.register_forward_pre_hook(self._note_shape, prepend=True, with_kwargs=True).remove)
        if side == "input":
            stack.callback(module.register_forward_pre_hook(self._on_input, prepend=True, with_kwargs=True).remove)
        else:
            # Before those by which the model itself notes its hidden states.
            stack.callback(module.register_forward_hook(self._on_output, prepend=True).remove)

    def _note_shape(self, block, args, named):
        self._shape = self._input_of(args, named)[1].shape[:2]

    def _on_input(self, module, args, named):
        key, states = self._input_of(args, named)
        new = self._passed(states)
        if new is None:
            return None
        if isinstance(key, int):
            return (*args[:key], new, *args[key + 1 :]), named
        return args, named | {key: new}

    def _on_output(self, module, args, output):
        if isinstance(output, torch.Tensor):
            return self._passed(output)
        # The first of several, as all models of transformers order them.
        first, *others = output.to_tuple() if hasattr(output, "to_tuple") else output
        new = self._passed(first)
        if new is None:
            return None
        if hasattr(output, "to_tuple"):
            return type(output)(**(output | {next(iter(output)): new}))
        return type(output)((new, *others))

    def _input_of(self, args: tuple, named: dict) -> tuple:
        """Find the hidden states among what a module is given: the first tensor, or the one of that name."""
        given = [*enumerate(args), *sorted(named.items(), key=lambda item: item[0] != "hidden_states")]
        found = next((item for item in given if isinstance(item[1], torch.Tensor)), None)
        if found is None:
            raise ValueError(f"Nothing flows at {tuple(self._place)}: its module is given no tensor.")
        return found

    def _passed(self, states: torch.Tensor) -> torch.Tensor | None:
        # OPT's MLP reads the tokens of all windows in one row.
        flat = states.ndim == 2 and self._shape is not None and len(states) == self._shape.numel()
        new = self._flow(states.unflatten(0, self._shape) if flat else states)
        if new is None:
            return None
        shape = (*self._shape, states.shape[-1]) if flat else states.shape
        if new.shape != shape:
            raise ValueError(f"At {tuple(self._place)} flows a tensor of shape {tuple(shape)}, not {tuple(new.shape)}.")
        return new.flatten(0, 1) if flat else new
