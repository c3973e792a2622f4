"""
How far does a factor look?
===========================

The tokens around a factor's strongest contexts are taken away, all but the nearest 5, 10, 20 or 40, and its activation
is measured again. The factors are those that a report calls high: they emerge late, and the saliency of tokens says
that they rest on many. Where there are fewer than asked for, those of the longest span fill up. Beside them
stand others that peak in the last two layers, and factors called low, which ought to do without context.

    python examples/experiments/long_range.py

Factors are chosen on passages of one half of the corpus and measured on passages of the other.
"""

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

KEPT = (5, 10, 20, 40)
SHORTEST, LONGEST = 400, 900


def long_passages(texts, n_passages, seed=0):
    """
    Draw long paragraphs at random.

    Parameters
    ----------
    texts : list of str
    n_passages : int
    seed : int, default=0

    Returns
    -------
    list of str
        Of 400 characters or more, cut after 900.
    """
    paragraphs = [paragraph for text in texts for paragraph in text.split("\n") if len(paragraph) >= SHORTEST]
    chosen = np.random.default_rng(seed).permutation(len(paragraphs))[:n_passages]
    return [paragraphs[number][:LONGEST] for number in sorted(chosen)]


def nearest(n_tokens, position, n_kept):
    """
    Choose the stretch of a text that holds a token and the tokens nearest to it.

    Parameters
    ----------
    n_tokens : int
        In the text.
    position : int
        Of the token.
    n_kept : int
        Tokens kept beside it, half of them on either side where there are so many.

    Returns
    -------
    first, last : int
        Positions of the first and the last token kept.
    """
    n_kept = min(n_kept, n_tokens - 1)
    n_before = min(position, max(n_kept // 2, n_kept - (n_tokens - 1 - position)))
    return position - n_before, position - n_before + n_kept


def choose_factors(report, extractor, dictionary, texts, n_factors):
    """
    Find factors of long range, and others to compare them with.

    Parameters
    ----------
    report : FactorReport
    extractor, dictionary, texts
        What it was made from.
    n_factors : int
        Of each kind.

    Returns
    -------
    DataFrame
        Rows of the report's summary, with a column `chosen as`: "long" are those of the longest span by saliency, "last
        layers" others that peak in the last two layers, "low" those that the report calls so.
    """
    clearest = report.clearest(20 * n_factors)
    emerging = clearest[clearest["level"] != "low"].head(5 * n_factors).index.tolist()
    low = clearest[clearest["level"] == "low"].head(n_factors).index.tolist()
    report.add_saliency(extractor, dictionary, [*emerging, *low], texts=texts, k=3, method="gradient", verbose=False)
    summary = report.summary()
    long = summary.loc[emerging].sort_values("span", ascending=False).head(n_factors)
    is_last = clearest["peak_layer"].isin(report.totals["layers"][-2:]) & ~clearest.index.isin([*long.index, *low])
    last = summary.loc[clearest.index[is_last]].head(n_factors)
    kinds = {"long": long, "last layers": last, "low": summary.loc[low]}
    return pd.concat([factors.assign(**{"chosen as": kind}) for kind, factors in kinds.items()])


def shortened(texts, places, contexts, n_kept):
    """
    Cut the text of each context down to the nearest tokens.

    Parameters
    ----------
    texts : list of str
        None longer than a window.
    places : DataFrame
        Provenance of the texts' tokens, in one layer.
    contexts : DataFrame of length n_contexts
        Columns `document` and `position`.
    n_kept : int or None
        Tokens kept beside the one in question; None keeps all.

    Returns
    -------
    cut : list of str
    starts : list of int
        Where in it the token in question starts.
    """
    by_document = {document: group[["start", "end"]].to_numpy() for document, group in places.groupby("document")}
    cut, starts = [], []
    for document, position in zip(contexts["document"], contexts["position"], strict=True):
        spans = by_document[document]
        first, last = nearest(len(spans), position, len(spans) if n_kept is None else n_kept)
        cut.append(texts[document][spans[first, 0] : spans[last, 1]])
        starts.append(int(spans[position, 0] - spans[first, 0]))
    return cut, starts


def activations_at(extractor, dictionary, texts, starts, contexts):
    """
    Measure the activation of a factor at one token of each text.

    Parameters
    ----------
    extractor : TransformerFeatureExtractor
    dictionary : SparseDictionary
    texts : list of str
    starts : list of int
        The character at which the token starts.
    contexts : DataFrame of length n_texts
        Columns `factor` and `layer`.

    Returns
    -------
    ndarray of shape (n_texts,)
        NaN where no token starts there, since the tokenizer cuts a shortened text at other places.
    """
    acts = extractor.extract(texts)
    places = acts.provenance[["document", "layer", "start"]].reset_index(names="row")
    asked = pd.DataFrame({"document": range(len(texts)), "layer": contexts["layer"].to_numpy(), "start": starts})
    rows = asked.merge(places, how="left").drop_duplicates("document")["row"].to_numpy()
    found = ~np.isnan(rows)
    activations = np.full(len(texts), np.nan)
    codes = dictionary.transform(acts.X[rows[found].astype(int)]).toarray()
    activations[found] = codes[np.arange(len(codes)), contexts["factor"].to_numpy()[found]]
    return activations


def main():
    """Choose factors on the first half, take context away on the second."""
    parser = make_parser("Long range.")
    parser.add_argument("--n-passages", type=int, default=250, help="passages of a half (default: %(default)s)")
    parser.add_argument("--n-factors", type=int, default=10, help="of either kind (default: %(default)s)")
    parser.add_argument("--n-contexts", type=int, default=8, help="of each factor (default: %(default)s)")
    arguments = parser.parse_args()
    first, second = read_halves(arguments)
    dictionary = kept_dictionary(arguments, make_extractor(arguments), first)
    extractor = make_extractor(arguments).set_params(max_length=256)
    found_in, shown_in = (long_passages(half, arguments.n_passages) for half in (first, second))
    report = kept_report(arguments, extractor, dictionary, found_in, k=arguments.n_contexts)
    factors = choose_factors(report, extractor, dictionary, found_in, arguments.n_factors)

    contexts = kept_report(arguments, extractor, dictionary, shown_in, k=arguments.n_contexts).top_contexts(
        factors.index
    )
    contexts = contexts[contexts["layer"] == contexts["factor"].map(factors["peak_layer"])].reset_index(drop=True)
    places = make_extractor(arguments, layers=0).set_params(max_length=256).extract(shown_in).provenance

    def measured(n_kept):
        return activations_at(extractor, dictionary, *shortened(shown_in, places, contexts, n_kept), contexts)

    whole = measured(None)
    kept = {n_kept: measured(n_kept) / whole for n_kept in KEPT}
    shares = pd.DataFrame(kept).groupby(contexts["factor"]).mean().reindex(factors.index)

    facts = factors[["chosen as", "level", "peak_layer", "span", "top_tokens"]].reset_index(names="factor")
    title = "Share of the activation that is left with the nearest tokens alone"
    table = pd.concat([facts, shares.reset_index(drop=True).rename(columns=lambda n: f"nearest {n}")], axis=1)
    print_table(title, table)
    means = shares.groupby(factors["chosen as"], sort=False).mean()
    print_table(f"{title}, mean", means.rename(columns=lambda n: f"nearest {n}").reset_index())

    def draw(figure):
        axes = figure.subplots()
        for kind, color in zip(means.index, ("C1", "C3", "C0"), strict=False):
            axes.plot(KEPT, shares[factors["chosen as"] == kind].T, color=color, alpha=0.3)
            axes.plot(KEPT, means.loc[kind], color=color, marker="o", label=f"factors chosen as {kind}")
        axes.set(xlabel="nearest tokens kept", ylabel="share of the activation left", ylim=(0, 1.2), xticks=KEPT)
        axes.legend(loc="upper left", bbox_to_anchor=(1, 1))

    save_figure(arguments, "long_range", draw, figsize=(7, 4))


if __name__ == "__main__":
    main()
