"""What the arrays of a tally must be like, so that one that was read from a file can be relied on."""

import numpy as np

from skfactors.reports.counting.histogram import N_BINS
from skfactors.reports.counting.samples import N_SAMPLED, N_SAMPLED_OF_ALL
from skfactors.reports.counting.surroundings import SHADE_COLUMNS, are_shades

# 32 bits each: no number of float64 needs a digit beyond.
_MOST_DIGITS = 80


def check_state(description, arrays):
    """
    Check that arrays are a state of :class:`~skfactors.reports.counting.tally.Tally`.

    Parameters
    ----------
    description : dict
        Of values that are right by themselves.
    arrays : dict of str to ndarray

    Raises
    ------
    ValueError
        If arrays are missing, unknown, or contradict each other or the description.
    """
    _check_shapes(description, arrays)
    _check_counts(description["n_components"], arrays)
    _check_contexts(description["parameters"], arrays)
    _check_samples(description["n_components"], arrays)
    _check_documents(arrays)


def _check_shapes(description, arrays):
    """Compare with what the description and the lengths of a few arrays lead to; None is any length."""
    n_components = description["n_components"]
    n_layers, n_contexts, n_samples = (
        len(np.atleast_1d(arrays.get(name, 0))) for name in ("groups.layers", "contexts.groups", "samples.factors")
    )
    n_groups = n_layers * n_components
    whole, real = np.dtype("i8"), np.dtype("f8")
    expected = {
        "groups.layers": (whole, (n_layers,)),
        **{f"contexts.{name}": (whole, (n_contexts,)) for name in ("groups", "ranks", "documents", "positions")},
        "contexts.activations": (real, (n_contexts,)),
        "contexts.excerpts": (np.dtype("u1"), (None,)),
        "contexts.thresholds": (real, (n_groups,)),
        "values.table": (real, (n_groups, description["parameters"]["top"])),
        "values.thresholds": (real, (n_groups,)),
        "histogram.counts": (whole, (n_groups, N_BINS)),
        **{
            f"samples.{name}": (whole, (n_samples,)) for name in ("factors", "layers", "lots", "documents", "positions")
        },
        "samples.activations": (real, (n_samples,)),
        "samples.met_before": (np.dtype(bool), (n_samples,)),
        "samples.excerpts": (np.dtype("u1"), (None,)),
        "samples.is_whole": (np.dtype(bool), (1,)),
        "activity.rows_by_slot": (whole, (n_layers,)),
        "activity.active_rows": (whole, (n_groups,)),
        "activity.n_nonzero": (whole, (1,)),
        "activity.used": (np.dtype(bool), (n_components,)),
        "activity.digits": (whole, (None, n_groups)),
        "activity.lowest": (whole, (1,)),
        "variance.n_rows": (whole, (1,)),
        "variance.mean": (real, (None,)),
        "variance.sums": (real, (2,)),
        "documents.runs": (whole, (None, 2)),
        "documents.ends_of_closed": (whole, (None, 4)),
        "documents.ends": (whole, (None, 4)),
        "documents.stretch": (whole, (None,)),
    }
    for part in ("contexts", "samples"):
        expected |= {f"{part}.shades.{name}": (whole, (None,)) for name in ("line", "start", "end")}
        expected |= {f"{part}.shades.activation": (real, (None,))}
    if set(arrays) != set(expected):
        raise ValueError(f"it lacks, or has besides, {', '.join(sorted(set(arrays) ^ set(expected)))}")
    for name, (dtype, shape) in expected.items():
        check_array(name, arrays[name], dtype, shape)


def check_array(name, array, dtype, shape):
    """Raise a ValueError where an array is not of a dtype and a shape, None in which is any length."""
    fits = array.ndim == len(shape) and all(n in (None, found) for n, found in zip(shape, array.shape, strict=True))
    if not fits or array.dtype != dtype:
        raise ValueError(f"{name} is {array.dtype} of shape {array.shape} instead of {np.dtype(dtype)} of {shape}")
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        raise ValueError(f"{name} holds a number that is not finite")


