"""Rows to sparse codes, and the factors that make them sparse."""

from skfactors.dictionary.solvers import SOLVERS
from skfactors.dictionary.sparse_dictionary import SparseDictionary
from skfactors.dictionary.updates import UPDATES

__all__ = ["SOLVERS", "UPDATES", "SparseDictionary"]
