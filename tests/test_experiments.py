import re
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.metrics import f1_score

EXPERIMENTS = Path(__file__).parent.parent / "examples" / "experiments"
SENTENCES = (
    "In the year of {a} the king of {b} gave bread, water, salt and wine to the people of the city.",
    'He said "the {a} of the river is a {b}" and left the park by the left gate of the city.',
    "The war of 19{n} ({n} km) went on from Paris, France to the north, and she left for the war in 1914.",
    "Music and language are {a}, and the {b} of science is the study of the state of the world.",
)


@pytest.fixture(autouse=True)
def experiments_on_path(monkeypatch):
    monkeypatch.syspath_prepend(str(EXPERIMENTS))


@pytest.fixture
def texts_file(tmp_path):
    """Sixteen documents of some 500 characters."""
    words = ["bank", "river", "park", "report", "gate", "others", "mud", "share"]
    rng = np.random.default_rng(0)
    lines = [
        " ".join(
            SENTENCES[number % 4].format(a=rng.choice(words), b=rng.choice(words), n=rng.integers(10, 99))
            for number in range(first, first + 6)
        )
        for first in range(16)
    ]
    path = tmp_path / "texts.txt"
    path.write_text("\n".join(lines), encoding="utf-8")
    return path


@pytest.fixture
def run(monkeypatch, capsys, tmp_path, texts_file, tiny_model):
    """Run an experiment on a tiny model and return what it prints."""

    def run(name, *extra, model=tiny_model):
        module = __import__(name)
        settings = ["--n-rows", "1500", "--out", str(tmp_path / "out")]
        if name != "word_senses":
            settings += ["--n-components", "24"]
        arguments = [name, "--model", str(model), "--texts", str(texts_file), *settings, *extra]
        monkeypatch.setattr(sys, "argv", arguments)
        module.main()
        return capsys.readouterr().out

    return run


def as_table(printed, heading):
    """Read a printed table whose first column has that heading."""
    lines = [line.strip() for line in printed.splitlines()]
    first = next(number for number, line in enumerate(lines) if re.match(rf"\| {heading} +\|", line))
    rows = []
    for line in lines[first:]:
        if not line.startswith("|"):
            break
        rows.append([cell.strip() for cell in line.strip("|").split("|")])
    return pd.DataFrame(rows[2:], columns=rows[0])


def test_the_halves_share_no_document_and_lose_none(texts_file):
    from common import make_parser, read_halves

    first, second = read_halves(make_parser("").parse_args(["--texts", str(texts_file)]))
    assert sorted([*first, *second]) == sorted(texts_file.read_text(encoding="utf-8").splitlines())
    assert len(first) == len(second) == 8


def test_a_kept_dictionary_is_loaded_by_the_same_settings_and_learned_anew_by_others(tmp_path, texts_file, tiny_model):
    from common import kept_dictionary, make_extractor, make_parser, read_halves

    settings = ["--model", tiny_model, "--n-components", "8", "--n-rows", "300", "--out", str(tmp_path / "out")]
    arguments = make_parser("").parse_args([*settings, "--texts", str(texts_file)])
    extractor, (first, second) = make_extractor(arguments), read_halves(arguments)
    learned = kept_dictionary(arguments, extractor, first)
    calls = []

    def sample(*_):
        calls.append(1)
        return np.random.default_rng(0).random((100, 32), dtype=np.float32), np.ones(100)

    again = kept_dictionary(arguments, extractor, first, sample=sample)
    np.testing.assert_array_equal(again.components_, learned.components_)
    assert not calls
    kept_dictionary(arguments, extractor, second, sample=sample)
    kept_dictionary(arguments, extractor, first, penalty=0.5, sample=sample)
    assert len(calls) == 2


