"""
What do factors do inside a language model?
===========================================

Three questions to a decoder, each with its controls in the same table. *Recovered*: states of a place are replaced by
what a dictionary makes of them; how much of the loss that replacing them by zeros costs is recovered? *Steering*: a
factor is turned up; do its words rise in what the model writes, and how much less probable does the model itself find
that text? *Attribution*: ten factors are named that contribute most to the next token; does ablating them change it
more than ablating ten others that are active?

    python examples/experiments/inside_a_language_model.py recovered
"""

import argparse
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from common import print_table
from sklearn.decomposition import PCA

from skfactors import SparseAutoencoder, SparseDictionary, Transcoder, TransformerFeatureExtractor
from skfactors.datasets import demo_language_model, load_wikipedia
from skfactors.interventions import attribute, check_attribution, intervene
from skfactors.interventions.effects import batches_of_texts, mean_loss
from skfactors.metrics import explained_variance, l0
from skfactors.reports import output_tokens

SITES = ["block_output", "mlp_output", "attention_output"]
PROMPTS = ["I think that", "Yesterday we", "The most important thing is", "There was a"]


def main():
    """Ask one of the questions."""
    parser = argparse.ArgumentParser(description="What factors do inside a language model.")
    parser.add_argument("question", choices=QUESTIONS)
    parser.add_argument("--model", help="name on the Hugging Face hub or local folder (default: SmolLM2-135M)")
    parser.add_argument("--texts", type=Path, help="text file, one document per line (default: Wikipedia articles)")
    parser.add_argument("--layers", type=int, nargs="+", default=[9, 19], help="blocks (default: 9 19)")
    parser.add_argument("--n-components", type=int, default=512, help="(default: %(default)s)")
    parser.add_argument("--n-nonzero", type=int, default=32, help="active factors of a row (default: %(default)s)")
    parser.add_argument("--n-texts", type=int, default=30, help="texts to learn from (default: %(default)s)")
    parser.add_argument("--n-scored", type=int, default=10, help="texts to measure the loss on (default: %(default)s)")
    parser.add_argument("--n-cases", type=int, default=50, help="texts to attribute (default: %(default)s)")
    arguments = parser.parse_args()
    if arguments.texts is None:
        texts = [article[1500:2900] for article in load_wikipedia(2 * arguments.n_texts)]
    else:
        texts = arguments.texts.read_text(encoding="utf-8").splitlines()
    texts = [text for text in texts if text.strip()]
    QUESTIONS[arguments.question](arguments, texts[0::2], texts[1::2])


def extractor_of(arguments, site, layers):
    """Return an extractor without the outliers that begin texts."""
    model = arguments.model or demo_language_model()
    return TransformerFeatureExtractor(model, site=site, layers=layers, drop_outliers=10, batch_size=8)


def autoencoder(arguments):
    """Return a sparse autoencoder to fit."""
    return SparseAutoencoder(arguments.n_components, n_nonzero_coefs=arguments.n_nonzero, max_iter=2, random_state=0)


def transcoder(arguments):
    """Return a transcoder to fit, from what an MLP reads to what it writes."""
    return Transcoder(arguments.n_components, n_nonzero_coefs=arguments.n_nonzero, max_iter=2, random_state=0)


def ways_to_replace(arguments, X):
    """
    Learn what stands in for rows, and its controls.

    Returns
    -------
    dict of str to estimator
    """
    length = float(np.sqrt(np.square(X).sum(axis=1).mean()))
    n_active, n_components = arguments.n_nonzero, arguments.n_components
    sparse = {"n_nonzero_coefs": n_active, "alpha": 0.1 * length, "random_state": 0}
    learned = SparseDictionary(n_components, max_iter=1, **sparse).fit(X)
    atoms = np.random.default_rng(0).normal(size=learned.components_.shape).astype(np.float32)
    atoms *= np.linalg.norm(learned.components_, axis=1, keepdims=True) / np.linalg.norm(atoms, axis=1, keepdims=True)
    drawn = SparseDictionary(n_components, max_iter=1, **sparse).fit(X[:n_components])
    drawn.components_ = atoms
    return {
        "SparseDictionary": learned,
        "SparseAutoencoder": autoencoder(arguments).fit(X),
        "random dictionary": drawn,
        "principal components": PCA(n_active, random_state=0).fit(X),
        "mean": Constant(X.mean(axis=0)),
    }


