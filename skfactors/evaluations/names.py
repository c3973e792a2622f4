"""Names for factors, given by a judge, and whether a judge that sees only the names can tell what the factors do."""

from numbers import Integral
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy import sparse
from sklearn.utils import check_scalar

from skfactors.callers import warn_caller
from skfactors.codes import check_codes
from skfactors.dictionaries.one_place import model_of_one_place
from skfactors.evaluations.figures import DICTIONARY, OTHERS_NAME, Figures
from skfactors.evaluations.judges import Questioner, read_name, read_yes_or_no
from skfactors.evaluations.prompts import DETECTION, FUZZING, NAME
from skfactors.progress import progress_bar
from skfactors.reports.display import visible, visible_token
from skfactors.reports.names import names_by_factor
from skfactors.reports.neighbours import nearest_directions

_ANSWERS = ("factor", "measure", "scored", "name", "kind", "text", "truth", "answer", "problem", "said", "n_tries")
# Tokens are marked that have at least this share of the largest activation in their passage.
_MARKED = 0.5
_NO_MARKS = str.maketrans("«»", "“”")


def name_factors(
    report, judge, *, factors=None, n_contexts=10, n_retries=1, timeout=None, verbose=False
) -> pd.DataFrame:
    """
    Let a judge name factors by their top contexts.

    Parameters
    ----------
    report : FactorReport
        Gets the names, one by one, by its method `add_names`.
    judge : callable
        From a prompt, a str, to a text: a :class:`ServerJudge`, a :class:`PipelineJudge`, your own function; with the
        built-in `input` it is you.
    factors : int or sequence of int, default=None
        None takes those that fire and have no name, so that a call that was stopped goes on where it stood.
    n_contexts : int, default=10
        Contexts of a factor that the judge sees, from its peak layer, the strongest first.
    n_retries : int, default=1
        Times that the judge is asked again where it raised, took too long, or did not answer with a short phrase.
    timeout : float, default=None
        Seconds that the judge has. None waits for ever. A judge in this process that takes too long is left alone, and
        goes on working beside the next question.
    verbose : bool, default=False
        Show a progress bar.

    Returns
    -------
    DataFrame
        Index `factor`; columns `name`, empty where no answer was one, `problem`, which then says why, `said`, the last
        answer as it was, and `n_tries`.

    Raises
    ------
    TypeError, ValueError
        If judge is not a callable, there is no such factor, or a parameter is out of range.

    See Also
    --------
    judge_names : Whether names say what factors do.

    Notes
    -----
    What the judge is told is in `skfactors/evaluations/prompts.py`, and nowhere else. The texts of the contexts are in
    it, whatever they say: a text that gives orders may be obeyed.

    Examples
    --------
    >>> from skfactors import FactorReport, SparseDictionary, TransformerFeatureExtractor
    >>> from skfactors.datasets import demo_model
    >>> from skfactors.evaluations import name_factors
    >>> texts = ["She left the park by the left gate.", "They left at dawn."]
    >>> extractor = TransformerFeatureExtractor(demo_model(), layers=[3])
    >>> dictionary = SparseDictionary(4, alpha=1.0, random_state=0).fit(extractor.extract(texts).X)
    >>> report = FactorReport.from_texts(extractor, dictionary, texts)
    >>> name_factors(report, lambda prompt: "the word left", factors=[0])["name"].tolist()
    ['the word left']
    >>> report.summary()["name"][0]
    'the word left'
    """
    check_scalar(n_contexts, "n_contexts", Integral, min_val=1)
    questioner = Questioner(judge, n_retries, timeout)
    summary = report.summary()
    if factors is None:
        factors = summary.index[summary["peak_layer"].notna() & (summary["name"] == "")]
    contexts = report.top_contexts(factors)
    contexts = contexts[contexts["layer"] == contexts["factor"].map(summary["peak_layer"])]
    contexts = dict(iter(contexts[contexts["rank"] <= n_contexts].groupby("factor")))
    found = {}
    asked = np.atleast_1d(factors).tolist()
    with progress_bar("naming factors", total=len(asked), enabled=verbose) as advance:
        for factor in asked:
            if factor not in contexts:
                found[factor] = ("", "it has no contexts", "", 0)
            else:
                lines = (f"{number}. {_marked(line)}" for number, line in enumerate(contexts[factor].itertuples(), 1))
                answer = questioner.ask(NAME.format(contexts="\n".join(lines)), read_name)
                found[factor] = (answer.value or "", answer.problem, answer.said, answer.n_tries)
                if answer.value:
                    report.add_names({factor: answer.value})
            advance(1)
    columns = ["name", "problem", "said", "n_tries"]
    return pd.DataFrame.from_dict(found, orient="index", columns=columns).rename_axis("factor")


