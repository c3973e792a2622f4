"""What is kept on disk: how sound folders of each kind are made, and what a user does with them."""

import contextlib
import io
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from unittest.mock import patch

import numpy as np
from support.tiny_kinds import SIZES, WORDS, save

from skfactors import (
    ActivationStore,
    FactorModel,
    FactorReport,
    SparseAutoencoder,
    SparseDictionary,
    TransformerFeatureExtractor,
    load_dictionary,
)
from skfactors.commands import main

from .crashes import stopped_midway

BEFORE = Path(__file__).parents[1] / "data" / "before_factor_model" / "dictionary"
OF_OTHER_TOOLS = BEFORE.parents[1] / "of_other_tools"
REPORT = {"k": 2, "top": 3, "window": 3}


class Workshop:
    """
    What folders are made from, in two variants that differ in content and in nothing else.

    Parameters
    ----------
    folder : Path
        For models, stores and whatever else lies outside the folders that are tried.
    """

    def __init__(self, folder: Path):
        self.folder = folder

    @cached_property
    def _model(self) -> str:
        sizes = SIZES | {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 8}
        return save(self.folder / "model", "Bert", **sizes, max_position_embeddings=32)

    def texts(self, variant: int) -> list[str]:
        rng = np.random.default_rng(variant)
        return [" ".join(rng.choice(WORDS, 6)) for _ in range(10)]

    def rows(self, variant: int) -> np.ndarray:
        return np.random.default_rng(variant).random((60, 8)).astype(np.float32)

    def extractor(self, **options) -> TransformerFeatureExtractor:
        return TransformerFeatureExtractor(self._model, layers=[0, 1], max_length=16, device="cpu", **options)

    @cached_property
    def plain_extractor(self) -> TransformerFeatureExtractor:
        return self.extractor()

    def extract_to(self, folder: Path, variant: int) -> ActivationStore:
        return self.plain_extractor.extract_to(self.texts(variant), folder, rows_per_shard=48)

    @cached_property
    def stores(self) -> list[ActivationStore]:
        return [self.extract_to(self.folder / f"store {variant}", variant) for variant in (0, 1)]

    def unfitted(self, variant: int = 0, **options) -> SparseDictionary:
        of = {"alpha": 0.1 + 0.1 * variant, "batch_size": 20, "random_state": 0, "device": "cpu"}
        return SparseDictionary(5, **of, **options)

    @cached_property
    def dictionaries(self) -> list[SparseDictionary]:
        return [self.unfitted(variant).fit(self.rows(variant)) for variant in (0, 1)]

    def report(self, variant: int, **options) -> FactorReport:
        return FactorReport.from_store(self.stores[variant], self.dictionaries[variant], **REPORT, **options)

    @cached_property
    def parts(self) -> list[list[FactorReport]]:
        """Reports on the first shard and on the others, of each variant."""
        return [[self._part(variant, shards) for shards in ([0], [1, 2])] for variant in (0, 1)]

    def _part(self, variant: int, shards: list[int]) -> FactorReport:
        report, of = self.report(variant, shards=shards), {"texts": self.texts(variant), "n_samples": 20}
        return report.add_saliency(self.plain_extractor, self.dictionaries[variant], factors=[0, 1], k=1, **of)


@dataclass(frozen=True)
class Kind:
    """
    A kind of folder.

    Attributes
    ----------
    make : callable
        ``make(workshop, folder, variant)`` makes a sound one.
    use : callable
        ``use(workshop, folder)`` does with one of variant 0 all that a user does; returns what comes of it.
    serves : bool
        Whether damage must be mended without an error.
    vouched : bool
        Whether all of it is under checksums, so that nothing but the very same result may come of it.
    finite : bool
        Whether no number may be NaN or infinite in what comes of any folder.
    verified : bool
        Whether ``python -m skfactors verify`` must tell of whatever `use` refuses.
    names : frozenset of str
        What an error may say instead of a file's name.
    """

    make: Callable
    use: Callable
    serves: bool = False
    vouched: bool = True
    finite: bool = True
    verified: bool = False
    names: frozenset = frozenset()


def _make_store(workshop, folder, variant):
    workshop.extract_to(folder, variant)


def _make_store_without_parquet(workshop, folder, variant):
    with patch.dict(sys.modules, {"pyarrow": None}):
        workshop.extract_to(folder, variant)


def _use_store(workshop, folder):
    store = ActivationStore(folder)
    of_layer = store.at(layer=1)
    return [
        [str(place) for place in store.places],
        [store.layers, len(store), store.n_documents, store.n_nonfinite, store.fingerprint, store.dtype],
        [_plain(part) for part in store],
        _plain(store[::3]),
        store.sample_weight[:],
        of_layer.read_shard(1).X,
        list(of_layer.iter_shuffled(16, np.random.RandomState(0))),
    ]


def _plain(acts):
    return [acts.X, {name: acts.provenance[name].tolist() for name in acts.provenance}, list(acts.texts)]


def _make_stopped_store(workshop, folder, variant):
    workshop.extract_to(folder, variant)
    (folder / "complete.json").unlink()
    next(folder.glob("shards/*/*-0001.safetensors")).unlink()


def _use_stopped_store(workshop, folder):
    workshop.extract_to(folder, 0)
    return _use_store(workshop, folder)


def _make_dictionary(workshop, folder, variant):
    workshop.dictionaries[variant].save(folder)


def _make_dictionary_of_before(workshop, folder, variant):
    shutil.copytree(BEFORE, folder, dirs_exist_ok=True)


