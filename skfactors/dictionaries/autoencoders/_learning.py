"""The compiled part of a step on the CPU: what is active is all that is touched."""

import numpy as np

from skfactors.compiled import compile_with

compiled = compile_with(forceinline=True, error_model="numpy")
_BETA_1, _BETA_2, _EPSILON = 0.9, 0.999, 1e-8


@compiled
def standardize(X, mean, scale, standardized):
    """Fill in ``(X - mean) * scale``, computed in double precision."""
    for row in range(len(X)):
        x, target = X[row], standardized[row]
        for j in range(len(mean)):
            target[j] = (x[j] - mean[j]) * scale[j]


@compiled
def decode_rows(X, D, intercept, counts, factors, values, group_ends, weight, S, pulls, squared):
    """
    Reconstruct rows from nested prefixes of the factors, and say how the mean loss depends on them and on codes.

    The loss of a row is the mean, over the prefixes, of ½‖x - x̂‖².

    Parameters
    ----------
    X : ndarray of shape (n_rows, n_features)
    D : ndarray of shape (n_components, n_features)
    intercept : ndarray of shape (n_features,)
    counts, factors, values : ndarray
        The codes: how many each row has, their factors in ascending order, and their values.
    group_ends : ndarray of int of shape (n_groups,)
        Where the prefixes end, the last of them with the last factor.
    weight : ndarray of shape (n_rows,)
        By which a row's loss is multiplied.
    S : ndarray of shape (n_groups, n_rows, n_features)
        Filled in: for the factors between two ends, the derivative of the loss by their part of the reconstruction.
    pulls : ndarray of the shape of values
        Filled in: the derivative of the loss by each code.
    squared : ndarray of shape (n_rows,)
        Filled in: ‖x - x̂‖² of the whole reconstruction.
    """
    n_groups, n_rows, width = S.shape
    first = 0
    for row in range(n_rows):
        last = first + counts[row]
        current = S[0, row]
        x = X[row]
        for j in range(width):
            current[j] = intercept[j] - x[j]
        start = first
        for group in range(n_groups):
            current = S[group, row]
            if group > 0:
                before = S[group - 1, row]
                for j in range(width):
                    current[j] = before[j]
            stop = _end_of_group(factors, start, last, group_ends[group])
            _add_rows(current, values, D, factors, start, stop)
            start = stop
        squared[row] = _dot(current, current)
        scale = weight[row] / n_groups
        for group in range(n_groups - 1, -1, -1):
            current = S[group, row]
            for j in range(width):
                current[j] *= scale
            if group + 1 < n_groups:
                after = S[group + 1, row]
                for j in range(width):
                    current[j] += after[j]
        start = first
        for group in range(n_groups):
            stop = _end_of_group(factors, start, last, group_ends[group])
            _dots(S[group, row], D, factors, start, stop, pulls)
            start = stop
        first = last


@compiled
def _end_of_group(factors, start, last, end):
    """Return where, of factors from start to last in ascending order, the first is that is not below an end."""
    stop = start
    while stop < last and factors[stop] < end:
        stop += 1
    return stop


@compiled
def _dots(vector, rows, places, start, stop, products):
    """Fill in the products of a vector with rows[places[i]] for start <= i < stop."""
    in_fours = start + (stop - start) // 4 * 4
    zero = vector.dtype.type(0)
    for i in range(start, in_fours, 4):
        row_a, row_b, row_c, row_d = rows[places[i]], rows[places[i + 1]], rows[places[i + 2]], rows[places[i + 3]]
        a, b, c, d = zero, zero, zero, zero
        for j in range(len(vector)):
            value = vector[j]
            a += value * row_a[j]
            b += value * row_b[j]
            c += value * row_c[j]
            d += value * row_d[j]
        products[i], products[i + 1], products[i + 2], products[i + 3] = a, b, c, d
    for i in range(in_fours, stop):
        products[i] = _dot(vector, rows[places[i]])


@compiled
def _dot(left, right):
    total = left[0] * right[0]
    for j in range(1, len(left)):
        total += left[j] * right[j]
    return total