def test_a_random_dictionary_is_as_sparse_as_the_one_it_stands_in_for():
    from common import random_dictionary

    from skfactors import SparseDictionary
    from skfactors.metrics import l0

    X = np.random.default_rng(0).standard_normal((600, 16)).astype(np.float32)
    dictionary = SparseDictionary(32, alpha=0.5, random_state=0).fit(X)
    before = dictionary.components_.copy()
    random = random_dictionary(dictionary, X)
    assert l0(random.transform(X)) == pytest.approx(l0(dictionary.transform(X)), rel=0.05)
    assert random.components_.shape == dictionary.components_.shape
    assert np.abs(random.components_ @ dictionary.components_.T).max() < 0.95
    np.testing.assert_array_equal(dictionary.components_, before)
    assert dictionary.alpha == 0.5


@pytest.mark.parametrize(
    ("pattern", "text", "matched"),
    [
        ("year–year", "He reigned (1702–1714) long.", "1702–1714"),
        ("year–year", "It lasted from 1914 to 1918 there.", "from 1914 to 1918"),
        ("unit in parentheses", "It is 300 metres (984 ft) tall.", "(984 ft)"),
        ("unit in parentheses", "An area of 5 acres (about 2.0 ha) lay bare.", "(about 2.0 ha)"),
        ("City, State", "She moved to Salem, Oregon in May.", "Salem, Oregon"),
        ("City, State", "A square in Lyon, France.", "Lyon, France"),
        ("enumeration", "They sell apples, pears, plums and figs here.", "apples, pears, plums and figs"),
        ("quotation", 'He said "the end is near" twice.', '"the end is near"'),
        ("repeated structure", "a house of stone and of wood", "of stone and of wood"),
    ],
)
def test_a_recogniser_finds_its_pattern(pattern, text, matched):
    from patterns_by_layer import PATTERNS

    assert matched in PATTERNS[pattern].search(text)[0]


@pytest.mark.parametrize(
    ("pattern", "text"),
    [
        ("year–year", "In 1914 there were 300-400 men."),
        ("unit in parentheses", "The tower (the tall one of 1889) is 300 metres tall."),
        ("City, State", "In Oregon, she met Salem."),
        ("enumeration", "He ate an apple, and then he left."),
        ("quotation", "He said that the end is near."),
        ("repeated structure", "a house of stone and wood"),
    ],
)
def test_a_recogniser_leaves_other_texts_alone(pattern, text):
    from patterns_by_layer import PATTERNS

    assert PATTERNS[pattern].search(text) is None


def test_tokens_match_where_they_lie_in_a_match_of_their_own_document():
    from patterns_by_layer import tokens_that_match

    texts = ["a bc d", "bc"]
    places = pd.DataFrame({"document": [0, 0, 0, 1], "start": [0, 2, 5, 0], "end": [1, 4, 6, 2]})
    assert tokens_that_match(re.compile("bc d"), places, texts).tolist() == [False, True, True, False]


def test_the_share_of_the_top_counts_missing_activations_as_no_match():
    from patterns_by_layer import share_of_top
    from scipy.sparse import csr_array

    codes = csr_array(np.array([[3.0, 0.0], [2.0, 1.0], [1.0, 0.0], [4.0, 0.0]]))
    matches = np.array([[True], [True], [True], [False]])
    # The first factor's two strongest tokens are the last, which does not match, and the first, which does.
    np.testing.assert_allclose(share_of_top(codes, matches, top=2), [[0.5], [0.5]])


def test_ambiguous_forms_have_enough_examples_of_a_second_part_of_speech():
    from word_senses import ambiguous_forms

    examples = pd.DataFrame(
        {"form": ["cut"] * 5 + ["dog"] * 5 + ["run"] * 6, "pos": [*"vvnnn", *"nnnnv", *"vvvnra"]},
    )
    assert ambiguous_forms(examples, least=2) == ["cut"]


