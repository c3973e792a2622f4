"""``python -m skfactors``: each command does what the Python API does, and can be killed and shared."""

import os
import subprocess
import sys

import numpy as np
import pytest

from skfactors import ActivationStore, FactorReport, SparseDictionary, TransformerFeatureExtractor
from skfactors.commands import main
from skfactors.evaluations import EvaluationReport, evaluate

WORDS = ["the", "bank", "of", "river", "was", "muddy", "shares", "fell", "after", "report", "left", "park", "gate"]
FIT = ["--n-components", "8", "--alpha", "0.5", "--device", "cpu", "--max-iter", "1"]


@pytest.fixture(scope="module")
def corpus():
    generator = np.random.default_rng(0)
    return [" ".join(generator.choice(WORDS, 12)) for _ in range(40)]


@pytest.fixture(scope="module")
def folder(corpus, tiny_model, tmp_path_factory):
    """A text file, and what came out of the commands."""
    folder = tmp_path_factory.mktemp("batch")
    (folder / "corpus.txt").write_text("\n".join(corpus) + "\n", encoding="utf-8")
    extract = ["extract", folder / "corpus.txt", folder / "store", "--model", tiny_model, "--layers", "0,2"]
    assert run(*extract, "--rows-per-shard", "100") == 0
    assert run("fit", folder / "store", folder / "dictionary", *FIT) == 0
    report = ["report", folder / "store", folder / "dictionary", folder / "report", "--device", "cpu"]
    assert run(*report, "--html", folder / "factors.html") == 0
    return folder


def run(*arguments):
    return main([str(argument) for argument in arguments])


def test_the_commands_do_what_the_python_api_does(folder, corpus, tiny_model):
    store = ActivationStore(folder / "store")
    acts = TransformerFeatureExtractor(tiny_model, layers=[0, 2]).extract(corpus)
    assert store.shape == acts.shape and store.layers == [0, 2]
    dictionary = SparseDictionary(8, alpha=0.5, max_iter=1, random_state=0, device="cpu")
    dictionary.fit(store, sample_weight=store.sample_weight)
    saved = SparseDictionary.load(folder / "dictionary")
    np.testing.assert_array_equal(saved.components_, dictionary.components_)
    assert FactorReport.load(folder / "report") == FactorReport.from_store(store, saved)
    assert "<html" in (folder / "factors.html").read_text(encoding="utf-8")


@pytest.mark.parametrize(("written", "group_sizes"), [("2,6", [2, 6]), ("0.25,0.75", [0.25, 0.75])])
def test_fit_learns_nested_groups(folder, tmp_path, capsys, written, group_sizes):
    store = ActivationStore(folder / "store")
    assert run("fit", folder / "store", tmp_path / "nested", *FIT, "--group-sizes", written) == 0
    nested = SparseDictionary(8, alpha=0.5, group_sizes=group_sizes, max_iter=1, random_state=0, device="cpu")
    nested.fit(store, sample_weight=store.sample_weight)
    saved = SparseDictionary.load(tmp_path / "nested")
    assert saved.group_sizes == group_sizes
    np.testing.assert_array_equal(saved.components_, nested.components_)
    np.testing.assert_array_equal(saved.threshold_, nested.threshold_)
    assert run("fit", folder / "store", tmp_path / "other", *FIT, "--group-sizes", "2,5") == 1
    assert "group_sizes add up to 7, not to n_components=8" in capsys.readouterr().err


def test_extract_reads_the_sites_that_are_asked_for_without_outliers(folder, corpus, tiny_model, tmp_path, capsys):
    extract = ["extract", folder / "corpus.txt", tmp_path / "store", "--model", tiny_model, "--layers", "1"]
    with pytest.warns(UserWarning, match="tokens are left out as outliers"):
        assert run(*extract, "--site", "mlp_output,encoder.layer.{layer}:output", "--drop-outliers", "1.01") == 0
    asked = {"site": ["mlp_output", "encoder.layer.{layer}:output"], "layers": [1], "drop_outliers": 1.01}
    with pytest.warns(UserWarning, match="tokens are left out as outliers"):
        acts = TransformerFeatureExtractor(tiny_model, **asked).extract(corpus)
    store = ActivationStore(tmp_path / "store")
    assert store.places == acts.places and 0 < store.n_outliers
    np.testing.assert_allclose(store[:].X, acts.X, atol=1e-5)
    assert run(*extract[:2], tmp_path / "other", *extract[3:], "--site", "mlp") == 1
    assert "site='mlp' is none of" in capsys.readouterr().err


