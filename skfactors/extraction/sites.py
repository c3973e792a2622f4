"""
The places inside a model that rows are read from: what they are called, and where each lies in an architecture.

A place is a site in a layer. The layers of the hidden states are counted as the model counts them, 0 being the
embeddings; those of every other site are the model's blocks, counted from 0, so that block 0 makes hidden state 1.

"hidden_states"
    What the model gives for `output_hidden_states`: the input of each block, and what the last block gives. In models
    that normalise the stream before each part (all here but the BERT family) the last one is after the final norm.
"block_input", "block_output"
    What a block reads and gives: the residual stream itself, the last before any final norm. In the BERT family, which
    normalises after each part, it is after the norm that ends the block.
"attention_heads"
    What the heads give, side by side, before the projection that mixes them.
"attention_output", "mlp_output"
    What attention and MLP add to the residual stream: after their last projection, and before the norm that a block of
    the BERT family applies to the sum. Gemma 2 and 3 normalise what they add, and DINOv2 scales it: there it is after
    that norm or scale.
"mlp_input"
    What the MLP reads. In models that normalise the stream first, it is after that norm. In the BERT family it is the
    stream after the norm that follows attention. In parallel blocks it does not hold this block's attention: Phi's MLP
    reads the very rows that attention reads, GPT-NeoX's the block's input after a norm of its own. In OPT it is after
    the norm, or, where `do_layer_norm_before` is off (OPT-350m), the stream after the norm that follows attention.

Every other place goes by a module's path, "encoder.layer.{layer}.attention.self.query:output": the path is that of the
model without its head, and of the encoder of an encoder-decoder.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from numbers import Integral
from typing import NamedTuple

HIDDEN_STATES = "hidden_states"

# What `site` can be, beside a module's path.
SITES = (
    HIDDEN_STATES,
    "block_input",
    "block_output",
    "attention_heads",
    "attention_output",
    "mlp_input",
    "mlp_output",
)
_LAYER = "{layer}"
_PATH = re.compile(r"(?P<path>[\w.]*\{layer\}[\w.]*):(?P<side>input|output)", re.ASCII)


class Place(NamedTuple):
    """
    A site in one layer.

    Attributes
    ----------
    site : str
    layer : int
    """

    site: str
    layer: int


@dataclass(frozen=True)
class Site:
    """
    Where a site lies: what the modules of a path read, or what they give.

    Attributes
    ----------
    path : str
        With `{layer}` for the number of the layer.
    side : {"input", "output"}
    """

    path: str
    side: str

    @classmethod
    def parsed(cls, text: str) -> "Site | None":
        """Read "path:side", as users write it; None for what is not written so."""
        match = _PATH.fullmatch(text)
        return match and cls(match["path"], match["side"])

    def __str__(self) -> str:
        return f"{self.path}:{self.side}"

    @property
    def block(self) -> str:
        """Path of the block that it lies in."""
        return self.path[: self.path.index(_LAYER) + len(_LAYER)]

    def layers(self, part) -> list[int]:
        """List the layers in which a model has it."""
        pattern = re.compile(
            re.escape(self.path).replace(re.escape(_LAYER), r"(\d+)", 1).replace(re.escape(_LAYER), r"\1")
        )
        found = (pattern.fullmatch(name) for name, _ in part.named_modules(remove_duplicate=False))
        return sorted(int(match[1]) for match in found if match)


@dataclass(frozen=True)
class Architecture:
    """
    Where the sites of an architecture lie.

    Attributes
    ----------
    sites : dict of str to Site
        By name; without those that it does not have.
    last : tuple of str
        Modules that the last hidden state comes out of: the first that a model has. Without any it is what the last
        block gives.
    """

    sites: dict[str, Site]
    last: tuple[str, ...] = ()


def _architecture(block: str, projection="", mlp="", *, attention_adds="", mlp_adds="", last=()) -> Architecture:
    """
    Name the sites of an architecture.

    Parameters
    ----------
    block : str
        Path of a block.
    projection : str, default=""
        The module of the block that mixes the heads; none where it has no heads.
    mlp : str, default=""
        The module whose input the MLP reads.
    attention_adds, mlp_adds : str, default=""
        The modules that give what attention and MLP add to the stream, where they are others than these.
    last : tuple of str
        As in :class:`Architecture`.
    """
    sites = {"block_input": Site(block, "input"), "block_output": Site(block, "output")}
    if projection:
        sites["attention_heads"] = Site(f"{block}.{projection}", "input")
        sites["attention_output"] = Site(f"{block}.{attention_adds or projection}", "output")
    if mlp:
        sites["mlp_input"] = Site(f"{block}.{mlp}", "input")
        sites["mlp_output"] = Site(f"{block}.{mlp_adds or mlp}", "output")
    return Architecture(sites, last)


_BERT = [_architecture("encoder.layer.{layer}", "attention.output.dense", "intermediate", mlp_adds="output.dense")]
_LLAMA = [_architecture("layers.{layer}", "self_attn.o_proj", "mlp", last=("norm",))]
_GEMMA_ADDS = {"attention_adds": "post_attention_layernorm", "mlp_adds": "post_feedforward_layernorm"}
_GEMMA = [_architecture("layers.{layer}", "self_attn.o_proj", "mlp", **_GEMMA_ADDS, last=("norm",))]
_T5 = [_architecture("block.{layer}", "layer.0.SelfAttention.o", "layer.1.DenseReluDense", last=("final_layer_norm",))]
_DINOV2 = [
    _architecture("encoder.layer.{layer}", projection, "mlp", attention_adds="layer_scale1", mlp_adds="layer_scale2")
    # The second in transformers 4.
    for projection in ("attention.o_proj", "attention.output.dense")
]

# By the name that a configuration gives itself. Of several forms of one architecture the one that a model has counts.
ARCHITECTURES = {
    "bert": _BERT,
    "camembert": _BERT,
    "deberta": _BERT,
    "deberta-v2": _BERT,
    "dinov2": _DINOV2,
    "dinov2_with_registers": _DINOV2,
    "distilbert": [_architecture("transformer.layer.{layer}", "attention.out_lin", "ffn")],
    "electra": _BERT,
    "gemma2": _GEMMA,
    "gemma3": [
        _architecture(
            "language_model.layers.{layer}", "self_attn.o_proj", "mlp", **_GEMMA_ADDS, last=("language_model.norm",)
        )
    ],
    "gemma3_text": _GEMMA,
    "gpt2": [_architecture("h.{layer}", "attn.c_proj", "mlp", last=("ln_f",))],
    "gpt_neox": [_architecture("layers.{layer}", "attention.dense", "mlp", last=("final_layer_norm",))],
    "llama": _LLAMA,
    "mamba": [_architecture("layers.{layer}", last=("norm_f",))],
    "mistral": _LLAMA,
    "modernbert": [_architecture("layers.{layer}", "attn.Wo", "mlp", last=("final_norm",))],
    "mpnet": [_architecture("encoder.layer.{layer}", "attention.attn.o", "intermediate", mlp_adds="output.dense")],
    "mt5": _T5,
    "opt": [
        _architecture(
            "decoder.layers.{layer}",
            "self_attn.out_proj",
            "fc1",
            mlp_adds="fc2",
            last=("decoder.project_out", "decoder.final_layer_norm"),
        )
    ],
    "phi": [_architecture("layers.{layer}", "self_attn.dense", "mlp", last=("final_layernorm",))],
    "qwen2": _LLAMA,
    "qwen3": _LLAMA,
    "roberta": _BERT,
    "t5": _T5,
    "vit": [
        _architecture("layers.{layer}", "attention.o_proj", "mlp"),
        # In transformers 4.
        _architecture("encoder.layer.{layer}", "attention.output.dense", "intermediate.dense", mlp_adds="output.dense"),
    ],
    "xlm-roberta": _BERT,
}


def reading_part(model):
    """
    Return the part of a model that paths begin at: without its head, and the encoder of an encoder-decoder.

    Parameters
    ----------
    model : torch.nn.Module
        A model of transformers, with or without a head, or such a part.
    """
    base = getattr(model, getattr(model, "base_model_prefix", "") or "", model)
    if hasattr(base, "encoder") and hasattr(base, "decoder"):
        return base.get_encoder()
    return getattr(base, "text_model", base)


def find_site(model, site: str) -> Site:
    """
    Find where a site lies in a model.

    Parameters
    ----------
    model : torch.nn.Module
    site : str
        One of `SITES` but for the hidden states, which are no single module's; or a module's path.

    Raises
    ------
    ValueError
        If the model has no such site; the message names those that it has.
    """
    part = reading_part(model)
    parsed = Site.parsed(site)
    if parsed is not None:
        if not _has(part, parsed):
            raise ValueError(f"site={site!r}: {type(part).__name__} has no such module.{_like_it(part, parsed.path)}")
        return parsed
    if site not in SITES:
        raise ValueError(
            f"site={site!r} is none of {', '.join(map(repr, SITES))}, and no module's path with {{layer}} that ends in "
            "':input' or ':output', such as 'encoder.layer.{layer}.output:output'."
        )
    sites = _form_of(part).sites
    if site not in sites:
        known = ", ".join(map(repr, (HIDDEN_STATES, *sites)))
        raise ValueError(
            f"site={site!r}: {type(part).__name__} has no such site. It has {known}, and every module by its path, "
            "such as 'encoder.layer.{layer}.output:output'."
        )
    return sites[site]


def find_module(model, place: "Place") -> tuple:
    """
    Find the module that reads or gives what flows at a place, hidden states included.

    Parameters
    ----------
    model : torch.nn.Module
        With or without a head.
    place : Place

    Returns
    -------
    module : torch.nn.Module
    side : {"input", "output"}
    block : torch.nn.Module
        The one that it lies in, or is.

    Raises
    ------
    ValueError
        If the model has no such site or layer; the message names those that it has.
    """
    part = reading_part(model)
    site, layer = place
    if site != HIDDEN_STATES:
        found = find_site(part, site)
        block, module = (_submodule(part, path.format(layer=layer)) for path in (found.block, found.path))
        if module is None:
            raise ValueError(
                f"{type(part).__name__} has no layer {layer} of {site!r}; it has {found.layers(part) or 'none'}."
            )
        return module, found.side, block
    form = _form_of(part)
    if not form.sites:
        raise ValueError(
            f"It is not known which modules of {type(part).__name__} give the hidden states. Name one by its path, "
            "such as 'encoder.layer.{layer}:output'."
        )
    blocks = part.get_submodule(form.sites["block_input"].block.removesuffix(f".{_LAYER}"))
    if not 0 <= layer <= len(blocks):
        raise ValueError(f"{type(part).__name__} has no hidden state {layer}; they go from 0 to {len(blocks)}.")
    if layer < len(blocks):
        return blocks[layer], "input", blocks[layer]
    last = (_submodule(part, path) for path in form.last)
    return next((module for module in last if module is not None), blocks[-1]), "output", blocks[-1]


def _form_of(part) -> Architecture:
    """Return the form of its architecture that a model has; one without sites where it is not known."""
    forms = ARCHITECTURES.get(getattr(part.config, "model_type", None), [])
    return next((form for form in forms if all(_has(part, site) for site in form.sites.values())), Architecture({}))


def _has(part, site: Site) -> bool:
    """Say whether a model has a site, at a glance where it is in the first layer."""
    return _submodule(part, site.path.format(layer=0)) is not None or bool(site.layers(part))


def _submodule(part, path: str):
    try:
        return part.get_submodule(path)
    except AttributeError:
        return None


def _like_it(part, path: str) -> str:
    names = {re.sub(r"(?<=\.)\d+(?=\.|$)", _LAYER, name, count=1) for name, _ in part.named_modules()}
    close = get_close_matches(path, sorted(name for name in names if _LAYER in name), n=3, cutoff=0.5)
    return f" There are {', '.join(map(repr, close))}." if close else ""


def find_place(places: Sequence[Place], site: str | None = None, layer: int | None = None) -> Place:
    """
    Find the one place that is asked for; None asks for the only one there is.

    Raises
    ------
    ValueError
        If there is no such place, or more than one; the message names those that there are.
    """
    found = [place for place in places if site in (None, place.site) and layer in (None, place.layer)]
    if len(found) == 1:
        return found[0]
    asked = " and ".join(f"{name}={value!r}" for name, value in (("site", site), ("layer", layer)) if value is not None)
    if not found:
        counting = " Layers are counted from 0." if isinstance(layer, Integral) and layer < 0 else ""
        raise ValueError(f"There are no rows of {asked or 'any place'}. There are {named(places)}.{counting}")
    raise ValueError(f"Name the site and the layer of one place. There are {named(found)}.")


def find_places(places: Sequence[Place], layers=None, sites=None) -> list[Place]:
    """
    Find places in the order that they are asked for: by site, then by layer; None asks for all.

    Raises
    ------
    ValueError
        If one is not there; the message names those that are.
    """
    sites = list(dict.fromkeys(place.site for place in places)) if sites is None else _listed(sites)
    if layers is not None:
        return [find_place(places, site, layer) for site in sites for layer in _listed(layers)]
    found = [place for site in sites for place in places if place.site == site]
    for site in sites:
        if site not in (place.site for place in found):
            find_place(places, site)
    return found


def named(places: Sequence[Place]) -> str:
    """Name places, for a message."""
    layers = {}
    for site, layer in places:
        layers.setdefault(site, []).append(layer)
    return " and ".join(f"layers {of_site} of {site!r}" for site, of_site in layers.items()) or "no rows"


def _listed(values) -> list:
    return [values] if isinstance(values, str) or not hasattr(values, "__iter__") else list(values)
