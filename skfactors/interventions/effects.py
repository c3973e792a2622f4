"""What a language model loses when factors are ablated."""

import pandas as pd
import torch

from skfactors.dictionaries import as_factor_model
from skfactors.extraction.beginnings import beginnings
from skfactors.extraction.facts import is_decoder
from skfactors.interventions.editing import intervene


def ablation_effects(extractor, dictionary, texts, factors=None, *, layer=None, site=None) -> pd.DataFrame:
    """
    Tell how much a decoder's loss rises when a factor is ablated.

    Parameters
    ----------
    extractor : TransformerFeatureExtractor
        Of a decoder.
    dictionary : FactorModel, Pipeline or estimator
        Fitted.
    texts : list of str
        Of each, as many tokens are read as a window holds: `max_length`, or the positions of the model if fewer.
    factors : sequence of int, default=None
        Each is ablated by itself, in passes over all texts. None ablates one after the other, all of them.
    layer, site : default=None
        As in :func:`intervene`.

    Returns
    -------
    DataFrame
        Index `factor`; columns `loss` and `ablated_loss`, in nats a token, and `effect`, their difference.

    Raises
    ------
    NotFittedError, TypeError, ValueError
        As :func:`intervene`, or if the model predicts no next token, or the texts have no two tokens in a row.

    See Also
    --------
    skfactors.reports.output_tokens : Which tokens a factor speaks for.

    Examples
    --------
    >>> from sklearn.decomposition import PCA
    >>> from skfactors import TransformerFeatureExtractor
    >>> from skfactors.datasets import demo_language_model
    >>> from skfactors.interventions import ablation_effects
    >>> extractor = TransformerFeatureExtractor(demo_language_model(), site="block_output", layers=[19])
    >>> text = "The capital of France is"
    >>> dictionary = PCA(3).fit(extractor.extract([text]).X)
    >>> ablation_effects(extractor, dictionary, [text], [0, 2]).index.tolist()
    [0, 2]
    """
    model, tokenizer = extractor.language_model()
    if not is_decoder(model):
        raise ValueError(f"{type(model).__name__} is no decoder: it has no loss of next tokens.")
    batches = list(batches_of_texts(extractor, model, tokenizer, texts))
    loss = mean_loss(model, batches)
    factors = range(len(as_factor_model(dictionary).components_)) if factors is None else factors
    ablated = {}
    for factor in factors:
        with intervene(extractor, dictionary, layer=layer, site=site, ablate=[factor]) as changed:
            ablated[factor] = mean_loss(changed, batches)
    table = pd.DataFrame({"loss": loss, "ablated_loss": pd.Series(ablated, dtype=float)})
    return table.assign(effect=table["ablated_loss"] - loss).rename_axis("factor")


def batches_of_texts(extractor, model, tokenizer, texts):
    """Yield inputs of a model, padded on the right, for the beginnings of texts."""
    for start in range(0, len(texts), extractor.batch_size):
        ids, mask, _ = beginnings(extractor, model, tokenizer, texts[start : start + extractor.batch_size], start)
        yield {"input_ids": torch.from_numpy(ids), "attention_mask": torch.from_numpy(mask)}


def mean_loss(model, batches) -> float:
    """
    Return a decoder's loss in nats a token, each token of the batches but the first of its text counted once.

    Raises
    ------
    ValueError
        If there is no such token.
    """
    total, n_tokens, device = 0.0, 0, next(model.parameters()).device
    for batch in batches:
        batch = {name: values.to(device) for name, values in batch.items()}
        with torch.no_grad():
            logits = model(**batch).logits[:, :-1].float()
        ids, counts = batch["input_ids"][:, 1:], batch["attention_mask"][:, 1:] == 1
        total += float(torch.nn.functional.cross_entropy(logits[counts], ids[counts], reduction="sum"))
        n_tokens += int(counts.sum())
    if not n_tokens:
        raise ValueError("The texts have no token after another, so that nothing is predicted.")
    return total / n_tokens
