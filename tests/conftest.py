"""What must be set before anything is imported, and the real and tiny models that tests share."""

import os
import shutil
import tempfile
from importlib.metadata import version
from pathlib import Path

os.environ["HF_HUB_OFFLINE"] = "1"
# Lets scikit-learn run its array API check, which it skips without; older versions of SciPy cannot.
if tuple(map(int, version("scipy").split(".")[:2])) >= (1, 14):
    os.environ["SCIPY_ARRAY_API"] = "1"
# Hypothesis would keep a folder in the working directory.
os.environ["HYPOTHESIS_STORAGE_DIRECTORY"] = str(Path(tempfile.gettempdir()) / "skfactors-hypothesis")
# Processes that share the cores get in each other's way with a thread for every core each.
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("MPLBACKEND", "Agg")

import hypothesis
import numpy as np
import pytest
import torch

# A machine that others use as well may take its time.
hypothesis.settings.register_profile("patient", deadline=None)
hypothesis.settings.load_profile("patient")

# Kernels for GPUs are interpreted where there is none; Triton looks when it is imported.
if not torch.cuda.is_available():
    os.environ["TRITON_INTERPRET"] = "1"

TEXTS = [
    "The bank of the river was muddy.",
    "Shares of the bank fell after the report, and so did the others.",
    "",
    "Ünïcödé, emoji \N{GRINNING FACE} and \u05e9\u05dc\u05d5\u05dd go both ways.",
    "She left the park by the left gate. " * 12,
    "One.",
]


@pytest.fixture(scope="session")
def texts():
    return list(TEXTS)


@pytest.fixture(scope="session")
def tiny_models(tmp_path_factory):
    """Folders of random models, 32 wide and two layers deep, by architecture."""
    from support.tiny_models import save_tiny_models

    return save_tiny_models(tmp_path_factory.mktemp("models"), TEXTS)


@pytest.fixture(scope="session")
def tiny_model(tiny_models):
    return tiny_models["bert"]


@pytest.fixture(scope="session")
def demo_activations():
    """Hidden states of the demo model on real text: about 3,000 rows of layers 1, 3 and 6."""
    from skfactors import TransformerFeatureExtractor
    from skfactors.datasets import demo_model, load_wikipedia

    articles = [article[:1500] for article in load_wikipedia(4)]
    return TransformerFeatureExtractor(demo_model(), layers=[1, 3, 6]).extract(articles)


@pytest.fixture(scope="session")
def demo_rows(demo_activations):
    """Shuffled rows of real hidden states, as an array."""
    order = np.random.default_rng(0).permutation(len(demo_activations))
    return demo_activations.X[order]


@pytest.fixture(scope="module")
def browser():
    """Return the Chromium that is installed."""
    playwright = pytest.importorskip("playwright.sync_api")
    executable = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if executable is None:
        pytest.skip("no Chromium is installed: apt-get install chromium")
    # Chromium has no sandbox for root.
    arguments = ["--no-sandbox"] if hasattr(os, "geteuid") and os.geteuid() == 0 else []
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=executable, args=arguments)
        yield browser
        browser.close()
