"""Saliency: which tokens of its context make a factor active at a place."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from numbers import Integral

import numpy as np
import pandas as pd
from scipy.sparse import issparse
from sklearn.utils import check_random_state, check_scalar
from sklearn.utils.validation import check_is_fitted

from skfactors.reports.arguments import check_known
from skfactors.reports.perturbations import PERTURBATIONS
from skfactors.reports.saliency_records import saliency_series

METHODS = (*PERTURBATIONS, "gradient")

# Windows run before responses are turned into weights, in batches: many, so that the last one, perhaps not full,
# hardly counts; few enough to keep them in memory.
_BATCHES_AT_A_TIME = 64


def token_saliency(
    extractor, dictionary, text, factor, layer, position, *, method="lime", n_samples=1000, random_state=None
) -> pd.Series:
    """
    Tell how much each token of its context makes a factor active at a token.

    Parameters
    ----------
    extractor : TransformerFeatureExtractor
        Its model, tokenizer and windows are used, whatever its `layers`.
    dictionary : SparseDictionary
        Or another fitted estimator with `transform` from rows to codes, and `components_`.
    text : str
        What the extractor reads.
    factor : int
        The factor whose activation is explained.
    layer : int
        Index into the model's hidden states: 0 is the embeddings, negative ones count from the end.
    position : int
        The token whose activation is explained, counted in the text's tokens from 0, as provenance counts them.
    method : {"lime", "occlusion", "gradient"}, default="lime"
        See the notes. "lime" is the paper's, the others cost a tenth to a hundredth of it.
    n_samples : int, default=1000
        For "lime": versions of the text, the whole one included.
    random_state : int, RandomState or None, default=None
        For "lime": decides which tokens are hidden. An int gives the same weights whatever is explained beside it.

    Returns
    -------
    Series
        Named "saliency"; a weight for each token of the window that the extractor reads the token in, indexed by
        `position` and `token` (its text). A positive weight is a token that adds to the activation. `attrs` holds
        `factor`, `layer`, `position`, `activation` (in the whole text), `method`, `n_samples` (None but for "lime"),
        `masking` (how a token was hidden: "mask_token", "unk_token" or "deletion"), and `start` and `end`, lists of
        character offsets of the tokens.

    Raises
    ------
    NotFittedError
        If the dictionary is not fitted.
    TypeError, ValueError
        If there is no such factor, layer or position, or a parameter is out of range.

    See Also
    --------
    FactorReport.add_saliency : For the top contexts of factors.
    context_span : How far the context reaches that an activation depends on.

    Notes
    -----
    Special tokens are never hidden. A token is hidden by the tokenizer's mask token; where it has none, by its unknown
    token; where it has neither, it is left out, and so is the activation at the token itself, which is then 0.

    "lime" is the procedure of Yun et al. (2021), "Transformer visualization via dictionary learning": the number of
    hidden tokens is uniform in 1..length, which ones too; weights are those of a ridge regression of the activation on
    the tokens kept, versions close to the whole text weighing most.

    "occlusion" hides one token at a time: its weight is the drop in activation.

    "gradient" is the gradient of the product of the hidden state with the factor's direction,
    ``state @ components_[factor]``, with respect to each token's input embedding, times that embedding less the mask's:
    to first order, what masking the token takes away. It looks at the product, not at the activation: neither the
    threshold nor the other factors enter.

    Examples
    --------
    >>> from skfactors.reports import token_saliency
    >>> from skfactors import SparseDictionary, TransformerFeatureExtractor
    >>> from skfactors.datasets import demo_model
    >>> extractor = TransformerFeatureExtractor(demo_model(), layers=[4])
    >>> text = "She left the park."
    >>> acts = extractor.extract([text])
    >>> dictionary = SparseDictionary(4, alpha=1.0, random_state=0).fit(acts.X)
    >>> position = acts.tokens().index("left")
    >>> factor = dictionary.transform(acts.X)[[position]].toarray().argmax()
    >>> saliency = token_saliency(extractor, dictionary, text, factor, layer=4, position=position, method="occlusion")
    >>> saliency.index.get_level_values("token").tolist()
    ['She', 'left', 'the', 'park', '.']
    """
    if not isinstance(text, str):
        raise TypeError(f"text is of type {type(text).__name__}; saliency explains one place in one str.")
    contexts = pd.DataFrame(
        {"factor": [factor], "layer": [layer], "document": [0], "position": [position]}, dtype=object
    )
    ((_, saliency),) = iter_saliency(
        extractor, dictionary, [text], contexts, method=method, n_samples=n_samples, random_state=random_state
    )
    return saliency


def iter_saliency(
    extractor, dictionary, texts, contexts, *, method="lime", n_samples=1000, random_state=None
) -> Iterator[tuple[int, pd.Series]]:
    """
    Yield the saliency of many contexts, which share forward passes.

    Parameters
    ----------
    extractor, dictionary
        As in :func:`token_saliency`.
    texts : indexable by document number
    contexts : DataFrame of length n_contexts
        Columns `factor`, `layer`, `document`, `position`; the table of :func:`top_contexts` has them.
    method, n_samples, random_state
        As in :func:`token_saliency`.

    Yields
    ------
    number : int
        Which row of `contexts`. They come in an order that suits the model.
    saliency : Series
        As :func:`token_saliency` returns it.

    Raises
    ------
    NotFittedError, TypeError, ValueError
        As in :func:`token_saliency`, before anything is yielded.

    Notes
    -----
    Contexts in one window share their versions of it whatever their factor, layer and position, and equal versions run
    once. Batches are filled across contexts.
    """
    check_is_fitted(dictionary)
    if method not in METHODS:
        raise ValueError(f"method={method!r} is none of {', '.join(map(repr, METHODS))}.")
    check_scalar(n_samples, "n_samples", Integral, min_val=2)
    if not hasattr(extractor, "probe"):
        raise TypeError(f"extractor is of type {type(extractor).__name__}; a TransformerFeatureExtractor is needed.")
    probe = extractor.probe()
    groups = _grouped(probe, texts, contexts, len(dictionary.components_))
    if method == "gradient":
        return _by_gradient(probe, dictionary, groups)
    seed = random_state
    if not isinstance(seed, Integral):
        seed = check_random_state(random_state).randint(np.iinfo(np.int32).max)
    return _by_perturbation(probe, dictionary, groups, method, n_samples, seed)


@dataclass(frozen=True)
class _Target:
    """A context to explain: which row of the table it is, and which token of its window."""

    number: int
    factor: int
    layer: int
    position: int
    token: int


@dataclass(eq=False)
class _Group:
    """A window, the tokens of its text, and the contexts in it."""

    window: object
    first_position: int
    tokens: list
    offsets: np.ndarray
    targets: list = field(default_factory=list)

    def saliency(self, target, weights, **facts) -> tuple[int, pd.Series]:
        attrs = {
            "factor": target.factor,
            "layer": target.layer,
            "position": target.position,
            **facts,
            "start": self.offsets[:, 0].tolist(),
            "end": self.offsets[:, 1].tolist(),
        }
        return target.number, saliency_series(self.tokens, self.first_position, weights, attrs)


def _grouped(probe, texts, contexts, n_components) -> list[_Group]:
    """Find the window of every context; longest windows first."""
    groups = {}
    documents = contexts["document"].tolist()
    places = zip(*(contexts[name].tolist() for name in ("factor", "layer", "position")), strict=True)
    targets = list(zip(range(len(contexts)), documents, places, strict=True))
    for document in dict.fromkeys(documents):
        text = texts[document]
        windows = probe.windows(text)
        offsets = np.concatenate([np.empty((0, 2), np.int64), *(window.offsets for window in windows)])
        for number, _, (factor, layer, position) in (target for target in targets if target[1] == document):
            (factor,) = check_known(factor, range(n_components), "factor")
            layer = _known_layer(layer, probe.n_hidden_states)
            (position,) = check_known(position, range(len(offsets)), "position")
            which = next(i for i, window in enumerate(windows) if position < window.position + window.n_rows)
            window = windows[which]
            if (document, which) not in groups:
                first = window.position - (window.rows.start - window.of_text.start)
                own_offsets = offsets[first : window.position + window.n_rows]
                tokens = [text[start:end] for start, end in own_offsets.tolist()]
                groups[document, which] = _Group(window, first, tokens, own_offsets)
            token = window.rows.start + position - window.position
            groups[document, which].targets.append(_Target(number, factor, layer, position, token))
    return sorted(groups.values(), key=lambda group: -len(group.tokens))


def _known_layer(layer, n_hidden_states) -> int:
    if isinstance(layer, Integral) and -n_hidden_states <= layer < 0:
        return int(layer) + n_hidden_states
    return check_known(layer, range(n_hidden_states), "layer")[0]


def _by_perturbation(probe, dictionary, groups, method, n_samples, seed):
    versions_of, weights_of = PERTURBATIONS[method]
    asked = n_samples if method == "lime" else None
    for chunk in _chunks(groups, lambda group: asked or len(group.tokens) + 1, _BATCHES_AT_A_TIME * probe.batch_size):
        drawn = [versions_of(len(group.tokens), n_samples, np.random.RandomState(seed)) for group in chunk]
        responses = _responses(probe, dictionary, chunk, drawn)
        for group, kept in zip(chunk, drawn, strict=True):
            for target in group.targets:
                response = responses[target.number]
                facts = {"activation": float(response[0]), "method": method, "n_samples": asked}
                yield group.saliency(target, weights_of(kept, response), **facts, masking=probe.masking)


def _chunks(groups, size_of, enough):
    chunk, size = [], 0
    for group in groups:
        chunk.append(group)
        size += size_of(group)
        if size >= enough:
            yield chunk
            chunk, size = [], 0
    if chunk:
        yield chunk


def _responses(probe, dictionary, groups, drawn) -> dict[int, np.ndarray]:
    """Activation of every target's factor in every version of its window."""
    windows, reads, factors, places = [], [], [], []
    responses = {}
    for group, kept in zip(groups, drawn, strict=True):
        distinct, version_of = np.unique(kept, axis=0, return_inverse=True)
        first = len(windows)
        windows.extend(probe.masked(group.window, version) for version in distinct)
        for target in group.targets:
            there, tokens = _place_in_versions(probe, group, target, distinct)
            reads.append(np.column_stack([first + there, np.full(len(there), target.layer), tokens]))
            factors.append(np.full(len(there), target.factor))
            places.append((target.number, there, len(distinct), version_of))
    states = probe.states_at(windows, np.concatenate(reads))
    activations = factor_activations(dictionary, states, np.concatenate(factors))
    start = 0
    for number, there, n_distinct, version_of in places:
        distinct_responses = np.zeros(n_distinct)
        distinct_responses[there] = activations[start : start + len(there)]
        responses[number] = distinct_responses[version_of.ravel()]
        start += len(there)
    return responses