def _marked(context):
    left, right = (visible(side.translate(_NO_MARKS)) for side in (context.left, context.right))
    return f"{left}«{visible_token(context.token).translate(_NO_MARKS)}»{right}"


def judge_names(
    extractor,
    dictionary,
    texts,
    names,
    judge,
    *,
    site=None,
    layer=None,
    n_passages=20,
    n_tokens=32,
    n_retries=1,
    timeout=None,
    n_resamples=1000,
    random_state=0,
    return_answers=False,
    verbose=False,
):
    """
    Tell whether a judge that sees only the names of factors can tell where they are active.

    Parameters
    ----------
    extractor : TransformerFeatureExtractor
        Makes the rows of texts.
    dictionary : FactorModel, Pipeline or estimator
        Fitted.
    texts : sequence of str
        Others than those that names were given by.
    names : DataFrame, Series or dict
        Names by factor: what :func:`name_factors` returns, the column `name` of a report's summary, or your own. Empty
        ones are left out.
    judge : callable
        As :func:`name_factors` takes it; it need not be the one that gave the names.
    site, layer : default=None
        The place whose rows are read. None takes all rows; of a token read in several layers the largest activation
        counts.
    n_passages : int, default=20
        Passages for each factor, at most: half of them active, from the weakest to the strongest in even steps; half
        silent, of which again half are near misses, those in which the ten factors nearest by direction are most
        active, and the rest are drawn.
    n_tokens : int, default=32
        Length of a passage.
    n_retries : int, default=1
        Times that the judge is asked again where it raised, took too long, or did not answer yes or no.
    timeout : float, default=None
        Seconds that the judge has, as in :func:`name_factors`.
    n_resamples : int, default=1000
        Of the bootstrap for intervals, over factors.
    random_state : int, default=0
        For the passages, the marks, the control and the bootstrap.
    return_answers : bool, default=False
        Whether to return every question with its answer as well.
    verbose : bool, default=False
        Show a progress bar.

    Returns
    -------
    table : DataFrame
        Columns as :func:`ground_truth` has them, over factors. Measures are `detection`, does the passage contain what
        the name says; `fuzzing`, are the marked tokens of an active passage what the name says, half the time the
        active tokens and half the time as many silent ones; and `answered`, the share of questions that had an answer,
        with a note on what was most often wrong with the others.
        The first two are balanced accuracies over the answers there were: the mean of the share right where yes is
        right and of the share right where no is. The control, "another factor's name", is asked the same of the same
        passages with the name of another of these factors.
    answers : DataFrame
        Only with `return_answers`: a row for each question. `kind` is "active", "silent" or "near miss" in detection
        and "active" or "silent" by the tokens marked in fuzzing, `truth` what is right; `answer` is None where there
        was none, and `problem` says why.

    Raises
    ------
    NotFittedError, TypeError, ValueError
        If judge is not a callable, there is no such factor or place, there are not two different names, no named factor
        has both active and silent passages in the texts, or a parameter is out of range.

    Warns
    -----
    UserWarning
        If factors are left out, since they are never or always active in these texts.

    See Also
    --------
    name_factors : Gives names.

    Notes
    -----
    Scores are those of [1]_, as delphi has them. A factor costs 4 `n_passages` questions at most. What the judge is
    asked is in `skfactors/evaluations/prompts.py`.

    References
    ----------
    .. [1] Paulo, Mallen, Juang, Belrose (2024), "Automatically Interpreting Millions of Features in Large Language
       Models", arXiv 2410.13928.

    Examples
    --------
    >>> from skfactors import SparseDictionary, TransformerFeatureExtractor
    >>> from skfactors.datasets import demo_model
    >>> from skfactors.evaluations import judge_names
    >>> extractor = TransformerFeatureExtractor(demo_model(), layers=[3])
    >>> texts = ["The bank of the river.", "A bank lends money.", "He sat by the river."]
    >>> dictionary = SparseDictionary(4, alpha=1.0, random_state=0).fit(extractor.extract(texts).X)
    >>> names = {0: "rivers", 1: "money"}
    >>> table = judge_names(extractor, dictionary, texts, names, lambda prompt: "yes", n_tokens=3)
    >>> table["scored"].unique().tolist()
    ['dictionary', "another factor's name"]
    """
    check_scalar(n_passages, "n_passages", Integral, min_val=2)
    check_scalar(n_tokens, "n_tokens", Integral, min_val=2)
    questioner = Questioner(judge, n_retries, timeout)
    model = model_of_one_place(dictionary)
    names = {factor: name for factor, name in names_by_factor(names, len(model.components_)).items() if name}
    if len(set(names.values())) < 2:
        raise ValueError("names holds fewer than two different names: there is none to compare with.")
    passages = _Passages(extractor, model, texts, site, layer, n_tokens)
    near = nearest_directions(model.components_)
    near = dict(iter(near[near["factor"].isin(names)].groupby("factor")))
    chosen = {}
    for factor in names:
        random = np.random.default_rng([random_state, factor])
        found = passages.choose(factor, near.get(factor), n_passages, random)
        if found is not None:
            chosen[factor] = found, _name_of_another(names, factor, random)
    left_out = [factor for factor in names if factor not in chosen]
    if not chosen:
        raise ValueError(
            "None of the named factors is active in some passages of these texts and silent in others: give more texts."
        )
    if left_out:
        warn_caller(
            f"{len(left_out)} of {len(names)} named factors are never or always active in these texts, and are left "
            f"out: {', '.join(map(str, left_out[:10]))}{'…' if len(left_out) > 10 else ''}."
        )
    n_questions = sum(2 * len(found) for found, _ in chosen.values())
    answers = []
    with progress_bar("judging names", total=n_questions, enabled=verbose) as advance:
        for factor, (questions, other) in chosen.items():
            for scored, name in ((DICTIONARY, names[factor]), (OTHERS_NAME, other)):
                for question in questions:
                    prompt = question.prompt.format(name=name, text=question.text)
                    answer = questioner.ask(prompt, read_yes_or_no)
                    measure = "detection" if question.prompt is DETECTION else "fuzzing"
                    asked = (factor, measure, scored, name, question.kind, question.text, question.truth)
                    answers.append((*asked, answer.value, answer.problem, answer.said, answer.n_tries))
                    advance(1)
    answers = pd.DataFrame(answers, columns=_ANSWERS).astype({"answer": object})
    table = _table(answers, n_resamples, random_state)
    return (table, answers) if return_answers else table


