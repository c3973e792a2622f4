import io

import numpy as np
import pytest
from rich.cells import cell_len
from rich.console import Console
from sklearn.decomposition import PCA
from sklearn.exceptions import NotFittedError

from skfactors import FactorReport, SparseDictionary, TransformerFeatureExtractor
from skfactors.datasets import demo_model

SENTENCE = "She left <b>[red]the[/red]</b> park & \u05e9\u05dc\u05d5\u05dd."


@pytest.fixture(scope="module")
def report(tiny_model, texts):
    extractor = TransformerFeatureExtractor(tiny_model)
    texts = [text for text in texts if text]
    dictionary = SparseDictionary(8, alpha=0.3, random_state=0).fit(extractor.extract(texts))
    return FactorReport.from_texts(extractor, dictionary, texts)


@pytest.fixture(scope="module")
def sources(report):
    return report._sources["extractor"], report._sources["dictionary"]


def test_the_frame_has_the_codes_of_every_hidden_state(report, sources):
    extractor, dictionary = sources
    explanation = report.explain(SENTENCE)
    acts = extractor.extract([SENTENCE])
    codes = dictionary.transform(acts.X).toarray()
    frame = explanation.frame.set_index(["position", "layer", "factor"])
    assert len(frame) == (codes != 0).sum()
    for row, where in enumerate(acts.provenance.itertuples()):
        for factor in np.flatnonzero(codes[row]):
            found = frame.loc[(where.position, where.layer, factor)]
            assert found["activation"] == pytest.approx(codes[row, factor], rel=1e-5)
            assert found["token"] == SENTENCE[where.start : where.end]
            assert found["top_tokens"] == report.summary()["top_tokens"][factor]


def test_what_is_unexplained_is_the_residuals_share_of_the_squared_length(report, sources):
    extractor, dictionary = sources
    explanation = report.explain(SENTENCE)
    acts = extractor.extract([SENTENCE])
    reconstructed = dictionary.inverse_transform(dictionary.transform(acts.X))
    states = explanation.states.set_index(["position", "layer"])
    assert len(states) == len(acts)
    for row, where in enumerate(acts.provenance.itertuples()):
        left = np.sum((acts.X[row] - reconstructed[row]) ** 2) / np.sum(acts.X[row] ** 2)
        assert states.loc[(where.position, where.layer), "unexplained"] == pytest.approx(left, rel=1e-4)


def test_a_minus_stands_before_a_factor_whose_code_is_negative(tiny_model, texts):
    extractor = TransformerFeatureExtractor(tiny_model, layers=[1])
    texts = [text for text in texts if text]
    dictionary = SparseDictionary(4, alpha=0.3, positive_code=False, random_state=0).fit(extractor.extract(texts))
    explanation = FactorReport.from_texts(extractor, dictionary, texts).explain(texts[0])
    printed = io.StringIO()
    explanation.show(n=4, console=Console(file=printed, width=200))
    negative = {f"−{factor} " for factor in explanation.frame.query("activation < 0")["factor"]}
    assert negative and all(name in printed.getvalue() for name in negative)
    strongest = explanation.frame.iloc[explanation.frame["activation"].argmin()]
    assert f">−{strongest['factor']} <em>" in explanation._repr_html_()
    assert printed.getvalue().count("−") == (explanation.frame["activation"] < 0).sum()


def test_states_of_several_sites_are_refused_as_a_report_refuses_them(report, sources, tiny_model):
    extractor = TransformerFeatureExtractor(tiny_model, layers=[1], site=["mlp_output", "block_output"])
    with pytest.raises(ValueError, match="of the sites 'mlp_output', 'block_output'"):
        report.explain(SENTENCE, extractor=extractor)


def test_shares_and_what_is_unexplained_sum_to_one(report):
    explanation = report.explain(SENTENCE)
    shares = explanation.frame.groupby(["position", "layer"])["share"].sum()
    unexplained = explanation.states.set_index(["position", "layer"])["unexplained"]
    np.testing.assert_allclose(shares.reindex(unexplained.index, fill_value=0) + unexplained, 1, atol=1e-9)


def printed(explanation, width, **how):
    file = io.StringIO()
    explanation.show(console=Console(file=file, width=width), **how)
    return file.getvalue()


def test_a_terminal_shows_a_line_for_each_token_with_its_strongest_factors_in_any_layer(report):
    explanation = report.explain(SENTENCE)
    output = printed(explanation, 100)
    lines = output.splitlines()
    assert len(lines) == 2 + explanation.states["position"].nunique()
    assert max(map(cell_len, lines)) <= 100
    first = explanation.frame[explanation.frame["position"] == 0]
    by_factor = first.loc[first.groupby("factor")["activation"].idxmax()].sort_values("activation", ascending=False)
    shown = [f"{row.factor} {row.top_tokens.split(', ')[0]} {row.layer}" for row in by_factor.head(3).itertuples()]
    places = [lines[2].index(factor) for factor in shown]
    assert places == sorted(places)
    left = explanation.states.groupby("position")["unexplained"].mean()
    assert [line.split()[-1] for line in lines[2:]] == [f"{share:.0%}" for share in left]


