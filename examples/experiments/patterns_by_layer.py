"""
In which layers do patterns appear?
===================================

Six patterns that a regular expression recognises: spans of years, units converted in parentheses, a city and its state
or country, enumerations, quotations, and repeated structure. For each, the factor is found whose 200 strongest tokens
match it best, on one half of the corpus; the other half says how many of its 200 strongest tokens match in each layer.
A share that rises with the layer is the paper's sign of a factor that looks at sentences rather than words.

    python examples/experiments/patterns_by_layer.py
"""

import re

import numpy as np
import pandas as pd
from common import kept_dictionary, make_extractor, make_parser, of_layer, print_table, read_halves, save_figure

TOP = 200

_NAME = r"[A-Z][\w.'’-]+(?: [A-Z][\w.'’-]+){0,2}"
_STATES = (
    "Alabama|Alaska|Arizona|Arkansas|California|Colorado|Connecticut|Delaware|Florida|Georgia|Hawaii|Idaho|Illinois|"
    "Indiana|Iowa|Kansas|Kentucky|Louisiana|Maine|Maryland|Massachusetts|Michigan|Minnesota|Mississippi|Missouri|"
    "Montana|Nebraska|Nevada|New Hampshire|New Jersey|New Mexico|New York|North Carolina|North Dakota|Ohio|Oklahoma|"
    "Oregon|Pennsylvania|Rhode Island|South Carolina|South Dakota|Tennessee|Texas|Utah|Vermont|Virginia|Washington|"
    "West Virginia|Wisconsin|Wyoming|Ontario|Quebec|British Columbia|Alberta|New South Wales|Victoria|Queensland|"
    "England|Scotland|Wales|Ireland|France|Germany|Italy|Spain|Portugal|Greece|Turkey|Egypt|Russia|Poland|Austria|"
    "Switzerland|Belgium|Netherlands|Sweden|Norway|Denmark|Finland|Canada|Mexico|Brazil|Argentina|Chile|Australia|"
    "New Zealand|India|China|Japan|Israel|South Africa|Algeria|Morocco|Iran|Iraq|Pakistan|Ukraine|Hungary|Romania"
)
_UNIT = (
    r"(?:km|m|cm|mm|mi|miles?|ft|feet|foot|in|inch(?:es)?|yd|yards?|kg|g|lbs?|pounds?|tons?|tonnes?|ha|hectares?|"
    r"acres?|sq mi|sq ft|°C|°F|°|K|mph|kn|knots|L|l|ml|gal|gallons|hp|kW|MW|W|V|Hz|kHz|MHz|GHz|bits?|bytes?|KB|MB|GB)"
)
PATTERNS = {
    "year–year": re.compile(
        r"\b1\d{3}\s?[-–—]\s?(?:1\d{3}|20\d\d|\d\d)\b|\b(?:from|between) 1\d{3} (?:to|and) 1\d{3}\b"
    ),
    "unit in parentheses": re.compile(
        rf"\((?:[^()]{{0,25}}\s)?[\d.,]+(?:\s|-|\xa0)?{_UNIT}[²³23]?(?:/\w+)?(?:\s[^()]{{0,15}})?\)"
    ),
    "City, State": re.compile(rf"\b{_NAME}, (?:{_STATES})\b"),
    "enumeration": re.compile(
        r"\b\w[\w'’-]*(?: \w[\w'’-]*)?(?:, \w[\w'’-]*(?: \w[\w'’-]*)?){2,},? (?:and|or) \w[\w'’-]*"
    ),
    "quotation": re.compile(r"\"[^\"\n]{3,200}\"|“[^”\n]{3,200}”"),
    "repeated structure": re.compile(
        r"\b(of|to|by|in|for|from|with|the|a|as|on|not|no|both|either|his|her|its|their) (?:\w+ ){0,2}\w+,? "
        r"(?:(?:and|or|but|nor) )?\1 \w+(?:,? (?:(?:and|or|but|nor) )?\1 \w+)*",
        re.IGNORECASE,
    ),
}


def tokens_that_match(pattern, places, texts):
    """
    Mark the tokens that lie inside a match of a pattern.

    Parameters
    ----------
    pattern : re.Pattern
    places : DataFrame of length n_tokens
        Columns `document`, `start` and `end`.
    texts : indexable by document number

    Returns
    -------
    ndarray of bool of shape (n_tokens,)
    """
    inside = np.zeros(len(places), dtype=bool)
    documents, starts, ends = (places[name].to_numpy() for name in ("document", "start", "end"))
    for document in np.unique(documents):
        covered = np.zeros(len(texts[document]) + 1, dtype=bool)
        for match in pattern.finditer(texts[document]):
            covered[match.start() : match.end()] = True
        rows = np.flatnonzero(documents == document)
        inside[rows] = covered[starts[rows]] & covered[np.maximum(ends[rows] - 1, 0)]
    return inside


