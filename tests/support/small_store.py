"""A store of a few shards in memory, a dictionary for it, and a report on them that can be run as a process."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
from support.dictionaries import StandInModel

from skfactors.reports import FactorReport

N_FEATURES = 6
LAYERS = (0, 4)


class SmallStore:
    """
    Documents of a few words, a shard every so many rows, so that shards begin and end inside documents.

    The last of the shards has no rows.
    """

    fingerprint = "small"

    def __init__(self, n_documents=40, rows_a_shard=17, seed=0, before_shard=lambda shard: None):
        rng = np.random.default_rng(seed)
        lengths = rng.integers(1, 9, size=n_documents)
        self.texts = [" ".join(rng.choice(["left", "mind", "park", "of"], size=length)) for length in lengths]
        rows = []
        for document, text in enumerate(self.texts):
            for layer in LAYERS:
                start = 0
                for position, word in enumerate(text.split()):
                    rows.append((document, layer, position, 7, start, start + len(word)))
                    start += len(word) + 1
        columns = ["document", "layer", "position", "token_id", "start", "end"]
        self.provenance = pd.DataFrame(rows, columns=columns)
        # Halves, so that many activations are equal.
        self.X = np.round(2 * rng.normal(size=(len(rows), N_FEATURES)).astype(np.float32)) / 2
        self.bounds = [*range(0, len(rows), rows_a_shard), len(rows), len(rows)]
        self.before_shard = before_shard
        self.shards_read = []

    @property
    def n_shards(self):
        return len(self.bounds) - 1

    def read_shard(self, shard):
        self.before_shard(shard)
        self.shards_read.append(shard)
        rows = slice(self.bounds[shard], self.bounds[shard + 1])
        provenance = self.provenance.iloc[rows].reset_index(drop=True)
        texts = {document: self.texts[document] for document in provenance["document"].unique().tolist()}
        return SimpleNamespace(X=self.X[rows], provenance=provenance, texts=texts)


def fitted_model(**parameters):
    return StandInModel(**parameters).fit(np.zeros((1, N_FEATURES)))


def report_aloud(messages, checkpoint_dir, path):
    """Report on a store of many shards, naming each before it is read, and save."""
    store = SmallStore(n_documents=100, rows_a_shard=5, before_shard=messages.send)
    options = {"k": 3, "top": 4, "checkpoint_dir": checkpoint_dir, "checkpoint_every": 1}
    FactorReport.from_store(store, fitted_model(), **options).save(path)
