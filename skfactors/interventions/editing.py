"""Intervene: factors of a running model steered, clamped or ablated, or states replaced by their reconstruction."""

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from numbers import Integral, Real

import numpy as np
import torch
from torch import nn

from skfactors.extraction.hooks import hooked
from skfactors.interventions.running import Reader, Tokens, running_copy


@contextmanager
def intervene(
    extractor,
    dictionary,
    *,
    layer=None,
    site=None,
    steer=None,
    clamp=None,
    ablate=None,
    splice=False,
    keep_error=True,
) -> Iterator[nn.Module]:
    """
    Run a model with some of its factors changed, until the context ends.

    Parameters
    ----------
    extractor : TransformerFeatureExtractor
        Whose model runs.
    dictionary : FactorModel, Pipeline or estimator
        Fitted, to rows of the place: a dictionary, or a pipeline that ends in one.
    layer : int, default=None
        As the extractor counts them; negative ones count from the end. None is the one that the extractor reads.
    site : str, default=None
        As the extractor's; None is its own. Of a transcoder a pair, the site that it reads and the one that it
        predicts, by default "mlp_input" and "mlp_output".
    steer : dict of int to float, default=None
        For each factor a strength, in the unit of activations: so many times its component is added to the state of
        every token, as if its activation were so much higher. A report's `mean_activation` and top contexts tell
        what is much for a factor.
    clamp : dict of int to float, default=None
        For each factor the activation that it is given at every token, whatever it was.
    ablate : sequence of int, default=None
        Factors that are clamped to 0: what they add to states is taken out.
    splice : bool, default=False
        Whether states are replaced by their reconstruction, with factors changed as asked for.
    keep_error : bool, default=True
        With `splice`: whether what the reconstruction leaves unexplained is added again. Then states stay as they are
        but for the factors that are changed.

    Yields
    ------
    torch.nn.Module
        The Hugging Face model, with its head where it has one: to run, to generate with, or for its loss. With nothing
        asked it gives the very bits of the model.

    Raises
    ------
    NotFittedError
        If the dictionary is not fitted.
    TypeError, ValueError
        If there is no such place or factor, a factor is to be changed twice, a strength is no finite number, the
        dictionary has rows of another width or says that it was learned elsewhere, or the model is compiled or
        quantized.

    See Also
    --------
    FactorReport : What factors respond to.

    Notes
    -----
    The model is a copy of the extractor's that shares its weights: what else runs meanwhile, in this thread or others,
    meets no change, and nothing is left once the context ends. An intervention inside another one of the same model
    adds to it, and yields the same copy; where both change one place, the inner one comes first.

    As in extraction, special tokens and padding keep their states, and so do outliers where the extractor drops them.
    A mask that hides a word counts as a word. Of an encoder-decoder, it is the encoder that is changed.

    Each token's state is changed by itself. With a cache, a generation changes each new token once, and gives what it
    would without one.

    Examples
    --------
    >>> from skfactors import SparseDictionary, TransformerFeatureExtractor
    >>> from skfactors.datasets import demo_language_model
    >>> from skfactors.interventions import intervene
    >>> extractor = TransformerFeatureExtractor(
    ...     demo_language_model(), site="block_output", layers=[10], drop_outliers=10
    ... )
    >>> dictionary = SparseDictionary(8, random_state=0).fit(extractor.extract(["The cat sat on the mat."] * 9).X)
    >>> _, tokenizer = extractor.language_model()
    >>> inputs = tokenizer("The capital of France is", return_tensors="pt")
    >>> with intervene(extractor, dictionary, ablate=[3]) as model:
    ...     said = model.generate(**inputs, max_new_tokens=5, do_sample=False)
    """
    with running_copy(extractor) as (model, tokenizer), ExitStack() as stack:
        reader = Reader(model, extractor, dictionary, site, layer)
        changes = Changes(steer, clamp, ablate, len(reader.factors.directions))
        if changes or (splice and not keep_error):
            edit = _Edit(reader, changes, Tokens(tokenizer), replaces=splice and not keep_error)
            stack.enter_context(edit.applied(model))
        yield model