def test_the_details_are_every_layer_with_its_strongest_factors(report):
    explanation = report.explain(SENTENCE)
    output = printed(explanation, 100, n=1, details=True)
    for layer in (0, 1, 2):
        assert f"layer {layer}" in output
    assert max(map(cell_len, output.splitlines())) <= 100
    assert output.count("% left") == len(explanation.states)
    strongest = explanation.frame.iloc[0]
    assert f"{strongest['factor']} {strongest['activation']:.3g}" in output
    assert "[" in output


def test_layers_that_do_not_fit_side_by_side_go_below_each_other(report):
    output = printed(report.explain("one park"), 50, details=True)
    assert len([line for line in output.splitlines() if "layer" in line]) == 3
    assert max(map(cell_len, output.splitlines())) <= 50


def test_a_notebook_gets_escaped_html(report):
    page = report.explain("<script>alert('x')</script> \x1b & \ud800 left")._repr_html_()
    assert "<script" not in page
    assert "&lt;" in page
    assert "&amp;" in page
    assert not set(page) & set("\x1b\ud800")
    n_tokens = report.explain("<script>alert('x')</script> \x1b & \ud800 left").states["position"].nunique()
    # A line a token, and the details.
    assert page.count("<tr>") == 2 * (1 + n_tokens)


def test_the_repr_is_a_line(report):
    text = repr(report.explain("One."))
    assert text.startswith("Explanation(2 tokens, layers 0, 1, 2; ")
    assert text.endswith("% unexplained; show() prints it, frame and states have the figures)")


def test_a_text_longer_than_a_window_is_explained_whole(report):
    text = "She left the park by the left gate. " * 30
    explanation = report.explain(text)
    assert explanation.states["position"].nunique() == 30 * 9


@pytest.mark.parametrize(
    ("text", "error", "message"),
    [
        (5, TypeError, "type int"),
        (["a"], TypeError, "type list"),
        ("", ValueError, "empty"),
        (" \n", ValueError, "empty"),
    ],
)
def test_what_is_no_text_is_refused(report, text, error, message):
    with pytest.raises(error, match=message):
        report.explain(text)


def test_a_loaded_report_asks_for_extractor_and_dictionary(report, sources, tmp_path):
    report.save(tmp_path)
    loaded = FactorReport.load(tmp_path)
    with pytest.raises(ValueError, match="Pass extractor=, dictionary="):
        loaded.explain("One.")
    extractor, dictionary = sources
    explanation = loaded.explain("One.", extractor=extractor, dictionary=dictionary)
    assert explanation.frame.equals(report.explain("One.").frame)


def test_another_dictionary_is_refused(report, sources):
    other = SparseDictionary(5, random_state=0).fit(sources[0].extract(["She left the park by the gate."]))
    with pytest.raises(ValueError, match="5 factors, and the report is on 8"):
        report.explain("One.", dictionary=other)
    with pytest.raises(NotFittedError):
        report.explain("One.", dictionary=SparseDictionary())


def test_the_demo_model_is_explained_better_than_not_at_all(demo_activations):
    extractor = TransformerFeatureExtractor(demo_model(), layers=[1, 3, 6])
    dictionary = SparseDictionary(40, alpha=1.5, random_state=0).fit(demo_activations)
    report = FactorReport.from_texts(extractor, dictionary, ["The bank of the river was muddy."])
    explanation = report.explain("She left the park by the left gate.")
    assert explanation.states["layer"].unique().tolist() == [1, 3, 6]
    assert explanation.states["unexplained"].between(0, 1).all()
    assert explanation.states["unexplained"].mean() < 0.9


def test_another_dictionary_of_as_many_factors_is_refused(tiny_models):
    texts = ["the bank of the river", "shares of the bank fell", "she left the park"]
    extractor = TransformerFeatureExtractor(tiny_models["bert"], layers=[1], device="cpu")
    X = extractor.extract(texts).X
    own, other = (SparseDictionary(4, alpha=0.5, random_state=seed).fit(X) for seed in (0, 1))
    report = FactorReport.from_texts(extractor, own, texts)
    report.explain(texts[0], extractor=extractor, dictionary=own)
    with pytest.raises(ValueError, match="another dictionary than the report is on"):
        report.explain(texts[0], extractor=extractor, dictionary=other)
    with pytest.raises(ValueError, match="another dictionary than the report is on"):
        report.add_saliency(extractor, other, texts=texts)


def test_an_estimator_of_another_library_that_takes_no_sparse_codes_is_explained(tiny_models):
    texts = ["the bank of the river", "shares of the bank fell", "she left the park"]
    extractor = TransformerFeatureExtractor(tiny_models["bert"], layers=[1], device="cpu")
    report = FactorReport.from_texts(extractor, PCA(4).fit(extractor.extract(texts).X), texts)
    assert len(report.explain(texts[0]).states) > 0
