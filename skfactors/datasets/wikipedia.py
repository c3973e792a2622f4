"""Articles of English Wikipedia."""

import bz2
from collections.abc import Iterator
from numbers import Integral
from pathlib import Path
from xml.etree import ElementTree

from skfactors.datasets.packages import file_in_package, named_damage
from skfactors.datasets.wikitext import plain_text

DUMP = "enwiki-latest-pages-articles1.xml-p000000010p000030302-shortened.bz2"


def load_wikipedia(n_articles: int | None = None, *, min_length: int = 500) -> list[str]:
    """
    Load the plain text of English Wikipedia articles.

    The articles are those of the dump that the package gensim carries as test data: about a hundred of 2016, from
    "Anarchism" to "Algorithm". Their text is under CC BY-SA 3.0 and the GFDL.

    Parameters
    ----------
    n_articles : int, default=None
        How many articles to return, the first in the file; None for all.
    min_length : int, default=500
        Articles with fewer characters of plain text are left out, and so are redirects and pages that are not
        articles.

    Returns
    -------
    list of str
        One text per article, in the order of the file. Headings have lines of their own and paragraphs are
        separated by blank lines. Tables, formulas, references and lists of sources and links are left out.

    Raises
    ------
    ValueError
        If `n_articles` is not an integer of at least 1.
    ModuleNotFoundError
        If the package gensim is not installed.
    RuntimeError
        If its file is damaged.

    Examples
    --------
    >>> from skfactors.datasets import load_wikipedia
    >>> load_wikipedia(2)[0][:35]
    'Anarchism is a political philosophy'
    """
    if n_articles is not None and not (isinstance(n_articles, Integral) and n_articles >= 1):
        raise ValueError(f"n_articles={n_articles!r} must be an integer of at least 1, or None for all articles.")
    install = 'pip install "gensim>=4.4,<5"'
    dump = file_in_package("gensim", f"test/test_data/{DUMP}", install)
    articles = []
    with named_damage(dump, f"{install} --force-reinstall --no-deps"):
        for wikitext in _iter_articles(dump):
            text = plain_text(wikitext)
            if len(text) >= min_length:
                articles.append(text)
            if len(articles) == n_articles:
                break
    return articles


def _iter_articles(dump: Path) -> Iterator[str]:
    """Yield the wikitext of a dump's articles one by one; without other namespaces and redirects."""
    with bz2.open(dump) as file:
        for _, element in ElementTree.iterparse(file):
            if element.tag.rpartition("}")[2] != "page":
                continue
            if element.findtext("{*}ns") == "0" and element.find("{*}redirect") is None:
                yield element.findtext("{*}revision/{*}text") or ""
            element.clear()
