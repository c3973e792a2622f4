"""FactorReport: what the factors of a dictionary respond to in a corpus."""

from collections.abc import Iterator
from numbers import Integral
from pathlib import Path

import pandas as pd
from rich.console import Console
from sklearn.utils import check_scalar
from sklearn.utils.validation import check_is_fitted

from skfactors.progress import progress_bar
from skfactors.reports.accumulator import ReportAccumulator
from skfactors.reports.arguments import check_known, check_parameters, reconstruction_by
from skfactors.reports.display import FactorView, coverage, overview_html
from skfactors.reports.entries import check_codes
from skfactors.reports.explanation import explain_text
from skfactors.reports.explorer import write_page
from skfactors.reports.histogram import BIN_EDGES
from skfactors.reports.neighbours import NEIGHBOUR_COLUMNS, nearest_by_contexts, nearest_directions
from skfactors.reports.persistence import read_json, write_csv, write_json
from skfactors.reports.plots import plot_importance
from skfactors.reports.saliency_records import saliency_table, to_records
from skfactors.reports.sources import Sources, add_missing
from skfactors.reports.summary import clearest_order, summarize

REPORT_FILE = "report.json"


class FactorReport:
    """
    What the factors of a dictionary respond to in a corpus.

    Made by :meth:`from_texts`, :meth:`from_codes` or :meth:`load`.

    Parameters
    ----------
    contexts : DataFrame
        Top contexts by factor and layer, as :func:`top_contexts` gives them.
    importance, active_rows, activation_sums : DataFrame of shape (n_components, n_layers)
        By factor and layer: the importance score, the number of rows in which the factor is active, and the sum of
        its activations.
    totals, parameters : dict
        See the attributes.
    saliency : dict, default=None
        Saliency of tokens by context, as :meth:`add_saliency` adds it.
    histogram : DataFrame
        Counts of activations by factor, layer and bin.
    directions : DataFrame, default=None
        Factors near each factor by direction, where the dictionary is known.

    Attributes
    ----------
    totals : dict
        What the report covers: `n_documents` (that gave rows), `n_tokens` (rows of the layer that has most), `n_rows`,
        `layers`, `n_components`, `explained_variance` (None where rows and codes were not compared), `l0` (mean
        number of non-zero codes a row), `dead_fraction` (share of factors whose code is zero in every row).
    parameters : dict
        `k`, `top`, `window` and `unique_documents` that the tables were made with.

    See Also
    --------
    top_contexts, importance_by_layer, classify_levels : The parts, as functions of codes.

    Notes
    -----
    A factor is active in a row where its code is above zero; negative codes of a signed dictionary count in `l0` and
    `dead_fraction` only.

    Examples
    --------
    >>> from skfactors.reports import FactorReport
    >>> report = FactorReport.from_texts(extractor, dictionary, texts)  # doctest: +SKIP
    >>> report.clearest()  # doctest: +SKIP
    >>> report.show(17)  # doctest: +SKIP
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
        self._sources = Sources()
        self._summarize()

    @classmethod
    def from_texts(cls, extractor, dictionary, texts, *, k=20, top=200, window=10, unique_documents=True, verbose=None):
        """
        Read a corpus once and report on every factor; memory does not grow with the corpus.

        Parameters
        ----------
        extractor : TransformerFeatureExtractor
            Or what else yields Activations from ``iter_extract(texts)``.
        dictionary : SparseDictionary
            Or another fitted estimator with `transform` and `inverse_transform` between rows and codes.
        texts : iterable of str
        k : int, default=20
            Contexts for each factor and layer, at most.
        top : int, default=200
            Activations that an importance score is the mean of.
        window : int, default=10
            Words of context on either side, at most.
        unique_documents : bool, default=True
            Whether a document appears in a list of contexts at most once.
        verbose : bool, default=None
            Show a progress bar. None shows one where `extractor` or `dictionary` is verbose.

        Returns
        -------
        FactorReport

        Raises
        ------
        NotFittedError
            If the dictionary is not fitted.
        TypeError, ValueError
            If a parameter is out of range, or the texts give no row at all.

        Notes
        -----
        The report refers to `extractor`, `dictionary` and, unless they are an iterator, `texts`, for
        :meth:`add_saliency` and :meth:`explain`. They are not saved with it.
        """
        check_is_fitted(dictionary)
        parameters = check_parameters(k, top, window, unique_documents)
        if verbose is None:
            verbose = any(getattr(estimator, "verbose", False) for estimator in (extractor, dictionary))
        n_texts = len(texts) if hasattr(texts, "__len__") else None
        accumulator = None
        n_rows = n_read = 0
        with progress_bar("reporting on factors", total=n_texts, enabled=verbose) as advance:
            for acts in extractor.iter_extract(texts):
                if len(acts.X) == 0:
                    continue
                codes = dictionary.transform(acts.X)
                if accumulator is None:
                    accumulator = ReportAccumulator(codes.shape[1], **parameters)
                accumulator.add(codes, acts.provenance, acts.texts, X=acts.X, reconstruct=dictionary.inverse_transform)
                n_rows += len(acts.X)
                n_before, n_read = n_read, int(acts.provenance["document"].iloc[-1]) + 1
                advance(n_read - n_before, f"{n_rows:,} rows")
        report = cls._from_accumulator(accumulator, parameters, getattr(dictionary, "components_", None))
        report._sources = Sources(extractor, dictionary, None if isinstance(texts, Iterator) else texts)
        return report

    @classmethod
    def from_codes(cls, codes, acts, *, k=20, top=200, window=10, unique_documents=True, components=None):
        """
        Report on codes at hand.

        Parameters
        ----------
        codes : sparse array or ndarray of shape (n_rows, n_components)
            Activations of the factors.
        acts : Activations of length n_rows
            The rows that were coded.
        k, top, window, unique_documents
            As in :meth:`from_texts`.
        components : ndarray of shape (n_components, n_features), default=None
            The dictionary; with it the report knows the explained variance, and which factors are near by direction.

        Returns
        -------
        FactorReport

        Raises
        ------
        TypeError, ValueError
            If a parameter is out of range, `codes`, `acts` and `components` do not fit together, or there are no rows.
        """
        parameters = check_parameters(k, top, window, unique_documents)
        accumulator = None
        if len(acts.provenance):
            codes = check_codes(codes)
            accumulator = ReportAccumulator(codes.shape[1], **parameters)
            reconstruct = reconstruction_by(components, codes.shape[1], acts.X.shape[1])
            accumulator.add(codes, acts.provenance, acts.texts, X=acts.X, reconstruct=reconstruct)
        report = cls._from_accumulator(accumulator, parameters, components)
        report._sources = Sources(texts=acts.texts)
        return report

    @classmethod
    def _from_accumulator(cls, accumulator, parameters, components):
        if accumulator is None:
            raise ValueError("there are no rows to report on: no text has a token.")
        return cls(
            accumulator.contexts(),
            accumulator.importance(),
            accumulator.active_rows(),
            accumulator.activation_sums(),
            accumulator.totals(),
            parameters,
            accumulator.histogram(),
            None if components is None else nearest_directions(components),
        )

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

    def show(self, factor, *, n=10, layer=None, console=None):
        """
        Print a factor: its importance by layer, and the contexts in which it is most active.

        Parameters
        ----------
        factor : int
        n : int, default=10
            Contexts to print, at most. Of one place met in several layers, or one document where the report has
            documents only once, the strongest is printed.
        layer : int or sequence of int, default=None
            Layers that the contexts are from; None takes all.
        console : rich.console.Console, default=None
            Where to print; by default the terminal, or the output cell of a notebook.

        Raises
        ------
        TypeError, ValueError
            If there is no such factor or layer.
        """
        check_scalar(n, "n", Integral, min_val=1)
        (factor,) = self._known_factors(check_scalar(factor, "factor", Integral))
        contexts = self.top_contexts(factor, layer).sort_values("activation", ascending=False, kind="stable")
        place = ["document"] if self.parameters["unique_documents"] else ["document", "position"]
        view = FactorView(
            factor,
            self._summary.loc[factor],
            self._by_layer["importance"].loc[factor],
            contexts.drop_duplicates(place).head(n),
        )
        (console or Console()).print(view)

    def add_saliency(
        self,
        extractor=None,
        dictionary=None,
        factors=None,
        layers=None,
        k=3,
        *,
        texts=None,
        method="lime",
        n_samples=1000,
        random_state=0,
        verbose=None,
    ):
        """
        Find out which tokens make factors active in their top contexts, and from that how far their context reaches.

        Parameters
        ----------
        extractor, dictionary, texts : default=None
            What the report was made from; None takes those that :meth:`from_texts` was given.
        factors : int or sequence of int, default=None
            None takes all that fire.
        layers : int or sequence of int, default=None
            Layers whose contexts are taken; None takes each factor's peak layer.
        k : int, default=3
            Contexts for each factor and layer, the strongest first.
        method, n_samples, random_state
            As in :func:`token_saliency`. With an int, adding contexts one by one or all at once is the same.
        verbose : bool, default=None
            Show a progress bar. None shows one where `extractor` or `dictionary` is verbose.

        Returns
        -------
        self : FactorReport
            :meth:`saliency` has the weights; :meth:`summary` has spans, and levels that go by them.

        Raises
        ------
        TypeError, ValueError
            If extractor, dictionary or texts are neither given nor known, the texts are others than the report's,
            there is no such factor or layer, or a parameter is out of range.

        Notes
        -----
        Contexts that have a saliency by this method and number of samples already are not computed again. Each is kept
        as soon as it is there: a call that was interrupted, or a report saved and loaded, goes on where it stood.
        """
        sources = self._sources.given(extractor, dictionary, texts, also_texts=True)
        check_scalar(k, "k", Integral, min_val=1)
        contexts = self.top_contexts(factors, layers)
        if layers is None:
            contexts = contexts[contexts["layer"] == contexts["factor"].map(self._summary["peak_layer"])]
        contexts = contexts[contexts["rank"] <= k]
        try:
            add_missing(
                self._saliency,
                sources,
                contexts,
                method=method,
                n_samples=n_samples,
                random_state=random_state,
                verbose=sources.is_verbose() if verbose is None else verbose,
            )
        finally:
            self._summarize()
        return self

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

    def explain(self, text, *, extractor=None, dictionary=None):
        """
        Take the hidden states of a text apart: token by token, layer by layer, which factors make up each.

        Parameters
        ----------
        text : str
        extractor, dictionary : default=None
            None takes those that :meth:`from_texts` was given.

        Returns
        -------
        Explanation
            Prints itself in a terminal, is HTML in a notebook, and has its numbers in `frame` and `states`.

        Raises
        ------
        NotFittedError
            If the dictionary is not fitted.
        TypeError, ValueError
            If text is not a str or holds no token, or extractor or dictionary are neither given nor known.
        """
        sources = self._sources.given(extractor, dictionary)
        return explain_text(sources.extractor, sources.dictionary, text, self._summary["top_tokens"])

    def plot_importance(self, factor, ax=None):
        """
        Plot the importance of one or more factors over the layers.

        Parameters
        ----------
        factor : int or sequence of int
        ax : matplotlib Axes, default=None
            Where to plot; a new figure by default.

        Returns
        -------
        matplotlib Axes

        Raises
        ------
        ImportError
            If matplotlib is not installed.
        TypeError, ValueError
            If there is no such factor.
        """
        return plot_importance(self._by_layer["importance"], self._known_factors(factor), ax=ax)

    def to_html(self, path, examples=()):
        """
        Write the explorer: one HTML file with everything in it, to open from disk or to send to somebody.

        Parameters
        ----------
        path : str or Path
            The file. It is replaced as a whole, or stays as it was.
        examples : sequence of str, Explanation or DataFrame, default=()
            What to show below the factors. Texts are explained, as :meth:`explain` does, where the report knows its
            extractor and dictionary; for one that was loaded pass what :meth:`explain` returned.

        Raises
        ------
        OSError
            If the file cannot be written; the message names it.
        TypeError, ValueError
            If an example is none of these, or holds no token.

        Notes
        -----
        Contexts that :meth:`add_saliency` was called for are shaded by it. The page runs no script but its own and
        loads nothing from anywhere, and its browser is told to hold it to that. Corpus text is shown as text, whatever
        it says. Numbers are rounded to four digits.
        """
        if isinstance(examples, (str, pd.DataFrame)):
            raise TypeError("examples must be a list of examples, even for a single one.")
        if self._sources.can_explain:
            examples = [self.explain(example) if isinstance(example, str) else example for example in examples]
        write_page(path, self, examples=examples)

    def save(self, path):
        """
        Save the report to a folder.

        Parameters
        ----------
        path : str or Path
            The folder; made if need be. Each file in it is replaced as a whole.

        Notes
        -----
        `report.json` holds everything and is all that :meth:`load` reads. `summary.csv`, `importance.csv` and
        `contexts.csv` are for spreadsheets: in them a text that would run as a formula there, since it begins with
        = + - or @, has an apostrophe in front, and characters that UTF-8 cannot hold are written as backslash escapes.
        """
        folder = Path(path)
        folder.mkdir(parents=True, exist_ok=True)
        write_csv(folder / "summary.csv", self._summary.reset_index())
        write_csv(folder / "importance.csv", self._by_layer["importance"].reset_index())
        write_csv(folder / "contexts.csv", self._contexts)
        write_json(
            folder / REPORT_FILE,
            parameters=self.parameters,
            totals=self.totals,
            contexts=self._contexts,
            by_layer=self._by_layer,
            saliency=self._saliency,
            histogram=self._histogram,
            directions=self._directions,
        )

    @classmethod
    def load(cls, path):
        """
        Load a report that was saved.

        Parameters
        ----------
        path : str or Path
            The folder.

        Returns
        -------
        FactorReport
            Equal to the one saved, every number to the last bit.

        Raises
        ------
        FileNotFoundError
            If the folder holds no report.
        ValueError
            If the report was cut short or altered, or is of a format that this version does not read.
        """
        content = read_json(Path(path) / REPORT_FILE)
        return cls(**content.pop("by_layer"), **content)

    def __eq__(self, other):
        if not isinstance(other, FactorReport):
            return NotImplemented
        return (
            self.totals == other.totals
            and self.parameters == other.parameters
            and self._contexts.equals(other._contexts)
            and self._histogram.equals(other._histogram)
            and self.neighbours().equals(other.neighbours())
            and all(table.equals(other._by_layer[name]) for name, table in self._by_layer.items())
            and to_records(self._saliency) == to_records(other._saliency)
        )

    __hash__ = None

    def __repr__(self):
        return f"FactorReport({coverage(self.totals)})"

    def _repr_html_(self):
        return overview_html(self.totals, self.clearest())

    def _summarize(self):
        self._summary = summarize(
            self._contexts, **self._by_layer, n_rows=self.totals["n_rows"], saliency=self._saliency
        )

    def _known_factors(self, factor):
        return check_known(factor, range(self.totals["n_components"]), "factor")
