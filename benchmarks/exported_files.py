"""
Exported dictionaries, opened by the tools that they were exported for, and what these compute from them.

``python -m benchmarks.exported_files [folder]`` makes an environment of its own for each tool in the folder, or takes
the one that is there, and writes dictionaries of random numbers, which the tool then loads and codes rows with. It
needs some gigabytes for the environments, and exits with 1 where codes or reconstructions differ from ours.
"""

import platform
import subprocess
import sys
import tempfile
import venv
from importlib.metadata import version
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from skfactors import SparseAutoencoder, load_dictionary
from skfactors.dictionaries import PretrainedDictionary, PretrainedTranscoder

PACKAGES = {
    "saelens": "sae-lens==6.54.*",
    "dictionary_learning": "dictionary-learning==0.1.*",
    "sparsify": "eai-sparsify==1.3.*",
}
TORCH = "torch==2.13.0"
# What each tool does with one folder: to codes and reconstructions, dense and of float32.
CODES_OF = {
    "saelens": """
from sae_lens import SAE
sae = SAE.load_from_disk(folder)
codes = sae.encode(x)
recon = sae(x)
""",
    "dictionary_learning": """
import json
from dictionary_learning.utils import load_dictionary
sae, config = load_dictionary(folder, device="cpu")
codes = sae.encode(x)
recon = sae.decode(codes)
""",
    "sparsify": """
from sparsify import SparseCoder
sae = SparseCoder.load_from_disk(folder)
found = sae.encode(x)
codes = torch.zeros(len(x), sae.num_latents).scatter(1, found.top_indices.long(), found.top_acts)
recon = sae.decode(found.top_acts, found.top_indices)
recon = recon if sae.W_skip is None else recon + x @ sae.W_skip.mT
""",
}
N_COMPONENTS, N_FEATURES, TOLERANCE = 96, 32, 1e-5


def dictionaries(seed=0):
    """Yield one of each kind, by name."""
    generator = np.random.default_rng(seed)
    components, encoder = generator.standard_normal((2, N_COMPONENTS, N_FEATURES))
    settings = {
        "intercept": generator.standard_normal(N_FEATURES),
        "encoder_intercept": generator.standard_normal(N_COMPONENTS),
        "threshold": np.abs(generator.standard_normal(N_COMPONENTS)),
        "n_nonzero_coefs": 8,
    }
    for activation in ("relu", "topk", "batch_topk", "jump_relu", "gated", "abs_topk"):
        yield activation, SparseAutoencoder._from_arrays(components, encoder, activation=activation, **settings)
    for scaling in ("unit_norm", "layer_norm"):
        yield (
            f"topk, {scaling}",
            SparseAutoencoder._from_arrays(components, encoder, activation="topk", scaling=scaling, **settings),
        )
    yield (
        "group max",
        SparseAutoencoder._from_arrays(
            components, encoder, activation="topk", selection="largest_of_groups", **settings
        ),
    )
    pursuit = {"n_steps": 8, "rectified": True, "stop_on_same_factors": False, "residual": 0.1}
    unit = components / np.linalg.norm(components, axis=1, keepdims=True)
    yield (
        "matching pursuit",
        PretrainedDictionary.from_arrays(
            "matching_pursuit", unit, settings["intercept"], {"shift": settings["intercept"]}, pursuit, {}
        ),
    )
    for selection in ("positive", "above", "largest"):
        for skip in (False, True):
            weights = {"encoder": encoder, "encoder_intercept": settings["encoder_intercept"]}
            weights |= {"threshold": settings["threshold"]} if selection == "above" else {}
            weights |= {"skip": generator.standard_normal((N_FEATURES, N_FEATURES))} if skip else {}
            yield (
                f"transcoder, {selection}{', skip' if skip else ''}",
                PretrainedTranscoder.from_arrays(
                    "linear",
                    components,
                    settings["intercept"],
                    weights,
                    {"selection": selection, "n_nonzero_coefs": 8, "undo_scaling": False},
                    {},
                ),
            )


