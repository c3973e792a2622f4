"""The commands of ``python -m skfactors``, thin over the Python API."""

import argparse
import os
import re
import stat
import sys
from pathlib import Path

from sklearn.exceptions import NotFittedError

import skfactors
from skfactors.extraction.text.corpus import open_corpus
from skfactors.files import is_read_only
from skfactors.fingerprints import fingerprint

_EXAMPLES = """\
examples:
  python -m skfactors extract corpus.txt activations --model bert-base-uncased --dtype float16
  python -m skfactors fit activations dictionary --n-components 2000
  python -m skfactors report activations dictionary report --html factors.html
  python -m skfactors evaluate texts.txt dictionary --model bert-base-uncased --layer 4 --html evaluation.html
  python -m skfactors verify activations dictionary report

All can be killed and started again: extract, fit and report go on where they stopped. Several processes share the work
of extract and report, as tasks or steps of SLURM too; those of torchrun also learn one dictionary together:
  torchrun --nproc-per-node 4 -m skfactors fit activations dictionary --n-components 2000
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
        site=options.site,
        drop_outliers=options.drop_outliers,
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
    # Help should not wait for it.
    from skfactors.learning.processes import described_group, place

    # Half a group, each of whose processes takes itself for all, would be no fit that anybody asked for.
    described_group()
    rank, _ = place()
    store = skfactors.ActivationStore(options.store)
    dictionary = skfactors.SparseDictionary(
        options.n_components,
        alpha=options.alpha,
        n_nonzero_coefs=options.n_nonzero_coefs,
        group_sizes=options.group_sizes,
        max_iter=options.max_iter,
        batch_size=options.batch_size,
        random_state=options.random_state,
        device=options.device,
        checkpoint_dir=options.checkpoint_dir or Path(options.dictionary) / "checkpoints",
        checkpoint_every=options.checkpoint_every,
        verbose=_is_verbose(options),
    )
    dictionary.fit(store, sample_weight=None if options.unweighted else store.sample_weight)
    if rank == 0:
        _save(dictionary, options.dictionary)
        last = dictionary.history_[-1]
        print(
            f"{options.dictionary}: {len(dictionary.components_)} factors, {dictionary.n_steps_} steps; in the last, "
            f"{last['explained_variance']:.3f} of the variance explained by {last['l0']:.1f} factors per row"
        )


def _save(dictionary, folder) -> None:
    """Save a dictionary; where nothing can be written, it is well if the folder holds just this one."""
    try:
        dictionary.save(folder)
    except OSError as error:
        if not is_read_only(error):
            raise
        try:
            there = skfactors.FactorModel.load(folder).fingerprint()
        except (OSError, ValueError):
            there = None
        if there != dictionary.fingerprint():
            raise


def _report(options) -> None:
    # Help should not wait for it.
    from skfactors.reports.sharing import finished_report, report_together

    _check_writable(options.report, options.html)
    store, dictionary = skfactors.ActivationStore(options.store), skfactors.FactorModel.load(options.dictionary)
    if "device" in dictionary.get_params():
        dictionary.set_params(device=options.device)
    folder = Path(options.report)
    asked = {"k": options.k}
    how = {"checkpoint_dir": options.checkpoint_dir or folder / "checkpoints", "verbose": _is_verbose(options)}
    if options.part is not None:
        report = _report_on_part(folder, store, dictionary, *options.part, **asked, **how)
        if report is None:
            return
        report.save(folder)
    elif (report := finished_report(folder, store, dictionary, **asked)) is not None:
        print(f"{folder}: finished before")
    elif _is_one_of_several():
        report = report_together(folder, store, dictionary, **asked, **how)
    else:
        report = skfactors.FactorReport.from_store(store, dictionary, **asked, **how)
        report.save(folder)
    if options.html:
        report.to_html(options.html)
    print(f"{folder}: {report}")


def _check_writable(folder, *files) -> None:
    """Refuse what a result cannot be written to, before the work that it is of; None and "" are not asked for."""
    if folder and Path(folder).exists() and not Path(folder).is_dir():
        raise FileExistsError(f"{folder!r} is a file, and must be a folder: give another name.")
    files = list(filter(None, files))
    for file in files:
        path = Path(file).absolute()
        if path.is_dir():
            raise IsADirectoryError(f"{file!r} is a folder: name a file in it.")
        # The folder that is saved to is made before.
        if not (path.parent.is_dir() or (folder and path.parent == Path(folder).absolute())):
            raise FileNotFoundError(
                f"{file!r} cannot be written: there is no folder {str(path.parent)!r}. Make it first."
            )
    if len(set(map(os.path.abspath, files))) < len(files):
        raise ValueError(f"{files[0]!r} is asked for twice, and would be written over: give two names.")


def _report_on_part(folder, store, dictionary, part, n_parts, **how):
    """Report on a part, and return all of them together; None while some are missing."""
    n_parts = min(n_parts, store.n_shards)
    if part >= n_parts:
        print(f"nothing to do: {store} has no more shards for part {part}")
        return None
    shards = range(part, store.n_shards, n_parts)
    report = skfactors.FactorReport.from_store(store, dictionary, shards=shards, **how)
    if n_parts == 1:
        return report
    # Parts of another store or dictionary have folders of their own.
    run = fingerprint([report.origin, report.parameters])[:16]
    folders = [folder / f"part-{number}-of-{n_parts}-{run}" for number in range(n_parts)]
    report.save(folders[part])
    parts = [skfactors.FactorReport.load(of_part) for of_part in folders if (of_part / "report.json").is_file()]
    if len(parts) < n_parts:
        print(f"{folders[part]}: {report}; the part that comes last puts them together")
        return None
    return skfactors.FactorReport.merge(parts)


def _evaluate(options) -> None:
    # Help should not wait for it.
    from skfactors.evaluations import evaluate

    _check_writable(options.save, options.html, options.csv)
    dictionary = skfactors.FactorModel.load(options.dictionary)
    if "device" in dictionary.get_params():
        dictionary.set_params(device=options.device)
    extractor = skfactors.TransformerFeatureExtractor(
        options.model,
        revision=options.revision,
        site=options.site,
        layers=[options.layer],
        max_length=options.max_length,
        drop_outliers=options.drop_outliers,
        batch_size=options.batch_size,
        device=options.device,
        dtype=options.model_dtype,
        verbose=_is_verbose(options),
    )
    store = None if options.store is None else skfactors.ActivationStore(options.store)
    rows = None if store is None else store.at(options.site, options.layer)
    answer = evaluate(
        extractor,
        dictionary,
        _lines(options.texts),
        options.suite,
        # A line without a class is one that is missing.
        labels=None if options.labels is None else [line.strip() or None for line in _lines(options.labels)],
        training_rows=rows,
        sample_weight=None if rows is None or options.unweighted else rows.sample_weight,
        controls=options.controls,
        n_resamples=options.n_resamples,
        random_state=options.random_state,
        dry_run=options.dry_run,
        verbose=_is_verbose(options),
    )
    if options.dry_run:
        print(answer.to_string(index=False))
        return
    # What took long is seen, whatever becomes of the files.
    answer.show()
    if options.save:
        answer.save(options.save)
    if options.html:
        answer.to_html(options.html)
    if options.csv:
        answer.to_csv(options.csv)


def _lines(path) -> list[str]:
    return list(open_corpus(Path(path), ""))


def _verify(options) -> int:
    n_bad = 0
    for path in map(Path, options.paths):
        problems = _problems_of(path)
        n_bad += bool(problems)
        print(*(f"{path}: {problem}" for problem in problems or ["sound"]), sep="\n")
    return int(n_bad > 0)


def _problems_of(path: Path) -> list[str]:
    # Help should not wait for it.
    from skfactors.evaluations import EvaluationReport
    from skfactors.reports.persistence import read_report

    kinds = {
        "manifest.json": lambda: [
            f"shard {shard}: {problem}"
            for shard, problem in skfactors.ActivationStore(path).verify().itertuples(index=False)
        ],
        "config.json": lambda: skfactors.FactorModel.load(path) and [],
        "report.json": lambda: read_report(path, whole=True) and [],
        "evaluation.json": lambda: EvaluationReport.load(path) and [],
    }
    try:
        mode = os.stat(path).st_mode
        if not stat.S_ISDIR(mode):
            return _problems_of_checkpoint(path) if stat.S_ISREG(mode) else ["it is neither a folder nor a plain file"]
        problems, is_known = [], False
        # Whatever bears the name is looked at: a pipe or a link is no sound file.
        for problems_of in (kinds[name] for name in kinds if os.path.lexists(path / name)):
            problems, is_known = problems_of(), True
            break
        inside = [*path.glob("checkpoints"), *path.glob("part-*-of-*"), *filter(_is_checkpoint, path.iterdir())]
    except (OSError, ValueError) as error:
        return [str(error)]
    problems += [f"{one.name}: {problem}" for one in sorted(inside) for problem in _problems_of(one)]
    if not (is_known or inside or path.name == "checkpoints"):
        return [f"neither a store nor a dictionary nor a report nor an evaluation: it holds none of {', '.join(kinds)}"]
    return problems


def _is_checkpoint(path: Path) -> bool:
    return re.fullmatch(r"(report-[0-9a-f]{16}|[0-9a-f]{32})\.safetensors", path.name) is not None


def _problems_of_checkpoint(path: Path) -> list[str]:
    from skfactors.learning.checkpoint import check_checkpoint
    from skfactors.reports.counting.tally_file import read_tally

    if not _is_checkpoint(path):
        return ["neither a folder nor a checkpoint"]
    if path.name.startswith("report-"):
        read_tally(path, remedy="Delete it to begin the report anew.")
    else:
        check_checkpoint(path)
    return []


def _is_one_of_several() -> bool:
    """Say whether the environment is that of one process of several: torchrun's, MPI's, a task's or step's of SLURM."""
    sizes = ("WORLD_SIZE", "SLURM_NTASKS", "SLURM_STEP_NUM_TASKS", "OMPI_COMM_WORLD_SIZE", "PMI_SIZE")
    found = os.environ
    return (
        any(found.get(name, "1") not in ("", "1") for name in sizes)
        or any(found.get(name) for name in ("SLURM_ARRAY_TASK_ID", "SLURM_STEP_ID"))
        or found.get("RANK", "0") not in ("", "0")
    )


def _is_verbose(options) -> bool:
    is_first = all(os.environ.get(name, "0") in ("", "0") for name in ("RANK", "SLURM_PROCID"))
    return options.verbose or (sys.stderr.isatty() and is_first)


def _layers(value: str):
    return value if value == "all" else [int(layer) for layer in value.split(",")]


def _penalty(value: str) -> float | str:
    return value if value == "auto" else float(value)


def _sizes(value: str) -> list[int] | list[float]:
    sizes = value.split(",")
    return [*map(int, sizes)] if all(size.strip().isdecimal() for size in sizes) else [*map(float, sizes)]


def _sites(value: str):
    sites = value.split(",")
    return sites if len(sites) > 1 else value


def _names(value: str) -> list[str]:
    return [name.strip() for name in value.split(",")]


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
    extract.add_argument(
        "--site",
        type=_sites,
        default="hidden_states",
        help="block_output, mlp_input ... or a path of modules, what is read; several with commas (%(default)s)",
    )
    extract.add_argument(
        "--drop-outliers",
        type=float,
        metavar="TIMES",
        help="leave out tokens whose norm is more than so many times the median, such as attention sinks",
    )
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
        "python -m skfactors fit activations dictionary --n-components 2000 --max-iter 1",
    )
    fit.add_argument("store", help="folder of the store")
    fit.add_argument("dictionary", help="folder that the dictionary is saved to")
    fit.add_argument("--n-components", type=int, help="factors; as many as features unless given")
    fit.add_argument(
        "--alpha", type=_penalty, default="auto", help="sparsity penalty; auto is a tenth of the rows' length"
    )
    fit.add_argument("--n-nonzero-coefs", type=int, help="code by pursuit, with at most so many factors per row")
    fit.add_argument(
        "--group-sizes",
        type=_sizes,
        metavar="N,N,...",
        help="nested groups of so many factors, or of such shares of them",
    )
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
        "--part", type=_part, metavar="I/N", help="report on the I-th of N parts only, and leave the others to others"
    )
    report.add_argument("--checkpoint-dir", help="where to keep what a killed report goes on from (REPORT/checkpoints)")
    report.add_argument("--device", default="auto", help="auto, cpu, cuda ...")

    evaluate = command(
        "evaluate",
        _evaluate,
        "ask what a dictionary is worth on texts, beside controls that learned nothing",
        "python -m skfactors evaluate texts.txt dictionary --model bert-base-uncased --layer 4 --suite "
        "core,stability --store activations --html evaluation.html",
    )
    evaluate.add_argument("texts", help="file with one text per line, in UTF-8: others than were learned from")
    evaluate.add_argument("dictionary", help="folder of the dictionary")
    evaluate.add_argument("--model", required=True, help="name on the Hugging Face hub, or a folder")
    evaluate.add_argument("--revision", help="branch, tag or commit of the model on the hub")
    evaluate.add_argument("--layer", type=int, required=True, help="the one that the dictionary is of")
    evaluate.add_argument("--site", default="hidden_states", help="the place in the layer (%(default)s)")
    evaluate.add_argument(
        "--suite",
        type=_names,
        default=["core"],
        help="what to ask, with commas: core, loss_recovered, absorption, targeted_perturbation, stability ... (core)",
    )
    evaluate.add_argument(
        "--controls",
        type=_names,
        default=["random factors", "hidden dimensions", "principal components"],
        help='what to compare with, with commas: "random factors", "hidden dimensions", "principal components" (all)',
    )
    evaluate.add_argument("--labels", help="file with the class of each text, one per line")
    evaluate.add_argument(
        "--store", help="what the dictionary was learned from: an autoencoder of random components learns from it, too"
    )
    evaluate.add_argument(
        "--unweighted", action="store_true", help="the dictionary was learned so: all rows of the store count alike"
    )
    evaluate.add_argument("--html", help="write one page to this file")
    evaluate.add_argument("--csv", help="write a table for a spreadsheet to this file")
    evaluate.add_argument("--save", metavar="FOLDER", help="save to this folder")
    evaluate.add_argument("--dry-run", action="store_true", help="tell the cost only")
    evaluate.add_argument("--n-resamples", type=int, default=1000, help="for intervals (%(default)s)")
    evaluate.add_argument("--random-state", type=int, default=0, help="seed (%(default)s)")
    evaluate.add_argument("--max-length", type=int, default=128, help="tokens in a window (%(default)s)")
    evaluate.add_argument("--drop-outliers", type=float, help="leave out tokens so many times longer than the median")
    evaluate.add_argument("--batch-size", type=int, default=32, help="windows per forward pass (%(default)s)")
    evaluate.add_argument("--model-dtype", default="float32", help="precision the model runs in (%(default)s)")
    evaluate.add_argument("--device", default="auto", help="auto, cpu, cuda ...")

    verify = command(
        "verify",
        _verify,
        "compare stores, dictionaries, reports and evaluations with their checksums; fail if one is bad",
        "python -m skfactors verify activations dictionary report",
    )
    verify.add_argument("paths", nargs="+", help="folders")
    return parser
