"""One pass over the parts of a corpus: texts as they are extracted, or the shards of a store."""

import hashlib
import json
from numbers import Integral, Real
from pathlib import Path

import numpy as np

from skfactors.files import UNFINISHED
from skfactors.progress import progress_bar
from skfactors.reports.accumulator import ReportAccumulator
from skfactors.reports.tally_file import read_tally, write_tally


def tally_parts(parts, dictionary, parameters, *, tally=None, after_part):
    """
    Code the parts of a corpus one after the other, and gather what a report is made of.

    Parameters
    ----------
    parts : iterable of (Activations, bool)
        With each part, whether it follows the one before in the corpus, no row between them being left out.
    dictionary : estimator with `transform` and `inverse_transform`
    parameters : dict
        Of the report.
    tally : ReportAccumulator, default=None
        Of the parts before these.
    after_part : callable
        ``after_part(acts, tally)`` is called after each part; `tally` is None while no part had a row.

    Returns
    -------
    ReportAccumulator or None
        None where no part had a row.
    """
    # What came before may have ended with parts without rows, of which the tally knows nothing.
    gapless = tally is None
    for acts, follows in parts:
        gapless &= follows
        if len(acts.X):
            codes = dictionary.transform(acts.X)
            if tally is None:
                checksum = components_checksum(getattr(dictionary, "components_", None))
                tally = ReportAccumulator(codes.shape[1], dictionary=checksum, **parameters)
            source = {"X": acts.X, "reconstruct": dictionary.inverse_transform}
            tally.add(codes, acts.provenance, acts.texts, **source, follows=gapless)
            gapless = True
        after_part(acts, tally)
    return tally


def tally_texts(extractor, dictionary, texts, parameters, *, verbose):
    """Gather what a report is made of from texts, as :func:`tally_parts` does; progress is counted in documents."""
    n_texts = len(texts) if hasattr(texts, "__len__") else None
    n_rows = n_read = 0

    with progress_bar("reporting on factors", total=n_texts, enabled=verbose) as advance:

        def show(acts, tally):
            nonlocal n_rows, n_read
            if len(acts.X):
                n_rows += len(acts.X)
                n_before, n_read = n_read, int(acts.provenance["document"].iloc[-1]) + 1
                advance(n_read - n_before, f"{n_rows:,} rows")

        parts = ((acts, True) for acts in extractor.iter_extract(texts))
        return tally_parts(parts, dictionary, parameters, after_part=show)


def tally_store(store, dictionary, parameters, shards, *, checkpoint_dir, checkpoint_every, verbose):
    """
    Gather what a report is made of from shards of a store.

    Parameters
    ----------
    store : ActivationStore
    dictionary : estimator with `transform` and `inverse_transform`
    parameters : dict
        Of the report.
    shards : list of int
        Which to read, ascending.
    checkpoint_dir : path-like or None
    checkpoint_every : int
        Shards from one checkpoint to the next.
    verbose : bool

    Returns
    -------
    ReportAccumulator or None
        None where no shard had a row.
    """
    checkpoint, tally, n_done, n_rows = None, None, 0, 0
    if checkpoint_dir is not None:
        checkpoint = Checkpoint(checkpoint_dir, _run_key(store, dictionary, parameters, shards))
        tally, n_done = checkpoint.read()

    with progress_bar("reporting on factors", total=len(shards), enabled=verbose) as advance:
        if n_done:
            advance(n_done, "from the checkpoint")

        def keep(acts, tally):
            nonlocal n_done, n_rows
            n_done += 1
            n_rows += len(acts.X)
            is_due = n_done % checkpoint_every == 0 or n_done == len(shards)
            if checkpoint is not None and is_due and tally is not None:
                checkpoint.write(tally, n_done)
            advance(1, f"{n_rows:,} rows")

        known = set(shards)
        parts = ((store.read_shard(shard), shard - 1 in known) for shard in shards[n_done:])
        return tally_parts(parts, dictionary, parameters, tally=tally, after_part=keep)


class Checkpoint:
    """
    What an unfinished report on a store has counted so far, as one file.

    Parameters
    ----------
    folder : path-like
        Made if need be. Reports that differ in anything that decides their content have files of their own in it.
    run : str
        What identifies the report.
    """

    def __init__(self, folder, run):
        self.path = Path(folder) / f"report-{run[:16]}.safetensors"
        self.run = run
        self.path.parent.mkdir(parents=True, exist_ok=True)
        for left_over in self.path.parent.glob(f".{self.path.name}.*{UNFINISHED}"):
            left_over.unlink(missing_ok=True)

    def read(self):
        """
        Return the tally and how many shards it covers; None and 0 where nothing was kept.

        Raises
        ------
        ValueError
            If the file is damaged.
        """
        if not self.path.is_file():
            return None, 0
        tally, facts, _ = read_tally(self.path, remedy="delete it to begin the report anew")
        if facts["run"] != self.run:
            raise ValueError(f"{self.path} is the checkpoint of another report; pass another checkpoint_dir.")
        return tally, facts["n_shards_done"]

    def write(self, tally, n_shards_done):
        """Keep what was counted."""
        write_tally(self.path, tally, run=self.run, n_shards_done=n_shards_done)


def check_shards(shards, n_shards) -> list[int]:
    """
    Return the numbers of the shards to be read, ascending; None stands for all.

    Raises
    ------
    TypeError, ValueError
        If one is no integer, named twice, or there is none of that number.
    """
    if shards is None:
        return list(range(n_shards))
    shards = list(shards)
    for shard in shards:
        if not isinstance(shard, Integral) or isinstance(shard, bool):
            raise TypeError(f"shards holds {shard!r}; it must be a sequence of shard numbers.")
        if not 0 <= shard < n_shards:
            raise ValueError(f"there is no shard {shard}; the store has {n_shards}, numbered from 0.")
    if len(set(shards)) < len(shards):
        raise ValueError("shards names a shard twice; its rows would count twice.")
    return sorted(map(int, shards))


def components_checksum(components):
    """Return what identifies a dictionary by its components, in hexadecimal; None where there are none."""
    if components is None:
        return None
    components = np.ascontiguousarray(components)
    description = f"{components.dtype.str} {components.shape}\n".encode()
    return hashlib.sha256(description + components.tobytes()).hexdigest()


def _run_key(store, dictionary, parameters, shards):
    """Return what identifies a report on shards of a store: the rows, what codes them, and what is asked."""
    settings = dictionary.get_params(deep=False) if hasattr(dictionary, "get_params") else {}
    plain = {
        name: value
        for name, value in settings.items()
        if name != "verbose" and (value is None or isinstance(value, (str, Real)))
    }
    run = {
        "store": store.fingerprint,
        "components": components_checksum(getattr(dictionary, "components_", None)),
        "dictionary": {name: repr(value) for name, value in plain.items()},
        "parameters": parameters,
        "shards": shards,
    }
    return hashlib.sha256(json.dumps(run, sort_keys=True).encode()).hexdigest()
