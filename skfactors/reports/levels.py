"""Levels: whether a factor is about words, sentence patterns or long-range context."""

from numbers import Real

import numpy as np
import pandas as pd
from sklearn.utils._param_validation import Interval, validate_parameter_constraints

_A_SHARE, _A_LENGTH = Interval(Real, 0, 1, closed="both"), Interval(Real, 0, float("inf"), closed="both")
_OF_LEVELS = {"low_depth": [_A_SHARE], "long_span": [_A_LENGTH], "flat_tolerance": [_A_SHARE]}
_OF_SPANS = {"share": [Interval(Real, 0, 1, closed="right")], "noise": [_A_SHARE], "least": [_A_SHARE]}
_TIMES_NOISE, _ENOUGH_NOISE = 5, 10


def classify_levels(importance, span=None, *, low_depth=0.3, long_span=25, flat_tolerance=0.1) -> pd.Series:
    """
    Sort factors into levels by the layer where they emerge and the reach of the context they depend on.

    Parameters
    ----------
    importance : DataFrame of shape (n_components, n_layers)
        Importance of each factor (index) in each layer (columns), as :func:`importance_by_layer` gives it.
    span : Series or array-like of float of length n_components, default=None
        Tokens of context that a factor's activation depends on, as :func:`context_span` measures it in one context. A
        Series goes by its index; a factor that it lacks, or has NaN for, has no known span. Without spans no factor is
        "high".
    low_depth : float, default=0.3
        A factor is low where its curve peaks within this share of the depth from the first layer to the last.
    long_span : float, default=25
        Tokens beyond which a span is more than a sentence pattern needs.
    flat_tolerance : float, default=0.1
        A curve is flat where its range is less than this share of its maximum.

    Returns
    -------
    Series
        Named "level", with the index of `importance`, its values

        - "flat": the factor never fires, or is about as important in every layer; with one layer, always
        - "low": it peaks in the first layers
        - "high": it peaks later, and depends on more than `long_span` tokens of context
        - "mid": it peaks later, and depends on less or its span is not known

    Raises
    ------
    TypeError, ValueError
        If a parameter is out of range, importance has no layer or holds negative or non-finite values, or `span` has
        another length.

    Notes
    -----
    The levels are those of Yun et al. (2021), "Transformer visualization via dictionary learning", whose authors
    sorted factors by hand. In the curves of their demo, over layers 0, 2, ..., 10 of BERT-base, all 320 factors
    labelled low peak at layers 0 to 2 (310 of them at layer 2), the 94 labelled mid peak at 8 to 10, 31 of the 32
    labelled high at 10, and the 86 that peak at 4 to 6 carry no label. The default `low_depth` lies midway between
    2/10, the last depth with factors labelled low, and 4/10, the first of those that carry no label; these are "mid"
    here.

    The curve alone cannot tell high from mid: both peak late. What sets them apart is how far the context reaches,
    hence `span`, which :func:`context_span` measures by the saliency of tokens. Its limit of 25 tokens is about the
    length of an English sentence, a choice of this library.

    Of layers of equal importance, the first is the peak.

    Examples
    --------
    >>> import pandas as pd
    >>> from skfactors.reports import classify_levels
    >>> importance = pd.DataFrame([[1.0, 5.0, 2.0], [0.0, 1.0, 6.0], [0.0, 0.0, 0.0]], columns=[0, 2, 10])
    >>> classify_levels(importance, span=[3, 40, 0]).tolist()
    ['low', 'high', 'flat']
    """
    given = {"low_depth": low_depth, "long_span": long_span, "flat_tolerance": flat_tolerance}
    validate_parameter_constraints(_OF_LEVELS, given, "classify_levels")
    importance = importance.sort_index(axis="columns")
    curves = importance.to_numpy(dtype=np.float64)
    if curves.shape[1] == 0:
        raise ValueError("importance has no layers.")
    if not np.isfinite(curves).all() or (curves < 0).any():
        raise ValueError("importance holds negative, NaN or infinite values; it is a mean of activations above zero.")
    maxima = curves.max(axis=1)
    is_flat = (maxima == 0) | (np.ptp(curves, axis=1) < flat_tolerance * maxima)
    if curves.shape[1] == 1:
        is_flat[:] = True
    layers = importance.columns.to_numpy(dtype=np.float64)
    is_low = layers[curves.argmax(axis=1)] - layers[0] <= low_depth * (layers[-1] - layers[0])
    is_high = _spans(span, importance.index) > long_span
    levels = np.select([is_flat, is_low, is_high], ["flat", "low", "high"], default="mid")
    return pd.Series(levels, index=importance.index, name="level")