def test_parts_of_a_report_become_the_whole_when_the_last_is_there(folder, capsys):
    arguments = ["report", folder / "store", folder / "dictionary", folder / "parts", "--device", "cpu"]
    for part in range(3):
        assert not (folder / "parts" / "report.json").exists()
        assert run(*arguments, "--part", f"{part}/3") == 0
    assert FactorReport.load(folder / "parts") == FactorReport.load(folder / "report")


def test_parts_on_another_dictionary_are_made_again_before_they_are_put_together(folder, tmp_path):
    store, again, parts = folder / "store", tmp_path / "again", tmp_path / "parts"
    assert run("fit", store, again, *FIT, "--random-state", "1") == 0
    for dictionary, part in [(folder / "dictionary", 0), (folder / "dictionary", 1), (again, 0)]:
        assert run("report", store, dictionary, parts, "--device", "cpu", "--part", f"{part}/2") == 0
    assert FactorReport.load(parts) == FactorReport.load(folder / "report")
    assert run("report", store, again, parts, "--device", "cpu", "--part", "1/2") == 0
    assert FactorReport.load(parts) == FactorReport.from_store(ActivationStore(store), SparseDictionary.load(again))


def test_more_parts_than_shards_are_no_trouble(folder, capsys):
    arguments = ["report", folder / "store", folder / "dictionary", folder / "many", "--device", "cpu"]
    n_shards = ActivationStore(folder / "store").n_shards
    for part in range(n_shards + 1):
        assert run(*arguments, "--part", f"{part}/{n_shards + 1}") == 0
    assert "nothing to do" in capsys.readouterr().out
    assert FactorReport.load(folder / "many") == FactorReport.load(folder / "report")


def test_torchrun_runs_every_command_on_two_processes(folder, tiny_model, tmp_path):
    def torchrun(*arguments):
        command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "-m", "skfactors"]
        environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "1"}
        done = subprocess.run([*command, *map(str, arguments)], capture_output=True, text=True, env=environment)
        assert done.returncode == 0, done.stderr

    store, dictionary = tmp_path / "store", tmp_path / "dictionary"
    torchrun("extract", folder / "corpus.txt", store, "--model", tiny_model, "--layers", "0,2", "--rows-per-shard", 100)
    torchrun("fit", store, dictionary, *FIT)
    torchrun("report", store, dictionary, tmp_path / "report", "--device", "cpu")
    alone = SparseDictionary.load(folder / "dictionary").components_
    np.testing.assert_allclose(SparseDictionary.load(dictionary).components_, alone, atol=1e-4)
    report = FactorReport.load(tmp_path / "report")
    assert report == FactorReport.from_store(ActivationStore(store), SparseDictionary.load(dictionary))


ARRAY = {"SLURM_ARRAY_TASK_COUNT": "4", "SLURM_ARRAY_TASK_MIN": "0", "SLURM_ARRAY_TASK_ID": "2"}


@pytest.mark.parametrize(
    "variables",
    [ARRAY, {"SLURM_PROCID": "3", "SLURM_NTASKS": "4", "SLURM_STEP_ID": "0"}, {"RANK": "0", "WORLD_SIZE": "1"}],
)
def test_a_fit_that_learns_alone_saves_its_own(folder, tmp_path, monkeypatch, variables):
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert run("fit", folder / "store", tmp_path / "dictionary", *FIT) == 0
    saved = SparseDictionary.load(tmp_path / "dictionary")
    np.testing.assert_array_equal(saved.components_, SparseDictionary.load(folder / "dictionary").components_)


@pytest.mark.parametrize("variables", [{"RANK": "1", "WORLD_SIZE": "2"}, {"RANK": "0"}, {"WORLD_SIZE": "2"}])
def test_a_fit_in_half_a_group_says_so_and_learns_nothing(folder, tmp_path, monkeypatch, capsys, variables):
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert run("fit", folder / "store", tmp_path / "dictionary", *FIT) == 1
    error = capsys.readouterr().err
    assert "MASTER_ADDR, MASTER_PORT. Start all processes with torchrun" in error and error.count("\n") == 1
    assert not (tmp_path / "dictionary").exists()


