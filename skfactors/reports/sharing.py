"""A report that several processes make together: each claims parts of the store that are free, until all are done."""

from pathlib import Path

from skfactors.dictionaries.adapters import as_factor_model
from skfactors.files import Claim, Waiting
from skfactors.fingerprints import fingerprint
from skfactors.reports.arguments import check_parameters
from skfactors.reports.counting.passes import tally_store
from skfactors.reports.factor_report import FactorReport

# Enough that many processes have work, and few enough that they are put together quickly.
MOST_PARTS = 64
_SHARDS_TO_A_CHECKPOINT = 10


def finished_report(folder, store, dictionary, **parameters):
    """
    Open the report that a folder holds, if it is just this one.

    Parameters
    ----------
    folder : path-like
    store : ActivationStore
    dictionary : FactorModel
    **parameters
        As :meth:`FactorReport.from_store` takes them: `k`, `top`, `window`, `unique_documents`.

    Returns
    -------
    FactorReport or None
    """
    try:
        report = FactorReport.load(folder)
    except (OSError, ValueError):
        return None
    origin = {"dictionary": as_factor_model(dictionary).fingerprint(), "corpus": store.fingerprint}
    is_whole = report.totals["n_rows"] == len(store)
    return report if is_whole and (report.origin, report.parameters) == (origin, _complete(parameters)) else None


def report_together(folder, store, dictionary, *, checkpoint_dir, verbose, **parameters):
    """
    Make a report with whatever other processes call this with the same arguments, now or later, and save it.

    The store alone decides the parts. Each process makes parts that no other is at; one that finds none free waits, and
    takes over from those that die. The first to find all done puts them together.

    Parameters
    ----------
    folder : path-like
        That the report is saved to.
    store, dictionary, **parameters
        As :func:`finished_report` takes them.
    checkpoint_dir : path-like
        Where what was counted is kept, and what is claimed.
    verbose : bool

    Returns
    -------
    FactorReport
    """
    model, parameters, kept = as_factor_model(dictionary), _complete(parameters), Path(checkpoint_dir)
    kept.mkdir(parents=True, exist_ok=True)
    run = fingerprint([store.fingerprint, model.fingerprint(), parameters])[:16]
    parts = parts_of(store.n_shards)

    def count(shards, verbose=False):
        how = {"checkpoint_dir": kept, "checkpoint_every": _SHARDS_TO_A_CHECKPOINT, "verbose": verbose}
        return tally_store(store, model, parameters, shards, **how)

    done = {number: kept / f".report-{run}-{number:02d}.done" for number in range(len(parts))}
    waiting = Waiting()
    while left := [number for number in done if not done[number].exists()]:
        claims = {number: Claim(kept / f".report-{run}-{number:02d}.lock") for number in left}
        taken = next((number for number in left if claims[number].take()), None)
        if taken is None:
            waiting.go_on(f"{claims[left[0]].holder()}, which is at part {left[0]} of {len(parts)} of this report")
            continue
        waiting = Waiting()
        try:
            if not done[taken].exists():
                count(parts[taken], verbose)
                done[taken].touch()
        finally:
            claims[taken].let_go()

    claim = Claim(kept / f".report-{run}.lock")
    while not claim.take():
        waiting.go_on(f"{claim.holder()}, which puts this report together")
    try:
        report = finished_report(folder, store, dictionary, **parameters)
        if report is None:
            report = FactorReport._from_tally(_sum_of(map(count, parts)), model.components_, dictionary=dictionary)
            report.save(folder)
    finally:
        claim.let_go()
    return report


def parts_of(n_shards: int) -> list[list[int]]:
    """Cut the shards of a store into runs, as many as is well for any number of processes."""
    n_parts = min(n_shards, MOST_PARTS)
    ends = [n_shards * number // n_parts for number in range(n_parts + 1)]
    return [list(range(start, end)) for start, end in zip(ends[:-1], ends[1:], strict=True)]


def _complete(parameters: dict) -> dict:
    return check_parameters(**{"k": 20, "top": 200, "window": 10, "unique_documents": True} | parameters)


def _sum_of(tallies):
    """Put tallies together one by one, so that few are in memory; None stands for a part without rows."""
    total = None
    for tally in tallies:
        if total is None:
            total = tally
        elif tally is not None:
            total.merge(tally)
    return total
