"""
Does a factor rise and fall as its pattern does?
================================================

For each of a dozen words and patterns there are sentences that show it to an intended degree: the pattern itself, forms
of it that are weaker and weaker, and something else. They were written before any activation was looked at. A report
says which factor is the one of the word or pattern; its activation at the marked words of each sentence is compared
with the intended degree, by Spearman's rank correlation.

    python examples/experiments/adversarial.py

For a word the degrees are: 5 the word in a sentence of the kind that the corpus has, 4 the word elsewhere, 3 an
inflection or derived word, 2 a synonym, 1 the same letters in another sense or a word of the same field, 0 an unrelated
word.

In patterns, the marks went around one word at first and around the whole pattern after a first run
(docs/experiments/patterns.md says why); sentences and degrees are as they were first written.
"""

import re

import numpy as np
import pandas as pd
from common import (
    kept_dictionary,
    kept_report,
    make_extractor,
    make_parser,
    print_table,
    read_halves,
    save_figure,
)
from patterns_by_layer import PATTERNS
from scipy.stats import rankdata

# The marked words are where the activation is read: the greatest over their tokens.
WORDS = {
    "war": [
        (5, "The [war] ended with the defeat of the empire and a treaty signed in the capital."),
        (4, "My grandmother never spoke about the [war]."),
        (3, "Two [wars] were fought over the border."),
        (2, "The [conflict] ended with the defeat of the empire."),
        (1, "The general inspected his [soldiers] at dawn."),
        (0, "The [recipe] ended with a pinch of salt."),
    ],
    "law": [
        (5, "Parliament passed a [law] that forbade the sale of land."),
        (4, "It is against the [law], you know."),
        (3, "The [laws] of the state were changed."),
        (2, "Parliament passed a [statute] that forbade the sale of land."),
        (1, "The [judge] looked at her watch."),
        (0, "The chef passed a [plate] that was too hot."),
    ],
    "music": [
        (5, "He studied [music] in Vienna and composed his first symphony there."),
        (4, "Turn down that [music], please."),
        (3, "The [musical] life of the town was rich."),
        (2, "He studied [melody] in Vienna and composed his first symphony there."),
        (1, "The [violin] was made in Cremona."),
        (0, "He studied [beetles] in the forest."),
    ],
    "language": [
        (5, "The [language] is spoken by two million people and belongs to the Romance family."),
        (4, "Mind your [language], young man."),
        (3, "Several [languages] are spoken in the valley."),
        (2, "The [tongue] is spoken by two million people and belongs to the Romance family."),
        (1, "The [grammar] is easy to learn."),
        (0, "The [bridge] is used by two million people."),
    ],
    "king": [
        (5, "The [king] was crowned at the abbey and reigned for thirty years."),
        (4, "He felt like a [king] in his new car."),
        (3, "Seven [kings] ruled the island."),
        (2, "The [monarch] was crowned at the abbey and reigned for thirty years."),
        (1, "Martin Luther [King] spoke to the crowd."),
        (0, "The [tomato] was sliced at the table."),
    ],
    "river": [
        (5, "The [river] flows north through the valley and into the sea."),
        (4, "We swam in the [river] all summer."),
        (3, "Three [rivers] meet below the town."),
        (2, "The [stream] flows north through the valley and into the sea."),
        (1, "The [lake] was frozen."),
        (0, "The [committee] meets on Fridays."),
    ],
    "church": [
        (5, "The [church] was built in the twelfth century and is dedicated to Saint Mary."),
        (4, "She goes to [church] every week."),
        (3, "Many [churches] were closed that year."),
        (2, "The [chapel] was built in the twelfth century and is dedicated to Saint Mary."),
        (1, "The [bishop] was tired."),
        (0, "The [bicycle] was built in a small workshop."),
    ],
    "film": [
        (5, "The [film] was directed by a young Italian and won two awards."),
        (4, "Have you seen that [film] yet?"),
        (3, "His early [films] are lost."),
        (2, "The [movie] was directed by a young Italian and won two awards."),
        (1, "A thin [film] of oil covered the water."),
        (0, "The [traffic] was directed by a young policeman."),
    ],
}
EXAMPLES_OF_PATTERNS = {
    "year–year": [
        (5, "Queen Anne ([1702–1714]) was the last of her house."),
        (5, "The sculptor Jean Dubois ([1848-1907]) worked in Dijon."),
        (4, "The house was rented [from 1702 to 1714] by a merchant."),
        (3, "Floods came in [1702 and 1714]."),
        (2, "Floods came in [1714]."),
        (1, "There were [1714] sheep on the hill."),
        (0, "There were many [sheep] on the hill."),
    ],
    "City, State": [
        (5, "He grew up in [Portland, Oregon], with two sisters."),
        (5, "The firm has an office in [Houston, Texas]."),
        (4, "The firm has an office in [Lyon, France]."),
        (3, "He grew up in [Portland in the state of Oregon]."),
        (2, "The forests of [Oregon] are old."),
        (1, "The forests of the [state] are old."),
        (0, "The [soup] is cold."),
    ],
    "enumeration": [
        (5, "The market sells [apples, pears, plums, cherries and figs]."),
        (5, "Bring [hammers, nails, saws, screws and glue]."),
        (4, "The market sells [apples, pears and plums]."),
        (3, "The market sells [apples and pears]."),
        (2, "The market sells [apples, but the pears] come from elsewhere."),
        (1, "The market sells [pears]."),
        (0, "She slept through the whole [lecture]."),
    ],
    "quotation": [
        (5, 'The minister said, ["the garden is closed until spring."]'),
        (5, 'A sign at the gate read ["garden closed"].'),
        (3, "The minister said, ['the garden is closed until spring.']"),
        (2, "The minister said [that the garden is closed until spring]."),
        (1, "[The garden is closed until spring]."),
        (0, "A [garden] needs rain."),
    ],
    "repeated structure": [
        (5, "Government [of the people, by the people, for the people]."),
        (5, "They came [by land, by sea and by air]."),
        (4, "They came [by land and by sea]."),
        (2, "They came [by land and sea]."),
        (1, "They came [by sea]."),
        (0, "The [sea] was calm."),
    ],
}