def test_senses_are_told_apart_within_a_part_of_speech():
    from word_senses import ambiguous_forms, as_sense_task

    examples = pd.DataFrame(
        {
            "form": ["cut"] * 4 + ["run"] * 4,
            "pos": [*"vvvv", *"nnvv"],
            "synset": ["cut.v.01", "cut.v.01", "cut.v.02", "cut.v.02", "run.n.01", "run.n.01", "run.v.01", "run.v.01"],
        }
    )
    assert ambiguous_forms(examples, least=2) == ["run"]
    assert ambiguous_forms(as_sense_task(examples), least=2) == ["cut (v)"]


def test_the_best_feature_is_chosen_and_cut_on_training_rows_only():
    from word_senses import predict_by_best_feature

    labels = np.array([True, True, False, False])
    features = np.array([[0.0, 5.0], [0.1, 5.1], [0.0, 1.0], [0.1, 0.9]])
    new = np.array([[9.0, 4.0], [-9.0, 2.0]])
    predicted, best = predict_by_best_feature(features, labels, new)
    assert best == 1
    assert predicted.tolist() == [True, False]


def test_labels_that_no_feature_knows_are_not_predicted_better_than_by_chance():
    # With a thousand features, a choice that saw the rows it is scored on would do far better.
    from word_senses import cross_validated, predict_by_best_feature

    rng = np.random.default_rng(0)
    scores = []
    for _ in range(20):
        features, labels = rng.standard_normal((16, 1000)), rng.permutation([True] * 8 + [False] * 8)
        scores.append(cross_validated(features, labels, predict_by_best_feature)[0][2])
    assert np.mean(scores) < 0.6


def test_cross_validated_f1_is_that_of_scikit_learn():
    from sklearn.model_selection import StratifiedKFold
    from word_senses import N_FOLDS, cross_validated, predict_by_best_feature

    rng = np.random.default_rng(1)
    labels = rng.random(20) < 0.5
    features = rng.standard_normal((20, 5)) + labels[:, None]
    expected = []
    for repeat in range(2):
        predicted = np.zeros(20, dtype=bool)
        for train, test in StratifiedKFold(N_FOLDS, shuffle=True, random_state=repeat).split(features, labels):
            predicted[test], _ = predict_by_best_feature(features[train], labels[train], features[test])
        expected.append(f1_score(labels, predicted, average="macro"))
    (_, _, f1), chosen = cross_validated(features, labels, predict_by_best_feature)
    assert f1 == pytest.approx(np.mean(expected))
    assert len(chosen) == 2 * N_FOLDS


def test_the_interval_of_a_mean_holds_it_and_narrows_with_more_forms():
    from word_senses import interval

    values = np.random.default_rng(0).random(400)
    few, many = interval(values[:40]), interval(values)
    assert few[0] < values[:40].mean() < few[1]
    assert np.ptp(many) < np.ptp(few)


def test_the_states_of_a_word_are_those_of_the_token_at_its_place(tiny_model):
    from word_senses import states_of_words

    from skfactors import TransformerFeatureExtractor

    texts = ["She left the park.", "by the left gate"]
    examples = pd.DataFrame({"text": texts, "start": [4, 7]})
    layers, states = states_of_words(TransformerFeatureExtractor(tiny_model), examples)
    for number, text in enumerate(texts):
        acts = TransformerFeatureExtractor(tiny_model).extract([text])
        for column, layer in enumerate(layers):
            places = acts.provenance
            row = np.flatnonzero((places["layer"] == layer) & (places["start"] == examples["start"][number]))
            np.testing.assert_allclose(states[number, column], acts.X[row[0]], atol=1e-5)


def test_the_highest_activation_over_layers_is_taken():
    from scipy.sparse import csr_array
    from word_senses_of_models import highest

    states = np.random.default_rng(0).standard_normal((5, 3, 4))
    np.testing.assert_array_equal(highest(lambda rows: rows, states), states.max(axis=1))
    np.testing.assert_array_equal(highest(lambda rows: csr_array(rows.clip(0)), states), states.clip(0).max(axis=1))


