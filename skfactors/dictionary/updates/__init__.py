"""Dictionary updates: one file an algorithm, all in one registry."""

from skfactors.dictionary.updates.block import BlockUpdate
from skfactors.dictionary.updates.hessian import HessianUpdate

UPDATES = {"auto": BlockUpdate, "block": BlockUpdate, "hessian": HessianUpdate}
