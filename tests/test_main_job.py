"""The main job on the demo model and real text, against slow and obvious versions."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline

from skfactors import FactorReport, SparseDictionary, TransformerFeatureExtractor
from skfactors.datasets import demo_model, load_wikipedia
from skfactors.metrics import description_length_scorer
from skfactors.reports import importance_by_layer, top_contexts

LAYERS, TOP, K = [1, 3, 6], 15, 4
REPOSITORY = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def articles():
    return [article[:1500] for article in load_wikipedia(4)]


@pytest.fixture(scope="module")
def dictionary(demo_activations):
    return SparseDictionary(40, alpha=1.5, random_state=0).fit(
        demo_activations, sample_weight=demo_activations.sample_weight
    )


@pytest.fixture(scope="module")
def codes(dictionary, demo_activations):
    return dictionary.transform(demo_activations)


def slow_contexts(codes, acts, k):
    """Every list by itself: sort its rows, keep each document's strongest, cut to k."""
    dense, provenance, found = codes.toarray(), acts.provenance, {}
    for factor in range(dense.shape[1]):
        for layer in LAYERS:
            rows = [row for row in range(len(acts)) if provenance["layer"][row] == layer and dense[row, factor] > 0]
            rows.sort(key=lambda row: (-dense[row, factor], row))
            documents, kept = set(), []
            for row in rows:
                if provenance["document"][row] not in documents:
                    documents.add(provenance["document"][row])
                    kept.append(row)
            for rank, row in enumerate(kept[:k], start=1):
                found[factor, layer, rank] = row
    return found


def test_top_contexts_are_those_a_slow_search_finds(codes, demo_activations):
    acts = demo_activations
    table = top_contexts(codes, acts.provenance, acts.texts, k=K, window=5)
    expected = slow_contexts(codes, acts, K)
    assert list(table[["factor", "layer", "rank"]].itertuples(index=False, name=None)) == sorted(expected)
    for context in table.itertuples():
        row = expected[context.factor, context.layer, context.rank]
        assert context.activation == codes[[row]].toarray()[0, context.factor]
        where = acts.provenance.loc[row]
        text = acts.texts[where["document"]]
        assert context.token == text[where["start"] : where["end"]]
        assert text[: where["start"]].endswith(context.left)
        assert text[where["end"] :].startswith(context.right)
        assert max(len(context.left.split()), len(context.right.split())) <= 5
        assert (context.document, context.position) == (where["document"], where["position"])


def test_importance_is_the_mean_of_the_largest_activations(codes, demo_activations):
    layers = demo_activations.provenance["layer"].to_numpy()
    table = importance_by_layer(codes, layers, top=TOP)
    dense = codes.toarray().astype(np.float64)
    for layer in LAYERS:
        for factor in range(dense.shape[1]):
            largest = sorted(dense[layers == layer, factor], reverse=True)[:TOP]
            assert table.loc[factor, layer] == pytest.approx(sum(largest) / TOP, rel=1e-12)


def test_the_streamed_report_equals_the_functions_on_all_rows(
    articles, dictionary, codes, demo_activations, monkeypatch
):
    extractor = TransformerFeatureExtractor(demo_model(), layers=LAYERS)
    iter_extract = extractor.iter_extract
    monkeypatch.setattr(extractor, "iter_extract", lambda texts: iter_extract(texts, max_rows=700))
    report = FactorReport.from_texts(extractor, dictionary, articles, k=K, top=TOP)
    acts = demo_activations
    whole = top_contexts(codes, acts.provenance, acts.texts, k=K)
    streamed = report.top_contexts()
    # Parts are other batches than the whole, and rounding is another: activations agree to single precision.
    assert streamed[["factor", "layer", "rank"]].equals(whole[["factor", "layer", "rank"]])
    np.testing.assert_allclose(streamed["activation"], whole["activation"], rtol=5e-3)
    agreeing = (streamed[["document", "position", "token"]] == whole[["document", "position", "token"]]).all(axis=1)
    assert agreeing.mean() > 0.99
    importance = importance_by_layer(codes, acts.provenance["layer"].to_numpy(), top=TOP)
    np.testing.assert_allclose(report.importance_by_layer(), importance, rtol=5e-3, atol=1e-4)
    assert report.totals["n_tokens"] * len(LAYERS) == report.totals["n_rows"] == len(acts)
    assert report.totals["explained_variance"] == pytest.approx(dictionary.score(acts), abs=1e-4)