def unmark(sentence):
    """Take the brackets off the marked words; return the sentence and where they start and end in it."""
    before, words, after = re.fullmatch(r"(.*)\[(.*)\](.*)", sentence).groups()
    return before + words + after, len(before), len(before) + len(words)


def factor_of_word(report, word):
    """
    Find the factor of a word.

    Parameters
    ----------
    report : FactorReport
    word : str

    Returns
    -------
    int or None
        Of the factors with the word as the most common token of their top contexts, the one of the greatest
        importance; None if there is none.
    """
    summary = report.summary()
    named = summary[summary["top_tokens"].str.split(", ").str[0] == word]
    return None if named.empty else int(named["peak_importance"].idxmax())


def factor_of_pattern(report, pattern):
    """
    Find the factor of a pattern.

    Parameters
    ----------
    report : FactorReport
    pattern : re.Pattern

    Returns
    -------
    int or None
        The one whose top contexts at its peak layer have their token most often in a match of the pattern, of equals
        the one of the greatest importance; None if no token of any is.
    """
    summary = report.summary()
    contexts = report.top_contexts()
    contexts = contexts[contexts["layer"] == contexts["factor"].map(summary["peak_layer"])]
    inside = [
        any(
            match.start() <= len(left) and len(left) + len(token) <= match.end()
            for match in pattern.finditer(left + token + right)
        )
        for left, token, right in zip(contexts["left"], contexts["token"], contexts["right"], strict=True)
    ]
    n_inside = pd.Series(inside, index=contexts["factor"]).groupby(level=0).sum()
    if n_inside.max() == 0:
        return None
    return int(summary.loc[n_inside.index[n_inside == n_inside.max()], "peak_importance"].idxmax())


def activations_at_marks(extractor, dictionary, factors, layers, sentences):
    """
    Measure factors in marked sentences.

    Parameters
    ----------
    extractor : TransformerFeatureExtractor
    dictionary : SparseDictionary
    factors, layers : list of int
        The factor and the layer to read in each sentence.
    sentences : list of str

    Returns
    -------
    ndarray of shape (n_sentences,)
        The greatest activation over the marked tokens.
    """
    texts, starts, ends = zip(*map(unmark, sentences), strict=True)
    acts = extractor.extract(list(texts))
    places = acts.provenance
    activations = []
    for number, (factor, layer) in enumerate(zip(factors, layers, strict=True)):
        marked = (places["document"] == number) & (places["layer"] == layer)
        marked &= (places["start"] < ends[number]) & (places["end"] > starts[number])
        activations.append(dictionary.transform(acts.X[marked.to_numpy()])[:, [factor]].max())
    return np.array(activations, dtype=np.float64)