def test_a_factor_of_any_layer_that_is_the_sense_tells_word_forms_apart():
    from word_senses_of_models import scores_of_features

    from skfactors import SparseDictionary

    rng = np.random.default_rng(0)
    examples = pd.DataFrame({"form": np.repeat([*"abcdef"], 12), "pos": [*"nnnnnnvvvvvv"] * 6})
    states = rng.standard_normal((72, 2, 8)).astype(np.float32)
    states[:, 1, 5] += 4 * (examples["pos"] == "v")
    X = np.concatenate([states[:, 0], states[:, 1]])
    model = SparseDictionary(16, n_nonzero_coefs=2, dict_init=np.vstack([np.eye(8), -np.eye(8)]), random_state=0).fit(X)
    scores = scores_of_features({"SparseDictionary": model}, X, states, examples, [*"ab"], [*"cdef"])
    assert scores["SparseDictionary"][1]["F1"].mean() > 0.9
    assert scores["hidden dimension"][0] == 1
    assert scores["random dictionary"][1]["F1"].mean() < scores["SparseDictionary"][1]["F1"].mean()


@pytest.mark.parametrize("architecture", ["bert", "gpt2", "llama"])
def test_replacing_states_by_themselves_changes_nothing_and_by_others_goes_through(tiny_models, architecture):
    from what_a_factor_does import load_model, make_batch, replaced_states

    model, tokenizer, head = load_model(tiny_models[architecture])
    assert head is None
    batch, labels, is_text = make_batch(tokenizer, ["The bank of the river was muddy.", "One."], head)
    assert labels is None
    with torch.no_grad():
        plain = model(**batch, output_hidden_states=True)
        for replace in (lambda X: X, lambda X: X + 1):
            with replaced_states(model, 1, replace, is_text) as replacements:
                changed = model(**batch, output_hidden_states=True)
            ((before, after),) = replacements
            np.testing.assert_allclose(before, plain.hidden_states[1][is_text], atol=1e-6)
            np.testing.assert_allclose(after, replace(before))
            same = torch.allclose(changed.last_hidden_state, plain.last_hidden_state, atol=1e-6)
            assert same == np.array_equal(before, after)
        again = model(**batch).last_hidden_state
    torch.testing.assert_close(again, plain.last_hidden_state)


def test_only_the_marked_tokens_are_replaced(tiny_model):
    from what_a_factor_does import load_model, make_batch, replaced_states

    model, tokenizer, head = load_model(tiny_model)
    batch, _, is_text = make_batch(tokenizer, ["The bank of the river was muddy.", "One."], head)
    seen = []
    block = model.encoder.layer[1]
    handle = block.register_forward_hook(lambda module, inputs, output: seen.append(inputs[0].clone()))
    with torch.no_grad(), replaced_states(model, 1, np.zeros_like, is_text):
        model(**batch)
    handle.remove()
    assert (seen[0][is_text] == 0).all()
    assert (seen[0][~is_text] != 0).any(dim=-1).all()


def test_nearest_tokens_lie_on_both_sides_and_make_up_for_a_short_side():
    from long_range import nearest

    assert nearest(100, 50, 10) == (45, 55)
    assert nearest(100, 1, 10) == (0, 10)
    assert nearest(100, 98, 10) == (89, 99)
    assert nearest(4, 2, 10) == (0, 3)


def test_word_senses_runs_and_scores_every_kind_of_feature(run, monkeypatch):
    import word_senses

    uses = {
        "left": [("v", "She left the park."), ("a", "by the left gate")],
        "bank": [("n", "the bank"), ("v", "we bank")],
    }
    rows = [
        {"text": f"{text} {number}", "word": form, "pos": pos, "synset": f"{form}.{pos}", "start": text.index(form)}
        for form, examples in uses.items()
        for pos, text in examples
        for number in range(4)
    ]
    monkeypatch.setattr(word_senses, "load_wordnet_examples", lambda: pd.DataFrame(rows))
    monkeypatch.setattr(word_senses, "SHOWN_IN_FULL", ("left",))
    printed = run("word_senses", "--try", "24:0.1", "16:0.2")
    assert len(as_table(printed, "factors")) == 2
    assert set(as_table(printed, "best single")["best single"]) >= {"factor", "hidden dimension", "full hidden state"}
    assert len(as_table(printed, "part of speech")) == 8


