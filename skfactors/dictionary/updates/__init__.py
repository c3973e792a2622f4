"""Dictionary updates: one file an algorithm, all in one registry.

An update is a class that holds what it remembers of the rows so far, as tensors, and moves the components:

    update = UPDATES[name](n_components, n_features, dtype=..., device=...)
    components = update.step(components, X, codes, weight)

Its `state` is a dict of tensors that can be stored and given back, and `forget` empties it for some factors.
"""

from skfactors.dictionary.updates.block import BlockUpdate
from skfactors.dictionary.updates.hessian import HessianUpdate

UPDATES = {"auto": BlockUpdate, "block": BlockUpdate, "hessian": HessianUpdate}