@compiled
def _add_rows(target, amounts, rows, places, start, stop):
    """Add the sum over start <= i < stop of amounts[i] * rows[places[i]] to target."""
    in_fours = start + (stop - start) // 4 * 4
    for i in range(start, in_fours, 4):
        a, b, c, d = amounts[i], amounts[i + 1], amounts[i + 2], amounts[i + 3]
        row_a, row_b, row_c, row_d = rows[places[i]], rows[places[i + 1]], rows[places[i + 2]], rows[places[i + 3]]
        for j in range(len(target)):
            target[j] += (a * row_a[j] + b * row_b[j]) + (c * row_c[j] + d * row_d[j])
    for i in range(in_fours, stop):
        a, row_a = amounts[i], rows[places[i]]
        for j in range(len(target)):
            target[j] += a * row_a[j]


@compiled
def tally(factors, codes, n_components):
    """Return how many codes each factor has, how many there are, and the sum of their magnitudes."""
    of_factors = np.zeros(n_components)
    n_codes, size = 0, 0.0
    for entry in range(len(factors)):
        is_code = codes[entry] != 0
        of_factors[factors[entry]] += is_code
        n_codes += is_code
        size += abs(codes[entry])
    return of_factors, n_codes, size


@compiled
def sum_rows(X):
    """Return the sum of rows, and that of their squared lengths, in double precision."""
    total, square = np.zeros(X.shape[1]), 0.0
    for row in range(len(X)):
        x = X[row]
        for j in range(len(x)):
            value = np.float64(x[j])
            total[j] += value
            square += value * value
    return total, square


@compiled
def sort_by_factor(n_rows, counts, factors, codes, pulls, slots, by_parameters, n_components):
    """
    Put entries in the order of their factors, and sum up what parameters have to do with the loss.

    Parameters
    ----------
    n_rows : int
    counts : ndarray of int of shape (n_lists * n_rows,)
        How many entries each row has, in each of one or more lists that follow each other.
    factors, codes, pulls, slots : ndarray of shape (n_entries,)
    by_parameters : ndarray of shape (n_parameters, n_entries)
    n_components : int

    Returns
    -------
    starts : ndarray of int of shape (n_components + 1,)
        Where each factor's entries begin.
    rows, slots, codes, pulls : ndarray of shape (n_entries,)
        In that order.
    sums : ndarray of shape (n_parameters, n_components)
    """
    starts = np.zeros(n_components + 1, np.int64)
    for factor in factors:
        starts[factor + 1] += 1
    for factor in range(n_components):
        starts[factor + 1] += starts[factor]
    places = starts[:-1].copy()
    rows, sorted_slots = np.empty(len(factors), np.int32), np.empty_like(slots)
    sorted_codes, sorted_pulls = np.empty_like(codes), np.empty_like(pulls)
    sums = np.zeros((len(by_parameters), n_components))
    entry = 0
    for number in range(len(counts)):
        for _ in range(counts[number]):
            factor = factors[entry]
            place = places[factor]
            places[factor] += 1
            rows[place], sorted_slots[place] = number % n_rows, slots[entry]
            sorted_codes[place], sorted_pulls[place] = codes[entry], pulls[entry]
            for parameter in range(len(sums)):
                sums[parameter, factor] += by_parameters[parameter, entry]
            entry += 1
    return starts, rows, sorted_slots, sorted_codes, sorted_pulls, sums


@compiled
def sum_gradients(first, last, starts, rows, slots, codes, pulls, S, X, gradients):
    """
    Sum up the gradients of some factors over their entries.

    Parameters
    ----------
    first, last : int
        Of the factors.
    starts : ndarray of int of shape (n_components + 1,)
        Where the entries of each begin.
    rows : ndarray of int of shape (n_entries,)
        Of the minibatch.
    slots : ndarray of shape (n_entries,)
        Which of the residuals in S an entry has to do with.
    codes, pulls : ndarray of shape (n_entries,)
        An entry's code, and how the loss depends on its pre-activation.
    S : ndarray of shape (n_slots, n_rows, n_features)
    X : ndarray of shape (n_rows, n_features)
    gradients : ndarray of shape (2, n_components, n_features)
        Filled in, for the encoder and the components.
    """
    for factor in range(first, last):
        _sum_gradients_of(
            starts[factor],
            starts[factor + 1],
            rows,
            slots,
            codes,
            pulls,
            S,
            X,
            gradients[0, factor],
            gradients[1, factor],
        )


