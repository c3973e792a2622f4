"""Where the sites of tiny models lie, written down once more, and their states, read by hooks made here."""

import torch
import transformers as hf
from support.tiny_kinds import PICTURES, SIZES, T5_SIZES

SITES = ("block_input", "block_output", "attention_heads", "attention_output", "mlp_input", "mlp_output")
_FEW_HEADS = SIZES | {"num_key_value_heads": 2, "head_dim": 8}
_DISENTANGLED = SIZES | {"relative_attention": True, "pos_att_type": "c2p|p2c"}
_GPT2 = {"vocab_size": 64, "n_embd": 32, "n_layer": 3, "n_head": 4, "bos_token_id": 2, "eos_token_id": 3}
_MARKED = {"pad_token_id": 0, "bos_token_id": 2, "eos_token_id": 3, "cls_token_id": 2, "sep_token_id": 3}
_OPT = {
    "vocab_size": 64,
    "hidden_size": 32,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "ffn_dim": 64,
    "max_position_embeddings": 64,
}

# Settings of each kind of model.
KINDS = {
    "Bert": SIZES,
    "Roberta": SIZES,
    "DistilBert": {"vocab_size": 64, "dim": 32, "n_layers": 3, "n_heads": 4, "hidden_dim": 64},
    "MPNet": SIZES,
    "Deberta": _DISENTANGLED,
    "DebertaV2": _DISENTANGLED | {"position_buckets": 8},
    "ModernBert": SIZES | _MARKED,
    "GPT2": _GPT2,
    "GPTNeoX": SIZES,
    "Llama": _FEW_HEADS,
    "Mistral": _FEW_HEADS,
    "Qwen2": _FEW_HEADS | {"vocab_size": 400},
    "Qwen3": _FEW_HEADS,
    "Gemma2": _FEW_HEADS,
    "Gemma3Text": _FEW_HEADS,
    "Phi": SIZES,
    "OPT": _OPT | {"word_embed_proj_dim": 32},
    "T5": T5_SIZES,
}
PICTURE_KINDS = {"ViT": PICTURES, "Dinov2": PICTURES}
# Kinds that normalise the stream before each part, so that a block gives what it reads and what its parts add.
PRE_NORM = [kind for kind in (*KINDS, *PICTURE_KINDS) if kind not in {"Bert", "Roberta", "DistilBert", "MPNet"}]
PRE_NORM = [kind for kind in PRE_NORM if "Deberta" not in kind]


def _bert(model, i):
    layer = model.encoder.layer[i]
    attention = layer.attention.attn.o if hasattr(layer.attention, "attn") else layer.attention.output.dense
    return layer, attention, attention, layer.intermediate, layer.output.dense


def _distilbert(model, i):
    layer = model.transformer.layer[i]
    return layer, layer.attention.out_lin, layer.attention.out_lin, layer.ffn.lin1, layer.ffn


def _llama(model, i):
    layer = model.layers[i]
    return layer, layer.self_attn.o_proj, layer.self_attn.o_proj, layer.mlp, layer.mlp.down_proj


def _gemma(model, i):
    layer = model.layers[i]
    added = layer.post_attention_layernorm
    return layer, layer.self_attn.o_proj, added, layer.mlp, layer.post_feedforward_layernorm


def _gpt2(model, i):
    layer = model.h[i]
    return layer, layer.attn.c_proj, layer.attn.c_proj, layer.mlp.c_fc, layer.mlp


def _gpt_neox(model, i):
    layer = model.layers[i]
    return layer, layer.attention.dense, layer.attention.dense, layer.mlp.dense_h_to_4h, layer.mlp


def _modernbert(model, i):
    layer = model.layers[i]
    return layer, layer.attn.Wo, layer.attn.Wo, layer.mlp.Wi, layer.mlp.Wo


def _phi(model, i):
    layer = model.layers[i]
    return layer, layer.self_attn.dense, layer.self_attn.dense, layer.mlp.fc1, layer.mlp.fc2


def _opt(model, i):
    layer = model.decoder.layers[i]
    return layer, layer.self_attn.out_proj, layer.self_attn.out_proj, layer.fc1, layer.fc2


def _t5(model, i):
    attention, mlp = model.block[i].layer
    projection = attention.SelfAttention.o
    return model.block[i], projection, projection, mlp.DenseReluDense.wi, mlp.DenseReluDense


def _vit(model, i):
    if hasattr(model, "layers"):
        layer = model.layers[i]
        return layer, layer.attention.o_proj, layer.attention.o_proj, layer.mlp, layer.mlp
    layer = model.encoder.layer[i]
    return layer, layer.attention.output.dense, layer.attention.output.dense, layer.intermediate, layer.output.dense


def _dinov2(model, i):
    layer = model.encoder.layer[i]
    projection = layer.attention.o_proj if hasattr(layer.attention, "o_proj") else layer.attention.output.dense
    return layer, projection, layer.layer_scale1, layer.mlp, layer.layer_scale2


# Of a block: itself, the module that reads the heads, that which gives what attention adds, that which the MLP begins
# with, and that which gives what the MLP adds.
MODULES = {
    **dict.fromkeys(("Bert", "Roberta", "MPNet", "Deberta", "DebertaV2"), _bert),
    **dict.fromkeys(("Llama", "Mistral", "Qwen2", "Qwen3"), _llama),
    **dict.fromkeys(("Gemma2", "Gemma3Text"), _gemma),
    "DistilBert": _distilbert,
    "ModernBert": _modernbert,
    "GPT2": _gpt2,
    "GPTNeoX": _gpt_neox,
    "Phi": _phi,
    "OPT": _opt,
    "T5": _t5,
    "ViT": _vit,
    "Dinov2": _dinov2,
}


def _first_tensor(values):
    values = values if isinstance(values, tuple) else (values,)
    return next(value for value in values if isinstance(value, torch.Tensor))


def states_by_hand(kind, model, layers, **inputs):
    """Run a model over one text or picture; return the states at each (site, layer), of shape (n_tokens, width)."""
    found, handles = {}, []

    def keep(site, layer, of_output):
        def hook(module, given, named, output=None):
            states = output if of_output else (given or named["hidden_states"])
            found[site, layer] = _first_tensor(states).reshape(-1, _first_tensor(states).shape[-1]).clone()

        return hook

    for layer in layers:
        block, heads, attention, reads, writes = MODULES[kind](model, layer)
        for site, module in (("block_input", block), ("attention_heads", heads), ("mlp_input", reads)):
            handles.append(module.register_forward_pre_hook(keep(site, layer, False), with_kwargs=True))
        for site, module in (("block_output", block), ("attention_output", attention), ("mlp_output", writes)):
            handles.append(module.register_forward_hook(keep(site, layer, True), with_kwargs=True))
    try:
        with torch.no_grad():
            output = model(**inputs, output_hidden_states=True)
    finally:
        for handle in handles:
            handle.remove()
    found |= {("hidden_states", layer): states[0] for layer, states in enumerate(output.hidden_states)}
    return {place: states.numpy() for place, states in found.items()}


def loaded(folder, kind):
    """Return the part of a model that reads texts, as transformers loads it."""
    model = hf.AutoModel.from_pretrained(folder).eval()
    return model.get_encoder() if kind == "T5" else model
