"""The commands of ``python -m skfactors``, thin over the Python API."""

import argparse
import os
import sys
from pathlib import Path

from sklearn.exceptions import NotFittedError

import skfactors
from skfactors.fingerprints import fingerprint

_EXAMPLES = """\
examples:
  python -m skfactors extract corpus.txt activations --model bert-base-uncased --dtype float16
  python -m skfactors fit activations dictionary --n-components 2000 --alpha 0.3
  python -m skfactors report activations dictionary report --html factors.html
  python -m skfactors verify activations dictionary report

Every command can be killed and started again: it goes on where it stopped. Several processes share the work:
  torchrun --nproc-per-node 4 -m skfactors fit activations dictionary --n-components 2000 --alpha 0.3
"""


def main(arguments=None) -> int:
    """
    Run a command.

    Parameters
    ----------
    arguments : list of str, default=None
        None takes those of the process.

    Returns
    -------
    int
        0 if all is well; 1 with a message on the standard error otherwise.
    """
    options = _parser().parse_args(arguments)
    try:
        return options.run(options) or 0
    except (OSError, TypeError, ValueError, RuntimeError, ImportError, NotFittedError) as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        return 1


def _extract(options) -> None:
    extractor = skfactors.TransformerFeatureExtractor(
        options.model,
        revision=options.revision,
        layers=options.layers,
        max_length=options.max_length,
        stride=options.stride,
        batch_size=options.batch_size,
        device=options.device,
        dtype=options.model_dtype,
        verbose=_is_verbose(options),
    )
    store = extractor.extract_to(
        Path(options.texts), options.store, dtype=options.dtype, rows_per_shard=options.rows_per_shard
    )
    print(store)


def _fit(options) -> None:
    store = skfactors.ActivationStore(options.store)
    dictionary = skfactors.SparseDictionary(
        options.n_components,
        alpha=options.alpha,
        n_nonzero_coefs=options.n_nonzero_coefs,
        max_iter=options.max_iter,
        batch_size=options.batch_size,
        random_state=options.random_state,
        device=options.device,
        checkpoint_dir=options.checkpoint_dir or Path(options.dictionary) / "checkpoints",
        checkpoint_every=options.checkpoint_every,
        verbose=_is_verbose(options),
    )
    dictionary.fit(store, sample_weight=None if options.unweighted else store.sample_weight)
    if _place()[0] == 0:
        dictionary.save(options.dictionary)
        last = dictionary.history_[-1]
        print(
            f"{options.dictionary}: {len(dictionary.components_)} factors, {dictionary.n_steps_} steps; in the last, "
            f"{last['explained_variance']:.3f} of the variance explained by {last['l0']:.1f} factors per row"
        )


def _report(options) -> None:
    store, dictionary = skfactors.ActivationStore(options.store), skfactors.FactorModel.load(options.dictionary)
    if "device" in dictionary.get_params():
        dictionary.set_params(device=options.device)
    part, n_parts = options.part or _place()
    n_parts = min(n_parts, store.n_shards)
    if part >= n_parts:
        print(f"nothing to do: {store} has no more shards for part {part}")
        return
    folder = Path(options.report)
    report = skfactors.FactorReport.from_store(
        store,
        dictionary,
        k=options.k,
        shards=range(part, store.n_shards, n_parts),
        checkpoint_dir=options.checkpoint_dir or folder / "checkpoints",
        verbose=_is_verbose(options),
    )
    if n_parts > 1:
        # Parts of another store or dictionary have folders of their own.
        run = fingerprint([report.origin, report.parameters])[:16]
        folders = [folder / f"part-{number}-of-{n_parts}-{run}" for number in range(n_parts)]
        report.save(folders[part])
        parts = [skfactors.FactorReport.load(of_part) for of_part in folders if (of_part / "report.json").is_file()]
        if len(parts) < n_parts:
            print(f"{folders[part]}: {report}; the part that comes last puts them together")
            return
        report = skfactors.FactorReport.merge(parts)
    report.save(folder)
    if options.html:
        report.to_html(options.html)
    print(f"{folder}: {report}")


def _verify(options) -> int:
    n_bad = 0
    for path in map(Path, options.paths):
        problems = _problems_of(path)
        n_bad += bool(problems)
        print(*(f"{path}: {problem}" for problem in problems or ["sound"]), sep="\n")
    return int(n_bad > 0)


def _problems_of(path: Path) -> list[str]:
    # Help should not wait for it.
    from skfactors.reports.persistence import read_report

    kinds = {
        "manifest.json": lambda: [
            f"shard {shard}: {problem}"
            for shard, problem in skfactors.ActivationStore(path).verify().itertuples(index=False)
        ],
        "config.json": lambda: skfactors.FactorModel.load(path) and [],
        "report.json": lambda: read_report(path, whole=True) and [],
    }
    for name, problems_of in kinds.items():
        if (path / name).is_file():
            try:
                return problems_of()
            except (OSError, ValueError) as error:
                return [str(error)]
    return [f"neither a store nor a dictionary nor a report: it holds none of {', '.join(kinds)}"]


