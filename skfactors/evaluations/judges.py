"""Judges, which are callables from a prompt to a text, and how they are asked."""

import json
import queue
import threading
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from numbers import Integral, Real
from typing import NamedTuple

from sklearn.utils._param_validation import Interval, validate_parameter_constraints

_PARAMETERS = {
    "n_retries": [Interval(Integral, 0, None, closed="left")],
    "timeout": [Interval(Real, 0, None, closed="neither"), None],
}
_MOST_BYTES = 2**20
_SHOWN = 80


@dataclass(frozen=True)
class ServerJudge:
    """
    Ask a model behind a server that speaks OpenAI's chat completions, as llama.cpp, vLLM and Ollama do.

    Parameters
    ----------
    url : str
        Of the API, such as "http://localhost:8080/v1". Prompts, with the texts in them, go there.
    model : str
        The name by which the server knows the model.
    max_tokens : int, default=40
        Of an answer.
    timeout : float, default=60
        Seconds in which the server has to send something.
    headers : dict of str to str, default=None
        Sent with each request, where a server asks for some.

    See Also
    --------
    name_factors, judge_names : What takes a judge.

    Examples
    --------
    >>> from skfactors.evaluations import ServerJudge
    >>> judge = ServerJudge("http://localhost:8080/v1", "qwen3-8b")
    >>> judge.timeout
    60
    """

    url: str
    model: str
    max_tokens: int = 40
    timeout: float = 60
    headers: dict | None = None

    def __post_init__(self):
        if not str(self.url).startswith(("http://", "https://")):
            raise ValueError(f"url={self.url!r} must begin with http:// or https://.")

    def __call__(self, prompt: str) -> str:
        """Return the answer; what goes wrong is an OSError or a ValueError."""
        asked = {
            "model": self.model,
            "messages": [{"role": "user", "content": prompt}],
            "max_tokens": self.max_tokens,
            "temperature": 0,
        }
        headers = {"Content-Type": "application/json", **(self.headers or {})}
        request = urllib.request.Request(
            f"{self.url.rstrip('/')}/chat/completions", json.dumps(asked).encode("ascii"), headers
        )
        with urllib.request.urlopen(request, timeout=self.timeout) as response:
            answer = json.loads(response.read(_MOST_BYTES))
        try:
            return answer["choices"][0]["message"]["content"]
        except (KeyError, IndexError, TypeError) as error:
            raise ValueError(f"the server at {self.url} sent no chat completion: {str(answer)[:_SHOWN]}") from error


@dataclass(frozen=True)
class PipelineJudge:
    """
    Ask a model that runs here, by a pipeline of transformers.

    Parameters
    ----------
    pipeline : transformers.Pipeline
        ``transformers.pipeline("text-generation", model)`` of a model that was tuned for chats.
    max_new_tokens : int, default=40
        Of an answer.

    See Also
    --------
    name_factors, judge_names : What takes a judge.

    Examples
    --------
    >>> from transformers import pipeline
    >>> from skfactors.datasets import demo_language_model
    >>> from skfactors.evaluations import PipelineJudge
    >>> judge = PipelineJudge(pipeline("text-generation", demo_language_model()))
    >>> answer = judge("Is grass green? Answer with one word, yes or no.")
    """

    pipeline: Callable
    max_new_tokens: int = 40

    def __call__(self, prompt: str) -> str:
        """Return the likeliest answer, token by token."""
        messages = [{"role": "user", "content": prompt}]
        options = {"max_new_tokens": self.max_new_tokens, "do_sample": False, "return_full_text": False}
        return self.pipeline(messages, **options)[0]["generated_text"]


class Answer(NamedTuple):
    """What came of a question: `value` None where no answer was one, and then `problem` says why."""

    value: object
    said: str
    problem: str
    n_tries: int


@dataclass(frozen=True)
class Questioner:
    """
    Ask a judge as often as need be.

    Parameters
    ----------
    judge : callable
        From a prompt, a str, to a text.
    n_retries : int
        Times that a question is asked again which had no answer.
    timeout : float or None
        Seconds that the judge has.

    Notes
    -----
    A judge that does not come back cannot be stopped: it is left alone in a thread that ends with the program.
    """

    judge: Callable
    n_retries: int
    timeout: float | None

    def __post_init__(self):
        if not callable(self.judge):
            raise TypeError(f"judge={self.judge!r} must be a callable from a prompt, a str, to a text.")
        given = {"n_retries": self.n_retries, "timeout": self.timeout}
        validate_parameter_constraints(_PARAMETERS, given, "a judge")

    def ask(self, prompt: str, read: Callable) -> Answer:
        """Return what `read` makes of the answer; it raises a ValueError where a text is none."""
        for n_tries in range(1, self.n_retries + 2):
            said = ""
            try:
                said = self._said(prompt)
            except Exception as error:
                problem = f"{type(error).__name__}: {error}"
                continue
            try:
                return Answer(read(said), said, "", n_tries)
            except ValueError as error:
                problem = str(error)
        return Answer(None, said, problem, n_tries)

    def _said(self, prompt):
        said = self.judge(prompt) if self.timeout is None else _within(self.timeout, self.judge, prompt)
        if not isinstance(said, str):
            raise TypeError(f"the judge returned a {type(said).__name__} instead of a text")
        return said


def _within(seconds, judge, prompt):
    outcome = queue.SimpleQueue()

    def run():
        try:
            outcome.put((judge(prompt), None))
        except Exception as error:
            outcome.put((None, error))

    threading.Thread(target=run, daemon=True, name="skfactors-judge").start()
    try:
        said, error = outcome.get(timeout=seconds)
    except queue.Empty:
        raise TimeoutError(f"no answer in {seconds:g} seconds") from None
    if error is not None:
        raise error
    return said


def read_name(said: str) -> str:
    """Return the name in an answer: one line, not long."""
    lines = said.strip().splitlines()
    name = lines[0].strip(" \t\"'“”*.") if lines else ""
    if not name:
        raise ValueError("an empty answer")
    if len(lines) > 1 or len(name) > _SHOWN:
        raise ValueError("prose instead of a short phrase")
    return name


def read_yes_or_no(said: str) -> bool:
    """Return whether an answer is yes or no, whatever dots and quotes are around it."""
    word = said.strip().strip("\"'“”*.!").lower()
    if word not in ("yes", "no"):
        raise ValueError("prose instead of yes or no" if word else "an empty answer")
    return word == "yes"