def _check_counts(n_components, arrays):
    layers, rows_by_slot = arrays["groups.layers"], arrays["activity.rows_by_slot"]
    active, digits = arrays["activity.active_rows"], arrays["activity.digits"]
    lowest = int(arrays["activity.lowest"][0])
    is_active = active.reshape(len(layers), n_components) > 0
    fits = {
        "groups.layers": len(np.unique(layers)) == len(layers),
        "activity.active_rows": (active >= 0).all() and (active <= np.repeat(rows_by_slot, n_components)).all(),
        "activity.n_nonzero": int(arrays["activity.n_nonzero"][0]) >= active.sum(),
        "activity.used": arrays["activity.used"][is_active.any(axis=0)].all(),
        "activity.digits": ((digits >= 0) & (digits < 2**32)).all() and not digits[:, active == 0].any(),
        "activity.lowest": abs(lowest) + len(digits) <= _MOST_DIGITS,
        "histogram.counts": (arrays["histogram.counts"] >= 0).all()
        and np.array_equal(arrays["histogram.counts"].sum(axis=1), active),
        "values.table": (arrays["values.table"] >= 0).all() and not arrays["values.table"][active == 0].any(),
        "values.thresholds": (arrays["values.thresholds"] >= 0).all(),
        "variance.n_rows": 0 <= arrays["variance.n_rows"][0] <= rows_by_slot.sum(),
        "variance.mean": (arrays["variance.mean"].size > 0) == (arrays["variance.n_rows"][0] > 0),
        "variance.sums": (arrays["variance.sums"] >= 0).all(),
    }
    _raise_where_not(fits)


def _check_contexts(parameters, arrays):
    groups, ranks = arrays["contexts.groups"], arrays["contexts.ranks"]
    activations, thresholds = arrays["contexts.activations"], arrays["contexts.thresholds"]
    _raise_where_not({"contexts.groups": ((groups >= 0) & (groups < len(thresholds))).all()})
    opens = np.append(True, groups[1:] != groups[:-1])[: len(groups)]
    starts = np.flatnonzero(opens)
    expected_ranks = np.arange(len(groups)) - np.repeat(starts, np.diff(starts, append=len(groups)))
    n_held = np.bincount(groups, minlength=len(thresholds))
    fits = {
        "contexts.groups": (np.diff(groups) >= 0).all(),
        "contexts.ranks": np.array_equal(ranks, expected_ranks) and (ranks < parameters["k"]).all(),
        "contexts.activations": (activations > 0).all() and not ((np.diff(activations) > 0) & ~opens[1:]).any(),
        "contexts.thresholds": (thresholds >= 0).all(),
        "contexts.shades": _are_shades("contexts", len(groups), arrays),
        "contexts.documents": (n_held <= arrays["activity.active_rows"]).all(),
    }
    _raise_where_not(fits)


def _check_samples(n_components, arrays):
    factors, lots = arrays["samples.factors"], arrays["samples.lots"]
    follows = (np.diff(factors) > 0) | ((np.diff(factors) == 0) & (np.diff(lots) > 0))
    known = ((factors >= 0) & (factors <= n_components)).all()
    _raise_where_not({"samples.factors": known and follows.all()})
    active = arrays["activity.active_rows"].reshape(-1, n_components).sum(axis=0)
    n_rows = np.append(np.minimum(active, N_SAMPLED), min(arrays["activity.rows_by_slot"].sum(), N_SAMPLED_OF_ALL))
    n_drawn = np.bincount(factors, minlength=n_components + 1)
    fits = {
        "samples.is_whole": not arrays["samples.is_whole"][0] or np.array_equal(n_drawn, n_rows),
        "samples.layers": np.isin(arrays["samples.layers"], arrays["groups.layers"]).all(),
        "samples.lots": (lots >= 0).all(),
        "samples.shades": _are_shades("samples", len(factors), arrays),
        "samples.activations": (arrays["samples.activations"] > 0).all(),
    }
    _raise_where_not(fits)


def _are_shades(part, n_contexts, arrays):
    return are_shades({name: arrays[f"{part}.shades.{name}"] for name in SHADE_COLUMNS}, n_contexts)


def _check_documents(arrays):
    runs, stretch = arrays["documents.runs"], arrays["documents.stretch"]
    ends = np.concatenate([arrays["documents.ends_of_closed"], arrays["documents.ends"]])
    n_rows, lengths = arrays["activity.rows_by_slot"].sum(), runs[:, 1].astype(np.float64) - runs[:, 0] + 1
    fits = {
        "documents.runs": (lengths > 0).all()
        and (runs[1:, 0] > runs[:-1, 1]).all()
        and min(n_rows, 1) <= lengths.sum() <= n_rows,
        "documents.ends": (ends[:, 2] <= ends[:, 3]).all(),
        "documents.stretch": len(stretch) in (0, 2),
    }
    _raise_where_not(fits)


def _raise_where_not(fits):
    wrong = [name for name, holds in fits.items() if not holds]
    if wrong:
        raise ValueError(f"{wrong[0]} contradicts what else it holds")