@pytest.mark.parametrize(
    ("command", "number"),
    [
        ("extract", "--max-length"),
        ("extract", "--batch-size"),
        ("extract", "--rows-per-shard"),
        ("fit", "--n-components"),
        ("fit", "--max-iter"),
        ("fit", "--batch-size"),
        ("fit", "--checkpoint-every"),
        ("report", "--k"),
    ],
)
def test_a_number_of_0_is_refused_by_name(folder, tiny_model, tmp_path, capsys, command, number):
    arguments = {
        "extract": [folder / "corpus.txt", tmp_path / "store", "--model", tiny_model],
        "fit": [folder / "store", tmp_path / "dictionary"],
        "report": [folder / "store", folder / "dictionary", tmp_path / "report"],
    }
    assert run(command, *arguments[command], number, "0") == 1
    assert number.strip("-").replace("-", "_") in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_verify_names_what_is_bad_and_fails(folder, tmp_path, capsys):
    import shutil

    sound = [folder / name for name in ("store", "dictionary", "report")]
    assert run("verify", *sound) == 0
    assert capsys.readouterr().out.count(": sound") == 3
    bad = shutil.copytree(folder / "store", tmp_path / "store")
    shard = sorted((bad / "shards").glob("*/*.safetensors"))[1]
    os.truncate(shard, shard.stat().st_size - 1)
    tensors = shutil.copytree(folder / "dictionary", tmp_path / "dictionary") / "dictionary.safetensors"
    tensors.write_bytes(tensors.read_bytes()[:-1] + b"!")
    assert run("verify", bad, tensors.parent, tmp_path) == 1
    printed = capsys.readouterr().out
    assert f"shard {shard.stem}: " in printed and f"{shard.name}' was cut short" in printed
    assert "cut short or altered" in printed and "neither a store nor" in printed


@pytest.mark.parametrize("other", [None, "another report"])
def test_verify_misses_what_a_report_was_counted_from(folder, tmp_path, capsys, other):
    import shutil

    report = shutil.copytree(folder / "report", tmp_path / "report")
    (report / "tally.safetensors").unlink()
    if other is not None:
        store = ActivationStore(folder / "store")
        FactorReport.from_store(store, SparseDictionary.load(folder / "dictionary"), k=1).save(tmp_path / "other")
        shutil.copy(tmp_path / "other" / "tally.safetensors", report)
        with pytest.raises(ValueError, match="tally.safetensors' was cut short or altered"):
            FactorReport.load(report)
    else:
        assert FactorReport.load(report) == FactorReport.load(folder / "report")
    assert run("verify", report) == 1
    assert "tally.safetensors' " in capsys.readouterr().out


def test_verify_looks_into_checkpoints_and_parts_too(folder, tmp_path, capsys):
    import shutil

    dictionary = shutil.copytree(folder / "dictionary", tmp_path / "dictionary")
    report = shutil.copytree(folder / "report", tmp_path / "report")
    store = ActivationStore(folder / "store")
    part = FactorReport.from_store(store, SparseDictionary.load(dictionary), shards=[0])
    part.save(report / "part-0-of-2")
    assert run("verify", dictionary, report, dictionary / "checkpoints", report / "checkpoints") == 0
    bad = [*(dictionary / "checkpoints").iterdir(), *(report / "checkpoints").glob("*.safetensors")]
    for path in [*bad, report / "part-0-of-2" / "report.json"]:
        path.write_bytes(path.read_bytes()[:-1] + b"!")
        capsys.readouterr()
        assert run("verify", dictionary, report) == 1
        assert path.name in capsys.readouterr().out
    assert len(bad) == 2


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="The system has no pipes with names.")
def test_verify_waits_for_no_pipe(tmp_path, capsys):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to("nowhere")
    (tmp_path / "dictionary").mkdir()
    os.mkfifo(tmp_path / "dictionary" / "config.json")
    assert run("verify", *sorted(tmp_path.iterdir())) == 1
    printed = capsys.readouterr().out
    assert "pipe: it is neither a folder nor a plain file" in printed and "link: [Errno 2]" in printed
    assert "dictionary: " in printed and "sound" not in printed


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["extract", "absent.txt", "store", "--model", "m"], "OSError|FileNotFoundError"),
        (["fit", "absent", "dictionary"], "FileNotFoundError: there is no folder '.*absent'"),
        (["report", "absent", "dictionary", "report"], "there is no folder '.*absent'"),
    ],
)
def test_what_is_wrong_is_one_line_on_the_standard_error(arguments, message, tmp_path, monkeypatch, capsys):
    import re

    monkeypatch.chdir(tmp_path)
    assert main(arguments) == 1
    error = capsys.readouterr().err
    assert re.search(message, error) and error.count("\n") == 1


@pytest.mark.parametrize("command", [[], ["extract"], ["fit"], ["report"], ["verify"]])
def test_help_shows_examples(command, capsys):
    with pytest.raises(SystemExit) as ended:
        main([*command, "--help"])
    printed = capsys.readouterr().out
    assert ended.value.code == 0 and "example" in printed and "python -m skfactors" in printed


def evaluation_of(folder, tiny_model, *others):
    place = ["--model", tiny_model, "--layer", "2", "--device", "cpu", "--n-resamples", "20"]
    return run("evaluate", folder / "corpus.txt", folder / "dictionary", *place, *others)


