"""One pass over the parts of a corpus: texts as they are extracted, or the shards of a store."""

from functools import partial
from numbers import Integral

from skfactors.fingerprints import fingerprint
from skfactors.progress import progress_bar
from skfactors.reports.arguments import reconstruction_by
from skfactors.reports.counting.tally import Tally
from skfactors.reports.counting.tally_file import KeptTally


def tally_parts(parts, model, parameters, *, corpus=None, tally=None, after_part):
    """
    Code the parts of a corpus one after the other, and gather what a report is made of.

    Parameters
    ----------
    parts : iterable of (Activations, bool)
        With each part, whether it follows the one before in the corpus, no row between them being left out.
    model : FactorModel
        Or what else :func:`~skfactors.dictionaries.adapters.as_factor_model` returns.
    parameters : dict
        Of the report.
    corpus : str, default=None
        Fingerprint of the corpus, where it has one.
    tally : Tally, default=None
        Of the parts before these.
    after_part : callable
        ``after_part(acts, tally)`` is called after each part; `tally` is None while no part had a row.

    Returns
    -------
    Tally or None
        None where no part had a row.
    """
    reconstruct = reconstruction_by(model)
    # What came before may have ended with parts without rows, of which the tally knows nothing.
    gapless = tally is None
    for acts, follows in parts:
        gapless &= follows
        if len(acts.X):
            codes = model.transform(acts.X)
            if tally is None:
                tally = Tally(codes.shape[1], dictionary=model.fingerprint(), corpus=corpus, **parameters)
            tally.add(codes, acts.provenance, acts.texts, X=acts.X, reconstruct=reconstruct, follows=gapless)
            gapless = True
        after_part(acts, tally)
    return tally


def tally_texts(extractor, model, texts, parameters, *, verbose):
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
        return tally_parts(parts, model, parameters, after_part=show)


def tally_store(store, model, parameters, shards, *, checkpoint_dir, checkpoint_every, verbose):
    """
    Gather what a report is made of from shards of a store.

    Parameters
    ----------
    store : ActivationStore
    model : FactorModel
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
    Tally or None
        None where no shard had a row.
    """
    count = partial(_count_shards, store, model, parameters, shards, verbose=verbose)
    if checkpoint_dir is None:
        return count()
    expected = {"dictionary": model.fingerprint(), "corpus": store.fingerprint, "parameters": parameters}
    run = fingerprint([store.fingerprint, model.fingerprint(), parameters, shards])
    checkpoint = KeptTally(checkpoint_dir, run, expected, len(shards))
    tally, n_done = checkpoint.read()
    if n_done == len(shards):
        return tally
    with checkpoint.held():
        return count(checkpoint, checkpoint_every)


def _count_shards(store, model, parameters, shards, checkpoint=None, checkpoint_every=None, *, verbose):
    """Gather from shards what a checkpoint, which other processes leave alone meanwhile, does not hold."""
    tally, n_done = (None, 0) if checkpoint is None else checkpoint.read()
    n_rows = 0
    with progress_bar("reporting on factors", total=len(shards), enabled=verbose) as advance:
        if n_done:
            advance(n_done, "from the checkpoint")

        def keep(acts, tally):
            nonlocal n_done, n_rows
            n_done += 1
            n_rows += len(acts.X)
            is_due = checkpoint is not None and (n_done % checkpoint_every == 0 or n_done == len(shards))
            if is_due and tally is not None:
                checkpoint.write(tally, n_done)
            advance(1, f"{n_rows:,} rows")

        known = set(shards)
        parts = ((store.read_shard(shard), shard - 1 in known) for shard in shards[n_done:])
        return tally_parts(parts, model, parameters, corpus=store.fingerprint, tally=tally, after_part=keep)


def check_shards(shards, n_shards) -> list[int]:
    """
    Return the numbers of the shards to be read, ascending; None stands for all.

    Raises
    ------
    TypeError, ValueError
        If one is not an integer, is named twice, or the store has no such shard.
    """
    if shards is None:
        return list(range(n_shards))
    shards = list(shards)
    for shard in shards:
        if not isinstance(shard, Integral) or isinstance(shard, bool):
            raise TypeError(f"shards holds {shard!r}; pass a sequence of shard numbers.")
        if not 0 <= shard < n_shards:
            raise ValueError(f"there is no shard {shard}; the store has {n_shards}, numbered from 0.")
    if len(set(shards)) < len(shards):
        raise ValueError("shards names a shard twice; its rows would count twice.")
    return sorted(map(int, shards))
