"""What a loaded model is like, found by running it over a few tokens and not by reading its configuration."""

import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from torch import nn

from skfactors.extraction.forward import padded, run_model
from skfactors.extraction.hooks import reading
from skfactors.extraction.sites import HIDDEN_STATES, Place, named
from skfactors.extraction.turns import Turns

logger = logging.getLogger(__name__)

# What configurations call the number of positions. A model may have none of them, or say -1 for no limit.
_POSITIONS = (
    "max_position_embeddings",
    "max_encoder_position_embeddings",
    "n_positions",
    "max_seq_len",
    "context_length",
)
# Tokens of the windows that a model is tried on: few, but the long one longer than the 64 tokens that many models with
# sparse attention take together.
_N_SHORT, _N_LONG = 6, 66
# Kernels that add in any order, on accelerators, come to differ by more than a sum's own rounding, layer after layer.
_ROUGHLY = 30
# Tokenizers that know of no limit say 10 to the power of 30.
_NO_LIMIT = 10**9
_FAILURES = (
    AssertionError,
    AttributeError,
    IndexError,
    KeyError,
    NotImplementedError,
    RuntimeError,
    TypeError,
    ValueError,
)


class AsLoaded:
    """
    How modules stood when a model was loaded, so that what a pass has changed is put back before the next.

    Some models change as they read: BigBird gives up sparse attention for good at the first short text, and rotary
    factors may grow with the longest text so far.

    Parameters
    ----------
    modules : iterable of torch.nn.Module, default=()
        None for a model that stays as it is.
    """

    def __init__(self, modules: Iterable[nn.Module] = ()):
        self._kept = [(place, dict(place)) for module in modules for place in _places(module)]

    def put_back(self) -> None:
        """Undo what passes have changed."""
        for place, kept in self._kept:
            place.update(kept)

    def changed(self) -> bool:
        """Say whether passes have changed anything."""
        return any(
            not (place.get(name) is value or _equal_settings(place.get(name), value))
            for place, kept in self._kept
            for name, value in kept.items()
        )


def _places(module: nn.Module) -> tuple[dict, dict, dict]:
    return module.__dict__, module._buffers, module._modules


def _equal_settings(one, other) -> bool:
    return type(one) is type(other) and isinstance(one, (bool, int, float, str)) and one == other


@dataclass(frozen=True)
class ModelFacts:
    """
    What a trial pass shows of a model.

    Attributes
    ----------
    widths : tuple of int
        Of the hidden states, one for each layer, the embeddings first.
    n_positions : int or None
        Tokens in a window, special ones included, that the model has positions for; None for no limit.
    n_embeddings : int or None
        Token ids go up to it; None where the model does not tell.
    company : {"any", "same length", "none"}
        Which windows may share a pass with one and leave its rows as they are.
    taken : tuple of int or None
        Which of the embeddings and the states that the model names are layers; None where the model's own states are.
    as_loaded : AsLoaded
        What is put back before each pass.
    turns : Turns
        Held while the model runs.
    trial_ids : ndarray of int64
        Some tokens that are not special.
    """

    widths: tuple[int, ...] = ()
    n_positions: int | None = None
    n_embeddings: int | None = None
    company: str = "any"
    taken: tuple[int, ...] | None = None
    as_loaded: AsLoaded = field(default_factory=AsLoaded)
    turns: Turns = field(default_factory=Turns)
    trial_ids: np.ndarray = field(default_factory=lambda: np.zeros(1, np.int64))
    _widths_within: dict[Place, int] = field(default_factory=dict)

    def measure(self, model: nn.Module, places: Iterable[Place]) -> None:
        """
        Find out, by a pass over a few tokens, how wide places within the model are.

        Raises
        ------
        ValueError
            If there is no vector for each token at one of them.
        """
        new = [place for place in places if place.site != HIDDEN_STATES and place not in self._widths_within]
        if new:
            with torch.inference_mode(False), torch.no_grad():
                input_ids, attention_mask = padded([self.trial_ids, self.trial_ids[:2]], model)
                states = run_model(model, self, new, input_ids=input_ids, attention_mask=attention_mask)
            self._widths_within.update((place, state.shape[-1]) for place, state in zip(new, states, strict=True))

    def widths_at(self, places: Iterable[Place]) -> list[int]:
        """Return the width of each place; those within the model must have been measured."""
        return [
            self.widths[place.layer] if place.site == HIDDEN_STATES else self._widths_within[place] for place in places
        ]

    def width_of(self, places: Sequence[Place]) -> int:
        """
        Return the one width of some places.

        Raises
        ------
        ValueError
            If they differ.
        """
        places_of = {}
        for place, width in zip(places, self.widths_at(places), strict=True):
            places_of.setdefault(width, []).append(place)
        if len(places_of) > 1:
            found = ", ".join(f"{width} in {named(of_width)}" for width, of_width in places_of.items())
            raise ValueError(
                f"the rows are of different widths: {found}. Ask for places of one width, or for arrange='columns', "
                "which gives each place its own columns."
            )
        return next(iter(places_of), self.widths[0])

    @property
    def content(self) -> dict:
        """What decides rows beside the model's files; nothing for most models."""
        content = {} if self.company == "any" else {"company": self.company}
        return content if self.taken is None else content | {"taken": list(self.taken)}


