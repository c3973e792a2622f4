import itertools

import numpy as np
import pandas as pd
import pytest
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import StratifiedKFold, cross_val_score

from skfactors import SparseDictionary, TransformerFeatureExtractor
from skfactors.datasets import demo_model, load_wikipedia
from skfactors.evaluations import evaluate, random_control, sparse_probing
from skfactors.evaluations.probing import Probing, Task, check_tasks

NOUNS = ("bank", "river", "report", "gate", "park", "others")
WORDS = ("the", "so", "and", "left", "muddy", "shares", "she", "one", "both")


def sentences(rng, noun, n_texts):
    """Texts of random words, one of them in each text given."""
    return [" ".join(rng.permutation([noun, *rng.choice(WORDS, rng.integers(3, 9))])) for _ in range(n_texts)]


def task_of(first, second, n_texts=40):
    rng = np.random.default_rng(sum(map(ord, first + second)))
    return sentences(rng, first, n_texts) + sentences(rng, second, n_texts), np.repeat([0, 1], n_texts)


@pytest.fixture(scope="module")
def tasks():
    pairs = list(itertools.combinations(NOUNS[:4], 2))[:5]
    return {" or ".join(pair): task_of(*pair) for pair in pairs}


@pytest.fixture(scope="module")
def task(tasks):
    return dict(list(tasks.items())[:1])


@pytest.fixture(scope="module")
def extractor(tiny_model):
    return TransformerFeatureExtractor(tiny_model, layers=[1], device="cpu")


@pytest.fixture(scope="module")
def corpus():
    rng = np.random.default_rng(0)
    return [text for noun in NOUNS for text in sentences(rng, noun, 10)]


@pytest.fixture(scope="module")
def dictionary(extractor, corpus):
    return SparseDictionary(24, n_nonzero_coefs=4, random_state=0).fit(extractor.extract(corpus).X)


@pytest.fixture(scope="module")
def table(extractor, dictionary, corpus, tasks):
    return sparse_probing(extractor, dictionary, corpus, tasks, k=[1, 3], n_resamples=50)


def values(table, measure):
    return table[table["measure"] == measure].set_index("scored")["value"]


def auc_by_hand(features, labels, n_train, k):
    """Choose features one after the other, and fit a regression for every penalty from the beginning."""
    train, is_second = features[:n_train], labels[:n_train] == 1
    differences = []
    for values in train.T:
        active = np.abs(values[values != 0])
        scale = active.mean() if len(active) else 1
        differences.append(abs(values[is_second].mean() - values[~is_second].mean()) / scale)
        features[:, len(differences) - 1] /= scale
    best = sorted(range(len(differences)), key=lambda factor: -differences[factor])[:k]
    folds = StratifiedKFold(3, shuffle=True, random_state=0)
    probes = [LogisticRegression(C=10.0**power, max_iter=1000) for power in range(-5, 6)]
    scores = [cross_val_score(probe, train[:, best], is_second, cv=folds, scoring="roc_auc").mean() for probe in probes]
    probe = probes[int(np.argmax(scores))].fit(train[:, best], is_second)
    return roc_auc_score(labels[n_train:], probe.decision_function(features[n_train:, best]))


@pytest.mark.parametrize("pooling", ["mean", "max"])
def test_features_are_those_of_a_slow_direct_version(extractor, dictionary, corpus, task, pooling):
    pool = {"mean": np.mean, "max": np.max}[pooling]
    mean = extractor.extract(corpus).X.mean(axis=0)
    (checked,) = check_tasks(task, 1024, None, 0).values()
    probing = Probing(None, None, pooling, (1,), 0)
    coders = {"dictionary": dictionary.transform} | probing.controls(extractor, dictionary, corpus, [])
    found = probing.features(extractor, coders, checked.texts)
    rows = [extractor.extract([text]).X for text in checked.texts]
    factors = np.array([pool(dictionary.transform(of_text).toarray(), axis=0) for of_text in rows])
    signed = [np.hstack([of_text - mean, mean - of_text]) for of_text in rows]
    raw = np.array([pool(of_text, axis=0) for of_text in signed])
    np.testing.assert_allclose(found["dictionary"], factors, atol=1e-4)
    raw = raw if pooling == "max" else raw[:, : len(mean)]
    np.testing.assert_allclose(found["raw hidden dimensions"], raw, atol=1e-4)


