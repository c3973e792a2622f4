"""WordNet's example sentences, each with the word whose sense it shows."""

import importlib.util
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from io import StringIO
from pathlib import Path

import pandas as pd

from skfactors.datasets.packages import named_damage

_PARTS = ("adj", "adv", "noun", "verb")
_WORD = re.compile(r"[^\W\d_]+")


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
        One row per example, in the order of the database, with columns

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
    RuntimeError
        If one is damaged.

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
    folder = _wordnet_folder(path)
    with named_damage(folder, "apt-get install --reinstall wordnet-base"):
        rows = list(_iter_located_examples(folder))
    return pd.DataFrame(rows, columns=["text", "word", "lemma", "pos", "synset", "start", "end"])


def _wordnet_folder(path: str) -> Path:
    folder = Path(path).expanduser().absolute()
    needed = [f"{kind}.{part}" for part in _PARTS for kind in ("data", "index")]
    needed += [f"{part}.exc" for part in _PARTS]
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
