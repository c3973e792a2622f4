"""A page's data read back as the page reads them, and reports with texts made for it."""

import base64
import gzip
import json
import re
from types import SimpleNamespace

import numpy as np
import pandas as pd

from skfactors.reports import FactorReport
from skfactors.reports.saliency.records import saliency_series

HOSTILE = [
    "<script>window.executed = true</script>",
    "</script><script>window.executed = true</script>",
    "<img src=x onerror='window.executed = true'>",
    "<!-- <script>",
    "&amp; &lt;b&gt; {{script}} {{data}}",
    "\"quotes' `ticks` ${window.executed = true}",
    "javascript:window.executed=true",
    '=HYPERLINK("http://example.org")',
    "\u05e9\u05dc\u05d5\u05dd \u202eoverride",
    "e\u0301\u0327\u0489" * 20,
    "\ud800 lone \udfff",
    "\x00\x07\u2028\u2029\ufeff",
    "\N{GRINNING FACE}\N{ZERO WIDTH JOINER}",
    "w" * 10_000,
]


def page_data(path):
    """Return the sections of a page by name."""
    page = path.read_text(encoding="utf-8")
    sections = re.findall(r'<script type="application/octet-stream" id="data-([^"]+)">([^<]*)</script>', page)
    return {name: json.loads(gzip.decompress(base64.b64decode(packed))) for name, packed in sections}


def report_of_words(texts, codes, layers=(0,), **parameters):
    """Report on codes of shape (n_layers, n_words, n_factors) for the words of some texts, all texts in turn."""
    words = [
        (document, position, *match.span())
        for document, text in enumerate(texts)
        for position, match in enumerate(re.finditer(r"\S+", text))
    ]
    rows = [(document, layer, position, 7, start, end) for layer in layers for document, position, start, end in words]
    provenance = pd.DataFrame(rows, columns=["document", "layer", "position", "token_id", "start", "end"])
    acts = SimpleNamespace(provenance=provenance, texts=texts, X=np.zeros((len(rows), 3)))
    return FactorReport.from_codes(np.concatenate(codes), acts, **parameters)


def report_of_tokens(tokens):
    """Report on documents of one token each, which one factor each fires on."""
    provenance = pd.DataFrame(
        {
            "document": range(len(tokens)),
            "layer": 0,
            "position": 0,
            "token_id": 7,
            "start": [len(token) + 1 for token in tokens],
            "end": [2 * len(token) + 1 for token in tokens],
        }
    )
    texts = [f"{token} {token} {token}" for token in tokens]
    acts = SimpleNamespace(provenance=provenance, texts=texts, X=np.zeros((len(tokens), 1)))
    return FactorReport.from_codes(np.eye(len(tokens)), acts, window=3)


def shade(report, factor, layer, tokens, target):
    """Give the strongest context of a factor a saliency: (start, end, weight) of tokens in the document."""
    context = report.top_contexts(factor, layer).iloc[0]
    starts, ends, weights = map(list, zip(*tokens, strict=True))
    attrs = {"method": "lime", "n_samples": 10, "start": starts, "end": ends}
    first_position = int(context["position"]) - target
    key = (factor, layer, int(context["document"]), int(context["position"]))
    report._tables.saliency[key] = saliency_series(["?"] * len(tokens), first_position, weights, attrs)