def test_aucs_are_those_of_a_slow_direct_version():
    rng = np.random.default_rng(0)
    labels = np.repeat([0, 1], 60)
    features = rng.exponential(size=(120, 12)) * (rng.random((120, 12)) < 0.5) + labels[:, None] * rng.random(12)
    order = rng.permutation(120)
    task = Task([""] * 120, labels[order] == 1, 80)
    scored = {"dictionary": features[order], "raw hidden dimensions": rng.standard_normal((120, 8))}
    scores = Probing(None, None, "mean", (1, 3), 0).scores(scored, task)
    for name, of in scored.items():
        for k in (1, 3):
            expected = auc_by_hand(of.copy(), task.is_second.astype(int), task.n_train, k)
            assert scores[k, name] == pytest.approx(expected, abs=1e-9)


def test_a_factor_that_is_the_class_is_found(extractor, corpus, tasks):
    texts, labels = tasks["bank or river"]
    acts = extractor.extract(texts)
    words = np.array([texts[row.document][row.start : row.end] for row in acts.provenance.itertuples()])
    planted = PCA(24, random_state=0).fit(acts.X)
    planted.components_ = np.random.default_rng(0).standard_normal(planted.components_.shape)
    planted.components_[7] = LogisticRegression(C=100, max_iter=5000).fit(acts.X, words == "river").coef_[0]
    with pytest.warns(UserWarning, match="1 tasks give no interval: 5 are needed"):
        found = sparse_probing(extractor, planted, corpus, {"it": (texts, labels)}, controls=[], k=[1], pooling="max")
    assert values(found, "auc_1")["dictionary"] > 0.95
    assert np.isnan(found["low"]).all()


def test_labels_that_mean_nothing_are_not_told(extractor, dictionary, corpus):
    rng = np.random.default_rng(0)
    tasks = {str(number): (sentences(rng, "park", 100), np.repeat(["a", "b"], 50)) for number in range(5)}
    found = sparse_probing(extractor, dictionary, corpus, tasks, k=[3], controls=[], n_resamples=50)
    assert values(found, "auc_3").between(0.35, 0.65).all()


@pytest.mark.filterwarnings("ignore:.*give no interval")
def test_more_factors_than_there_are_is_all_of_them(extractor, dictionary, corpus, task):
    found = sparse_probing(extractor, dictionary, corpus, task, k=[24, 1000], controls=[], n_resamples=2)
    assert values(found, "auc_24")["dictionary"] == values(found, "auc_1000")["dictionary"]


def test_texts_of_a_task_are_bounded_and_never_both_learned_from_and_scored_on(tasks):
    (name, (texts, labels)) = next(iter(tasks.items()))
    task = check_tasks({name: (texts, labels)}, 20, 10, 0)[name]
    assert (task.n_train, len(task.texts)) == (20, 30)
    assert len(set(task.texts)) == len(set(task.texts[:20])) + len(set(task.texts[20:]))
    assert task.is_second[:20].sum() == 10
    assert check_tasks({name: (texts, labels)}, 1024, None, 0)[name].n_train == 64


@pytest.mark.parametrize(
    ("labels", "said"),
    [
        ([0] * 40, r"The task 'it' has 1 classes, not two: \[0\]"),
        ([0, 1, 2, 3] * 10, r"has 4 classes, not two: \[0, 1, 2, 3\]"),
        (["a"] * 35 + ["b"] * 5, "has 5 texts of the class 'b': 10 of each class are needed"),
        ([0, 1] * 10, "has 40 texts and 20 labels"),
    ],
)
def test_a_task_that_cannot_be_scored_is_refused_before_the_model_runs(labels, said):
    with pytest.raises(ValueError, match=said):
        sparse_probing(None, None, ["a text"], {"it": (["a text"] * 40, labels)})


def test_a_class_that_is_too_rare_for_so_few_texts_is_said():
    tasks = {"it": (["a text"] * 400, [0] * 370 + [1] * 30)}
    with pytest.raises(ValueError, match="1 texts of its rarer class among the 10 of n_train: 3 are needed. Make n_"):
        sparse_probing(None, None, ["a text"], tasks, n_train=10)


def test_no_task_is_said():
    with pytest.raises(ValueError, match="There is no task"):
        sparse_probing(None, None, ["a text"], {})


