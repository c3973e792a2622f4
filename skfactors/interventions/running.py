"""What an intervention needs of a model: a copy to run, the place that is meant, and which tokens are text."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import partial
from weakref import WeakKeyDictionary

import torch
from sklearn.base import clone
from torch import nn

from skfactors.extraction.hooks import hooked, noting_inputs, reading, twin
from skfactors.extraction.models import resolve_layers
from skfactors.extraction.outliers import PASSAGE, median_norms
from skfactors.extraction.sites import HIDDEN_STATES, Place, find_module, find_site, reading_part
from skfactors.interventions.factors import Factors
from skfactors.interventions.sources import check_source

# The copies that interventions of this thread run in, by the model that each is of.
_RUNNING: ContextVar[tuple] = ContextVar("_RUNNING", default=())
# Median norms of places, by model, which takes a pass to tell.
_MEDIANS: WeakKeyDictionary = WeakKeyDictionary()


@contextmanager
def running_copy(extractor) -> Iterator[tuple[nn.Module, object]]:
    """
    Open a model with its head, as a copy that shares its weights; within another intervention, that one's copy.

    Parameters
    ----------
    extractor : TransformerFeatureExtractor

    Yields
    ------
    model : torch.nn.Module
    tokenizer : transformers fast tokenizer

    Raises
    ------
    TypeError
        If the extractor opens no model.
    ValueError
        If the model is quantized or compiled.
    """
    if not hasattr(extractor, "language_model"):
        raise TypeError(f"extractor is of type {type(extractor).__name__}; a TransformerFeatureExtractor is needed.")
    model, tokenizer = extractor.language_model(need_head=False)
    _refuse_quantized(model)
    with hooked(model, {}):
        """Says so if it is compiled."""
    running = _RUNNING.get()
    copy = next((copy for original, copy in running if original is model), None)
    if copy is None:
        copy = twin(model)
        if not (hasattr(copy, "can_generate") and copy.can_generate()):
            copy.generate = partial(_refuse_generation, type(copy).__name__)
        running = (*running, (model, copy))
    token = _RUNNING.set(running)
    try:
        yield copy, tokenizer
    finally:
        _RUNNING.reset(token)


def _refuse_quantized(model) -> None:
    floating = all(weight.is_floating_point() for weight in model.parameters())
    by_torch = any("quantized" in type(module).__module__.split(".") for module in model.modules())
    if getattr(model.config, "quantization_config", None) is not None or not floating or by_torch:
        raise ValueError(
            "The weights of the model are quantized, and its states are not those that a dictionary is learned from: "
            "load it in float32, float16 or bfloat16."
        )


def _refuse_generation(kind: str, *args, **kwargs):
    raise ValueError(
        f"{kind} generates nothing: it has no head that predicts the next token. Take a language model, such as "
        "demo_language_model()."
    )


def find_one(model: nn.Module, extractor, site: str | None, layer: int | None) -> Place:
    """
    Find a place in a model; what is None is the extractor's own.

    Raises
    ------
    TypeError, ValueError
        If there is no such place, or the extractor reads several.
    """
    site = _only("site", extractor.site) if site is None else site
    layer = _only("layer", extractor.layers) if layer is None else layer
    # Says what the model has, if it does not have the site.
    first = find_site(model, site).layers(reading_part(model))[0] if site != HIDDEN_STATES else 0
    find_module(model, Place(site, first))
    inner = "block_input" if site == HIDDEN_STATES else site
    there = find_site(model, inner).layers(reading_part(model))
    there = [*there, len(there)] if site == HIDDEN_STATES else there
    return Place(site, *resolve_layers([layer], there, extractor.model, site))


def _only(name: str, values):
    listed = [values] if isinstance(values, (str, int)) else list(values)
    if len(listed) != 1 or listed == ["all"]:
        raise ValueError(f"The extractor reads several {name}s: say which one is meant by {name}=.")
    return listed[0]


class Reader:
    """
    A dictionary at its place in a model: it codes the states of the tokens of texts there.

    Parameters
    ----------
    model : torch.nn.Module
        The copy that runs.
    extractor : TransformerFeatureExtractor
        Whose place, where none is named, and limit for outliers are used.
    dictionary : FactorModel, Pipeline or estimator
    site : str, pair of str or None
        Of a transcoder the site that it reads, and the one that it predicts.
    layer : int or None

    Attributes
    ----------
    factors : Factors
    reads, writes : Place
        The same, but for a transcoder.

    Raises
    ------
    TypeError, ValueError
        If there is no such place, or the dictionary is not of it.
    """

    def __init__(self, model, extractor, dictionary, site, layer):
        self.factors = Factors(dictionary, next(model.parameters()).device)
        sites = site
        if self.factors.predicts:
            sites = ("mlp_input", "mlp_output") if site is None else site
            if isinstance(sites, str) or len(sites) != 2:
                raise ValueError(
                    f"site={site!r}: a transcoder has two, the site that it reads and the one it predicts."
                )
        elif site is not None and not isinstance(site, str):
            raise TypeError(f"site={site!r} is not one site.")
        pair = sites if self.factors.predicts else (sites, sites)
        self.reads, self.writes = (find_one(model, extractor, name, layer) for name in pair)
        check_source(self.factors.source, extractor, model, self.reads, self.writes)
        _check_widths(model, self)
        self.limit = _outlier_limit(model, extractor, self.reads)

    def of_text(self, states: torch.Tensor, tokens: "Tokens") -> torch.Tensor:
        """Say which tokens the dictionary is for: bool of shape (n_windows, n_tokens)."""
        where = tokens.of_text(states)
        return where if self.limit is None else where & (states.float().norm(dim=-1) <= self.limit)


def _check_widths(model, reader: Reader) -> None:
    part = reading_part(model)
    ids = torch.zeros((1, 2), dtype=torch.long, device=next(model.parameters()).device)
    with torch.no_grad(), reading(model, {reader.reads, reader.writes}) as read:
        part(input_ids=ids, attention_mask=torch.ones_like(ids))
    wanted = {reader.reads: reader.factors.n_features, reader.writes: reader.factors.directions.shape[1]}
    for place, width in wanted.items():
        found = read[place].shape[-1]
        if found != width:
            raise ValueError(
                f"The dictionary has rows of {width} features, and states of {place.site!r} in layer {place.layer} "
                f"have {found}: it was learned from another place or another model."
            )


def _outlier_limit(model, extractor, place: Place) -> float | None:
    if extractor.drop_outliers is None:
        return None
    original = next(original for original, copy in _RUNNING.get() if copy is model)
    windowing = {name: getattr(extractor, name) for name in ("max_length", "stride", "add_special_tokens")}
    known, key = _MEDIANS.setdefault(original, {}), (place, *windowing.values())
    if key not in known:
        plain = clone(extractor).set_params(
            site=place.site, layers=[place.layer], level="token", drop_outliers=None, cache_dir=None, verbose=False
        )
        known[key] = median_norms(plain.extract([PASSAGE]))[place]
    return extractor.drop_outliers * known[key]


class Tokens:
    """
    Which tokens of a running pass are text: neither padding nor special tokens, as in extraction.

    A mask in place of a word, and an unknown word, are text.

    Parameters
    ----------
    tokenizer : transformers tokenizer
    """

    def __init__(self, tokenizer):
        tokens = {"mask_token", "unk_token"}
        named = [value for name, value in tokenizer.special_tokens_map.items() if name not in tokens]
        special = {token for value in named for token in ([value] if isinstance(value, str) else value)}
        special = tokenizer.convert_tokens_to_ids(sorted(special))
        self._special = torch.tensor(special, dtype=torch.long)
        self._is_text = None

    def noted(self, model: nn.Module):
        """Follow what a model is given, until the context ends."""
        return noting_inputs(model, self._note)

    def _note(self, given: dict) -> None:
        ids, mask = given.get("input_ids"), given.get("attention_mask")
        self._is_text = None if ids is None else ~torch.isin(ids, self._special.to(ids.device))
        if mask is not None and mask.ndim == 2:
            inputs = given.get("inputs_embeds") if ids is None else ids
            # With a cache the mask is of all tokens, and the ids are those of the step.
            attended = mask[:, -inputs.shape[1] :] != 0
            self._is_text = attended if ids is None else self._is_text & attended

    def of_text(self, states: torch.Tensor) -> torch.Tensor:
        """Return it for states of shape (n_windows, n_tokens, width): bool of shape (n_windows, n_tokens)."""
        if self._is_text is None:
            return torch.ones(states.shape[:2], dtype=torch.bool, device=states.device)
        found = torch.zeros(states.shape[:2], dtype=torch.bool, device=states.device)
        # Models with sparse attention may have padded further.
        found[:, : self._is_text.shape[1]] = self._is_text.to(states.device)
        return found
