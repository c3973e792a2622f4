"""Sparse coding solvers: one file an algorithm, all in one registry.

A solver is a class. Its constructor takes the dictionary and the problem, and prepares what every row shares; its
`solve` codes rows:

    solver = SOLVERS[name](components, alpha=..., positive=..., tol=..., max_iter=...)
    codes, gaps = solver.solve(X)

with `components`, `X`, `codes` and `gaps` tensors on one device, and `gaps` the relative duality gap of each row.
"""

from skfactors.dictionary.solvers.fista import Fista

SOLVERS = {"auto": Fista, "fista": Fista}
