"""
Peers of our autoencoders, each by its own training code and defaults, in an environment of their own.

``python autoencoder_peers.py list`` prints which can be run; ``python autoencoder_peers.py NAME FOLDER N_COMPONENTS K
ROWS_SEEN`` learns from FOLDER/learned.npy and prints what FOLDER/held_out.npy says of it, as a line of JSON. With a
seed and a device after these, it also leaves FOLDER/found.npz: components, codes and reconstructions of the latter.
"""

import importlib.util
import json
import sys
import time
from importlib import import_module
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch

BATCH_SIZE, N_STEPS_BEFORE = 1024, 20
# Shares of the components in the groups of nested ones.
GROUPS = (1 / 16, 1 / 8, 1 / 4, 9 / 16)


def batches(X, n_steps):
    """Yield shuffled minibatches, epoch after epoch."""
    generator, made = torch.Generator().manual_seed(torch.initial_seed()), 0
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
        model = kind(X.shape[1], nb_concepts=n_components, top_k=most, device=str(X.device))
        optimizer = torch.optim.Adam(model.parameters(), lr=5e-4)

        def error(x, x_hat, z_pre, z, dictionary):
            return (x - x_hat).square().mean()

        rows = list(batches(X, n_steps))
        train_sae(model, rows, error, optimizer, nb_epochs=1, monitoring=0, device=str(X.device))
        model.eval()

        def code(X):
            _, codes, reconstructed = model(X)
            return codes, reconstructed

        return code, model.get_dictionary()

    return learn


