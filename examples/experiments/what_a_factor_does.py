"""
What is lost when hidden states are replaced by their factors?
==============================================================

A layer's hidden states are replaced by their reconstruction while the model runs, and the model goes on from there. How
much of the layer's variance the reconstruction explains is one thing; what the model makes of it is another: the cosine
of its sentence embedding (the mean of the last layer) with the original one, and, if it has a head, its loss in
predicting words. The same for the mean hidden state of the layer, and for as many principal components of the layer as
the code has factors.

    python examples/experiments/what_a_factor_does.py
"""

from contextlib import contextmanager
from copy import copy

import numpy as np
import pandas as pd
import torch
from common import kept_dictionary, make_extractor, make_parser, of_layer, print_table, read_halves, save_figure
from sklearn.decomposition import PCA
from transformers import AutoConfig, AutoModel, AutoModelForCausalLM, AutoModelForMaskedLM, AutoTokenizer

from skfactors.extraction.hooks import hooked
from skfactors.extraction.sites import Place
from skfactors.metrics import explained_variance, l0

CHARACTERS_A_PASSAGE = 300
MASKED_SHARE = 0.15
NOT_SCORED = -100


def load_model(name):
    """
    Load a model with the head that it was trained with, where it has one that predicts words.

    Parameters
    ----------
    name : str

    Returns
    -------
    model : torch.nn.Module
    tokenizer : PreTrainedTokenizerFast
    head : {"masked", "next", None}
        Which words its head predicts.
    """
    architecture = (AutoConfig.from_pretrained(name).architectures or [""])[0]
    loaders = {"ForMaskedLM": (AutoModelForMaskedLM, "masked"), "ForPreTraining": (AutoModelForMaskedLM, "masked")}
    loaders |= {"LMHeadModel": (AutoModelForCausalLM, "next"), "ForCausalLM": (AutoModelForCausalLM, "next")}
    ending = next((ending for ending in loaders if architecture.endswith(ending)), None)
    loader, head = loaders.get(ending, (AutoModel, None))
    tokenizer = AutoTokenizer.from_pretrained(name)
    tokenizer.padding_side = "right"
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    return loader.from_pretrained(name).eval(), tokenizer, head


@contextmanager
def replaced_states(model, layer, replace, where):
    """
    Change the hidden states of a layer, until the context ends.

    Parameters
    ----------
    model : torch.nn.Module
    layer : int
        The number of the block that receives them.
    replace : callable
        From an ndarray of shape (n_rows, hidden_size) to another one.
    where : Tensor of bool of shape (n_texts, n_tokens)
        The tokens whose hidden states are changed.

    Yields
    ------
    replacements : list of tuple of ndarray
        For each run of the model, the hidden states that there were and those that there are now.
    """
    replacements = []

    def flow(states):
        states = states.clone()
        before = states[where].numpy()
        after = np.asarray(replace(before), dtype=np.float32)
        replacements.append((before, after))
        states[where] = torch.from_numpy(after)
        return states

    with hooked(model, {Place("hidden_states", layer): flow}):
        yield replacements


def run_model(model, batch, labels):
    """
    Run a model.

    Returns
    -------
    embeddings : ndarray of shape (n_texts, hidden_size)
        The mean of the last layer over the tokens of each text.
    loss : float
        Mean over the words scored; NaN without a head.
    """
    scored = {} if labels is None else {"labels": labels}
    with torch.no_grad():
        output = model(**batch, **scored, output_hidden_states=True)
    mask = batch["attention_mask"][..., None].float()
    embeddings = (output.hidden_states[-1] * mask).sum(1) / mask.sum(1)
    loss = float("nan") if labels is None else float(output.loss)
    return embeddings.numpy(), loss


def make_batch(tokenizer, texts, head, seed=0):
    """
    Tokenize passages, and hide the words that a masked-language head has to predict.

    Parameters
    ----------
    tokenizer : PreTrainedTokenizerFast
    texts : list of str
    head : {"masked", "next", None}
    seed : int, default=0

    Returns
    -------
    batch : dict of Tensor
    labels : Tensor or None
    is_text : Tensor of bool of shape (n_texts, n_tokens)
        Neither a special token nor padding.
    """
    batch = tokenizer(
        texts, return_tensors="pt", padding=True, truncation=True, max_length=128, return_special_tokens_mask=True
    )
    is_text = (batch.pop("special_tokens_mask") == 0) & (batch["attention_mask"] == 1)
    labels = None
    if head == "next":
        labels = batch["input_ids"].masked_fill(~is_text, NOT_SCORED)
    elif head == "masked":
        drawn = np.random.default_rng(seed).random(is_text.shape) < MASKED_SHARE
        hidden = is_text & torch.from_numpy(drawn)
        labels = batch["input_ids"].masked_fill(~hidden, NOT_SCORED)
        batch["input_ids"] = batch["input_ids"].masked_fill(hidden, tokenizer.mask_token_id)
    return dict(batch), labels, is_text


