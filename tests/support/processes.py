"""Processes that tests start, kill and count in: what they run, and a server that forks them quickly."""

import multiprocessing
import os
import time
from pathlib import Path

_ways = multiprocessing.get_all_start_methods()
_context = multiprocessing.get_context("forkserver" if "forkserver" in _ways else "spawn")
# The modules and not only the package, which loads nothing until it is used: processes that are killed after a moment
# must have got to their work by then.
_WORK = [
    "skfactors.dictionaries.autoencoders.sparse_autoencoder",
    "skfactors.dictionaries.sparse_coding.sparse_dictionary",
    "skfactors.extraction.text.extractor",
    "skfactors.reports",
    "transformers.models.bert.modeling_bert",
]
_context.set_forkserver_preload([*_WORK, "support.processes"])


def start(target, *arguments, environment=(), **keywords):
    """Start a process that runs `target`, one of the functions below or another that can be imported, on one thread."""
    process = _context.Process(target=_run, args=(target, environment, arguments, keywords), daemon=True)
    process.start()
    return process


def _run(target, environment, arguments, keywords):
    import torch

    os.environ.update(environment)
    torch.set_num_threads(1)
    target(*arguments, **keywords)


def finish(process, timeout=120):
    """Wait for a process and return its exit code."""
    process.join(timeout)
    assert process.exitcode is not None, f"still running after {timeout} seconds"
    return process.exitcode


def kill_after(process, seconds):
    """Kill a process without a chance to clean up; return whether it was still running."""
    process.join(seconds)
    alive = process.exitcode is None
    if alive:
        process.kill()
        process.join()
    return alive


def kill_after_checkpoints(process, folder, n_checkpoints, seconds):
    """
    Kill a process some time after it wrote so many checkpoints; return whether it was still running.

    However busy the machine is, it has got on by then.
    """
    seen, last = 0, _newest(folder)
    while process.exitcode is None and seen < n_checkpoints:
        time.sleep(0.001)
        newest = _newest(folder)
        seen, last = seen + (newest != last), newest
    return kill_after(process, seconds)


def _newest(folder):
    return max((file.stat().st_mtime_ns for file in Path(folder).glob("[!.]*.safetensors")), default=0)


def count_windows(path):
    """Let this process note in a file of its own how many windows it runs through a model."""
    from skfactors.extraction.forward import HiddenStateRunner

    forward = HiddenStateRunner.forward

    def counted(self, windows):
        with open(Path(path) / str(os.getpid()), "a") as file:
            file.write(f"{len(windows)}\n")
        return forward(self, windows)

    HiddenStateRunner.forward = counted


def windows_counted(path):
    """Return how many windows all processes ran."""
    return sum(int(line) for file in Path(path).iterdir() for line in file.read_text().splitlines())


def extract_in_small_blocks(path, texts, *, counts=None, pause=0.0, **parameters):
    """Fill a store whose runs of texts are short, so that there are many."""
    from skfactors import TransformerFeatureExtractor
    from skfactors.extraction.store import filling

    filling.CHARACTERS_IN_A_BLOCK = 400
    if counts is not None:
        count_windows(counts)
    if pause:
        write = filling.write_record
        filling.write_record = lambda *of: (time.sleep(pause), write(*of))
    TransformerFeatureExtractor(**parameters).extract_to(texts, path, rows_per_shard=120)


def extract_with_cache(texts, counts, **parameters):
    """Extract by way of a cache."""
    from skfactors import TransformerFeatureExtractor

    count_windows(counts)
    TransformerFeatureExtractor(**parameters).extract(texts)


def fit_to(path, rows, *, sample_weight=None, pause=0.0, free_memory=(), **parameters):
    """Fit a dictionary to rows in a file or a store, with so much free memory in each process, and save it."""
    import numpy as np

    from skfactors import ActivationStore, SparseDictionary, devices
    from skfactors.dictionaries.sparse_coding.step import SparseCodingStep

    rank = int(os.environ.get("RANK", "0"))
    if free_memory:
        devices.free_memory = lambda device: free_memory[rank]
    if pause:
        step = SparseCodingStep.learn_from
        SparseCodingStep.learn_from = lambda *of: (time.sleep(pause), step(*of))[1]
    X = ActivationStore(rows) if Path(rows).is_dir() else np.load(rows, mmap_mode="r")
    if sample_weight == "frequency":
        sample_weight = X.sample_weight
    dictionary = SparseDictionary(device="cpu", **parameters).fit(X, sample_weight=sample_weight)
    if rank == 0:
        dictionary.save(path)


def fit_autoencoder_to(path, rows, *, pause=0.0, **parameters):
    """Fit an autoencoder to rows in a file, and save it."""
    import numpy as np

    from skfactors import SparseAutoencoder
    from skfactors.dictionaries.autoencoders.step import AutoencoderStep

    if pause:
        step = AutoencoderStep.learn_from
        AutoencoderStep.learn_from = lambda *of: (time.sleep(pause), step(*of))[1]
    model = SparseAutoencoder(device="cpu", **parameters).fit(np.load(rows, mmap_mode="r"))
    if int(os.environ.get("RANK", "0")) == 0:
        model.save(path)


def fit_twice_to(path, rows, **parameters):
    """Fit two dictionaries, one after the other, in the same process."""
    for number in range(2):
        fit_to(f"{path}-{number}", rows, random_state=number, **parameters)


def run_command(*arguments, pause=0.0, counts=None):
    """Run a command; a pause before each shard or minibatch leaves time to kill it, and each is noted in a file."""
    import sys

    from skfactors.commands import main
    from skfactors.dictionaries.sparse_coding.step import SparseCodingStep
    from skfactors.extraction.store.activation_store import ActivationStore

    def slowed(method):
        def wrapped(self, *of):
            time.sleep(pause)
            if counts is not None:
                with open(counts, "a") as file:
                    file.write("x")
            return method(self, *of)

        return wrapped

    SparseCodingStep.learn_from = slowed(SparseCodingStep.learn_from)
    ActivationStore.read_shard = slowed(ActivationStore.read_shard)
    sys.exit(main([str(argument) for argument in arguments]))


def start_team(n_processes, target, *arguments, **keywords):
    """Start processes with the environment that torchrun gives them."""
    import socket

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    place = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": str(n_processes)}
    return [
        start(target, *arguments, environment=place | {"RANK": str(rank)}, **keywords) for rank in range(n_processes)
    ]