def test_evaluate_does_what_the_python_api_does(folder, corpus, tiny_model, tmp_path, capsys):
    files = {name: tmp_path / name for name in ("page.html", "table.csv", "evaluation")}
    written = ["--html", files["page.html"], "--csv", files["table.csv"], "--save", files["evaluation"]]
    assert evaluation_of(folder, tiny_model, *written) == 0
    extractor = TransformerFeatureExtractor(tiny_model, layers=[2], device="cpu")
    expected = evaluate(extractor, SparseDictionary.load(folder / "dictionary"), corpus, n_resamples=20)
    assert EvaluationReport.load(files["evaluation"]) == expected
    assert "explained_variance" in capsys.readouterr().out
    assert "explained_variance" in files["page.html"].read_text(encoding="utf-8")
    assert "explained_variance" in files["table.csv"].read_text(encoding="utf-8")
    assert run("verify", files["evaluation"]) == 0


def test_evaluate_asks_with_labels_and_what_was_learned_from(folder, corpus, tiny_model, tmp_path, capsys):
    (tmp_path / "labels.txt").write_text("".join(f"{number % 3}\n" for number in range(len(corpus))))
    asked = ["--suite", "core,targeted_perturbation", "--labels", tmp_path / "labels.txt", "--store", folder / "store"]
    assert evaluation_of(folder, tiny_model, *asked) == 0
    said = capsys.readouterr().out
    assert "frozen decoder" in said and "accuracy" in said


def test_labels_are_read_as_texts_are(folder, corpus, tiny_model, tmp_path, capsys):
    labels = [f"{number % 3} \r\n" for number in range(len(corpus))]
    (tmp_path / "labels.txt").write_bytes(b"\xef\xbb\xbf" + "".join(labels).encode())
    asked = ["--suite", "targeted_perturbation", "--labels", tmp_path / "labels.txt"]
    assert evaluation_of(folder, tiny_model, *asked, "--save", tmp_path / "marked") == 0
    (tmp_path / "labels.txt").write_text("".join(f"{number % 3}\n" for number in range(len(corpus))))
    assert evaluation_of(folder, tiny_model, *asked, "--save", tmp_path / "plain") == 0
    assert EvaluationReport.load(tmp_path / "marked") == EvaluationReport.load(tmp_path / "plain")
    (tmp_path / "labels.txt").write_text("\n" + "".join(labels[1:]))
    assert evaluation_of(folder, tiny_model, *asked) == 1
    assert "The label of text 0 is None" in capsys.readouterr().err


def test_a_dry_run_of_evaluate_tells_the_cost_and_writes_nothing(folder, tiny_model, tmp_path, capsys):
    assert evaluation_of(folder, tiny_model, "--dry-run", "--html", tmp_path / "page.html") == 0
    assert "n_passes" in capsys.readouterr().out
    assert not (tmp_path / "page.html").exists()


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        (["--html", "nowhere/page.html"], "there is no folder"),
        (["--csv", "nowhere/table.csv"], "there is no folder"),
        (["--html", "."], "is a folder: name a file in it"),
        (["--save", "texts.txt"], "is a file, and must be a folder"),
        (["--html", "page", "--csv", "./page"], "is asked for twice"),
    ],
    ids=" ".join,
)
def test_what_cannot_be_written_is_refused_before_the_work(tmp_path, monkeypatch, capsys, asked, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "texts.txt").write_text("a text")
    # There is no dictionary, of which nothing is said yet.
    assert run("evaluate", "texts.txt", "dictionary", "--model", "bert", "--layer", 1, *asked) == 1
    assert message in capsys.readouterr().err


def test_a_page_of_a_report_in_no_folder_is_refused_before_the_work(tmp_path, capsys):
    assert run("report", "store", "dictionary", "report", "--html", tmp_path / "nowhere" / "page.html") == 1
    assert "there is no folder" in capsys.readouterr().err


def test_a_page_goes_into_the_folder_that_is_saved_to(folder, tiny_model, tmp_path):
    saved = tmp_path / "evaluation"
    assert evaluation_of(folder, tiny_model, "--save", saved, "--html", saved / "page.html", "--csv", "") == 0
    assert (saved / "page.html").exists() and (saved / "evaluation.json").exists()
    report = tmp_path / "report"
    assert run("report", folder / "store", folder / "dictionary", report, "--html", report / "page.html") == 0
    assert (report / "page.html").exists()


def test_evaluate_says_what_it_lacks(folder, tiny_model, capsys):
    assert evaluation_of(folder, tiny_model, "--suite", "targeted_perturbation") == 1
    assert "needs labels=" in capsys.readouterr().err