def share_of_top(codes, matches, top=TOP):
    """
    Measure how many of each factor's strongest tokens match each pattern.

    Parameters
    ----------
    codes : csr_array of shape (n_tokens, n_components)
        Of one layer.
    matches : ndarray of bool of shape (n_tokens, n_patterns)
    top : int, default=200

    Returns
    -------
    ndarray of shape (n_components, n_patterns)
        Tokens among the `top` that match, divided by `top`: a factor that is active on fewer tokens has the rest of
        them count as no match.
    """
    columns = codes.tocsc()
    shares = np.zeros((columns.shape[1], matches.shape[1]))
    for factor, (begin, end) in enumerate(zip(columns.indptr[:-1], columns.indptr[1:], strict=True)):
        strongest = np.argsort(-columns.data[begin:end], kind="stable")[:top]
        shares[factor] = matches[columns.indices[begin:end][strongest]].sum(axis=0) / top
    return shares


def shares_by_layer(extractor, dictionary, texts):
    """
    Measure the share of each factor's strongest tokens that match, for every layer and pattern.

    Parameters
    ----------
    extractor : TransformerFeatureExtractor
    dictionary : SparseDictionary
    texts : list of str

    Returns
    -------
    layers : list of int
    shares : ndarray of shape (n_layers, n_components, n_patterns)
    matching : DataFrame of length n_patterns
        How many `tokens` match, and what `share` of all they are.
    """
    acts = extractor.extract(texts)
    places = of_layer(acts, acts.layers[0]).provenance
    matches = np.column_stack([tokens_that_match(pattern, places, texts) for pattern in PATTERNS.values()])
    layers = acts.layers
    shares = [share_of_top(dictionary.transform(of_layer(acts, layer).X), matches) for layer in layers]
    matching = pd.DataFrame({"tokens": matches.sum(axis=0), "share": matches.mean(axis=0)})
    return layers, np.stack(shares), matching


def best_factors(shares):
    """Return, for each pattern, the factor of the greatest share in any layer."""
    return shares.max(axis=0).argmax(axis=0)


def rise(shares):
    """Return the place of the layer at which shares, layer by layer, rise most over the layer before."""
    return int(np.diff(shares).argmax()) + 1


def curve_table(facts, layers, curves):
    """Put the share in each layer, and the layer at which it rises most, beside what is known of each pattern."""
    by_layer = pd.DataFrame(curves, columns=[f"layer {layer}" for layer in layers])
    rises = [layers[rise(curve)] for curve in curves]
    return pd.concat([facts, by_layer], axis=1).assign(**{"rises most at": rises})


def main():
    """Find factors on the first half, score them on the second."""
    arguments = make_parser("Patterns by layer.").parse_args()
    extractor = make_extractor(arguments)
    first, second = read_halves(arguments)
    dictionary = kept_dictionary(arguments, extractor, first)
    layers, found_shares, _ = shares_by_layer(extractor, dictionary, first)
    factors = best_factors(found_shares)
    _, shares, matching = shares_by_layer(extractor, dictionary, second)
    of_one_factor = [shares[:, factor, place] for place, factor in enumerate(factors)]
    places = np.arange(len(layers))
    of_best_in_layer = [
        shares[places, found_shares[:, :, place].argmax(axis=1), place] for place in range(len(PATTERNS))
    ]
    facts = pd.DataFrame({"pattern": list(PATTERNS), "tokens that match": matching["tokens"]})
    facts["base rate"] = matching["share"]
    title = f"Share of the {TOP} strongest tokens that match, in the half that factors were not chosen on"
    print_table(f"{title}, of one factor", curve_table(facts.assign(factor=factors), layers, of_one_factor), decimals=3)
    print_table(f"{title}, of the best factor of each layer", curve_table(facts, layers, of_best_in_layer), decimals=3)

    def draw(figure):
        axes = figure.subplots()
        for pattern, curve in zip(PATTERNS, of_one_factor, strict=True):
            axes.plot(layers, curve, marker="o", label=pattern)
        axes.set(xlabel="layer", ylabel=f"share of top {TOP} tokens that match", ylim=(0, 1))
        axes.legend(loc="upper left", bbox_to_anchor=(1, 1))

    save_figure(arguments, "patterns_by_layer", draw, figsize=(7, 4))


if __name__ == "__main__":
    main()
