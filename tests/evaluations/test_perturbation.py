import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import balanced_accuracy_score
from support.planted_states import Encoder, Extractor

from skfactors import SparseDictionary, TransformerFeatureExtractor
from skfactors.datasets import demo_model
from skfactors.evaluations import random_control, targeted_perturbation
from skfactors.evaluations.probes import halved

SUBJECTS = ("sea", "law", "art", "war")
WIDTH, N_TEXTS = 12, 20


def state_of(word):
    """The subject and some noise; a word of no subject has the noise."""
    state = np.zeros(WIDTH)
    if word[:3] in SUBJECTS:
        state[SUBJECTS.index(word[:3])] = 2
    return state + 0.3 * np.random.default_rng([ord(letter) for letter in word]).standard_normal(WIDTH)


LABELS = np.repeat(SUBJECTS, N_TEXTS)
TEXTS = [f"{label}{number} x{number} y{number}{label}" for number, label in enumerate(LABELS)]


@pytest.fixture(scope="module")
def extractor():
    return Extractor(state_of)


def table_of(extractor, dictionary, texts=TEXTS, labels=LABELS, **others):
    return targeted_perturbation(
        extractor, dictionary, texts, labels, **{"n_resamples": 100, "n_ablated": [1]} | others
    )


def figure(table, measure, scored="dictionary"):
    return table.set_index(["measure", "scored"]).loc[(measure, scored)]


def by_hand(extractor, dictionary, n_ablated):
    """The drop of each class's balanced accuracy when its factors are taken out, less the mean drop of the others."""
    tested = halved(LABELS, 0)
    states = [extractor.extract([text]).X.astype(float) for text in TEXTS]
    X = np.array([rows.mean(axis=0) for rows in states])
    codes = np.array([dictionary.transform(rows).mean(axis=0) for rows in states])
    mean = X[~tested].mean(axis=0)
    scale = np.mean(np.sum((X[~tested] - mean) ** 2, axis=1)) ** 0.5
    probes, factors = {}, {}
    for label in sorted(SUBJECTS):
        inside = LABELS == label
        probe = LogisticRegression(C=10, class_weight="balanced", max_iter=1000)
        probes[label] = probe.fit((X[~tested] - mean) / scale, inside[~tested])
        differences = codes[~tested & inside].mean(axis=0) - codes[~tested & ~inside].mean(axis=0)
        effects = [d @ probe.coef_[0] * f for d, f in zip(dictionary.components_, differences, strict=True)]
        factors[label] = np.argsort(effects)[::-1][:n_ablated]

    def accuracy(label, without):
        means = []
        for rows in states:
            changed = rows.copy()
            for factor in without:
                changed -= np.outer(dictionary.transform(rows)[:, factor], dictionary.components_[factor])
            means.append(changed.mean(axis=0))
        said = probes[label].predict((np.array(means)[tested] - mean) / scale)
        return balanced_accuracy_score(LABELS[tested] == label, said)

    drops = [[accuracy(one, []) - accuracy(one, factors[label]) for one in SUBJECTS] for label in SUBJECTS]
    others = [np.mean(np.delete(row, number)) for number, row in enumerate(drops)]
    return np.mean(np.diag(drops) - others), np.mean([accuracy(label, []) for label in SUBJECTS])


@pytest.mark.parametrize("n_ablated", [1, 3])
def test_figures_are_those_of_a_slow_direct_version(extractor, n_ablated):
    random = np.random.default_rng(0)
    dictionary = Encoder(*random.standard_normal((2, 9, WIDTH)))
    table = table_of(extractor, dictionary, n_ablated=[n_ablated])
    targeted, accuracy = by_hand(extractor, dictionary, n_ablated)
    assert figure(table, f"targeted_{n_ablated}").value == pytest.approx(targeted)
    assert figure(table, "accuracy", "hidden states").value == pytest.approx(accuracy)
    assert targeted != 0


def test_a_factor_for_each_class_is_as_targeted_as_can_be(extractor):
    table = table_of(extractor, Encoder(np.eye(WIDTH), np.eye(WIDTH)), controls=[])
    assert figure(table, "targeted_1").value > 0.4
    assert figure(table, "targeted_1").low > 0.3