def recovered(arguments, texts, held_out):
    """Replace states, and compare losses."""
    held_out = held_out[: arguments.n_scored]
    reader = extractor_of(arguments, ["mlp_input", *SITES], arguments.layers)
    acts, others = reader.extract(texts), reader.extract(held_out)
    model, tokenizer = reader.language_model()
    batches = list(batches_of_texts(reader, model, tokenizer, held_out))
    clean = mean_loss(model, batches)
    print(f"The loss of the model as it is: {clean:.3f} nats a token")
    rows = []
    for place in (place for place in acts.places if place.site != "mlp_input"):
        extractor = extractor_of(arguments, place.site, [place.layer])
        test = others.at(*place).X
        with intervene(extractor, Constant(np.zeros_like(test[0])), splice=True, keep_error=False) as spliced:
            zeroed = mean_loss(spliced, batches)
        ways = ways_to_replace(arguments, acts.at(*place).X)
        if place.site == "mlp_output":
            read = acts.at("mlp_input", place.layer).X
            ways = {"Transcoder": transcoder(arguments).fit(read, acts.at(*place).X)} | ways
        for name, way in ways.items():
            seen = others.at("mlp_input", place.layer).X if name == "Transcoder" else test
            with intervene(extractor, way, splice=True, keep_error=False) as spliced:
                loss = mean_loss(spliced, batches)
            made = way.inverse_transform(way.transform(seen))
            rows.append(
                {
                    "site": place.site,
                    "layer": place.layer,
                    "replaced by": name,
                    "L0": l0(way.transform(seen)),
                    "explained variance": explained_variance(test, made),
                    "loss": loss,
                    "loss recovered": (zeroed - loss) / (zeroed - clean),
                }
            )
        print_table(f"{place.site} of block {place.layer}", pd.DataFrame(rows[-len(ways) :]), decimals=3)


class Constant:
    """
    A dictionary that reconstructs every row as the same one.

    Parameters
    ----------
    row : ndarray of shape (n_features,)
    direction : ndarray of shape (n_features,), default=None
        Its only factor, of a length of 1, for steering.
    """

    def __init__(self, row, direction=None):
        self.row = row
        self.components_ = np.zeros((1, len(row)), row.dtype)
        if direction is not None:
            self.components_[0] = direction / np.linalg.norm(direction)

    def transform(self, X):
        """Return codes of zero."""
        return np.zeros((len(X), 1), X.dtype)

    def inverse_transform(self, codes):
        """Return the row, as often as there are codes."""
        return np.tile(self.row, (len(codes), 1))


def steering(arguments, texts, held_out):
    """Turn factors of the last of the layers up, beside the difference of means and a random direction."""
    layer = arguments.layers[-1]
    extractor = extractor_of(arguments, "block_output", [layer])
    acts = extractor.extract(texts)
    X = acts.X
    learned = autoencoder(arguments).fit(X)
    codes = learned.transform(X).tocsc()
    chosen = factors_with_a_concept(codes, acts.tokens(), 10)
    model, tokenizer = extractor.language_model()
    inputs = tokenizer(PROMPTS, return_tensors="pt", padding=True, padding_side="left", return_token_type_ids=False)
    generator, plain = np.random.default_rng(0), continued(model, tokenizer, inputs)
    said, rows = output_tokens(extractor, learned, chosen, k=20), []
    for factor in chosen:
        active = codes[:, [factor]].toarray()[:, 0]
        strength = 2 * float(np.quantile(active[active > 0], 0.9))
        fires = active > np.quantile(active[active > 0], 0.5)
        drawn = generator.normal(size=X.shape[1])
        directions = {
            "factor": learned.components_[factor],
            "difference of means": X[fires].mean(axis=0) - X[~fires].mean(axis=0),
            "random direction": drawn,
        }
        strongest = np.argsort(-active)[:20]
        concept = {
            "its words": {int(number) for number in acts.provenance["token_id"].to_numpy()[strongest]},
            "speaks for": set(said.loc[(said["factor"] == factor) & (said["end"] == "top"), "token"]),
        }
        words = " ".join(sorted({acts.tokens()[row].strip().lower() for row in strongest})[:4])
        rows.append({"factor": factor, "words": words, "steered by": "nothing"})
        rows[-1] |= judged(model, tokenizer, plain, inputs, concept)
        for name, direction in directions.items():
            with intervene(extractor, Constant(X[0], direction), steer={0: strength}) as steered:
                ids = continued(steered, tokenizer, inputs)
            rows.append({"factor": factor, "words": words, "steered by": name})
            rows[-1] |= judged(model, tokenizer, ids, inputs, concept)
            print(rows[-1], repr(tokenizer.decode(ids[0])), flush=True)
    table = pd.DataFrame(rows)
    print_table("Ten factors, turned up", table, decimals=3)
    measures = ["its words", "speaks for", "loss"]
    print_table("On average", table.groupby("steered by", sort=False)[measures].mean().reset_index(), decimals=3)
    for measure in measures[:2]:
        by_name = table.pivot(index="factor", columns="steered by", values=measure)
        for name in ("nothing", "difference of means", "random direction"):
            wins = int((by_name["factor"] > by_name[name]).sum())
            print(f"{measure}: more than by {name} for {wins} of {len(by_name)} factors")


