"""The tables of a report: what it knows of the factors, without where it came from or how it is shown."""

from numbers import Integral

import pandas as pd
from sklearn.utils import check_scalar

from skfactors.reports.arguments import check_known
from skfactors.reports.histogram import BIN_EDGES
from skfactors.reports.neighbours import NEIGHBOUR_COLUMNS, nearest_by_contexts
from skfactors.reports.saliency_records import saliency_table, to_records
from skfactors.reports.sources import Sources
from skfactors.reports.summary import clearest_order, summarize


class ReportTables:
    """
    What a :class:`FactorReport` knows, as tables; the parameters are those of the report.

    Two are equal where every table is, to the last bit.
    """

    def __init__(
        self,
        contexts,
        importance,
        active_rows,
        activation_sums,
        totals,
        parameters,
        histogram,
        directions=None,
        saliency=None,
        tally=None,
    ):
        self.totals = totals
        self.parameters = parameters
        self._contexts = contexts
        self._histogram = histogram
        self._directions = directions
        self._by_layer = {
            "importance": importance,
            "active_rows": active_rows,
            "activation_sums": activation_sums,
        }
        self._saliency = {} if saliency is None else saliency
        self._tally = tally
        self._sources = Sources()
        self._summarize()

    def top_contexts(self, factor=None, layer=None) -> pd.DataFrame:
        """
        Return the contexts in which factors are most active, by factor and layer.

        Parameters
        ----------
        factor, layer : int or sequence of int, default=None
            Which to return; None returns all.

        Returns
        -------
        DataFrame
            Columns as in :func:`top_contexts`.

        Raises
        ------
        TypeError, ValueError
            If there is no such factor or layer.
        """
        contexts = self._contexts
        if factor is not None:
            contexts = contexts[contexts["factor"].isin(self._known_factors(factor))]
        if layer is not None:
            contexts = contexts[contexts["layer"].isin(check_known(layer, self.totals["layers"], "layer"))]
        return contexts.reset_index(drop=True)

    def importance_by_layer(self) -> pd.DataFrame:
        """
        Return the importance of each factor in each layer.

        Returns
        -------
        DataFrame of shape (n_components, n_layers)
            As :func:`importance_by_layer` gives it.
        """
        return self._by_layer["importance"].copy()

    def summary(self) -> pd.DataFrame:
        """
        Return a row for each factor.

        Returns
        -------
        DataFrame
            Index `factor`; columns

            - `level`: as :func:`classify_levels` has it from importance and span, hence "high" only where
              :meth:`add_saliency` was called
            - `peak_layer`: the layer of its greatest importance
            - `peak_importance`
            - `frequency`: share of all rows, whatever their layer, in which it is active
            - `mean_activation`: over those rows
            - `span`: tokens of context that it depends on, the median of :func:`context_span` over its contexts with
              saliency (those at the peak layer, where there are any); NaN without saliency
            - `top_tokens`: up to five most common tokens of its top contexts at the peak layer, in lower case

            A factor that never fires is "flat", and has no peak layer and no mean activation.
        """
        return self._summary.copy()

    def histogram(self) -> pd.DataFrame:
        """
        Return how the activations of each factor are distributed in each layer.

        Returns
        -------
        DataFrame
            Columns `factor`, `layer`, `lower`, `upper` and `count`: so many activations from `lower` to below `upper`.
            Bins are half octaves, the same for every report; empty ones are left out. The first, from 1/256, also
            counts what is smaller, and the last, up to 4096, what is larger.
        """
        bins = self._histogram["bin"].to_numpy()
        return pd.DataFrame(
            {
                "factor": self._histogram["factor"],
                "layer": self._histogram["layer"],
                "lower": BIN_EDGES[bins],
                "upper": BIN_EDGES[bins + 1],
                "count": self._histogram["count"],
            }
        )

    def neighbours(self, by="direction") -> pd.DataFrame:
        """
        Return the factors near each factor, at most ten.

        Parameters
        ----------
        by : {"direction", "contexts"}, default="direction"
            By the cosine of the dictionary's components, or by co-firing: the tokens that are in the top contexts of
            both, divided by the geometric mean of how many each has.

        Returns
        -------
        DataFrame
            Columns `factor`, `neighbour` and `similarity`, by factor, nearest first. Empty by direction where the
            report was made from codes without components.

        Raises
        ------
        ValueError
            If `by` is neither.
        """
        if by == "contexts":
            return nearest_by_contexts(self._contexts, self.totals["n_components"])
        if by != "direction":
            raise ValueError(f"by={by!r} must be 'direction' or 'contexts'.")
        if self._directions is None:
            return pd.DataFrame(columns=NEIGHBOUR_COLUMNS)
        return self._directions.copy()

    def clearest(self, n=10) -> pd.DataFrame:
        """
        Return the factors worth looking at first.

        Parameters
        ----------
        n : int, default=10
            How many, at most.

        Returns
        -------
        DataFrame
            Rows of :meth:`summary`, at most `n`.

        Notes
        -----
        The more a factor's top contexts at its peak layer exceed its mean activation, the more it stands out. First
        come factors whose contexts there are from five documents or more and mostly on tokens with a letter, and that
        are active in at most a tenth of the rows; after them the others that fire at all. In either, every peak layer
        in turn gives the factor that stands out most of those it has left, so that the first few come from all depths.
        """
        check_scalar(n, "n", Integral, min_val=0)
        return self._summary.loc[clearest_order(self._summary, self._contexts, self.parameters["k"])[:n]]

    def saliency(self, factor=None, layer=None) -> pd.DataFrame:
        """
        Return which tokens make factors active, in the contexts that :meth:`add_saliency` was called for.

        Parameters
        ----------
        factor, layer : int or sequence of int, default=None
            Which to return; None returns all.

        Returns
        -------
        DataFrame
            A row for each token: `factor`, `layer`, `document` and `position` name the context, as in
            :meth:`top_contexts`; `token_position`, `token`, `start` and `end` (character offsets in the document) the
            token; `saliency` is its weight.
        """
        table = saliency_table(self._saliency)
        if factor is not None:
            table = table[table["factor"].isin(self._known_factors(factor))]
        if layer is not None:
            table = table[table["layer"].isin(check_known(layer, self.totals["layers"], "layer"))]
        return table.reset_index(drop=True)

    def __eq__(self, other):
        if not isinstance(other, ReportTables):
            return NotImplemented
        return (
            self.totals == other.totals
            and self.parameters == other.parameters
            and self._contexts.equals(other._contexts)
            and self._histogram.equals(other._histogram)
            and self.neighbours().equals(other.neighbours())
            and all(table.equals(other._by_layer[name]) for name, table in self._by_layer.items())
            and _by_place(self._saliency) == _by_place(other._saliency)
        )

    __hash__ = None

    def _summarize(self):
        self._summary = summarize(
            self._contexts, **self._by_layer, n_rows=self.totals["n_rows"], saliency=self._saliency
        )

    def _known_factors(self, factor):
        return check_known(factor, range(self.totals["n_components"]), "factor")


def _by_place(saliency):
    return to_records(dict(sorted(saliency.items())))
