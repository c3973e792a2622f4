"""Binary tasks on texts, by which probes are compared."""

import importlib.util
from io import BytesIO

import numpy as np
import pandas as pd

from skfactors.datasets.packages import file_in_package, named_damage

_INSTALL = 'pip install --no-deps "sae-probes==0.4.2" zstandard'
_LIST = "data/probing_datasets_MASTER.csv.zst"


def load_probing_tasks() -> dict[str, tuple[list[str], np.ndarray]]:
    """
    Load the 113 binary tasks of Kantamneni et al. [1]_.

    They ask for topics, sentiment, languages of programs, whether a statement is true, a word pair occurs, a person is
    a politician, and so on, and have 728 to 5,000 texts each, as many of one class as of the other. The package
    sae-probes (MIT License) carries them; each text belongs to its author.

    Returns
    -------
    dict of str to (list of str, ndarray)
        By name, such as "92_glue_sst2": texts, and the label of each, a number, a bool or a str.

    Raises
    ------
    ModuleNotFoundError
        If the package sae-probes is not installed, or zstandard, which its files are read with.
    RuntimeError
        If one of its files is damaged.

    See Also
    --------
    skfactors.evaluations.sparse_probing : Asks how well a few factors answer them.

    References
    ----------
    .. [1] Kantamneni, Engels, Rajamanoharan, Tegmark, Nanda (2025), "Are Sparse Autoencoders Useful? A Case Study in
       Sparse Probing", arXiv 2502.16681.

    Examples
    --------
    >>> from skfactors.datasets import load_probing_tasks
    >>> tasks = load_probing_tasks()
    >>> texts, labels = tasks["92_glue_sst2"]
    >>> len(tasks), len(texts), sorted(set(labels.tolist()))
    (113, 5000, [0, 1])
    """
    if importlib.util.find_spec("zstandard") is None:
        raise ModuleNotFoundError(
            f"The probing tasks are read with zstandard, which is not installed. Run `{_INSTALL}`.", name="zstandard"
        )
    listed = _read(_LIST, ["Dataset save name", "Data type"])
    tasks = {}
    for name in listed.loc[listed["Data type"] == "Binary Classification", "Dataset save name"]:
        table = _read(f"data/{name}.zst", ["prompt", "target"])
        tasks[name.removeprefix("cleaned_data/").removesuffix(".csv")] = (
            table["prompt"].tolist(),
            table["target"].to_numpy(),
        )
    return tasks


def _read(name: str, columns: list[str]) -> pd.DataFrame:
    import zstandard

    file = file_in_package("sae_probes", name, _INSTALL)
    with named_damage(file, f"{_INSTALL} --force-reinstall"):
        # Of a file cut short, pandas would read as much as there is.
        stream = zstandard.ZstdDecompressor().decompressobj()
        content = stream.decompress(file.read_bytes())
        if not stream.eof:
            raise ValueError("the end is missing")
        return pd.read_csv(BytesIO(content), usecols=columns, dtype={"prompt": str}, keep_default_na=False)