@torch.inference_mode(False)
@torch.no_grad()
def try_out(model: nn.Module, tokenizer, name: str) -> ModelFacts:
    """
    Run a model over a few tokens: alone, beside more of them, and again.

    Parameters
    ----------
    model : torch.nn.Module
        Takes token ids and an attention mask.
    tokenizer : transformers tokenizer
    name : str
        For messages.

    Raises
    ------
    ValueError
        If the model does not read texts, does not give one vector for each token and layer, gives other vectors each
        time, or its layer 0 is not the embeddings and these cannot be told.
    """
    trial = _Trial(model, tokenizer, name)
    as_loaded, n_changes = AsLoaded(model.modules()), _n_weight_changes(model)
    (short_alone,) = trial.states(trial.short)
    if _n_weight_changes(model) != n_changes:
        # Changed once, at the first pass, and in place: RWKV scales weights for inference.
        as_loaded = AsLoaded(model.modules())
    short_beside, long_beside = trial.states(trial.short, trial.long)
    changes = as_loaded.changed() or _has_rotary_factors_that_change(model)
    if changes:
        trial.facts = replace(trial.facts, as_loaded=as_loaded)
    random_state = _random_state(model)
    (long_alone,) = trial.states(trial.long)
    draws = not torch.equal(random_state, _random_state(model))
    (short_again,) = trial.states(trial.short)
    same_again = trial.same(short_alone, short_again, _ROUGHLY)
    if draws or not trial.same(long_alone, long_beside):
        (long_again,) = trial.states(trial.long)
        # Reformer attends at random, and where weights are small that is hardly to be seen.
        exactly = all(map(torch.equal, long_alone, long_again))
        same_again = same_again and (exactly if draws else trial.same(long_alone, long_again, _ROUGHLY))
    if not same_again:
        raise ValueError(f"{trial.what} gives other hidden states each time that it reads the same text.")
    if not trial.same(short_alone, short_again):
        logger.warning("%s rounds otherwise each time that it reads the same text.", trial.what)
    if changes or not (trial.same(short_alone, short_beside) and trial.same(long_alone, long_beside)):
        long_beside_one_as_long, _ = trial.states(trial.long, trial.long[::-1])
        company = "same length" if trial.same(long_alone, long_beside_one_as_long) else "none"
        trial.facts = replace(trial.facts, company=company)
    (other,) = trial.states(trial.other)
    if not trial.same([short_alone[0][-1]], [other[0][-1]]):
        trial.take_embeddings_for_layer_0(short_alone)
        (short_alone,) = trial.states(trial.short)
    return replace(trial.facts, widths=tuple(state.shape[-1] for state in short_alone), trial_ids=trial.short)


