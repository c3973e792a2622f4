"""What a language model still predicts when states are replaced by their reconstructions."""

from collections.abc import Iterator
from functools import partial
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch

from skfactors.dictionaries.one_place import model_of_one_place
from skfactors.evaluations.controls import UNLEARNED, make_controls
from skfactors.evaluations.figures import CLEAN, DICTIONARY, MEAN, ZERO, Figures
from skfactors.extraction.beginnings import beginnings
from skfactors.extraction.hooks import hooked, twin
from skfactors.extraction.models import Headless
from skfactors.extraction.text.corpus import held
from skfactors.progress import progress_bar

_SHARE_MASKED = 0.15


def loss_recovered(
    extractor,
    dictionary,
    texts,
    *,
    site=None,
    layer=None,
    controls=UNLEARNED,
    n_resamples=1000,
    random_state=0,
    verbose=False,
) -> pd.DataFrame:
    """
    Tell how much of a language model's loss its states keep when they are replaced by their reconstructions.

    A model without a head, such as an encoder of sentences, has a text's embedding in place of a loss: the mean of the
    last hidden states of its tokens. The loss is then 1 less its cosine with the model's own.

    Parameters
    ----------
    extractor : TransformerFeatureExtractor
        Of a model with a head that predicts next tokens or masked ones, or of one without a head. Of each text as
        many tokens are read as a window holds: `max_length`, or the positions of the model where they are fewer.
    dictionary : FactorModel, Pipeline or estimator
        Fitted to rows of one place.
    texts : sequence of str
        Others than the dictionary learned from.
    site, layer : default=None
        The place; None is the only one that the extractor reads.
    controls : sequence of str, default=("random factors", "hidden dimensions", "principal components")
        Of `CONTROLS`, coded with as many active factors a row. The mean row and zeros in place of the states are always
        there.
    n_resamples : int, default=1000
        Of the bootstrap for intervals, over texts.
    random_state : int, default=0
        For random factors, the bootstrap, and which tokens are masked: 15 in 100.
    verbose : bool, default=False
        Show a progress bar.

    Returns
    -------
    DataFrame
        Columns as :func:`ground_truth` has them, over texts. Measures are `recovered_from_zero` and
        `recovered_from_mean`, (L₀ - L) / (L₀ - L*) with L the loss, L* that of the model itself, and L₀ that of zeros
        or of the mean row in place of the states; `loss`, in nats a token; and `kl`, the divergence of the predictions
        from the model's own; without a head, `cosine` in place of these two. Where ablation makes the loss no higher,
        there is nothing to recover, and the figure is NaN.

    Raises
    ------
    NotFittedError, OSError, TypeError, ValueError
        If the dictionary is not fitted, or has rows of another width; the model cannot be loaded, predicts no masked
        token for want of a mask, or is an encoder-decoder; there is no such place or control; or the texts have nothing
        to predict.

    See Also
    --------
    evaluate : Several evaluations in one call.

    Notes
    -----
    Special tokens keep their states and are not predicted. Where the extractor drops outliers, tokens longer than all
    rows that it keeps of these texts keep their states, too.

    Examples
    --------
    >>> from skfactors import SparseDictionary, TransformerFeatureExtractor
    >>> from skfactors.datasets import demo_language_model
    >>> from skfactors.evaluations import loss_recovered
    >>> extractor = TransformerFeatureExtractor(
    ...     demo_language_model(), site="block_output", layers=[10], drop_outliers=10
    ... )
    >>> texts = ["The cat sat on the mat.", "A dog lay beside it."]
    >>> dictionary = SparseDictionary(8, n_nonzero_coefs=2, random_state=0).fit(extractor.extract(texts).X)
    >>> table = loss_recovered(extractor, dictionary, texts, controls="random factors")
    >>> table["scored"].unique().tolist()
    ['dictionary', 'random factors', 'mean row', 'zeros', "the model's own states"]
    """
    texts, factor_model = list(held(texts)), model_of_one_place(dictionary, reconstructs=True)
    model, tokenizer, task = _task_of(extractor)
    acts = extractor.extract(texts).at(site, layer)
    X, (place,) = np.asarray(acts.X), acts.places
    limit = np.inf if extractor.drop_outliers is None else np.linalg.norm(X.astype(np.float64), axis=1).max()
    coded = {DICTIONARY: factor_model, **make_controls(factor_model, X, controls, random_state)}
    replacing = {name: model_of_one_place(of, reconstructs=True).reconstruct for name, of in coded.items()}
    replacing[MEAN] = partial(_constant, X.mean(axis=0, dtype=np.float64))
    replacing[ZERO] = np.zeros_like
    model, sums = twin(model), {name: [] for name in (*replacing, CLEAN)}
    batches = _batches(extractor, model, tokenizer, texts, task, random_state)
    with progress_bar("loss recovered", total=len(texts), enabled=verbose) as advance:
        for batch in batches:
            clean = task.predictions(model, batch)
            sums[CLEAN].append(task.losses(clean, clean, batch))
            for name, replace in replacing.items():
                with hooked(model, {place: partial(_replaced, replace, batch.is_word, limit)}):
                    sums[name].append(task.losses(task.predictions(model, batch), clean, batch))
            advance(len(batch.ids))
    sums = {name: np.concatenate(of) for name, of in sums.items()}
    has_predicted = sums[CLEAN][:, 2] > 0
    if not has_predicted.any():
        raise ValueError(f"The texts have no token to {task.does}: give longer ones.")
    sums = {name: of[has_predicted] for name, of in sums.items()}
    figures = Figures(n_resamples, random_state)
    for name, of in sums.items():
        for measure, least in (("recovered_from_zero", ZERO), ("recovered_from_mean", MEAN)):
            figures.add(
                measure, name, sums[least][:, 0] - of[:, 0], sums[least][:, 0] - sums[CLEAN][:, 0], units="texts"
            )
        if task is _Embedding:
            figures.add("cosine", name, of[:, 0], of[:, 2], units="texts", complement=True)
        else:
            figures.add("loss", name, of[:, 0], of[:, 2], units="texts")
            figures.add("kl", name, of[:, 1], of[:, 2], units="texts")
    return figures.table()