def _use_dictionary(workshop, folder):
    model = FactorModel.load(folder)
    rows = np.random.default_rng(2).random((4, model.n_features_in_))
    came = [type(model).__name__, model.get_params(), model.fingerprint(), model.n_iter_, model.n_steps_]
    came += [[sorted(record.items()) for record in model.history_], model.components_]
    came += [model.set_params(sparse_output=False).transform(rows)]
    return [*came, model.partial_fit(rows).components_]


def _make_autoencoder(workshop, folder, variant):
    _autoencoder(variant).fit(workshop.rows(variant)).save(folder)


def _autoencoder(variant=0, **options) -> SparseAutoencoder:
    of = {"activation": "jump_relu", "dict_init": "random", "max_iter": 2, "batch_size": 20, "random_state": 0}
    return SparseAutoencoder(5, n_nonzero_coefs=2 + variant, device="cpu", **of, **options)


def _use_autoencoder(workshop, folder):
    model = FactorModel.load(folder)
    return [*_coded(model), model.n_iter_, _history(model), model.partial_fit(workshop.rows(2)).components_]


def _coded(model) -> list:
    rows = np.random.default_rng(2).random((4, model.n_features_in_)).astype(np.float32)
    came = [type(model).__name__, model.get_params(), model.fingerprint(), getattr(model, "source_", None)]
    return [*came, model.set_params(sparse_output=False).transform(rows), model.reconstruct(rows)]


def _history(model) -> list:
    return [sorted(record.items()) for record in model.history_]


def _make_dictionary_of_another_tool(workshop, folder, variant):
    name = ("matching_pursuit-bdec1-nostop6", "matching_pursuit-bdec0-thr0.5")[variant]
    load_dictionary(OF_OTHER_TOOLS / "saelens" / name).save(folder)


def _use_dictionary_of_another_tool(workshop, folder):
    return _coded(FactorModel.load(folder))


def _stopped_fit(workshop, folder, variant):
    stopped_midway(folder, lambda: _fit(workshop, folder, variant))


def _fit(workshop, folder, variant=0):
    model = workshop.unfitted(variant, checkpoint_dir=folder, checkpoint_every=1).fit(workshop.rows(variant))
    return [model.components_, model.n_iter_, model.n_steps_, [sorted(record.items()) for record in model.history_]]


def _stopped_fit_of_an_autoencoder(workshop, folder, variant):
    stopped_midway(folder, lambda: _fit_autoencoder(workshop, folder, variant))


def _fit_autoencoder(workshop, folder, variant=0):
    model = _autoencoder(variant, checkpoint_dir=folder, checkpoint_every=1).fit(workshop.rows(variant))
    return [model.components_, model.encoder_, model.threshold_, model.n_iter_, _history(model)]


def _make_report(workshop, folder, variant):
    workshop.parts[variant][0].save(folder)


def _use_report(workshop, folder):
    report = FactorReport.load(folder)
    return [tables_of(report), tables_of(FactorReport.merge([workshop.parts[0][1], report]))]


def tables_of(report: FactorReport) -> list:
    """Return all that a report says."""
    tables = [report.importance_by_layer().reset_index(), report.top_contexts(), report.histogram(), report.saliency()]
    tables += [report.neighbours(), report.neighbours(by="contexts")]
    # Gaps are all right in a summary.
    return [report.totals, report.parameters, report.summary().to_csv(), *(table.to_dict("list") for table in tables)]


def _make_parts(workshop, folder, variant):
    for number, part in enumerate(workshop.parts[variant]):
        part.save(folder / f"part-{number}-of-2")


def _use_parts(workshop, folder):
    return tables_of(FactorReport.merge([FactorReport.load(folder / f"part-{number}-of-2") for number in range(2)]))


def _stopped_report(workshop, folder, variant):
    stopped_midway(folder, lambda: _report(workshop, folder, variant))


def _report(workshop, folder, variant=0):
    return tables_of(workshop.report(variant, checkpoint_dir=folder, checkpoint_every=1))


def _extract(workshop, folder, variant=0):
    extractor = workshop.plain_extractor
    return _plain(extractor.__sklearn_clone__().set_params(cache_dir=str(folder)).extract(workshop.texts(variant)))


# What a fit says that goes on from sums so large that somebody must have made them: it cannot know of the file.
_OVERFLOW = frozenset({"overflow"})
# What `FactorReport.merge` says of reports that do not belong together.
_MERGED = frozenset({"reports 0 and 1"})

KINDS = {
    "store": Kind(_make_store, _use_store, finite=False, verified=True),
    "store without Parquet": Kind(_make_store_without_parquet, _use_store, finite=False, verified=True),
    "stopped store": Kind(_make_stopped_store, _use_stopped_store, finite=False),
    "dictionary": Kind(_make_dictionary, _use_dictionary, verified=True, names=_OVERFLOW),
    "dictionary of version 0.1": Kind(
        _make_dictionary_of_before, _use_dictionary, vouched=False, verified=True, names=_OVERFLOW
    ),
    "autoencoder": Kind(_make_autoencoder, _use_autoencoder, verified=True, names=_OVERFLOW),
    "dictionary of another tool": Kind(
        _make_dictionary_of_another_tool, _use_dictionary_of_another_tool, verified=True
    ),
    "checkpoint of an autoencoder": Kind(_stopped_fit_of_an_autoencoder, _fit_autoencoder, names=_OVERFLOW),
    "checkpoint of a fit": Kind(_stopped_fit, _fit, names=_OVERFLOW),
    "report": Kind(_make_report, _use_report, verified=True, names=_MERGED),
    "parts of a report": Kind(_make_parts, _use_parts, names=_MERGED),
    "checkpoint of a report": Kind(_stopped_report, _report),
    "cache": Kind(_extract, _extract, serves=True, finite=False),
}


def verified(folder) -> bool:
    """Return whether ``python -m skfactors verify`` finds a folder sound."""
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        return main(["verify", str(folder)]) == 0