class _Trial:
    """A model and the windows it is tried on: a short one, another that ends in the same token, and a long one."""

    def __init__(self, model, tokenizer, name):
        self.model = model
        self.what = f"The model {name!r} ({type(model).__name__})"
        self.config = model.config.get_text_config()
        n_embeddings = _n_embeddings(model)
        # Of a state's length; beyond it the difference is not one of rounding.
        dtype = next(weight.dtype for weight in model.parameters() if weight.is_floating_point())
        self.tolerance = max(1e-5, 8 * torch.finfo(dtype).eps)
        self.facts = ModelFacts(n_positions=n_positions_of(model, tokenizer), n_embeddings=n_embeddings)
        n_long = min(self.facts.n_positions or _N_LONG, _N_LONG)
        n_short = max(n_long * _N_SHORT // _N_LONG, 1)
        ids = _ordinary_ids(n_embeddings or len(tokenizer), tokenizer, self.config)
        self.long = np.resize(ids, n_long)
        self.short = self.long[-n_short:]
        self.other = np.append(np.resize(ids[::-1], n_short - 1), self.short[-1])

    def states(self, *windows) -> list[list[torch.Tensor]]:
        """Return each window's hidden states, of shape (n_tokens, width) for each layer."""
        input_ids, attention_mask = padded(windows, self.model)
        longest = input_ids.shape[1]
        try:
            states = run_model(self.model, self.facts, input_ids=input_ids, attention_mask=attention_mask)
        except torch.OutOfMemoryError:
            raise
        except _FAILURES as error:
            reason = f" ({str(error).strip().splitlines()[0]})" if isinstance(error, ValueError) and str(error) else ""
            raise ValueError(f"{self.what} does not run on token ids and an attention mask alone{reason}.") from error
        shapes = [tuple(getattr(state, "shape", [type(state).__name__])) for state in states or ()]
        # Models with sparse attention may pad on the right what they read, and leave the padding on.
        if not shapes or any(len(shape) != 3 or shape[0] != len(windows) or shape[1] < longest for shape in shapes):
            raise ValueError(
                f"{self.what} is not supported: a hidden state for each layer is needed, of shape (texts, tokens, "
                f"width), here {(*input_ids.shape, 'width')}; it gives {sorted(set(shapes), key=str) or 'none'}."
            )
        states = [state.to("cpu").double() for state in states]
        return [[state[row, : len(window)] for state in states] for row, window in enumerate(windows)]

    def same(self, states: list[torch.Tensor], others: list[torch.Tensor], times: float = 1) -> bool:
        """Compare hidden states, but for rounding, or for so many times as much."""
        pairs = [(one.nan_to_num(), other.nan_to_num()) for one, other in zip(states, others, strict=True)]
        return all(
            one.shape == other.shape and (one - other).norm() <= times * self.tolerance * one.norm()
            for one, other in pairs
        )

    def take_embeddings_for_layer_0(self, states: list[torch.Tensor]) -> None:
        """Find out which states are layers, where the first seems to come out of a block and not go into one."""
        n_blocks = getattr(self.config, "num_hidden_layers", 0)
        modules = self.model.named_modules()
        blocks = [name for name, part in modules if isinstance(part, nn.ModuleList) and len(part) == n_blocks]
        read = self._input_of(blocks[0]) if blocks else None
        # MobileBERT's embeddings are of three tokens each, and yet what the first block reads.
        if read is not None and self.same(states[:1], [read]):
            return
        if read is None or len(states) - n_blocks not in (0, 1) or not self.same([self._embeddings()], [read]):
            raise ValueError(
                f"{self.what} is not supported: its first hidden state is not the embeddings but depends on the "
                "other tokens of a text already, so that its layers cannot be numbered."
            )
        # Where there is a state more than blocks, the last two are one, before and after the last norm.
        self.facts = replace(self.facts, taken=(*range(n_blocks), len(states)))

    def _input_of(self, blocks: str) -> torch.Tensor | None:
        place = Place(f"{blocks}.{{layer}}:input", 0)
        with reading(self.model, [place]) as read:
            self.states(self.short)
        found = read.get(place)
        return found[0].to("cpu").double() if found is not None and found.ndim == 3 else None

    def _embeddings(self) -> torch.Tensor:
        return self.model.get_input_embeddings()(padded([self.short], self.model)[0])[0].to("cpu").double()


def _n_embeddings(model) -> int | None:
    try:
        return model.get_input_embeddings().weight.shape[0]
    except (AttributeError, NotImplementedError):
        return None


def n_positions_of(model: nn.Module, tokenizer) -> int | None:
    """Return how many tokens a model reads at once, special tokens included; None if there is no limit."""
    config = model.config.get_text_config()
    limits = [getattr(config, name, None) for name in _POSITIONS] + [tokenizer.model_max_length]
    limits += [_n_usable(name, part) for name, part in model.named_modules()]
    n_positions = min((limit for limit in limits if isinstance(limit, int) and 0 < limit < _NO_LIMIT), default=None)
    # LED pads what it reads to whole windows of its attention, and needs positions for these.
    block = int(np.max(getattr(config, "attention_window", None) or 1))
    return n_positions - n_positions % block if n_positions and n_positions > block else n_positions


def _n_usable(name: str, part: nn.Module) -> int | None:
    """Return for how many tokens a table of positions has rows; None for what is not one."""
    weight = getattr(part, "weight", None)
    if "position" not in name.rpartition(".")[2] or "relative" in name or getattr(weight, "ndim", 0) != 2:
        return None
    padding = getattr(part, "padding_idx", None)
    # Positions begin after that of padding (RoBERTa), or after rows that are not used (BART, OPT).
    return weight.shape[0] - (getattr(part, "offset", 0) if padding is None else padding + 1)


def _ordinary_ids(n: int, tokenizer, config) -> np.ndarray:
    """Return ids of tokens that are not special, from all over the vocabulary."""
    special = {*tokenizer.all_special_ids, getattr(config, "pad_token_id", None)}
    ids = [number for number in range(min(n, 1000)) if number not in special] or [0]
    return np.array(ids, dtype=np.int64)[:: max(len(ids) // _N_LONG, 1)]


def _has_rotary_factors_that_change(model) -> bool:
    """Say whether rotary factors go by the longest text of a pass, or of those before."""
    kinds = [getattr(part, "rope_type", None) for part in model.modules()]
    kinds = [kind for named in kinds for kind in (named.values() if isinstance(named, dict) else [named])]
    return any("dynamic" in str(kind) or kind == "longrope" for kind in kinds)


def _random_state(model) -> torch.Tensor:
    device = next(model.parameters()).device
    return torch.cuda.get_rng_state(device) if device.type == "cuda" else torch.get_rng_state()


def _n_weight_changes(model) -> int:
    return sum(weight._version for weight in model.parameters())


def is_decoder(model) -> bool:
    """Tell whether a model with its head predicts each next token of a text, by its own states of it."""
    return hasattr(model, "can_generate") and model.can_generate() and not model.config.is_encoder_decoder
