"""Attribution: how much each factor at each token contributes to what a model says, or to a factor further up."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from numbers import Integral

import numpy as np
import pandas as pd
import torch
from sklearn.utils import check_random_state, check_scalar

from skfactors.extraction.beginnings import window_length
from skfactors.extraction.hooks import hooked
from skfactors.extraction.sites import reading_part
from skfactors.interventions.freezing import frozen
from skfactors.interventions.running import Reader, Tokens, running_copy


def attribute(extractor, dictionaries, text, *, target=None, position=-1, freeze=()) -> pd.DataFrame:
    """
    Tell how much each factor at each token contributes to a token that the model says, or to a factor further up.

    Parameters
    ----------
    extractor : TransformerFeatureExtractor
        Whose model runs.
    dictionaries : dict
        Fitted dictionaries by layer, or by (site, layer). A layer alone is one of the extractor's site. Of a
        transcoder, which reads one site and predicts another, the site is a pair, by default "mlp_input" and
        "mlp_output".
    text : str
        Read in one window.
    target : str, int or tuple, default=None
        A token, by its text or id: its logit at the position, less the mean logit, is what is explained. None is the
        token that the model finds most probable. Or ``(place, factor)``, with a place of `dictionaries`: the factor's
        activation at the position.
    position : int, default=-1
        The token of the text at which the target is read, counted from 0, or from the end. What a decoder says there
        is the next token.
    freeze : sequence of {"attention", "norms"}, default=()
        What is taken for given: who attends to whom, and by what norms divide. The rest of the path from a factor to
        the target is then linear but for the MLPs, and linear where transcoders stand in for these.

    Returns
    -------
    DataFrame
        A row for each factor that is active at a token and reaches the target, those that add most first: `site`,
        `layer`, `position`, `token`, `factor`, `activation`, `gradient` (of the target with respect to the activation),
        and `contribution`, their product. `attrs` holds `text`, `target`, `token_id` (None for a factor), `position`,
        and the target's `value`.

    Raises
    ------
    NotFittedError
        If a dictionary is not fitted.
    TypeError, ValueError
        If there is no such place, token, factor or position, the text is longer than a window, the factor is not active
        at the position, the model has no head for a token, or it is not known how to freeze its parts.

    See Also
    --------
    check_attribution : Ablates what contributes most.
    intervene : Changes factors at all tokens.

    Notes
    -----
    States are the sum of what the dictionary explains and an error, which is kept. A contribution is what the target
    would lose, to first order, if the factor were ablated at the token and the model went on from there, through all
    that follows. A transcoder stands in for its MLP: what goes through the MLP goes through the transcoder's codes,
    with an error that stays.

    Examples
    --------
    >>> from sklearn.decomposition import PCA
    >>> from skfactors import TransformerFeatureExtractor
    >>> from skfactors.datasets import demo_language_model
    >>> from skfactors.interventions import attribute
    >>> extractor = TransformerFeatureExtractor(demo_language_model(), site="block_output", layers=[19])
    >>> text = "The capital of France is"
    >>> dictionary = PCA(3).fit(extractor.extract([text]).X)
    >>> table = attribute(extractor, {19: dictionary}, text)
    >>> table.attrs["target"]
    ' Paris'
    """
    with _running(extractor, dictionaries, text) as run, torch.inference_mode(False), torch.enable_grad():
        aim = run.aim(target, position)
        with frozen(run.model, [freeze] if isinstance(freeze, str) else freeze):
            value, flows = run.value(aim, _Watch)
        if not value.requires_grad:
            raise ValueError(f"target={target!r}: no other place of {list(dictionaries)} comes before it.")
        gradients = torch.autograd.grad(value, [flow.probe for flow in flows], allow_unused=True)
        parts = [flow.table(gradient) for flow, gradient in zip(flows, gradients, strict=True) if gradient is not None]
        table = pd.concat([run.placed(part) for part in parts])
        table = table.sort_values("contribution", ascending=False, kind="stable", ignore_index=True)
        table.attrs = {"text": text, "target": aim.target, "token_id": aim.token_id, "position": aim.position}
        table.attrs["value"] = float(value.detach())
        return table


def check_attribution(extractor, dictionaries, table, *, k=10, n_draws=1, random_state=None) -> pd.DataFrame:
    """
    Ablate the factors that contribute most, each at its token, beside as many that are active, drawn at random.

    Parameters
    ----------
    extractor : TransformerFeatureExtractor
        That of the attribution.
    dictionaries : dict
        Those of the attribution.
    table : DataFrame
        What :func:`attribute` returned.
    k : int, default=10
        How many rows of the table are ablated together.
    n_draws : int, default=1
        How often as many of the other rows are drawn.
    random_state : int, RandomState or None, default=None
        Decides which.

    Returns
    -------
    DataFrame
        A row for the factors named, and one for each draw: `ablated` ("named" or "random"), `predicted` (minus the sum
        of their contributions) and `change` (what the target became, less what it was).

    Raises
    ------
    ValueError
        If the table has fewer than `k` rows beside the first `k`.

    Examples
    --------
    >>> from sklearn.decomposition import PCA
    >>> from skfactors import TransformerFeatureExtractor
    >>> from skfactors.datasets import demo_language_model
    >>> from skfactors.interventions import attribute, check_attribution
    >>> extractor = TransformerFeatureExtractor(demo_language_model(), site="block_output", layers=[19])
    >>> text = "The capital of France is"
    >>> dictionary = PCA(3).fit(extractor.extract([text]).X)
    >>> table = attribute(extractor, {19: dictionary}, text)
    >>> check_attribution(extractor, {19: dictionary}, table, k=2, random_state=0)["ablated"].tolist()
    ['named', 'random']
    """
    check_scalar(k, "k", Integral, min_val=1)
    if len(table) < 2 * k:
        raise ValueError(f"The table has {len(table)} rows, too few for {k} named and {k} others: lower k.")
    rng = check_random_state(random_state)
    chosen = [("named", np.arange(k))]
    chosen += [("random", k + rng.choice(len(table) - k, k, replace=False)) for _ in range(n_draws)]
    rows = []
    with _running(extractor, dictionaries, table.attrs["text"]) as run, torch.no_grad():
        told = table.attrs
        aim = run.aim(told["target"] if told["token_id"] is None else told["token_id"], told["position"])
        for name, numbers in chosen:
            nodes = table.iloc[numbers]
            value, _ = run.value(aim, _Ablation, nodes)
            change = float(value) - told["value"]
            rows.append({"ablated": name, "predicted": -float(nodes["contribution"].sum()), "change": change})
    return pd.DataFrame(rows)


@dataclass(frozen=True)
class _Aim:
    """What is explained: a token's logit, or a factor's activation, at a token of the window."""

    target: object
    position: int
    window_token: int
    token_id: int | None = None
    place: object = None
    factor: int | None = None


@contextmanager
def _running(extractor, dictionaries, text) -> Iterator["_Run"]:
    if not isinstance(text, str):
        raise TypeError(f"text is of type {type(text).__name__}; one str is explained.")
    if not isinstance(dictionaries, Mapping) or not dictionaries:
        raise TypeError("dictionaries must be a dict of at least one dictionary, by layer or by (site, layer).")
    with running_copy(extractor) as (model, tokenizer):
        readers = {}
        for key, dictionary in dictionaries.items():
            site, layer = key if isinstance(key, tuple) else (None, key)
            readers[key] = Reader(model, extractor, dictionary, site, layer)
        yield _Run(extractor, model, tokenizer, readers, text)


class _Run:
    """A text, and a model that reads it with dictionaries at their places."""

    def __init__(self, extractor, model, tokenizer, readers, text):
        self.model, self.readers = model, readers
        self._tokens, self._tokenizer = Tokens(tokenizer), tokenizer
        encoded = tokenizer(
            text,
            add_special_tokens=extractor.add_special_tokens,
            split_special_tokens=True,
            return_offsets_mapping=True,
            return_special_tokens_mask=True,
        )
        ids = encoded["input_ids"]
        n_tokens = window_length(extractor, model, tokenizer)
        if len(ids) > n_tokens:
            limit = "max_length" if n_tokens == extractor.max_length else "the positions of the model"
            raise ValueError(f"The text has {len(ids)} tokens, and a window {n_tokens} ({limit}): it must fit in one.")
        self._of_text = np.flatnonzero(np.array(encoded["special_tokens_mask"]) == 0)
        self._texts = [text[slice(*encoded["offset_mapping"][number])] for number in self._of_text]
        device = next(model.parameters()).device
        self._inputs = {"input_ids": torch.tensor([ids], device=device)}
        self._inputs["attention_mask"] = torch.ones_like(self._inputs["input_ids"])

    def aim(self, target, position) -> _Aim:
        n_tokens = len(self._of_text)
        if not isinstance(position, Integral) or isinstance(position, bool):
            raise TypeError(f"position={position!r} is not an integer.")
        if not -n_tokens <= position < n_tokens:
            raise ValueError(f"position={position}: the text has {n_tokens} tokens.")
        position = int(position) % n_tokens
        at = position, int(self._of_text[position])
        if isinstance(target, tuple):
            if len(target) != 2 or target[0] not in self.readers:
                raise ValueError(f"target={target!r} is no place of {list(self.readers)} and a factor.")
            n_components = len(self.readers[target[0]].factors.directions)
            if not isinstance(target[1], Integral) or not 0 <= target[1] < n_components:
                raise ValueError(f"target={target!r}: there are factors from 0 to {n_components - 1}.")
            if not self.readers[target[0]].factors.has_gradients:
                raise ValueError(f"target={target!r}: codes of this dictionary have no gradients.")
            return _Aim(target, *at, place=target[0], factor=int(target[1]))
        if self.model.get_output_embeddings() is None:
            raise ValueError(f"{type(self.model).__name__} has no head and says no token: name a factor as the target.")
        if target is None:
            with torch.no_grad():
                token_id = int(self.model(**self._inputs).logits[0, at[1]].argmax())
            return _Aim(self._tokenizer.decode([token_id]), *at, token_id=token_id)
        ids = self._tokenizer(target, add_special_tokens=False)["input_ids"] if isinstance(target, str) else [target]
        if len(ids) != 1 or not 0 <= ids[0] < self.model.get_output_embeddings().weight.shape[0]:
            raise ValueError(f"target={target!r} is not one token of the model.")
        return _Aim(target, *at, token_id=int(ids[0]))

    def value(self, aim: _Aim, kind, *others):
        """Run the model with a flow of some kind at each place; return the target's value, and the flows."""
        aims = {key: aim if key == aim.place else None for key in self.readers}
        flows = [kind(reader, self, aims[key], *others) for key, reader in self.readers.items()]
        by_place = {}
        for flow in flows:
            for place, function in flow.functions().items():
                if place in by_place:
                    raise ValueError(f"There are two dictionaries at {tuple(place)}.")
                by_place[place] = function
        runs = reading_part(self.model) if aim.token_id is None else self.model
        with self._tokens.noted(self.model), hooked(self.model, by_place):
            said = runs(**self._inputs)
        if aim.token_id is not None:
            at_token = said.logits[0, aim.window_token].float()
            return at_token[aim.token_id] - at_token.mean(), flows
        (value,) = [flow.value for flow in flows if flow.value is not None]
        return value, flows

    def of_text(self, reader, states):
        return reader.of_text(states, self._tokens)

    def positions(self, where) -> np.ndarray:
        """Return the numbers, as in provenance, of the tokens that are read."""
        return np.searchsorted(self._of_text, np.flatnonzero(where[0].cpu().numpy()))

    def placed(self, part: pd.DataFrame) -> pd.DataFrame:
        part.insert(3, "token", [self._texts[position] for position in part["position"]])
        return part