class _Batch(NamedTuple):
    """Inputs of a model; which of them are words; and which outputs predict which tokens."""

    ids: torch.Tensor
    mask: torch.Tensor
    is_word: torch.Tensor
    targets: torch.Tensor
    # Whether each place predicts a token that counts.
    counts: torch.Tensor


def _task_of(extractor):
    """Open the model, and say what it is asked to do with texts."""
    try:
        model, tokenizer = extractor.language_model()
    except Headless:
        model, tokenizer = extractor.language_model(need_head=False)
        task = _Embedding
    else:
        task = _NextToken if model.can_generate() else _MaskedToken
    if model.config.is_encoder_decoder:
        raise ValueError(f"{type(model).__name__} is an encoder-decoder: it has no loss on a text by itself.")
    if task is _MaskedToken and tokenizer.mask_token_id is None:
        raise ValueError(f"{type(model).__name__} predicts no next token, and its tokenizer has no mask.")
    return model, tokenizer, task


def _batches(extractor, model, tokenizer, texts, task, random_state) -> Iterator[_Batch]:
    for start in range(0, len(texts), extractor.batch_size):
        of_batch = texts[start : start + extractor.batch_size]
        ids, mask, is_word = beginnings(extractor, model, tokenizer, of_batch, start)
        randoms = [np.random.default_rng([random_state, start + number]) for number in range(len(of_batch))]
        ids, targets, counts = task.asked(ids, is_word, tokenizer, randoms)
        yield _Batch(*map(torch.from_numpy, (ids, mask, is_word, targets, counts)))


class _NextToken:
    """Each word is predicted from what stands before it."""

    does = "predict"

    @staticmethod
    def asked(ids, is_word, tokenizer, randoms):
        """Return ids to run, which tokens are to be predicted at each place, and at which places it counts."""
        counts = np.roll(is_word, -1, axis=1)
        counts[:, -1] = False
        return ids, np.roll(ids, -1, axis=1), counts

    @staticmethod
    @torch.no_grad()
    def predictions(model, batch: _Batch) -> torch.Tensor:
        """Return the log-probabilities of tokens, where they count."""
        return _run(model, batch).logits[batch.counts.to(model.device)].float().log_softmax(dim=-1)

    @staticmethod
    def losses(predictions, clean, batch: _Batch) -> np.ndarray:
        """Return for each text the loss, the divergence from the model's own predictions, and how many tokens count."""
        targets = batch.targets[batch.counts].to(predictions.device)
        losses = -predictions.gather(1, targets[:, None])[:, 0]
        divergences = (clean.exp() * (clean - predictions)).sum(dim=1)
        texts = batch.counts.nonzero()[:, 0].numpy()
        weights = losses.cpu().double().numpy(), divergences.cpu().double().numpy(), np.ones(len(texts))
        return np.stack([np.bincount(texts, weights=of, minlength=len(batch.ids)) for of in weights], axis=1)


class _MaskedToken(_NextToken):
    """Some words are hidden, and predicted from the others."""

    @staticmethod
    def asked(ids, is_word, tokenizer, randoms):
        """Return them likewise."""
        # Each text has a generator of its own, so that the hidden words do not depend on batches.
        counts = is_word & (np.stack([random.random(ids.shape[1]) for random in randoms]) < _SHARE_MASKED)
        return np.where(counts, tokenizer.mask_token_id, ids), ids, counts


class _Embedding:
    """A text is embedded by the mean of its last hidden states."""

    does = "embed"

    @staticmethod
    def asked(ids, is_word, tokenizer, randoms):
        """Return them likewise: every word counts, and none is predicted."""
        return ids, ids, is_word

    @staticmethod
    @torch.no_grad()
    def predictions(model, batch: _Batch) -> torch.Tensor:
        """Return the embeddings of texts."""
        states = _run(model, batch).last_hidden_state.double()
        mask = batch.mask.to(states)[:, :, None]
        return (states * mask).sum(dim=1) / mask.sum(dim=1).clamp_min(1)

    @staticmethod
    def losses(embeddings, clean, batch: _Batch) -> np.ndarray:
        """Return for each text 1 less the cosine with the model's own embedding, 0, and whether it has a word."""
        cosines = torch.cosine_similarity(embeddings, clean, dim=1).cpu().numpy()
        has_word = batch.counts.any(dim=1).numpy()
        return np.stack([(1 - cosines) * has_word, np.zeros(len(cosines)), has_word], axis=1)


def _run(model, batch: _Batch):
    return model(input_ids=batch.ids.to(model.device), attention_mask=batch.mask.to(model.device))


def _replaced(replace, is_word, limit, states):
    where = is_word.to(states.device) & (states.float().norm(dim=-1) <= limit)
    if not where.any():
        return None
    rows = replace(states[where].float().cpu().numpy())
    changed = states.clone()
    changed[where] = torch.as_tensor(rows).to(states)
    return changed


def _constant(row, X):
    return np.broadcast_to(row, X.shape).copy()
