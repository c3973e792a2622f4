"""Saliency: which tokens of its context make a factor active at a place."""

from collections.abc import Iterator
from numbers import Integral

import numpy as np
import pandas as pd
from sklearn.utils import check_random_state, check_scalar

from skfactors.dictionaries.one_place import model_of_one_place
from skfactors.progress import progress_bar
from skfactors.reports.saliency.methods import METHODS
from skfactors.reports.saliency.records import context_key
from skfactors.reports.saliency.targets import grouped


def token_saliency(
    extractor, dictionary, text, factor, layer, position, *, method="lime", n_samples=1000, random_state=None
) -> pd.Series:
    """
    Tell how much each token of its context makes a factor active at a token.

    Parameters
    ----------
    extractor : TransformerFeatureExtractor
        Its model, tokenizer and windows are used, whatever its `layers`.
    dictionary : FactorModel, Pipeline or estimator
        Fitted: a dictionary, or a pipeline that ends in one.
    text : str
        What the extractor reads.
    factor : int
        The factor whose activation is explained.
    layer : int
        Index into the model's hidden states: 0 is the embeddings, negative ones count from the end.
    position : int
        The token whose activation is explained, counted in the text's tokens from 0, as provenance counts them.
    method : {"lime", "occlusion", "group_occlusion", "gradient"}, default="lime"
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

    "group_occlusion" hides together all tokens that are the same but for upper and lower case, and shares the drop
    among them: of what was mentioned twice before, where either mention suffices, "occlusion" sees neither. The token
    itself is hidden alone, and then the others like it.

    "gradient" is the gradient of the product of the hidden state with the factor's direction,
    ``state @ components_[factor]``, with respect to each token's input embedding, times that embedding less the mask's:
    to first order, what masking the token takes away. It looks at the product, not at the activation: neither the
    threshold nor the other factors enter. Of a dictionary with an encoder it is the gradient of the code itself.

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
    texts : iterable of str
        By document number; of those that take no brackets, such as a generator, all are read up to the last context.
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
    model = model_of_one_place(dictionary)
    if method not in METHODS:
        raise ValueError(f"method={method!r} is not one of {', '.join(map(repr, METHODS))}.")
    # A plain int: it is kept with the saliency, in a report's file, too.
    n_samples = int(check_scalar(n_samples, "n_samples", Integral, min_val=2))
    if not hasattr(extractor, "probe"):
        raise TypeError(f"extractor is of type {type(extractor).__name__}; a TransformerFeatureExtractor is needed.")
    probe = extractor.probe()
    groups = grouped(probe, texts, contexts, len(model.components_))
    seed = random_state
    if not isinstance(seed, Integral):
        seed = check_random_state(random_state).randint(np.iinfo(np.int32).max)
    return METHODS[method](probe, model, groups, n_samples=n_samples, seed=seed)


def add_missing(saliencies, extractor, dictionary, texts, contexts, *, method, n_samples, random_state, verbose):
    """
    Compute the saliency of contexts that have none by this method yet.

    Parameters
    ----------
    saliencies : dict of context key to Series
        Each saliency is put in as soon as it is there.
    extractor, dictionary, texts
        What the report was made from.
    contexts : DataFrame
        Rows of a table of top contexts.
    method, n_samples, random_state
        As :func:`token_saliency` takes them.
    verbose : bool

    Raises
    ------
    ValueError
        If the texts are not those of the contexts.
    """
    asked = (method, n_samples if method == "lime" else None)
    have = {key for key, saliency in saliencies.items() if _made_by(saliency) == asked}
    is_missing = [context_key(context) not in have for context in contexts.itertuples()]
    contexts = contexts[is_missing]
    keys = [context_key(context) for context in contexts.itertuples()]
    if not keys:
        return
    found = iter_saliency(
        extractor,
        dictionary,
        texts,
        contexts,
        method=method,
        n_samples=n_samples,
        random_state=random_state,
    )
    tokens = contexts["token"].tolist()
    with progress_bar("finding salient tokens", total=len(keys), enabled=verbose) as advance:
        for number, saliency in found:
            key = keys[number]
            token = saliency.xs(key[-1], level="position").index[0]
            if token != tokens[number]:
                raise ValueError(
                    f"texts[{key[2]}] has the token {token!r} at position {key[-1]}, and the report has "
                    f"{tokens[number]!r}: pass the texts and the extractor that the report was made from."
                )
            saliencies[key] = saliency
            advance(1)


def _made_by(saliency):
    return saliency.attrs["method"], saliency.attrs["n_samples"]
