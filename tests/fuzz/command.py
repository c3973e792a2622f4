"""The command: how many of which trials, what came of them, and how to repeat one."""

import argparse
import logging
import random
import sys
import tempfile
import time
from pathlib import Path

from .kinds import KINDS, Workshop
from .trials import Trial, crash_trials
from .writings import WRITINGS


def main(arguments=None) -> int:
    """Run the trials that are asked for; 1 where one deviated."""
    options = _parser().parse_args(arguments)
    seed = options.seed if options.seed is not None else random.randrange(10**6)
    print(f"seed {seed}")
    # What is damaged is logged by those that mend it, and it is damaged often.
    logging.basicConfig(level=logging.INFO if options.verbose else logging.CRITICAL)
    with tempfile.TemporaryDirectory(dir="/dev/shm" if Path("/dev/shm").is_dir() else None) as folder:
        workshop = Workshop(Path(folder) / "workshop")
        n_deviations = 0
        kinds = [name for name in KINDS if options.only in name] if options.mutations or options.flips else []
        for name in kinds:
            n_deviations += _mutate(name, workshop, Path(folder) / name, seed, len(kinds), options)
        for name in [name for name in WRITINGS if options.only in name] if options.crashes else []:
            n_deviations += _report(name, "crash points", crash_trials(WRITINGS[name], workshop, Path(folder) / name))
    print(f"deviations: {n_deviations}")
    return int(n_deviations > 0)


def _mutate(name, workshop, folder, seed, n_kinds, options) -> int:
    trial = Trial(KINDS[name], workshop, folder)

    def tried(what, call, n_in_all):
        numbers = range(-(-n_in_all // n_kinds)) if options.at is None else [options.at]
        return _report(name, what, (call(f"{seed} {name} {what} {number}") for number in numbers))

    return tried("mutations", trial.mutated, options.mutations) + tried("flipped bits", trial.flipped, options.flips)


def _report(name: str, what: str, trials) -> int:
    n_trials = n_deviations = 0
    start = time.perf_counter()
    for n_trials, (happened, deviation) in enumerate(trials, start=1):
        if deviation is not None:
            n_deviations += 1
            print(f"DEVIATION {name}, {what} {n_trials - 1}: {happened}: {deviation}", flush=True)
    seconds = time.perf_counter() - start
    print(f"{name}: {n_trials:,} {what}, {n_deviations} deviations, {seconds:.1f} s", flush=True)
    return n_deviations


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=sys.modules[__package__].__doc__)
    parser.add_argument("--seed", type=int, help="that decides all (drawn and printed unless given)")
    parser.add_argument("--only", default="", help="kinds whose name has this text in it")
    parser.add_argument("--mutations", type=int, default=5_000, help="of all kinds together (%(default)s)")
    parser.add_argument("--flips", type=int, default=30_000, help="single bits flipped, likewise (%(default)s)")
    parser.add_argument("--no-crashes", dest="crashes", action="store_false", help="leave the crash points out")
    parser.add_argument("--at", type=int, help="the number of a single trial of each, to repeat it")
    parser.add_argument("--verbose", action="store_true", help="name each trial before it begins")
    return parser
