"""
Peers of ``benchmarks.autoencoders``, each by its own training code and defaults, in an environment of their own.

``python autoencoder_peers.py list`` prints which can be run; ``python autoencoder_peers.py NAME FOLDER N_COMPONENTS K
ROWS_SEEN`` learns from FOLDER/learned.npy and prints what FOLDER/held_out.npy says of it, as a line of JSON.
"""

import importlib.util
import json
import sys
import time
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch

BATCH_SIZE, N_STEPS_BEFORE = 1024, 20


def batches(X, n_steps):
    """Yield shuffled minibatches, epoch after epoch."""
    generator, made = torch.Generator().manual_seed(0), 0
    while made < n_steps:
        for chosen in torch.randperm(len(X), generator=generator).split(BATCH_SIZE):
            if len(chosen) == BATCH_SIZE and made < n_steps:
                made += 1
                yield X[chosen]


def overcomplete(batch):
    """Return what learns by overcomplete: its `train_sae` with Adam and the mean squared error."""

    def learn(X, n_components, k, n_steps):
        from overcomplete.sae import BatchTopKSAE, TopKSAE, train_sae

        kind, most = (BatchTopKSAE, k * BATCH_SIZE) if batch else (TopKSAE, k)
        model = kind(X.shape[1], nb_concepts=n_components, top_k=most)
        optimizer = torch.optim.Adam(model.parameters(), lr=5e-4)

        def error(x, x_hat, z_pre, z, dictionary):
            return (x - x_hat).square().mean()

        train_sae(model, list(batches(X, n_steps)), error, optimizer, nb_epochs=1, monitoring=0)
        model.eval()

        def code(X):
            _, codes, reconstructed = model(X)
            return codes, reconstructed

        return code

    return learn


def dictionary_learning(batch):
    """Return what learns by dictionary_learning: its trainers, stepped as `trainSAE` does."""

    def learn(X, n_components, k, n_steps):
        from dictionary_learning.trainers.batch_top_k import BatchTopKTrainer
        from dictionary_learning.trainers.top_k import TopKTrainer

        warm_up = min(1000, n_steps // 10)
        trainer = (BatchTopKTrainer if batch else TopKTrainer)(
            steps=n_steps,
            activation_dim=X.shape[1],
            dict_size=n_components,
            k=k,
            layer=0,
            lm_name="",
            warmup_steps=warm_up,
            threshold_start_step=warm_up,
            seed=0,
            device="cpu",
        )
        for step, rows in enumerate(batches(X, n_steps)):
            trainer.update(step, rows)

        def code(X):
            reconstructed, codes = trainer.ae(X, output_features=True)
            return codes, reconstructed

        return code

    return learn


def sae_lens(batch):
    """Return what learns by SAELens: its `SAETrainer`."""

    def learn(X, n_components, k, n_steps):
        from sae_lens import BatchTopKTrainingSAE, BatchTopKTrainingSAEConfig, TopKTrainingSAE, TopKTrainingSAEConfig
        from sae_lens.config import SAETrainerConfig
        from sae_lens.training.sae_trainer import SAETrainer

        kind, config = (
            (BatchTopKTrainingSAE, BatchTopKTrainingSAEConfig) if batch else (TopKTrainingSAE, TopKTrainingSAEConfig)
        )
        model = kind(config(d_in=X.shape[1], d_sae=n_components, k=k))
        settings = SAETrainerConfig(total_training_samples=n_steps * BATCH_SIZE, train_batch_size_samples=BATCH_SIZE)
        # As its runner sets it, which this goes without.
        settings.lr_end = settings.lr / 10 if settings.lr_end is None else settings.lr_end
        trainer = SAETrainer(cfg=settings, sae=model, data_provider=batches(X, n_steps + 1))
        model = trainer.fit()
        model.eval()

        def code(X):
            codes = model.encode(X)
            return codes, model.decode(codes)

        return code

    return learn


def sparsify(activation):
    """Return what learns by sparsify: its coder and optimizer, stepped as its `Trainer` does."""

    def learn(X, n_components, k, n_steps):
        from schedulefree import ScheduleFreeWrapper
        from sparsify import SparseCoder, SparseCoderConfig
        from sparsify.sign_sgd import SignSGD

        coder = SparseCoder(X.shape[1], SparseCoderConfig(num_latents=n_components, k=k, activation=activation))
        coder.b_dec.data[:] = X[:BATCH_SIZE].mean(0)
        rate = 5e-3 / (n_components / 2**14) ** 0.5
        optimizer = ScheduleFreeWrapper(SignSGD(coder.parameters(), lr=rate), momentum=0.95)
        optimizer.train()
        for rows in batches(X, n_steps):
            coder.set_decoder_norm_to_unit_norm()
            optimizer.zero_grad()
            coder(rows).fvu.backward()
            coder.remove_gradient_parallel_to_decoder_directions()
            optimizer.step()
        optimizer.eval()

        def code(X):
            found = coder.encode(X)
            codes = X.new_zeros(len(X), n_components).scatter(1, found.top_indices, found.top_acts)
            return codes, coder.decode(found.top_acts, found.top_indices)

        return code

    return learn


PEERS = {
    "overcomplete": ("overcomplete", {"TopK": overcomplete(False), "BatchTopK": overcomplete(True)}),
    "dictionary_learning": (
        "dictionary-learning",
        {"TopK": dictionary_learning(False), "BatchTopK": dictionary_learning(True)},
    ),
    "sae_lens": ("sae-lens", {"TopK": sae_lens(False), "BatchTopK": sae_lens(True)}),
    "sparsify": ("eai-sparsify", {"TopK": sparsify("topk"), "GroupMax": sparsify("groupmax")}),
}


def main():
    """List, or learn."""
    ways = {
        f"{module} {name}": (f"{package} {version(package)}", learn)
        for module, (package, learners) in PEERS.items()
        if importlib.util.find_spec(module)
        for name, learn in learners.items()
    }
    if sys.argv[1] == "list":
        print(json.dumps({name: package for name, (package, _) in ways.items()}))
        return
    name, folder, n_components, k, rows_seen = sys.argv[1], Path(sys.argv[2]), *map(int, sys.argv[3:])
    X, held_out = (torch.from_numpy(np.load(folder / f"{part}.npy")) for part in ("learned", "held_out"))
    learn = ways[name][1]
    # Imports, and whatever else is done once.
    learn(X, n_components, k, N_STEPS_BEFORE)
    torch.manual_seed(0)
    n_steps = rows_seen // BATCH_SIZE
    start, cpu = time.perf_counter(), time.process_time()
    code = learn(X, n_components, k, n_steps)
    seconds, cpu = time.perf_counter() - start, time.process_time() - cpu
    with torch.no_grad():
        parts = [code(rows) for rows in held_out.split(BATCH_SIZE)]
    codes, reconstructed = (torch.cat(pieces) for pieces in zip(*parts, strict=True))
    unexplained = (held_out - reconstructed).square().sum() / (held_out - held_out.mean(0)).square().sum()
    found = {
        "rows": n_steps * BATCH_SIZE,
        "seconds": seconds,
        "cpu": cpu,
        "explained_variance": 1 - unexplained.item(),
        "l0": (codes != 0).sum(1).double().mean().item(),
        "dead": (codes == 0).all(0).double().mean().item(),
    }
    print(json.dumps(found))


if __name__ == "__main__":
    main()