def _name_of_another(names, factor, random):
    return random.choice([name for name in names.values() if name != names[factor]])


class _Question(NamedTuple):
    prompt: str
    kind: str
    text: str
    truth: bool


class _Passages:
    """Texts cut into passages of so many tokens, and how active factors are at each token."""

    def __init__(self, extractor, model, texts, site, layer, n_tokens):
        acts = extractor.extract(texts)
        if site is not None or layer is not None:
            acts = acts.at(site, layer)
        codes = sparse.csr_array(check_codes(model.transform(acts.X)))
        self._codes = codes.tocsc()
        place = acts.provenance[["document", "position"]].to_numpy()
        tokens, first, self._token_of_row = np.unique(place, axis=0, return_index=True, return_inverse=True)
        self._token_of_row = self._token_of_row.ravel()
        documents = tokens[:, 0]
        opens = np.searchsorted(documents, documents)
        self._starts = np.flatnonzero((np.arange(len(tokens)) - opens) % n_tokens == 0)
        self._spans = acts.provenance[["start", "end"]].to_numpy()[first]
        self._documents, self._texts = documents, acts.texts

    def _activations(self, factor):
        """Return how active it is at every token, of either sign; the most where it is read in several layers."""
        start, end = self._codes.indptr[factor : factor + 2]
        activations = np.zeros(len(self._documents))
        sizes = np.abs(self._codes.data[start:end])
        np.maximum.at(activations, self._token_of_row[self._codes.indices[start:end]], sizes)
        return activations

    def choose(self, factor, near, n_passages, random) -> list[_Question] | None:
        """Return what is asked of a factor; None where it is active in every passage or in none."""
        activations = self._activations(factor)
        strengths = np.maximum.reduceat(activations, self._starts)
        active, silent = np.flatnonzero(strengths > 0), np.flatnonzero(strengths == 0)
        if len(active) == 0 or len(silent) == 0:
            return None
        active = active[np.argsort(-strengths[active], kind="stable")]
        steps = np.linspace(0, len(active) - 1, min(n_passages // 2, len(active))).round().astype(int)
        active, silent = active[steps], self._silent(silent, near, n_passages - n_passages // 2, random)
        questions = [_Question(DETECTION, "active", self._text(passage), True) for passage in active]
        questions += [_Question(DETECTION, kind, self._text(passage), False) for passage, kind in silent]
        for passage in active:
            tokens = self._tokens(passage)
            is_active = activations[tokens] >= _MARKED * strengths[passage]
            marked, unmarked = tokens[is_active], tokens[activations[tokens] == 0]
            questions.append(_Question(FUZZING, "active", self._text(passage, marked), True))
            if len(unmarked):
                wrong = random.choice(unmarked, min(len(marked), len(unmarked)), replace=False)
                questions.append(_Question(FUZZING, "silent", self._text(passage, wrong), False))
        return questions

    def _silent(self, silent, near, n_wanted, random):
        strengths = np.zeros(len(self._starts))
        for neighbour, cosine in () if near is None else zip(near["neighbour"], near["similarity"], strict=True):
            of_neighbour = np.maximum.reduceat(self._activations(neighbour), self._starts)
            strengths = np.maximum(strengths, cosine * of_neighbour)
        order = silent[np.argsort(-strengths[silent], kind="stable")]
        misses = order[: min(n_wanted // 2, np.count_nonzero(strengths[silent]))]
        rest = np.setdiff1d(silent, misses)
        rest = random.choice(rest, min(n_wanted - len(misses), len(rest)), replace=False)
        return [*((passage, "near miss") for passage in misses), *((passage, "silent") for passage in rest)]

    def _tokens(self, passage):
        ends = np.append(self._starts[1:], len(self._documents))
        return np.arange(self._starts[passage], ends[passage])

    def _text(self, passage, marked=()):
        """Return the text of a passage on one line, with tokens that follow one another in one pair of marks."""
        tokens = self._tokens(passage)
        text = self._texts[int(self._documents[tokens[0]])]
        is_marked = np.isin(tokens, marked)
        opens = (is_marked & np.diff(is_marked, prepend=False)).tolist()
        closes = (is_marked & np.diff(is_marked, append=False)).tolist()
        pieces, at = [], self._spans[tokens[0], 0]
        for (start, end), opening, closing in zip(self._spans[tokens].tolist(), opens, closes, strict=True):
            between, inside = text[at:start], text[max(at, start) : end]
            pieces += [between.translate(_NO_MARKS), "«" * opening, inside.translate(_NO_MARKS), "»" * closing]
            at = max(at, end)
        return visible("".join(pieces)).strip()


def _table(answers, n_resamples, random_state):
    figures = Figures(n_resamples, random_state)
    answers = answers.assign(
        answered=answers["answer"].notna(), right=(answers["answer"] == answers["truth"]).astype(float)
    )
    for scored in (DICTIONARY, OTHERS_NAME):
        of = answers[answers["scored"] == scored]
        for measure in ("detection", "fuzzing"):
            right = of[(of["measure"] == measure) & of["answered"]].groupby(["factor", "truth"])["right"].mean()
            # Of a factor without an answer to either kind of question there is no accuracy.
            accuracies = right.unstack().reindex(columns=[False, True]).dropna().mean(axis=1)
            figures.add(measure, scored, accuracies, units=accuracies.index)
        problems = of.loc[~of["answered"], "problem"].mode()
        note = f"most often: {problems[0]}" if len(problems) else ""
        answered = of.groupby("factor")["answered"].mean()
        figures.add("answered", scored, answered, units=answered.index, note=note)
    return figures.table()