def test_a_search_over_sparsity_has_its_optimum_inside_the_grid(articles):
    texts = [article[start : start + 300] for article in articles for start in (0, 400, 800)]
    pipeline = make_pipeline(
        TransformerFeatureExtractor(demo_model(), layers=[2, 4]), SparseDictionary(48, max_iter=4, random_state=0)
    )
    grid = {"sparsedictionary__alpha": [0.02, 2.0, 30.0]}
    search = GridSearchCV(pipeline, grid, scoring=description_length_scorer, cv=3, error_score="raise").fit(texts)
    assert search.best_params_ == {"sparsedictionary__alpha": 2.0}


def test_the_quickstart_runs_on_a_users_own_texts(articles, tmp_path):
    (tmp_path / "texts.txt").write_text("\n".join(" ".join(article.split()) for article in articles), encoding="utf-8")
    command = [
        sys.executable,
        REPOSITORY / "examples" / "quickstart.py",
        "--texts",
        "texts.txt",
        "--model",
        demo_model(),
    ]
    command += ["--n-components", "24", "--alpha", "2", "--show", "2", "--out", "report"]
    done = subprocess.run(
        command, cwd=tmp_path, capture_output=True, text=True, encoding="utf-8", env=_environment(), timeout=300
    )
    assert done.returncode == 0, done.stderr
    assert "peak at layer" in done.stdout
    assert str(tmp_path / "report") in done.stdout
    report = FactorReport.load(tmp_path / "report")
    assert report.totals["layers"] == list(range(7))
    assert SparseDictionary.load(tmp_path / "report" / "dictionary").components_.shape == (24, 384)


def test_the_explorer_and_the_plots_of_a_saved_report_are_made_in_one_command(tiny_model, texts, tmp_path):
    extractor = TransformerFeatureExtractor(tiny_model)
    with pytest.warns(UserWarning, match="empty"):
        dictionary = SparseDictionary(8, alpha=0.1, random_state=0).fit(extractor.extract(texts))
        FactorReport.from_texts(extractor, dictionary, texts).save(tmp_path / "report")
    for example, file in (("explore_factors.py", "page.html"), ("plot_factors.py", "plots.png")):
        command = [sys.executable, REPOSITORY / "examples" / example, "--report", "report", "--out", file]
        done = subprocess.run(
            command, cwd=tmp_path, capture_output=True, text=True, encoding="utf-8", env=_environment(), timeout=300
        )
        assert done.returncode == 0, done.stderr
        assert done.stdout.strip() == str((tmp_path / file).resolve())
    assert "<title>Factors</title>" in (tmp_path / "page.html").read_text(encoding="utf-8")
    assert (tmp_path / "plots.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.skipif(sys.platform == "win32", reason="peak memory is read with the resource module, which Windows lacks")
def test_the_memory_of_a_report_does_not_grow_with_the_corpus(tiny_model, tmp_path):
    script = """
import resource, sys
import numpy as np
from skfactors import FactorReport, SparseDictionary, TransformerFeatureExtractor
words = "the bank of the river was muddy left park gate report shares fell".split()
def documents(n, rng=np.random.default_rng(0)):
    return (" ".join(rng.choice(words, 60)) for _ in range(n))
extractor = TransformerFeatureExtractor(sys.argv[1], max_length=64, batch_size=128)
dictionary = SparseDictionary(24, alpha=0.5, random_state=0).fit(extractor.extract(documents(40)))
FactorReport.from_texts(extractor, dictionary, documents(int(sys.argv[2])), k=5, top=20)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""
    peaks = []
    for n_documents in (800, 3200):
        done = subprocess.run(
            [sys.executable, "-c", script, tiny_model, str(n_documents)],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            env=_environment(),
            timeout=300,
        )
        assert done.returncode == 0, done.stderr
        peaks.append(int(done.stdout))
    assert peaks[1] <= 1.1 * peaks[0]


def _environment():
    return os.environ | {"PYTHONPATH": str(REPOSITORY), "PYTHONIOENCODING": "utf-8", "HF_HUB_OFFLINE": "1"}