class Changes:
    """
    Which factors are changed, and how.

    Parameters
    ----------
    steer, clamp, ablate
        As in :func:`intervene`.
    n_components : int

    Attributes
    ----------
    factors : list of int
    values : list of float
        What is added to each one's activation, or put in its place.
    is_set : list of bool
        Whether it is put in its place.

    Raises
    ------
    TypeError, ValueError
        If there is no such factor, one is named twice, or a value is no finite number.
    """

    def __init__(self, steer, clamp, ablate, n_components: int):
        ablate = [] if ablate is None else ablate
        ablate = [ablate] if isinstance(ablate, Integral) else list(ablate)
        asked = [*_items("steer", steer), *_items("clamp", clamp), *((factor, 0.0) for factor in ablate)]
        self.factors = [_known(factor, n_components) for factor, _ in asked]
        self.values = [float(value) for _, value in asked]
        n_steered = len(steer or {})
        self.is_set = [False] * n_steered + [True] * (len(asked) - n_steered)
        twice = sorted({factor for factor in self.factors if self.factors.count(factor) > 1})
        if twice:
            raise ValueError(f"factor {twice[0]} is to be changed twice: name it once in steer, clamp and ablate.")

    def __bool__(self):
        return bool(self.factors)


def _items(name: str, asked) -> list[tuple]:
    if asked is None:
        return []
    if not isinstance(asked, Mapping):
        raise TypeError(f"{name}={asked!r} must be a dict, from factors to numbers.")
    for factor, value in asked.items():
        if not isinstance(value, Real) or isinstance(value, bool):
            raise TypeError(f"{name}={asked!r}: {value!r}, for factor {factor!r}, is not a number.")
        if not np.isfinite(value):
            raise ValueError(f"{name}={asked!r}: {value!r}, for factor {factor!r}, is not finite.")
    return list(asked.items())


def _known(factor, n_components: int) -> int:
    if not isinstance(factor, Integral) or isinstance(factor, bool):
        raise TypeError(f"factor {factor!r} is not an integer; there are factors from 0 to {n_components - 1}.")
    if not 0 <= factor < n_components:
        raise ValueError(f"There is no factor {factor}; there are factors from 0 to {n_components - 1}.")
    return int(factor)


class _Edit:
    """A reader, and what is changed where it writes."""

    def __init__(self, reader: Reader, changes: Changes, tokens: Tokens, *, replaces: bool):
        self._reader, self._tokens, self._replaces = reader, tokens, replaces
        directions = reader.factors.directions
        self._numbers = torch.tensor(changes.factors, dtype=torch.long, device=directions.device)
        self._values = torch.tensor(changes.values, dtype=directions.dtype, device=directions.device)
        self._is_set = torch.tensor(changes.is_set, dtype=torch.bool, device=directions.device)
        self._reads_codes = any(changes.is_set)
        self._rows = None

    @contextmanager
    def applied(self, model: nn.Module) -> Iterator[None]:
        reads, writes = self._reader.reads, self._reader.writes
        flows = {writes: self._edit} if reads == writes else {reads: self._read, writes: self._write}
        with self._tokens.noted(model), hooked(model, flows):
            yield

    def _edit(self, states):
        self._read(states)
        return self._write(states)

    def _read(self, states):
        where = self._reader.of_text(states, self._tokens)
        self._rows = where, states[where].to(self._reader.factors.directions.dtype)

    def _write(self, states):
        (where, rows), self._rows = self._rows, None
        if not len(rows):
            return None
        factors = self._reader.factors
        new = factors.decoded(rows).to(states.dtype) if self._replaces else states[where]
        changed = states.clone()
        changed[where] = new + self._change(rows).to(states.dtype)
        return changed

    def _change(self, rows):
        factors, added = self._reader.factors, self._values.expand(len(rows), -1)
        if self._reads_codes:
            codes = factors.encode(rows)[:, self._numbers]
            added = torch.where(self._is_set, self._values - codes, self._values)
        return factors.sizes(rows) * (added @ factors.directions[self._numbers])