class _Watch:
    """Reads the codes of a place, and lets gradients with respect to what the factors add there be taken."""

    def __init__(self, reader, run, aim):
        self._reader, self._run, self._aim = reader, run, aim
        self.probe, self.value = torch.zeros(1, requires_grad=True), None

    def functions(self):
        if self._reader.reads == self._reader.writes:
            return {self._reader.reads: self._both}
        return {self._reader.reads: self._read, self._reader.writes: self._write}

    def _both(self, states):
        self._read(states)
        return self._write(states)

    def _read(self, states):
        factors = self._reader.factors
        where = self._run.of_text(self._reader, states)
        rows = states[where].to(factors.directions.dtype)
        self.where, self.positions, self._rows = where, self._run.positions(where), rows
        codes = factors.encode(rows.detach() if self._aim is None else rows)
        self.sizes = factors.sizes(rows.detach())
        self.codes = codes.detach()
        if self._aim is not None:
            (numbers,) = np.nonzero(self.positions == self._aim.position)
            if not len(numbers) or not self.codes[numbers[0], self._aim.factor]:
                raise ValueError(f"Factor {self._aim.factor} is not active at token {self._aim.position}.")
            self.value = codes[numbers[0], self._aim.factor]

    def _write(self, states):
        self.probe = torch.zeros_like(states[self.where], requires_grad=True)
        new = states[self.where] + self.probe
        if self._reader.reads != self._reader.writes:
            predicted = self._reader.factors.decoded(self._rows).to(states.dtype)
            new = predicted + (states[self.where] - predicted).detach() + self.probe
        changed = states.clone()
        changed[self.where] = new
        return changed

    def table(self, gradient) -> pd.DataFrame:
        slopes = self.sizes * (gradient.to(self.codes.dtype) @ self._reader.factors.directions.T)
        reaches = (self.codes != 0) & (slopes != 0)
        rows, factors = (numbers.cpu().numpy() for numbers in reaches.nonzero(as_tuple=True))
        columns = {"activation": self.codes, "gradient": slopes, "contribution": self.codes * slopes}
        place = self._reader.writes
        found = {name: values.cpu().numpy()[rows, factors] for name, values in columns.items()}
        return pd.DataFrame(
            {"site": place.site, "layer": place.layer, "position": self.positions[rows], "factor": factors} | found
        )


class _Ablation(_Watch):
    """Takes out what some factors add at some tokens."""

    def __init__(self, reader, run, aim, nodes):
        super().__init__(reader, run, aim)
        here = (nodes["site"] == reader.writes.site) & (nodes["layer"] == reader.writes.layer)
        self._nodes = nodes.loc[here, ["position", "factor"]].to_numpy()

    def _write(self, states):
        is_out = torch.zeros_like(self.codes)
        for position, factor in self._nodes:
            is_out[np.flatnonzero(self.positions == position), factor] = 1
        changed = states.clone()
        out = self.sizes * ((self.codes * is_out) @ self._reader.factors.directions)
        changed[self.where] = states[self.where] - out.to(states.dtype)
        return changed