def test_patterns_by_layer_runs_and_has_a_row_for_each_pattern(run):
    from patterns_by_layer import PATTERNS

    table = as_table(run("patterns_by_layer"), "pattern")
    assert table["pattern"].tolist() == list(PATTERNS)
    assert table["layer 2"].astype(float).between(0, 1).all()


def save_with_head(folder, architecture, tiny_models):
    """Save a tiny model with the head that predicts words."""
    from transformers import AutoTokenizer, BertConfig, BertForMaskedLM, GPT2Config, GPT2LMHeadModel

    if architecture == "gpt2":
        model = GPT2LMHeadModel(GPT2Config(vocab_size=400, n_embd=32, n_layer=2, n_head=4, n_positions=128))
    else:
        sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64}
        model = BertForMaskedLM(BertConfig(vocab_size=400, max_position_embeddings=128, **sizes))
    model.save_pretrained(folder)
    AutoTokenizer.from_pretrained(tiny_models[architecture]).save_pretrained(folder)
    return folder


@pytest.mark.parametrize("architecture", ["bert", "gpt2"])
def test_what_a_factor_does_runs_on_a_model_with_a_head_and_has_its_loss(architecture, run, tmp_path, tiny_models):
    model = save_with_head(tmp_path / "model", architecture, tiny_models)
    table = as_table(run("what_a_factor_does", "--n-passages", "6", model=model), "layer")
    assert table["layer"].tolist() == ["0"] * 4 + ["1"] * 4
    assert (table["loss"].astype(float) > 0).all()


@pytest.mark.parametrize("architecture", ["bert", "gpt2"])
def test_the_loss_is_that_of_the_words_to_be_predicted(architecture, tmp_path, tiny_models):
    from what_a_factor_does import load_model, make_batch, run_model

    model, tokenizer, head = load_model(save_with_head(tmp_path / "model", architecture, tiny_models))
    passages = ["The bank of the river was muddy, and shares of the bank fell after the report.", "One report."]
    batch, labels, is_text = make_batch(tokenizer, passages, head)
    plain = tokenizer(passages, padding=True, return_tensors="pt")["input_ids"]
    with torch.no_grad():
        log_probabilities = model(**batch).logits.log_softmax(-1)
    if head == "masked":
        scored = batch["input_ids"] != plain
        assert (batch["input_ids"][scored] == tokenizer.mask_token_id).all()
        assert 0 < scored.sum() < is_text.sum()
    else:
        # A token is predicted from those before it, so the first of a text is not.
        log_probabilities, plain, scored = log_probabilities[:, :-1], plain[:, 1:], is_text[:, 1:]
    losses = -log_probabilities.gather(-1, plain[..., None])[..., 0][scored]
    assert run_model(model, batch, labels)[1] == pytest.approx(losses.mean().item(), rel=1e-5)


def test_stability_runs_and_compares_seeds_and_halves(run):
    table = as_table(run("stability", "--n-components", "12"), "what")
    assert table["what"].tolist()[0] == "SparseDictionary"
    assert table["two seeds: mean cosine"].astype(float).between(-1, 1).all()


def test_long_range_runs_and_gives_a_share_for_each_number_of_tokens(run):
    printed = run("long_range", "--n-passages", "8", "--n-factors", "2", "--n-contexts", "2")
    table = as_table(printed, "factor")
    assert {"nearest 5", "nearest 10", "nearest 20", "nearest 40"} <= set(table)


