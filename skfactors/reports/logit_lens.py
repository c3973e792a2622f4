"""The logit lens: which output tokens a factor speaks for, and which against."""

from collections.abc import Iterable
from numbers import Integral

import numpy as np
import pandas as pd
import torch
from sklearn.utils import check_scalar

from skfactors.dictionaries import as_factor_model
from skfactors.extraction.facts import is_decoder
from skfactors.extraction.sites import HIDDEN_STATES, Place, find_module, find_site, reading_part
from skfactors.reports.arguments import check_known

_FACTORS_AT_A_TIME = 128
# What these read or give lies in no space that the head can read.
_NOT_THE_STREAM = {"attention_heads", "mlp_input"}


def output_tokens(extractor, dictionary, factors=None, *, k=10) -> pd.DataFrame:
    """
    Tell which tokens of a language model each factor speaks for, and which against.

    Parameters
    ----------
    extractor : TransformerFeatureExtractor
        Of a decoder.
    dictionary : FactorModel, Pipeline or estimator
        Fitted, to rows of the residual stream or of what is added to it.
    factors : int or sequence of int, default=None
        None tells of all.
    k : int, default=10
        Tokens at either end.

    Returns
    -------
    DataFrame
        Columns `factor`, `end` ("top" or "bottom"), `rank` (from 0, the farthest first), `token` and `logit`.

    Raises
    ------
    NotFittedError
        If the dictionary is not fitted.
    TypeError, ValueError
        If there is no such factor, the model is no decoder, or its head cannot read the factors.

    See Also
    --------
    skfactors.interventions.ablation_effects : What the model loses without a factor.

    Notes
    -----
    The component goes through the model's last norm and its unembedding as if it were the whole state, and through the
    unembedding alone where the extractor reads the last hidden states only, which have had the norm; logits are less
    their mean over all tokens. Of what happens between the factor's layer and the last one this knows nothing, and so
    it means most in late layers (nostalgebraist 2020, "interpreting GPT: the logit lens").

    Examples
    --------
    >>> from sklearn.decomposition import PCA
    >>> from skfactors import TransformerFeatureExtractor
    >>> from skfactors.datasets import demo_language_model
    >>> from skfactors.reports import output_tokens
    >>> extractor = TransformerFeatureExtractor(demo_language_model(), site="block_output", layers=[19])
    >>> text = "The capital of France is"
    >>> dictionary = PCA(3).fit(extractor.extract([text]).X)
    >>> output_tokens(extractor, dictionary, 0, k=3)["end"].tolist()
    ['top', 'top', 'top', 'bottom', 'bottom', 'bottom']
    """
    components = np.asarray(as_factor_model(dictionary).components_)
    asked = range(len(components)) if factors is None else check_known(factors, range(len(components)), "factor")
    model, tokenizer = extractor.language_model()
    if not is_decoder(model):
        raise ValueError(
            f"{type(model).__name__} is no decoder: its head reads no states of a text that predict the next."
        )
    sites = [extractor.site] if isinstance(extractor.site, str) else list(extractor.site)
    unembedding = model.get_output_embeddings().weight
    check_scalar(k, "k", Integral, min_val=1, max_val=len(unembedding))
    if _NOT_THE_STREAM.intersection(sites) or components.shape[1] != unembedding.shape[1]:
        raise ValueError(
            f"Factors of {' and '.join(map(repr, sites))}, of {components.shape[1]} features, are none of the stream "
            f"of {unembedding.shape[1]} that the head reads."
        )
    norm, parts = _norm_after(extractor, model), []
    for start in range(0, len(asked), _FACTORS_AT_A_TIME):
        numbers = list(asked[start : start + _FACTORS_AT_A_TIME])
        with torch.no_grad():
            directions = torch.as_tensor(components[numbers]).to(unembedding)
            logits = (norm(directions) - norm(torch.zeros_like(directions))).float() @ unembedding.float().T
            logits -= logits.mean(1, keepdim=True)
            for end, sign in (("top", 1), ("bottom", -1)):
                found = (sign * logits).topk(k)
                parts.append(
                    pd.DataFrame(
                        {
                            "factor": np.repeat(numbers, k),
                            "end": end,
                            "rank": np.tile(np.arange(k), len(numbers)),
                            "token": [tokenizer.decode([token]) for token in found.indices.flatten().tolist()],
                            "logit": sign * found.values.flatten().cpu().numpy(),
                        }
                    )
                )
    table = pd.concat(parts)
    order = table["factor"].map({number: place for place, number in enumerate(asked)})
    return table.assign(order=order).sort_values("order", kind="stable", ignore_index=True).drop(columns="order")


def _norm_after(extractor, model):
    """Return the norm before the head; where there is none, or states have had it, what leaves all as it is."""
    n_blocks = len(find_site(model, "block_input").layers(reading_part(model)))
    module, _, block = find_module(model, Place(HIDDEN_STATES, n_blocks))
    layers = extractor.layers if isinstance(extractor.layers, Iterable) else []
    are_last = extractor.site == HIDDEN_STATES and {layer % (n_blocks + 1) for layer in layers} == {n_blocks}
    return (lambda states: states) if module is block or are_last else module