def test_an_unknown_pooling_is_refused(extractor, dictionary, corpus, tasks):
    with pytest.raises(ValueError, match="pooling='median' must be 'mean' or 'max'"):
        sparse_probing(extractor, dictionary, corpus, tasks, pooling="median")


@pytest.mark.filterwarnings("ignore:.*give no interval")
def test_evaluate_asks_it_too(extractor, dictionary, corpus, task):
    report = evaluate(extractor, dictionary, corpus, "sparse_probing", tasks=task, controls=[], n_resamples=2)
    assert {f"auc_{k}" for k in (1, 2, 5, 16)} == set(report.table["measure"])


def test_a_dry_run_counts_the_texts_of_tasks(corpus, tasks):
    cost = evaluate(None, None, corpus, ["core", "sparse_probing"], tasks=tasks, dry_run=True)
    assert cost["n_texts"].tolist() == [len(corpus), len(corpus) + 5 * 80]
    assert cost["n_passes"].tolist() == [1, 1]


@pytest.fixture(scope="module")
def of_articles():
    """An extractor of the demo model, a dictionary, its corpus, and tasks to tell paragraphs of two articles apart."""
    articles = load_wikipedia(12)
    extractor = TransformerFeatureExtractor(demo_model(), layers=[3])
    corpus = [article[:600] for article in articles[6:]]
    dictionary = SparseDictionary(64, n_nonzero_coefs=6, random_state=0).fit(extractor.extract(corpus).X)
    parts = [[article[start : start + 80] for start in range(0, 1600, 80)] for article in articles[:6]]
    pairs = [(number, (number + 1) % 6) for number in range(6)]
    tasks = {f"{one} {other}": (parts[one] + parts[other], np.repeat([0, 1], 20)) for one, other in pairs}
    return extractor, dictionary, corpus, tasks


@pytest.fixture(scope="module")
def with_random_factors(of_articles):
    """The table of random factors in place of the dictionary."""
    extractor, dictionary, corpus, tasks = of_articles
    control = random_control(dictionary, extractor.extract(corpus).X, random_state=1)
    return sparse_probing(extractor, control, corpus, tasks, k=[2], n_resamples=200)


def test_random_factors_in_place_of_the_dictionary_score_as_the_control_on_a_real_model(with_random_factors):
    scored = with_random_factors.set_index(["measure", "scored"])
    assert "random factors" in scored.loc[("auc_2", "dictionary"), "inside"]
    of_control = scored.loc[("auc_2", "random factors")]
    assert of_control.difference_low < 0 < of_control.difference_high


def test_the_whole_hidden_state_tells_articles_apart_better_than_a_few_numbers_on_a_real_model(with_random_factors):
    aucs = values(with_random_factors, "auc_2")
    assert aucs.idxmax() in ("the whole hidden state", "difference of class means")


@pytest.mark.filterwarnings("ignore:.*give no interval")
def test_texts_and_labels_go_by_their_place_however_they_are_indexed(extractor, dictionary, corpus, task):
    ((name, (texts, labels)),) = task.items()
    frame = pd.DataFrame({"text": texts, "label": labels}).sample(frac=1, random_state=0).drop(index=[3, 50])
    settings = {"k": [2], "n_resamples": 5}
    tables = [
        sparse_probing(extractor, dictionary, corpus, {name: of}, **settings)
        for of in ((frame["text"].tolist(), frame["label"].tolist()), (frame["text"], frame["label"]))
    ]
    tables.append(
        sparse_probing(extractor, dictionary, corpus, {name: (iter(frame["text"]), iter(frame["label"]))}, **settings)
    )
    pd.testing.assert_frame_equal(tables[0], tables[1])
    pd.testing.assert_frame_equal(tables[0], tables[2])


@pytest.mark.parametrize(
    ("labels", "said"),
    [
        ([1, "1"] * 20, "of different types, such as 1 and '1', are written alike"),
        ([[0, 1]] * 40, "The label of text 0 is \\[0, 1\\]: each text is of one class"),
        ([0, 1, pd.NA, 1] * 10, "The label of text 2 is <NA>: leave out texts without a class"),
    ],
)
def test_labels_that_are_none_of_classes_are_refused(extractor, dictionary, corpus, task, labels, said):
    ((texts, _),) = task.values()
    with pytest.raises(ValueError, match=said):
        sparse_probing(extractor, dictionary, corpus, {"a": (texts[:40], labels)})