def emergence(importance) -> pd.Series:
    """
    Tell how far factors emerge in the layers, rather than being in the embeddings already.

    Parameters
    ----------
    importance : DataFrame of shape (n_components, n_layers)
        As :func:`importance_by_layer` gives it.

    Returns
    -------
    Series
        Named "emergence", with the index of `importance`: 1 less the share of a factor's peak importance that it has at
        layer 0. It is 0 for a factor as strong in the embeddings as anywhere, hence about tokens by themselves, and 1
        for one that is not there at all, hence of the model's own making. NaN for a factor that never fires, and where
        there is no layer 0 or no other.

    See Also
    --------
    classify_levels : The levels of the paper.

    Notes
    -----
    Where a curve peaks says little of this: a factor may peak late and be half as strong in the embeddings. Only of
    hidden states is layer 0 the embeddings; at other sites it is the first block.

    Examples
    --------
    >>> import pandas as pd
    >>> from skfactors.reports import emergence
    >>> emergence(pd.DataFrame([[3.0, 4.0], [0.0, 6.0], [0.0, 0.0]], columns=[0, 6])).tolist()
    [0.25, 1.0, nan]
    """
    peaks = importance.max(axis="columns")
    if 0 not in importance.columns or importance.shape[1] == 1:
        return pd.Series(np.nan, index=importance.index, name="emergence")
    return (1 - importance[0] / peaks.where(peaks > 0)).rename("emergence")


def context_span(saliency, *, share=0.8, noise=0.2, least=0.2) -> int:
    """
    Measure how far the context reaches that an activation depends on.

    Parameters
    ----------
    saliency : Series of length n_tokens
        As :func:`token_saliency` returns it, for one context.
    share : float, default=0.8
        Share of the other tokens' weight that the span holds.
    noise : float, default=0.2
        Weights of other tokens below this share of the largest of them count as zero, as do those less than five times
        as large as the median negative weight, which is noise where there are ten such or more.
    least : float, default=0.2
        Share of all positive weight that the others must hold together; where they hold less, the span is 1.

    Returns
    -------
    int
        The length in tokens of the shortest stretch of text that holds the token itself and that share of the positive
        weight of all other tokens: 1 where the activation depends on the token alone, 3 for a pattern of the token
        and its two neighbours, and at least 31 where it rests on a token 30 positions away. 1 where no weight is
        positive.

    Raises
    ------
    ValueError
        If a parameter is out of range, or the Series does not say which position it explains.

    Notes
    -----
    The span grows with how far weight lies from the token and with how widely it is spread: a weak influence from afar
    does not reach the share and leaves the span as it is. Almost every activation depends on the token most; how far
    the rest reaches is measured without it. Negative weights, of tokens that hold the activation down, do not count.

    Examples
    --------
    >>> import pandas as pd
    >>> from skfactors.reports import context_span
    >>> saliency = pd.Series([0.0, 0.9, 0.0, -0.2, 1.1, 0.1], index=range(10, 16))
    >>> saliency.attrs["position"] = 14
    >>> context_span(saliency)
    4
    """
    validate_parameter_constraints(_OF_SPANS, {"share": share, "noise": noise, "least": least}, "context_span")
    positions = saliency.index.get_level_values(0)
    if saliency.attrs.get("position") not in positions:
        raise ValueError("saliency must have in attrs['position'] the position that it explains, one of its index.")
    own = positions.get_loc(saliency.attrs["position"])
    weights = saliency.to_numpy(dtype=np.float64, copy=True)
    of_token, weights[own] = max(weights[own], 0), 0
    negative = -weights[weights < 0]
    floor = _TIMES_NOISE * np.median(negative) if len(negative) >= _ENOUGH_NOISE else 0
    weights = np.where(weights >= max(noise * weights.max(), floor), weights.clip(min=0), 0)
    if weights.sum() < least * (weights.sum() + of_token):
        return 1
    before = np.concatenate([[0], weights.cumsum()])
    starts, stops = np.arange(own + 1)[:, None], np.arange(own + 1, len(weights) + 1)
    # The sum of a stretch that holds all may fall short of the total by rounding.
    holds = before[stops] - before[starts] >= share * before[-1] * (1 - 1e-9)
    return int((stops - starts)[holds].min())


def _spans(span, factors):
    if span is None:
        return np.full(len(factors), np.nan)
    if isinstance(span, pd.Series):
        return span.reindex(factors).to_numpy(dtype=np.float64, na_value=np.nan)
    span = np.asarray(span, dtype=np.float64)
    if span.shape != (len(factors),):
        raise ValueError(f"span has shape {span.shape}; importance has {len(factors)} factors, and each needs one.")
    return span
