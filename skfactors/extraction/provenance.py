"""Where rows are from: the one schema of provenance."""

from collections.abc import Iterable, Sequence

import numpy as np
import pandas as pd

from skfactors.extraction.sites import HIDDEN_STATES, Place

# Whole numbers.
NUMBER_COLUMNS = ("document", "layer", "position", "token_id", "start", "end")
# And the site, a category: a byte for each row.
PROVENANCE_COLUMNS = (*NUMBER_COLUMNS, "site")


def check_provenance(provenance: pd.DataFrame, n_rows: int) -> pd.DataFrame:
    """
    Check that provenance has its columns; without a site, rows are of the hidden states.

    Raises
    ------
    ValueError
        If columns are missing, a row has no site, or there are more or fewer than `n_rows` rows.
    """
    missing = [name for name in NUMBER_COLUMNS if name not in provenance]
    if missing:
        raise ValueError(f"provenance lacks the columns {missing}.")
    if len(provenance) != n_rows:
        raise ValueError(f"X has {n_rows} rows and provenance {len(provenance)}.")
    if "site" not in provenance:
        return provenance.assign(site=sites_of(np.zeros(n_rows, dtype=np.int8), [HIDDEN_STATES]))
    if not isinstance(provenance["site"].dtype, pd.CategoricalDtype):
        provenance = provenance.assign(site=provenance["site"].astype("category"))
    without_site = np.flatnonzero(provenance["site"].isna())
    if without_site.size:
        raise ValueError(f"row {without_site[0]} of the provenance has no site.")
    return provenance


def no_provenance() -> pd.DataFrame:
    """Return the provenance of no rows."""
    return check_provenance(pd.DataFrame(columns=list(NUMBER_COLUMNS), dtype=np.int64), 0)


def sites_of(codes: np.ndarray, sites: Sequence[str]) -> pd.Categorical:
    """Return the column of sites for rows whose sites have these places in `sites`."""
    return pd.Categorical.from_codes(codes, categories=list(sites))


def places_of(provenance: pd.DataFrame) -> list[Place]:
    """List the places that occur, in order of first appearance."""
    names = provenance["site"].cat.categories
    keys = provenance["layer"].to_numpy(dtype=np.int64) * max(len(names), 1) + provenance["site"].cat.codes.to_numpy()
    return [Place(names[key % len(names)], key // len(names)) for key in pd.unique(keys).tolist()]


def is_at(provenance: pd.DataFrame, place: Place) -> np.ndarray:
    """Say for each row whether it is of this place."""
    return (provenance["layer"].to_numpy() == place.layer) & (provenance["site"] == place.site).to_numpy()


def joined(parts: Iterable[pd.DataFrame]) -> pd.DataFrame:
    """Put provenance one after the other; the sites stay a category, which pandas gives up where they differ."""
    whole = pd.concat(parts, ignore_index=True)
    return check_provenance(whole, len(whole))