def test_one_factor_for_all_classes_is_not_targeted(extractor):
    common = np.ones((1, WIDTH)) * (np.arange(WIDTH) < 4)
    table = table_of(extractor, Encoder(common, common), controls=[])
    assert abs(figure(table, "targeted_1").value) < 0.1


def test_random_factors_in_place_of_the_dictionary_score_as_the_control(extractor):
    control = random_control(Encoder(np.eye(WIDTH), np.eye(WIDTH)), extractor.extract(TEXTS).X, random_state=1)
    assert "random factors" in figure(table_of(extractor, control), "targeted_1").inside


def test_the_difference_of_class_means_is_there_for_comparison(extractor):
    table = table_of(extractor, Encoder(np.eye(WIDTH), np.eye(WIDTH)), controls=[])
    assert figure(table, "targeted_1", "difference of class means").value > 0.3


def test_where_probes_fail_the_table_says_that_figures_mean_nothing(extractor):
    shuffled = np.random.default_rng(0).permutation(LABELS)
    table = table_of(extractor, Encoder(np.eye(WIDTH), np.eye(WIDTH)), labels=shuffled)
    assert np.isnan(figure(table, "targeted_1").value)
    assert figure(table, "targeted_1").note == "means nothing: probes fail on the hidden states themselves"


def test_texts_without_tokens_are_no_units(extractor):
    dictionary = Encoder(np.eye(WIDTH), np.eye(WIDTH))
    table = table_of(extractor, dictionary, ["", *TEXTS], ["sea", *LABELS])
    assert table.equals(table_of(extractor, dictionary))


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ([None, *LABELS[1:]], "The label of text 0 is None: leave out texts without a class"),
        ([*LABELS[:-1], float("nan")], "The label of text 79 is nan: leave out texts without a class"),
        (LABELS[:-1], "There are 79 labels of 80 texts: each text needs one"),
        (np.where(LABELS == "sea", "sea", "land"), "There are 2 classes.*3 classes of 4 texts are needed"),
        (["rare"] * 3 + list(LABELS[3:]), "There are 5 classes, and the smallest has 3 texts.*3 classes of 4 texts"),
    ],
)
def test_too_few_labels_are_refused_with_the_number_that_is_needed(extractor, labels, message):
    with pytest.raises(ValueError, match=message):
        table_of(extractor, Encoder(np.eye(WIDTH), np.eye(WIDTH)), labels=labels)


def test_subjects_in_the_demo_model_are_taken_out_better_by_learned_factors_than_by_random_ones():
    things = {
        "sport": "match goal team race".split(),
        "money": "bank loan share price".split(),
        "food": "bread soup rice cheese".split(),
    }
    sentences = ("The {} was good.", "We saw the {}.", "No {} this year?", "That {} is theirs.", "About a {}.")
    texts = [sentence.format(thing) for of in things.values() for thing in of for sentence in sentences]
    labels = np.repeat(list(things), 20)
    extractor = TransformerFeatureExtractor(demo_model(), layers=[3])
    dictionary = SparseDictionary(64, n_nonzero_coefs=4, random_state=0).fit(extractor.extract(texts).X)
    table = targeted_perturbation(extractor, dictionary, texts, labels, n_ablated=[8], n_resamples=200)
    assert figure(table, "targeted_8").low > figure(table, "targeted_8", "random factors").value


def test_an_accuracy_of_classes_of_any_size_is_at_most_1():
    plain = Extractor(lambda word: np.rint(state_of(word) / 2))
    sizes = zip(SUBJECTS, (20, 10, 10, 12), strict=True)
    chosen = np.concatenate([np.flatnonzero(LABELS == label)[:size] for label, size in sizes])
    texts, dictionary = [TEXTS[number] for number in chosen], Encoder(np.eye(WIDTH), np.eye(WIDTH))
    accuracy = figure(table_of(plain, dictionary, texts, LABELS[chosen]), "accuracy", "hidden states")
    assert accuracy[["value", "low", "high"]].tolist() == pytest.approx([1, 1, 1])