def _place_in_versions(probe, group, target, kept):
    """In which versions the target's token is there, and as which token of the window."""
    if probe.masking != "deletion":
        return np.arange(len(kept)), np.full(len(kept), target.token)
    own = target.token - group.window.of_text.start
    there = np.flatnonzero(kept[:, own])
    return there, target.token - (~kept[there, :own]).sum(axis=1)


def factor_activations(dictionary, states, factors) -> np.ndarray:
    """
    Return the activation of one factor in each hidden state.

    Parameters
    ----------
    dictionary : fitted estimator
    states : ndarray of shape (n_states, hidden_size)
    factors : ndarray of int of shape (n_states,)

    Returns
    -------
    ndarray of float64 of shape (n_states,)
    """
    codes = dictionary.transform(states)
    activations = codes[np.arange(len(factors)), factors]
    return np.asarray(activations.toarray() if issparse(activations) else activations, dtype=np.float64).ravel()


def _by_gradient(probe, dictionary, groups):
    for chunk in _chunks(groups, lambda group: len(group.targets), _BATCHES_AT_A_TIME * probe.batch_size):
        pairs = [(group, target) for group in chunk for target in group.targets]
        windows = [group.window.input_ids for group, _ in pairs]
        reads = np.array([(target.layer, target.token) for _, target in pairs])
        factors = np.array([target.factor for _, target in pairs])
        states = probe.states_at(windows, np.column_stack([np.arange(len(pairs)), reads]))
        activations = factor_activations(dictionary, states, factors)
        products = probe.gradients_times_embeddings(windows, reads, dictionary.components_[factors])
        for (group, target), activation, product in zip(pairs, activations, products, strict=True):
            facts = {"activation": float(activation), "method": "gradient", "n_samples": None}
            yield group.saliency(target, product[group.window.of_text], **facts, masking=probe.masking)
