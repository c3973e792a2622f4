"""The compiled part of the block update: sums over sparse codes, and one atom after the other."""

import numpy as np

from skfactors.compiled import compile_with

_compiled = compile_with()


@_compiled
def add_rows(row_ends, factors, values, X, weight, codes_codes, codes_data):
    """
    Add Σ w·a aᵀ to codes_codes and Σ w·a xᵀ to codes_data, over rows x and their codes a.

    Parameters
    ----------
    row_ends, factors, values : ndarray
        The codes: ``indptr``, ``indices`` and ``data`` of a CSR array.
    X : ndarray of shape (n_rows, n_features)
    weight : ndarray of shape (n_rows,)
    codes_codes : ndarray of shape (n_components, n_components)
        Changed in place.
    codes_data : ndarray of shape (n_components, n_features)
        Changed in place.
    """
    for i in range(len(X)):
        active = slice(row_ends[i], row_ends[i + 1])
        for factor, value in zip(factors[active], values[active]):  # noqa: B905 (unknown to the compiler)
            amount = weight[i] * value
            with_codes, with_data, x = codes_codes[factor], codes_data[factor], X[i]
            for other, other_value in zip(factors[active], values[active]):  # noqa: B905
                with_codes[other] += amount * other_value
            for j in range(len(x)):
                with_data[j] += amount * x[j]


@_compiled
def change_of_block(atoms, gradient, within):
    """
    Minimise over the atoms of a block in turn, each within the unit ball.

    Parameters
    ----------
    atoms : ndarray of shape (n_atoms, n_features)
    gradient : ndarray of shape (n_atoms, n_features)
        Of the fit at these atoms, pointing downhill; used as scratch space.
    within : ndarray of shape (n_atoms, n_atoms)
        The part of Σ w·a aᵀ between these atoms. An atom without curvature stays as it is.

    Returns
    -------
    change : ndarray of shape (n_atoms, n_features)
    """
    change = np.zeros_like(atoms)
    for i in range(len(atoms)):
        if within[i, i] <= 0:
            continue
        moved, atom = gradient[i], atoms[i]
        for k in range(i):
            amount, earlier = within[i, k], change[k]
            if amount != 0:
                for j in range(len(moved)):
                    moved[j] -= amount * earlier[j]
        inverse = 1 / within[i, i]
        squared = 0.0
        for j in range(len(moved)):
            moved[j] = atom[j] + inverse * moved[j]
            squared += moved[j] * moved[j]
        scale = moved.dtype.type(1 / max(np.sqrt(squared), 1.0))
        for j in range(len(moved)):
            change[i, j] = scale * moved[j] - atom[j]
    return change
