"""A grid search over a cluster is the same grid search."""

import numpy as np
import pytest
from joblib import parallel_config
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from support.processes import windows_counted

from skfactors import SparseDictionary, TransformerFeatureExtractor
from skfactors.metrics import l0_scorer

WORDS = ["the", "bank", "of", "river", "was", "muddy", "shares", "fell", "after", "report", "left", "park", "gate"]


@pytest.fixture(scope="module")
def corpus():
    generator = np.random.default_rng(0)
    return [" ".join(generator.choice(WORDS, 8)) for _ in range(45)]


@pytest.fixture(scope="module")
def client():
    distributed = pytest.importorskip("distributed")
    with (
        distributed.LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster,
        distributed.Client(cluster) as client,
    ):
        yield client


def test_a_grid_search_on_two_dask_workers_equals_one_here_and_runs_each_text_once(
    client, corpus, tiny_model, tmp_path
):
    from support.processes import count_windows

    (tmp_path / "counts").mkdir()
    client.run(count_windows, str(tmp_path / "counts"))
    extractor = TransformerFeatureExtractor(tiny_model, layers=[0, 2], cache_dir=str(tmp_path / "cache"))
    pipeline = make_pipeline(extractor, SparseDictionary(8, max_iter=1, random_state=0, device="cpu"))
    search = GridSearchCV(
        pipeline,
        {"sparsedictionary__alpha": [0.3, 1, 3]},
        scoring=l0_scorer,
        cv=3,
        refit=False,
        error_score="raise",
    )
    # A search may well leave all to one worker, so each is given texts of its own first, and some that both have.
    shares = zip([corpus[:30], corpus[15:]], client.scheduler_info()["workers"], strict=True)
    client.gather([client.submit(extractor.extract, texts, workers=worker) for texts, worker in shares])
    with parallel_config(backend="dask"):
        scores = search.fit(corpus).cv_results_["mean_test_score"]
    assert len(list((tmp_path / "counts").iterdir())) == 2
    assert windows_counted(tmp_path / "counts") == len(corpus)
    expected = search.fit(corpus).cv_results_["mean_test_score"]
    np.testing.assert_allclose(scores, expected, rtol=1e-3)
