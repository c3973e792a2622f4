"""How well a dictionary reconstructs the states of texts, and with how many factors."""

import numpy as np
import pandas as pd
from scipy import sparse

from skfactors.codes import check_codes
from skfactors.dictionaries.adapters import reconstruction_of
from skfactors.dictionaries.one_place import model_of_one_place
from skfactors.evaluations.controls import UNLEARNED, make_controls
from skfactors.evaluations.figures import DICTIONARY, Figures, sums_by
from skfactors.metrics import density


def reconstruction(
    extractor,
    dictionary,
    texts,
    *,
    site=None,
    layer=None,
    controls=UNLEARNED,
    n_resamples=1000,
    random_state=0,
    verbose=False,
) -> pd.DataFrame:
    """
    Tell the explained variance, the active factors a row, and the share of factors that are never active.

    Parameters and columns are those of :func:`~skfactors.evaluations.loss_recovered`; the units are texts, since rows
    of one text are alike, and factors.
    """
    model = model_of_one_place(dictionary, reconstructs=True)
    acts = extractor.extract(texts).at(site, layer)
    X, documents = np.asarray(acts.X), acts.provenance["document"].to_numpy()
    deviations = sums_by(documents, ((X - X.mean(axis=0, dtype=np.float64)) ** 2).sum(axis=1))
    n_rows = sums_by(documents, np.ones(len(X)))
    figures = Figures(n_resamples, random_state)
    for name, of in {DICTIONARY: model, **make_controls(model, X, controls, random_state)}.items():
        of = model_of_one_place(of, reconstructs=True)
        made = of.transform(X)
        codes = sparse.csr_array(check_codes(made))
        residuals = ((X - reconstruction_of(of, X, made).astype(np.float64)) ** 2).sum(axis=1)
        figures.add(
            "explained_variance", name, sums_by(documents, residuals), deviations, units="texts", complement=True
        )
        figures.add("l0", name, sums_by(documents, np.diff((codes != 0).indptr)), n_rows, units="texts")
        figures.add("dead_fraction", name, density(codes) == 0)
    return figures.table()