def environment(folder: Path, tool: str) -> Path:
    """Return the Python of an environment with a tool, made if need be."""
    home = folder / tool
    python = home / "bin" / "python"
    if not python.exists():
        venv.create(home, with_pip=True)
        subprocess.run([python, "-m", "pip", "install", "--quiet", PACKAGES[tool], TORCH], check=True)
        # Built for another torch than that of a CPU, it would not be imported; none of the tools needs it here.
        subprocess.run([python, "-m", "pip", "uninstall", "--quiet", "--yes", "torchvision"], check=True)
    return python


def computed_by(python: Path, tool: str, folders: list[Path], rows: Path) -> list[dict]:
    """Return what a tool computes from each folder."""
    code = f"""
import numpy as np, torch
x = torch.tensor(np.load({str(rows)!r}))
for folder in {[str(folder) for folder in folders]!r}:
    with torch.no_grad():
{"".join(f"        {line}{chr(10)}" for line in CODES_OF[tool].strip().splitlines())}
        np.savez(folder + "/computed.npz", codes=codes.numpy(), recon=recon.numpy())
"""
    subprocess.run([python, "-c", code], check=True, stdout=subprocess.DEVNULL)
    return [dict(np.load(folder / "computed.npz")) for folder in folders]


def difference(found, wanted) -> float:
    """Return by how much rows differ, relative to their largest values."""
    return float((np.abs(found - wanted) / (1 + np.abs(wanted).max(1, keepdims=True))).max())


def main(folder: Path) -> int:
    generator = np.random.default_rng(1)
    X = (3 * generator.standard_normal((200, N_FEATURES))).astype(np.float32)
    np.save(folder / "rows.npy", X)
    table = Table(title="Exported dictionaries, by the tools that open them")
    for column in ("tool", "version", "dictionary", "L0", "codes differ by", "reconstructions differ by"):
        table.add_column(column, justify="right" if "differ" in column or column == "L0" else "left")
    worst, not_written = 0.0, []
    for tool in PACKAGES:
        written = {}
        for name, model in dictionaries():
            target = folder / "exported" / tool / name.replace(", ", "-").replace(" ", "-")
            try:
                model.export(target, format=tool)
            except ValueError as error:
                not_written.append(f"{tool}, {name}: {error}")
                continue
            written[name] = (model, target)
        python = environment(folder, tool)
        package = PACKAGES[tool].partition("==")[0]
        code = f"from importlib.metadata import version; print(version({package!r}))"
        installed = subprocess.run([python, "-c", code], check=True, capture_output=True, text=True).stdout.strip()
        computed = computed_by(python, tool, [target for _, target in written.values()], folder / "rows.npy")
        for (name, (model, target)), of in zip(written.items(), computed, strict=True):
            again = load_dictionary(target)
            codes = model.transform(X).toarray()
            recon = (model.predict if hasattr(model, "predict") else model.reconstruct)(X)
            differences = difference(of["codes"], codes), difference(of["recon"], recon)
            worst = max(worst, *differences, difference(again.transform(X).toarray(), codes))
            table.add_row(
                tool, installed, name, f"{(codes != 0).sum(1).mean():.1f}", *map("{:.1e}".format, differences)
            )
    console = Console(width=140)
    console.print(f"{platform.platform()}, Python {platform.python_version()}, torch {version('torch')}")
    console.print(table)
    console.print("Not written:", *not_written, sep="\n  ")
    console.print(f"worst {worst:.1e}, allowed {TOLERANCE:.0e}")
    return int(worst > TOLERANCE)


if __name__ == "__main__":
    if len(sys.argv) > 1:
        Path(sys.argv[1]).mkdir(parents=True, exist_ok=True)
        sys.exit(main(Path(sys.argv[1])))
    with tempfile.TemporaryDirectory() as made:
        sys.exit(main(Path(made)))
