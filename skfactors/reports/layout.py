"""A map of factors: those of similar directions lie near each other."""

import numpy as np
import pandas as pd
from sklearn.decomposition import PCA
from sklearn.preprocessing import normalize

from skfactors.dictionaries.adapters import as_factor_model

MAP_COLUMNS = ("x", "y")
DECIMALS = 4


def map_of_directions(components) -> pd.DataFrame:
    """
    Return the first two principal components of the directions of atoms.

    Parameters
    ----------
    components : ndarray of shape (n_components, n_features)

    Returns
    -------
    DataFrame of shape (n_components, 2)
        Columns `x` and `y`, to four decimals; zeros where directions do not differ.
    """
    directions = normalize(np.asarray(components, dtype=np.float64))
    places = np.zeros((len(directions), 2))
    n_axes = min(2, *directions.shape)
    if np.ptp(directions, axis=0).any():
        places[:, :n_axes] = PCA(n_axes, svd_solver="covariance_eigh").fit_transform(directions)
    # No negative zeros: they would not be equal in a file.
    return pd.DataFrame(np.round(places, DECIMALS) + 0.0, columns=list(MAP_COLUMNS))


def map_asked_for(layout, principal, dictionary, n_components):
    """
    Return where factors lie on the map of a page, and what it was made by.

    Parameters
    ----------
    layout : {"pca", "umap"} or array-like of shape (n_components, 2)
    principal : DataFrame or None
        What :func:`map_of_directions` gave, where the report knows it.
    dictionary : estimator or None
        What the report was made with, where it knows it.
    n_components : int

    Returns
    -------
    places : DataFrame, ndarray or None
        None where there is no map.
    method : str

    Raises
    ------
    ImportError
        If umap-learn is not installed.
    ValueError
        If it is none of these, or the report does not know its dictionary.
    """
    if isinstance(layout, str) and layout == "pca":
        return principal, "principal components"
    if isinstance(layout, str) and layout == "umap":
        if dictionary is None:
            raise ValueError(
                "layout='umap' needs the dictionary, which this report does not know: pass what "
                "umap.UMAP(metric='cosine').fit_transform(dictionary.components_) returns."
            )
        return _by_umap(as_factor_model(dictionary).components_), "UMAP"
    places = np.asarray(layout)
    if places.shape != (n_components, 2) or places.dtype.kind not in "iuf" or not np.isfinite(places).all():
        raise ValueError(f"layout must be 'pca', 'umap', or finite numbers of shape ({n_components}, 2).")
    return places, "the layout given"


def _by_umap(components):
    try:
        from umap import UMAP
    except ImportError as error:
        raise ImportError("layout='umap' needs umap-learn: pip install 'skfactors[umap]'.") from error
    # A seed allows one thread, and umap warns where none asks for it.
    return UMAP(metric="cosine", random_state=0, n_jobs=1).fit_transform(components)
