"""Names that people or judges gave to factors, from wherever they come."""

import os
from collections.abc import Mapping

import pandas as pd

from skfactors.records import check_schema, read_json
from skfactors.reports.arguments import check_known
from skfactors.reports.display import visible

LONGEST_NAME = 200

# What the explorer's "Export names" writes.
_SCHEMA = {"format": frozenset({"skfactors factor names"}), "names": {...: str}}
_REMEDY = "Export the names again."


def names_by_factor(names, n_components) -> dict[int, str]:
    """
    Return names by factor, as they are shown: without white space around them and without what turns a line.

    Parameters
    ----------
    names : dict, Series, DataFrame or path-like
        By factor; of a DataFrame its column `name`; a file that the explorer exported.
    n_components : int

    Returns
    -------
    dict of int to str
        Names may be empty.

    Raises
    ------
    TypeError, ValueError
        If there is no such factor, or a name is none.
    """
    if isinstance(names, (str, os.PathLike)):
        content = read_json(names, remedy=_REMEDY)
        check_schema(names, content, _SCHEMA, remedy=_REMEDY)
        names = {int(factor) if factor.isdecimal() else factor: name for factor, name in content["names"].items()}
    if isinstance(names, pd.DataFrame):
        names = names["name"]
    if not isinstance(names, (Mapping, pd.Series)):
        raise TypeError(f"names is of type {type(names).__name__}; pass names by factor: a dict, Series or DataFrame.")
    checked = {}
    for factor, name in names.items():
        (factor,) = check_known(factor, range(n_components), "factor")
        if not isinstance(name, str):
            raise TypeError(f"the name of factor {factor} is {name!r}; it must be a str.")
        checked[factor] = visible(name).strip()
        if len(checked[factor]) > LONGEST_NAME:
            raise ValueError(f"the name of factor {factor} has more than {LONGEST_NAME} characters.")
    return checked