def _place() -> tuple[int, int]:
    """Return which of how many processes this one is, as torchrun or an array of SLURM jobs says."""
    found = os.environ
    if "RANK" in found and "WORLD_SIZE" in found:
        return int(found["RANK"]), int(found["WORLD_SIZE"])
    if "SLURM_ARRAY_TASK_COUNT" in found:
        first = int(found.get("SLURM_ARRAY_TASK_MIN", 0))
        return int(found["SLURM_ARRAY_TASK_ID"]) - first, int(found["SLURM_ARRAY_TASK_COUNT"])
    return 0, 1


def _is_verbose(options) -> bool:
    return options.verbose or (sys.stderr.isatty() and _place()[0] == 0)


def _layers(value: str):
    return value if value == "all" else [int(layer) for layer in value.split(",")]


def _part(value: str) -> tuple[int, int]:
    part, n_parts = map(int, value.split("/"))
    if not 0 <= part < n_parts:
        raise ValueError
    return part, n_parts


def _parser() -> argparse.ArgumentParser:
    def command(name, run, help, example):
        parser = commands.add_parser(
            name, help=help, description=help[0].upper() + help[1:] + ".", epilog=f"example:\n  {example}", **style
        )
        parser.set_defaults(run=run)
        parser.add_argument("--verbose", action="store_true", help="show progress even outside a terminal")
        return parser

    style = {"formatter_class": argparse.RawDescriptionHelpFormatter}
    parser = argparse.ArgumentParser(
        prog="python -m skfactors",
        description="Open a transformer into sparse factors, on corpora of any size.",
        epilog=_EXAMPLES,
        **style,
    )
    parser.add_argument("--version", action="version", version=f"skfactors {skfactors.__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    extract = command(
        "extract",
        _extract,
        "turn a file of texts into a store of hidden states",
        "python -m skfactors extract corpus.txt activations --model bert-base-uncased --layers 4,8,12 --dtype float16",
    )
    extract.add_argument("texts", help="file with one text per line, in UTF-8")
    extract.add_argument("store", help="folder of the store; what is there already is kept")
    extract.add_argument("--model", required=True, help="name on the Hugging Face hub, or a folder")
    extract.add_argument("--revision", help="branch, tag or commit of the model on the hub")
    extract.add_argument("--layers", type=_layers, default="all", help="all, or numbers with commas; 0 is embeddings")
    extract.add_argument("--max-length", type=int, default=128, help="tokens in a window (%(default)s)")
    extract.add_argument("--stride", type=int, default=0, help="tokens that windows overlap by (%(default)s)")
    extract.add_argument("--batch-size", type=int, default=32, help="windows per forward pass (%(default)s)")
    extract.add_argument("--model-dtype", default="float32", help="precision the model runs in (%(default)s)")
    extract.add_argument("--dtype", help="precision on disk; that of the model unless given")
    extract.add_argument("--rows-per-shard", type=int, default=65_536, help="(%(default)s)")
    extract.add_argument("--device", default="auto", help="auto, cpu, cuda ...")

    fit = command(
        "fit",
        _fit,
        "learn a dictionary from a store",
        "python -m skfactors fit activations dictionary --n-components 2000 --alpha 0.3 --max-iter 1",
    )
    fit.add_argument("store", help="folder of the store")
    fit.add_argument("dictionary", help="folder that the dictionary is saved to")
    fit.add_argument("--n-components", type=int, help="factors; as many as features unless given")
    fit.add_argument("--alpha", type=float, default=1.0, help="sparsity penalty (%(default)s)")
    fit.add_argument("--n-nonzero-coefs", type=int, help="code by pursuit, with at most so many factors per row")
    fit.add_argument("--max-iter", type=int, default=2, help="epochs (%(default)s)")
    fit.add_argument("--batch-size", type=int, default=1024, help="rows in a minibatch, of all processes (%(default)s)")
    fit.add_argument("--random-state", type=int, default=0, help="seed (%(default)s)")
    fit.add_argument("--unweighted", action="store_true", help="let frequent tokens count as often as they occur")
    fit.add_argument("--checkpoint-dir", help="where to keep what a killed fit goes on from (DICTIONARY/checkpoints)")
    fit.add_argument("--checkpoint-every", type=int, default=1000, help="steps between checkpoints (%(default)s)")
    fit.add_argument("--device", default="auto", help="auto, cpu, cuda ...")

    report = command(
        "report",
        _report,
        "report on the factors of a dictionary in a store",
        "python -m skfactors report activations dictionary report --html factors.html",
    )
    report.add_argument("store", help="folder of the store")
    report.add_argument("dictionary", help="folder of the dictionary")
    report.add_argument("report", help="folder that the report is saved to")
    report.add_argument("--html", help="write the explorer to this file")
    report.add_argument("--k", type=int, default=20, help="contexts for each factor and layer (%(default)s)")
    report.add_argument(
        "--part", type=_part, metavar="I/N", help="report on the I-th of N parts only; that of torchrun unless given"
    )
    report.add_argument("--checkpoint-dir", help="where to keep what a killed report goes on from (REPORT/checkpoints)")
    report.add_argument("--device", default="auto", help="auto, cpu, cuda ...")

    verify = command(
        "verify",
        _verify,
        "compare stores, dictionaries and reports with their checksums; fail if one is bad",
        "python -m skfactors verify activations dictionary report",
    )
    verify.add_argument("paths", nargs="+", help="folders")
    return parser