def cut_passages(texts, n_passages, seed=0):
    """Draw paragraphs at random and cut them to some sixty words."""
    paragraphs = [paragraph for text in texts for paragraph in text.split("\n") if len(paragraph) >= 100]
    chosen = np.random.default_rng(seed).permutation(len(paragraphs))[:n_passages]
    return [paragraphs[number][:CHARACTERS_A_PASSAGE] for number in chosen]


def mean_cosine(A, B):
    """Return the mean cosine of the rows of two arrays; that of a row of zeros is 0."""
    lengths = np.linalg.norm(A, axis=1) * np.linalg.norm(B, axis=1)
    return float(np.mean((A * B).sum(axis=1) / np.maximum(lengths, np.finfo(np.float32).tiny)))


def ways_to_replace(dictionary, states):
    """
    Make the functions that stand in for hidden states of a layer.

    Parameters
    ----------
    dictionary : SparseDictionary
    states : ndarray of shape (n_rows, hidden_size)
        Hidden states of the layer, of other texts, that means and principal components are taken from.

    Returns
    -------
    n_active : int
        Active factors per row, and the number of principal components.
    ways : dict of str to callable
    """
    n_active = max(1, round(l0(dictionary.transform(states))))
    pca = PCA(min(n_active, *states.shape), random_state=0).fit(states)
    refitted = copy(dictionary).set_params(debias=True)
    return n_active, {
        "factors": lambda X: dictionary.inverse_transform(dictionary.transform(X)),
        "factors, refitted": lambda X: refitted.inverse_transform(refitted.transform(X)),
        "principal components": lambda X: pca.inverse_transform(pca.transform(X)),
        "mean": lambda X: np.tile(states.mean(axis=0), (len(X), 1)),
    }


def main():
    """Replace one layer after the other, in passages of the half that the dictionary was not learned on."""
    parser = make_parser("What a factor does.")
    parser.add_argument("--n-passages", type=int, default=200, help="passages to run (default: %(default)s)")
    arguments = parser.parse_args()
    extractor = make_extractor(arguments)
    first, second = read_halves(arguments)
    dictionary = kept_dictionary(arguments, extractor, first)
    acts = extractor.extract(cut_passages(first, 2 * arguments.n_passages))
    model, tokenizer, head = load_model(extractor.model)
    batch, labels, is_text = make_batch(tokenizer, cut_passages(second, arguments.n_passages), head)
    original, original_loss = run_model(model, batch, labels)

    rows = []
    # Nothing comes after the last layer.
    for layer in range(model.config.num_hidden_layers):
        n_active, ways = ways_to_replace(dictionary, of_layer(acts, layer).X)
        for name, replace in ways.items():
            with replaced_states(model, layer, replace, is_text) as replacements:
                embeddings, loss = run_model(model, batch, labels)
            rows.append(
                {
                    "layer": layer,
                    "replaced by": name,
                    "numbers per token": 0 if name == "mean" else n_active,
                    "explained variance": explained_variance(*replacements[0]),
                    "cosine of embeddings": mean_cosine(embeddings, original),
                    "loss": loss,
                }
            )
    table = pd.DataFrame(rows)
    print_results(table, head, original_loss)

    def draw(figure):
        axes = figure.subplots()
        for name, curve in table.groupby("replaced by", sort=False):
            axes.plot(curve["layer"], curve["cosine of embeddings"], marker="o", label=name)
        axes.set(xlabel="layer replaced", ylabel="cosine with the original embedding", ylim=(None, 1))
        axes.legend(loc="upper left", bbox_to_anchor=(1, 1))

    save_figure(arguments, "what_a_factor_does", draw, figsize=(7, 4))


def print_results(table, head, original_loss):
    """Print the table, without a column for the loss where there is none."""
    if head is None:
        table = table.drop(columns="loss")
    else:
        print(f"The loss of the model as it is: {original_loss:.3f}")
    print_table("The model goes on from replaced hidden states", table, decimals=3)


if __name__ == "__main__":
    main()