def mean_correlation_p(degrees, activations, n_permutations=10_000, seed=0):
    """
    Tell how often chance has a mean rank correlation as great.

    Parameters
    ----------
    degrees, activations : list of ndarray
        Of each factor.
    n_permutations : int, default=10_000
    seed : int, default=0

    Returns
    -------
    float
        The share of permutations of the activations within every factor whose mean Spearman correlation with the
        degrees is at least the observed one, that one counted in.
    """
    rng = np.random.default_rng(seed)
    observed, permuted = 0.0, np.zeros(n_permutations)
    for wanted, found in zip(degrees, activations, strict=True):
        wanted, found = standardised_ranks(wanted), standardised_ranks(found)
        observed += wanted @ found
        permuted += rng.permuted(np.tile(found, (n_permutations, 1)), axis=1) @ wanted
    return float((1 + (permuted >= observed - 1e-9).sum()) / (1 + n_permutations))


def standardised_ranks(values):
    """Return ranks whose product with another such array is Spearman's correlation; zeros where all are equal."""
    ranks = rankdata(values) - (len(values) + 1) / 2
    return ranks / max(np.linalg.norm(ranks), np.finfo(float).tiny)


def main():
    """Find the factors, read them in the sentences."""
    arguments = make_parser("Adversarial text.").parse_args()
    extractor = make_extractor(arguments)
    first, _ = read_halves(arguments)
    dictionary = kept_dictionary(arguments, extractor, first)
    report = kept_report(arguments, extractor, dictionary, first)
    found = {word: (factor_of_word(report, word), examples) for word, examples in WORDS.items()}
    found |= {
        name: (factor_of_pattern(report, PATTERNS[name]), examples) for name, examples in EXAMPLES_OF_PATTERNS.items()
    }
    without = [name for name, (factor, _) in found.items() if factor is None]
    if without:
        print(f"No factor was found for: {', '.join(without)}")

    rows = [
        {"pattern": name, "factor": factor, "degree": degree, "sentence": sentence}
        for name, (factor, examples) in found.items()
        if factor is not None
        for degree, sentence in examples
    ]
    table = pd.DataFrame(rows, columns=["pattern", "factor", "degree", "sentence"])
    if table.empty:
        return
    table.insert(2, "layer", table["factor"].map(report.summary()["peak_layer"]).astype(int))
    activations = activations_at_marks(extractor, dictionary, table["factor"], table["layer"], table["sentence"])
    table.insert(4, "activation", activations)
    print_table("Activation at the marked words", table)

    correlations = []
    for name, group in table.groupby("pattern", sort=False):
        degrees, activations = group["degree"].to_numpy(), group["activation"].to_numpy()
        correlation = float(standardised_ranks(degrees) @ standardised_ranks(activations))
        p = mean_correlation_p([degrees], [activations])
        correlations.append({"pattern": name, "factor": group["factor"].iloc[0], "correlation": correlation, "p": p})
    correlations = pd.DataFrame(correlations)
    print_table("Rank correlation of activation and intended degree", correlations, decimals=3)
    groups = [group for _, group in table.groupby("pattern")]
    p = mean_correlation_p(*([group[column].to_numpy() for group in groups] for column in ("degree", "activation")))
    mean = correlations["correlation"].mean()
    print(f"Mean rank correlation {mean:.3f} over {len(groups)} factors; p = {p:.4f} by permutation within factors")

    def draw(figure):
        axes = figure.subplots()
        for name, group in table.groupby("pattern", sort=False):
            means = group.groupby("degree")["activation"].mean()
            dashes = "--" if name in EXAMPLES_OF_PATTERNS else "-"
            axes.plot(
                means.index, means / max(group["activation"].max(), 1e-9), marker="o", linestyle=dashes, label=name
            )
        axes.set(xlabel="intended degree", ylabel="activation, as a share of the greatest")
        axes.legend(loc="upper left", bbox_to_anchor=(1, 1))

    save_figure(arguments, "adversarial", draw, figsize=(8, 5))


if __name__ == "__main__":
    main()
