"""What is to be explained: contexts, the windows that the model reads them in, and the activation there."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from numbers import Integral

import numpy as np
import pandas as pd
from scipy.sparse import issparse

from skfactors.reports.arguments import check_known
from skfactors.reports.counting.entries import by_number
from skfactors.reports.naming import token_text, whole_letters
from skfactors.reports.saliency.records import saliency_series

# Windows run before responses are turned into weights, in batches: many, so that the last one, perhaps not full,
# hardly counts; few enough to keep them in memory.
_BATCHES_AT_A_TIME = 64


@dataclass(frozen=True)
class Target:
    """A context to explain: which row of the table it is, and which token of its window."""

    number: int
    factor: int
    layer: int
    position: int
    token: int


@dataclass(eq=False)
class Group:
    """A window, the tokens of its text, and the contexts in it."""

    window: object
    first_position: int
    tokens: list
    offsets: np.ndarray
    targets: list = field(default_factory=list)

    def saliency(self, target, weights, **facts) -> tuple[int, pd.Series]:
        """Return the number of a target, and its saliency."""
        attrs = {
            "factor": target.factor,
            "layer": target.layer,
            "position": target.position,
            **facts,
            "start": self.offsets[:, 0].tolist(),
            "end": self.offsets[:, 1].tolist(),
        }
        return target.number, saliency_series(self.tokens, self.first_position, weights, attrs)


def grouped(probe, texts, contexts, n_components) -> list[Group]:
    """Find the window of every context; longest windows first."""
    groups = {}
    documents = contexts["document"].tolist()
    texts = _readable(texts, documents)
    places = zip(*(contexts[name].tolist() for name in ("factor", "layer", "position")), strict=True)
    targets = list(zip(range(len(contexts)), documents, places, strict=True))
    for document in dict.fromkeys(documents):
        try:
            text = texts[document]
        except (IndexError, KeyError) as error:
            raise ValueError(f"texts have no document {document}: pass those that the report was made from.") from error
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
                own_offsets = np.array([whole_letters(text, *span) for span in own_offsets.tolist()]).reshape(-1, 2)
                tokens = [token_text(text, *span) for span in own_offsets.tolist()]
                groups[document, which] = Group(window, first, tokens, own_offsets)
            token = window.rows.start + position - window.position
            groups[document, which].targets.append(Target(number, factor, layer, position, token))
    return sorted(groups.values(), key=lambda group: -len(group.tokens))


def _readable(texts, documents):
    """Return texts that brackets take the number of a document for: of an iterable, those documents alone are kept."""
    texts = by_number(texts)
    if hasattr(texts, "__getitem__"):
        return texts
    if not isinstance(texts, Iterable):
        raise TypeError(f"texts is of type {type(texts).__name__}; pass the documents that the report was made from.")
    wanted = set(documents)
    first_ones = islice(texts, max(wanted, default=-1) + 1)
    return {number: text for number, text in enumerate(first_ones) if number in wanted}


def _known_layer(layer, n_hidden_states) -> int:
    if isinstance(layer, Integral) and -n_hidden_states <= layer < 0:
        return int(layer) + n_hidden_states
    return check_known(layer, range(n_hidden_states), "layer")[0]


def chunks(probe, groups, size_of) -> Iterator[list[Group]]:
    """Yield groups together whose windows, `size_of` each, fill many batches."""
    enough = _BATCHES_AT_A_TIME * probe.batch_size
    chunk, size = [], 0
    for group in groups:
        chunk.append(group)
        size += size_of(group)
        if size >= enough:
            yield chunk
            chunk, size = [], 0
    if chunk:
        yield chunk


def factor_activations(model, states, factors) -> np.ndarray:
    """
    Return the activation of one factor in each hidden state.

    Parameters
    ----------
    model : FactorModel
    states : ndarray of shape (n_states, hidden_size)
    factors : ndarray of int of shape (n_states,)

    Returns
    -------
    ndarray of float64 of shape (n_states,)
    """
    codes = model.transform(states)
    activations = codes[np.arange(len(factors)), factors]
    return np.asarray(activations.toarray() if issparse(activations) else activations, dtype=np.float64).ravel()