def dictionary_learning(kind):
    """Return what learns by dictionary_learning: its trainers, stepped as `trainSAE` does."""

    def learn(X, n_components, k, n_steps):
        trainers = import_module(f"dictionary_learning.trainers.{kind}")
        of_kind, more = {
            "top_k": ("TopKTrainer", {}),
            "batch_top_k": ("BatchTopKTrainer", {}),
            "matryoshka_batch_top_k": ("MatryoshkaBatchTopKTrainer", {"group_fractions": list(GROUPS)}),
        }[kind]
        warm_up = min(1000, n_steps // 10)
        trainer = getattr(trainers, of_kind)(
            steps=n_steps,
            activation_dim=X.shape[1],
            dict_size=n_components,
            k=k,
            layer=0,
            lm_name="",
            warmup_steps=warm_up,
            threshold_start_step=warm_up,
            seed=torch.initial_seed(),
            device=str(X.device),
            **more,
        )
        for step, rows in enumerate(batches(X, n_steps)):
            trainer.update(step, rows)

        def code(X):
            reconstructed, codes = trainer.ae(X, output_features=True)
            return codes, reconstructed

        return code, trainer.ae.W_dec if hasattr(trainer.ae, "W_dec") else trainer.ae.decoder.weight.T

    return learn


def sae_lens(kind):
    """Return what learns by SAELens: its `SAETrainer`."""

    def learn(X, n_components, k, n_steps):
        import sae_lens
        from sae_lens.config import SAETrainerConfig
        from sae_lens.training.sae_trainer import SAETrainer

        config = {"d_in": X.shape[1], "d_sae": n_components, "k": k, "device": str(X.device)}
        if kind == "MatryoshkaBatchTopK":
            config["matryoshka_widths"] = [round(sum(GROUPS[: n + 1]) * n_components) for n in range(len(GROUPS))]
        model = getattr(sae_lens, f"{kind}TrainingSAE")(getattr(sae_lens, f"{kind}TrainingSAEConfig")(**config))
        settings = SAETrainerConfig(
            total_training_samples=n_steps * BATCH_SIZE, train_batch_size_samples=BATCH_SIZE, device=str(X.device)
        )
        # As its runner sets it, which this goes without.
        settings.lr_end = settings.lr / 10 if settings.lr_end is None else settings.lr_end
        trainer = SAETrainer(cfg=settings, sae=model, data_provider=batches(X, n_steps + 1))
        model = trainer.fit()
        model.eval()

        def code(X):
            codes = model.encode(X)
            return codes, model.decode(codes)

        return code, model.W_dec

    return learn


def sparsify(activation):
    """Return what learns by sparsify: its coder and optimizer, stepped as its `Trainer` does."""

    def learn(X, n_components, k, n_steps):
        from schedulefree import ScheduleFreeWrapper
        from sparsify import SparseCoder, SparseCoderConfig
        from sparsify.sign_sgd import SignSGD

        config = SparseCoderConfig(num_latents=n_components, k=k, activation=activation)
        coder = SparseCoder(X.shape[1], config, device=X.device)
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

        return code, coder.W_dec

    return learn


PEERS = {
    "overcomplete": ("overcomplete", {"TopK": overcomplete(False), "BatchTopK": overcomplete(True)}),
    "dictionary_learning": (
        "dictionary-learning",
        {
            "TopK": dictionary_learning("top_k"),
            "BatchTopK": dictionary_learning("batch_top_k"),
            "Matryoshka": dictionary_learning("matryoshka_batch_top_k"),
        },
    ),
    "sae_lens": (
        "sae-lens",
        {
            "TopK": sae_lens("TopK"),
            "BatchTopK": sae_lens("BatchTopK"),
            "Matryoshka": sae_lens("MatryoshkaBatchTopK"),
        },
    ),
    "sparsify": ("eai-sparsify", {"TopK": sparsify("topk"), "GroupMax": sparsify("groupmax")}),
}


def installed():
    """Return what learns by each peer that this interpreter can import, by name, and its package and version."""
    return {
        f"{module} {name}": (f"{package} {version(package)}", learn)
        for module, (package, learners) in PEERS.items()
        if importlib.util.find_spec(module)
        for name, learn in learners.items()
    }


def learn_by(learn, X, held_out, n_components, k, n_steps, seed):
    """Learn from rows; return components, codes and reconstructions of those held out, and what it took."""
    torch.manual_seed(seed)
    start, cpu = time.perf_counter(), time.process_time()
    code, components = learn(X, n_components, k, n_steps)
    seconds, cpu = time.perf_counter() - start, time.process_time() - cpu
    with torch.no_grad():
        parts = [code(rows) for rows in held_out.split(BATCH_SIZE)]
    codes, reconstructed = (torch.cat(pieces) for pieces in zip(*parts, strict=True))
    return components.detach(), codes, reconstructed, {"seconds": seconds, "cpu": cpu}


def main():
    """List, or learn."""
    ways = installed()
    if sys.argv[1] == "list":
        print(json.dumps({name: package for name, (package, _) in ways.items()}))
        return
    name, folder, n_components, k, rows_seen = sys.argv[1], Path(sys.argv[2]), *map(int, sys.argv[3:6])
    seed, device = (int(sys.argv[6]), sys.argv[7]) if len(sys.argv) > 6 else (0, "cpu")
    X, held_out = (torch.from_numpy(np.load(folder / f"{part}.npy")).to(device) for part in ("learned", "held_out"))
    learn = ways[name][1]
    # Imports, and whatever else is done once.
    learn(X, n_components, k, N_STEPS_BEFORE)
    n_steps = rows_seen // BATCH_SIZE
    components, codes, reconstructed, taken = learn_by(learn, X, held_out, n_components, k, n_steps, seed)
    unexplained = (held_out - reconstructed).square().sum() / (held_out - held_out.mean(0)).square().sum()
    found = {
        "rows": n_steps * BATCH_SIZE,
        **taken,
        "explained_variance": 1 - unexplained.item(),
        "l0": (codes != 0).sum(1).double().mean().item(),
        "dead": (codes == 0).all(0).double().mean().item(),
    }
    if len(sys.argv) > 6:
        arrays = {"components": components, "codes": codes, "reconstructed": reconstructed}
        np.savez(folder / "found.npz", **{name: array.cpu().numpy() for name, array in arrays.items()})
    print(json.dumps(found))


if __name__ == "__main__":
    main()