@pytest.fixture(scope="module")
def tiny_language_model(tmp_path_factory):
    """Return the folder of a random decoder with its head, and a tokenizer of bytes."""
    from support.tiny_models import byte_level_tokenizer
    from transformers import GPT2Config, GPT2LMHeadModel

    folder = tmp_path_factory.mktemp("decoder")
    with torch.random.fork_rng():
        torch.manual_seed(0)
        GPT2LMHeadModel(GPT2Config(vocab_size=400, n_embd=32, n_layer=2, n_head=4)).save_pretrained(folder)
    byte_level_tokenizer(list(SENTENCES)).save_pretrained(folder)
    return folder


@pytest.mark.parametrize(
    ("question", "printed"),
    [("recovered", "loss recovered"), ("steering", "its words: more than by nothing"), ("attribution", "of 3 cases")],
)
def test_what_factors_do_inside_a_language_model_is_asked(
    question, printed, monkeypatch, capsys, texts_file, tiny_language_model
):
    import inside_a_language_model

    sizes = ["--n-components", "24", "--n-nonzero", "8", "--n-scored", "2", "--n-cases", "3", "--layers", "0", "1"]
    settings = ["--model", str(tiny_language_model), "--texts", str(texts_file), *sizes]
    monkeypatch.setattr(sys, "argv", ["inside_a_language_model", question, *settings])
    inside_a_language_model.main()
    assert re.search(printed, capsys.readouterr().out)


def test_the_quickstart_of_a_language_model_ablates_and_steers(monkeypatch, capsys, texts_file, tiny_language_model):
    monkeypatch.syspath_prepend(str(EXPERIMENTS.parent))
    import quickstart_language_model

    settings = ["--model", str(tiny_language_model), "--texts", str(texts_file), "--n-components", "24", "--show", "2"]
    monkeypatch.setattr(sys, "argv", ["quickstart_language_model", *settings, "--layers", "0", "1"])
    quickstart_language_model.main()
    said = capsys.readouterr().out
    assert said.count("speaks for") == 4 and said.count(" up by ") == 2 and "the loss rises by" in said


def test_a_marked_word_is_found_where_its_brackets_were():
    from adversarial import unmark

    text, start, end = unmark("She left [the park] early.")
    assert text == "She left the park early."
    assert text[start:end] == "the park"


def test_sentences_are_written_with_one_mark_and_several_degrees():
    from adversarial import EXAMPLES_OF_PATTERNS, WORDS, unmark

    for examples in [*WORDS.values(), *EXAMPLES_OF_PATTERNS.values()]:
        assert len({degree for degree, _ in examples}) >= 5
        assert all("[" not in unmark(sentence)[0] for _, sentence in examples)


def test_standardised_ranks_multiply_to_spearmans_correlation():
    from adversarial import standardised_ranks
    from scipy.stats import spearmanr

    degrees, activations = np.array([5, 5, 3, 2, 1, 0]), np.array([4.0, 2.0, 2.5, 0.0, 0.0, 0.0])
    expected = spearmanr(degrees, activations).statistic
    assert standardised_ranks(degrees) @ standardised_ranks(activations) == pytest.approx(expected)
    assert standardised_ranks(degrees) @ standardised_ranks(np.zeros(6)) == 0


def test_the_p_value_is_that_of_all_permutations():
    from itertools import permutations

    from adversarial import mean_correlation_p
    from scipy.stats import spearmanr

    degrees, activations = np.array([4, 3, 2, 1, 0]), np.array([3.0, 4.0, 1.0, 2.0, 0.0])
    observed = spearmanr(degrees, activations).statistic
    exact = np.mean(
        [spearmanr(degrees, list(order)).statistic >= observed - 1e-9 for order in permutations(activations)]
    )
    assert mean_correlation_p([degrees], [activations]) == pytest.approx(exact, abs=0.015)


def test_adversarial_runs_and_correlates_for_the_factors_it_finds(run):
    table = as_table(run("adversarial"), "pattern")
    assert {"degree", "activation", "sentence"} <= set(table)
