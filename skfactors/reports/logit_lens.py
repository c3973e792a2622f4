"""The logit lens: which output tokens a factor speaks for, and which against."""

import numpy as np
import pandas as pd
import torch
from sklearn.utils import check_scalar

from skfactors.dictionaries import as_factor_model
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
    The component goes through the model's last norm and its unembedding as if it were the whole state; logits are less
    their mean over all tokens. Of what happens between the factor's layer and the last one this knows nothing, and so
    it means most in late layers (nostalgebraist 2020, "interpreting GPT: the logit lens").
    """
    check_scalar(k, "k", int, min_val=1)
    components = np.asarray(as_factor_model(dictionary).components_)
    asked = range(len(components)) if factors is None else check_known(factors, range(len(components)), "factor")
    model, tokenizer = extractor.language_model()
    if not (hasattr(model, "can_generate") and model.can_generate()):
        raise ValueError(f"{type(model).__name__} is no decoder: it predicts no next token.")
    sites = [extractor.site] if isinstance(extractor.site, str) else list(extractor.site)
    unembedding = model.get_output_embeddings().weight
    if _NOT_THE_STREAM.intersection(sites) or components.shape[1] != unembedding.shape[1]:
        raise ValueError(
            f"Factors of {' and '.join(map(repr, sites))}, of {components.shape[1]} features, are none of the stream "
            f"of {unembedding.shape[1]} that the head reads."
        )
    norm, parts = _last_norm(model), []
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


def _last_norm(model):
    """Return the norm before the head; a function that leaves all as it is where there is none."""
    n_blocks = len(find_site(model, "block_input").layers(reading_part(model)))
    module, _, block = find_module(model, Place(HIDDEN_STATES, n_blocks))
    return (lambda states: states) if module is block else module