@compiled
def _sum_gradients_of(start, stop, rows, slots, codes, pulls, S, X, of_encoder, of_component):
    for j in range(len(of_encoder)):
        of_encoder[j] = 0
        of_component[j] = 0
    _add_rows(of_encoder, pulls, X, rows, start, stop)
    in_fours = start + (stop - start) // 4 * 4
    for i in range(start, in_fours, 4):
        a, b, c, d = codes[i], codes[i + 1], codes[i + 2], codes[i + 3]
        row_a, row_b = S[slots[i], rows[i]], S[slots[i + 1], rows[i + 1]]
        row_c, row_d = S[slots[i + 2], rows[i + 2]], S[slots[i + 3], rows[i + 3]]
        for j in range(len(of_component)):
            of_component[j] += (a * row_a[j] + b * row_b[j]) + (c * row_c[j] + d * row_d[j])
    for i in range(in_fours, stop):
        a, row_a = codes[i], S[slots[i], rows[i]]
        for j in range(len(of_component)):
            of_component[j] += a * row_a[j]


@compiled
def update_factors(first, last, gradients, weights, moments, n_updates, rate):
    """
    Take a step of Adam with some factors, whose components stay of length 1.

    Parameters
    ----------
    first, last : int
        Of the factors.
    gradients, weights : ndarray of shape (2, n_components, n_features)
        Of the encoder and the components. Weights are changed in place.
    moments : ndarray of shape (2, 2, n_components, n_features)
        First the means of the gradients, then those of their squares. Changed in place.
    n_updates : ndarray of int of shape (n_components,)
        How many steps each factor has taken, this one included; 0 leaves it as it is.
    rate : float
    """
    for factor in range(first, last):
        if n_updates[factor]:
            _update_factor(
                factor, gradients[0, factor], gradients[1, factor], weights, moments, n_updates[factor], rate
            )


@compiled
def _update_factor(factor, of_encoder, of_component, weights, moments, n_updates, rate):
    component = weights[1, factor]
    # What would lengthen a component is no use: its length is 1.
    along = _dot(of_component, component)
    for j in range(len(component)):
        of_component[j] -= along * component[j]
    _adam(of_encoder, weights[0, factor], moments[0, 0, factor], moments[1, 0, factor], n_updates, rate)
    _adam(of_component, component, moments[0, 1, factor], moments[1, 1, factor], n_updates, rate)
    length = np.sqrt(_dot(component, component))
    for j in range(len(component)):
        component[j] /= length


@compiled
def _adam(gradient, weight, mean, square, n_updates, rate):
    dtype = weight.dtype.type
    correction = np.sqrt(1 - _BETA_2**n_updates)
    step = dtype(rate * correction / (1 - _BETA_1**n_updates))
    epsilon = dtype(_EPSILON * correction)
    a, b = dtype(1 - _BETA_1), dtype(1 - _BETA_2)
    for j in range(len(weight)):
        mean[j] += a * (gradient[j] - mean[j])
        square[j] += b * (gradient[j] * gradient[j] - square[j])
        weight[j] -= step * mean[j] / (np.sqrt(square[j]) + epsilon)


@compiled
def learn_factors(first, last, starts, rows, slots, codes, pulls, S, X, weights, moments, n_updates, rate):
    """Do what :func:`sum_gradients` and :func:`update_factors` do, a factor at a time, whose gradients stay at hand."""
    gradients = np.empty((2, X.shape[1]), X.dtype)
    for factor in range(first, last):
        start, stop = starts[factor], starts[factor + 1]
        if stop > start:
            _sum_gradients_of(start, stop, rows, slots, codes, pulls, S, X, gradients[0], gradients[1])
            _update_factor(factor, gradients[0], gradients[1], weights, moments, n_updates[factor], rate)