def factors_with_a_concept(codes, tokens, n):
    """Return factors whose strongest activations are mostly on one word."""
    shares = {}
    for factor in range(codes.shape[1]):
        column = codes[:, [factor]]
        if column.nnz >= 20:
            rows = column.tocoo().row[np.argsort(-column.data)[:20]]
            counts = pd.Series([tokens[row].strip().lower() for row in rows]).value_counts()
            if len(counts.index[0]) > 2:
                shares[factor] = counts.iloc[0]
    return sorted(shares, key=lambda factor: -shares[factor])[:n]


def continued(model, tokenizer, inputs):
    """Return the prompts with what the model goes on with, greedily, as token ids."""
    return model.generate(**inputs, max_new_tokens=20, do_sample=False, pad_token_id=tokenizer.pad_token_id)


def judged(model, tokenizer, ids, inputs, concept):
    """Return the shares of new tokens that are of the concept, and the loss that the model as it is finds in them."""
    n_given = inputs["input_ids"].shape[1]
    mask = torch.cat([inputs["attention_mask"], torch.ones_like(ids[:, n_given:])], dim=1)
    with torch.no_grad():
        logits = model(input_ids=ids, attention_mask=mask).logits[:, n_given - 1 : -1]
    new = ids[:, n_given:]
    loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1).float(), new.flatten())
    tokens = new.flatten().tolist()
    shares = {
        "its words": np.mean([token in concept["its words"] for token in tokens]),
        "speaks for": np.mean([tokenizer.decode([token]) in concept["speaks for"] for token in tokens]),
    }
    return {name: float(share) for name, share in shares.items()} | {"loss": float(loss)}


def attribution(arguments, texts, held_out):
    """Ablate what is named and what is not, in the beginnings of other texts."""
    reader = extractor_of(arguments, "block_output", arguments.layers)
    acts = reader.extract(texts)
    dictionaries = {layer: autoencoder(arguments).fit(acts.at(layer=layer).X) for layer in arguments.layers}
    passages = [" ".join(text.split()[first : first + 15]) for first in range(0, 200, 20) for text in held_out]
    passages = [passage for passage in passages if passage.count(" ") == 14]
    rows = []
    for number, text in enumerate(passages[: arguments.n_cases]):
        table = attribute(reader, dictionaries, text)
        found = check_attribution(reader, dictionaries, table, k=10, n_draws=1, random_state=number)
        rows.append(
            {
                "text": text[-30:],
                "target": table.attrs["target"],
                "value": table.attrs["value"],
                "predicted": float(found["predicted"][0]),
                "named": float(found["change"][0]),
                "random": float(found["change"][1]),
            }
        )
        print(rows[-1], flush=True)
    table = pd.DataFrame(rows)
    wins = table["named"].abs() > table["random"].abs()
    print(f"Named factors change the target more in {wins.sum()} of {len(wins)} cases")
    print_table("Mean change of the target", table[["value", "predicted", "named", "random"]].mean().to_frame().T, 3)
    print(f"Correlation of predicted and actual change: {table['predicted'].corr(table['named']):.2f}")


QUESTIONS = {"recovered": recovered, "steering": steering, "attribution": attribution}

if __name__ == "__main__":
    main()
