"""FactorReport: what the factors of a dictionary respond to in a corpus."""

from collections.abc import Iterator
from numbers import Integral

import numpy as np
import pandas as pd
from rich.console import Console
from sklearn.utils import check_scalar

from skfactors.codes import check_codes
from skfactors.dictionaries.base import FactorModel
from skfactors.fingerprints import fingerprint
from skfactors.reports.arguments import check_known, check_model, check_parameters, reconstruction_by
from skfactors.reports.contexts import narrowed, quantile_contexts
from skfactors.reports.counting.histogram import BIN_EDGES
from skfactors.reports.counting.passes import check_shards, tally_store, tally_texts
from skfactors.reports.counting.tally import Tally, merged
from skfactors.reports.display import FactorView, coverage, model_name, overview_html, visible
from skfactors.reports.explanation import explain_text
from skfactors.reports.explorer import write_page
from skfactors.reports.layout import map_asked_for
from skfactors.reports.logit_lens import output_tokens
from skfactors.reports.names import names_by_factor
from skfactors.reports.naming import first_token
from skfactors.reports.neighbours import NEIGHBOUR_COLUMNS, nearest_by_contexts
from skfactors.reports.patterns import PATTERN_COLUMNS, WORDS_AROUND, patterns_of
from skfactors.reports.persistence import TALLY_FILE, read_report, write_report
from skfactors.reports.plots import plot_importance
from skfactors.reports.saliency.computing import add_missing
from skfactors.reports.saliency.records import saliency_table
from skfactors.reports.summary import clearest_order, name_column, summarize
from skfactors.reports.tables import ReportTables, outputs_table


class FactorReport:
    """
    What the factors of a dictionary respond to in a corpus.

    Made by :meth:`from_texts`, :meth:`from_store`, :meth:`from_codes`, :meth:`merge` or :meth:`load`.

    Parameters
    ----------
    tables : ReportTables
        What the report says, as :meth:`save` keeps it.
    tally : Tally, default=None
        What the tables were counted from; :meth:`merge` needs it.
    extractor, dictionary, texts : default=None
        What the report was made from, where that is known; :meth:`add_saliency` and :meth:`explain` need it.

    Attributes
    ----------
    totals : dict
        What the report covers: `n_documents` (that gave rows), `n_tokens` (rows of the layer that has most), `n_rows`,
        `layers`, `n_components`, `explained_variance` (None where rows and codes were not compared), `l0` (mean
        number of non-zero codes per row), `dead_fraction` (share of factors whose code is zero in every row).
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
    >>> from skfactors import FactorReport, SparseDictionary, TransformerFeatureExtractor
    >>> from skfactors.datasets import demo_model
    >>> texts = ["She left the park by the left gate.", "They left at dawn.", "The gate is on the left."]
    >>> extractor = TransformerFeatureExtractor(demo_model(), layers=[0, 6])
    >>> dictionary = SparseDictionary(8, alpha=1.0, random_state=0).fit(extractor.extract(texts).X)
    >>> report = FactorReport.from_texts(extractor, dictionary, texts)
    >>> report.importance_by_layer().shape
    (8, 2)
    >>> factor = report.summary()["top_tokens"].str.startswith("left").idxmax()
    >>> "left" in report.top_contexts(factor, 6)["token"].tolist()
    True
    """

    def __init__(self, tables, tally=None, *, extractor=None, dictionary=None, texts=None):
        self.totals, self.parameters = tables.totals, tables.parameters
        self._tables, self._tally = tables, tally
        self._sources = {"extractor": extractor, "dictionary": dictionary, "texts": texts}
        self._patterns = None if tables.samples is None else patterns_of(tables.samples, self.totals["n_components"])
        self._summarize()

    @classmethod
    def from_texts(cls, extractor, dictionary, texts, *, k=20, top=200, window=10, unique_documents=True, verbose=None):
        """
        Read a corpus once and report on every factor; memory does not grow with the corpus.

        Parameters
        ----------
        extractor : TransformerFeatureExtractor
            Or what else yields Activations from ``iter_extract(texts)``.
        dictionary : FactorModel, Pipeline or estimator
            Fitted: a dictionary, a pipeline that ends in one, or another library's estimator with `transform`,
            `inverse_transform` and `components_`. Of a Transcoder, which predicts other rows than the report is on,
            the explained variance stays None; codes of a Crosscoder :meth:`from_codes` takes.
        texts : iterable of str
            The corpus; a generator of any length will do.
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
            If a parameter is out of range, the dictionary is a Crosscoder, or the texts give no row at all.

        Notes
        -----
        The report refers to `extractor`, `dictionary` and, unless they are an iterator, `texts`, for
        :meth:`add_saliency` and :meth:`explain`. They are not saved with it.
        """
        model = check_model(dictionary)
        parameters = check_parameters(k, top, window, unique_documents)
        if verbose is None:
            verbose = any(getattr(estimator, "verbose", False) for estimator in (extractor, model))
        tally = tally_texts(extractor, model, texts, parameters, verbose=verbose)
        kept = None if isinstance(texts, Iterator) else texts
        return cls._from_tally(tally, model.components_, extractor=extractor, dictionary=dictionary, texts=kept)

    @classmethod
    def from_codes(
        cls, codes, acts, *, k=20, top=200, window=10, unique_documents=True, components=None, dictionary=None
    ):
        """
        Report on codes at hand.

        Parameters
        ----------
        codes : sparse array or ndarray of shape (n_rows, n_components)
            Activations of the factors.
        acts : Activations of length n_rows
            The rows that were coded.
        k : int, default=20
            Contexts for each factor and layer, at most.
        top : int, default=200
            Activations that an importance score is the mean of.
        window : int, default=10
            Words of context on either side, at most.
        unique_documents : bool, default=True
            Whether a document appears in a list of contexts at most once.
        components : ndarray of shape (n_components, n_features), default=None
            What codes sum up; with it the report knows the explained variance, and which factors are near by direction.
        dictionary : FactorModel, Pipeline or estimator, default=None
            What made the codes, instead of `components`: its reconstructions may have an intercept. Of a Crosscoder,
            which codes several places of a token at once, pass the codes alone, with the rows of one of them:
            ``from_codes(crosscoder.transform(acts.side_by_side()), acts.at(layer=...))``.

        Returns
        -------
        FactorReport

        Raises
        ------
        TypeError, ValueError
            If a parameter is out of range, `codes`, `acts` and `components` do not fit together, both `components`
            and `dictionary` are given, the dictionary is a Crosscoder, or there are no rows.
        """
        parameters = check_parameters(k, top, window, unique_documents)
        if components is not None and dictionary is not None:
            raise ValueError("pass components or dictionary, not both: a dictionary has components of its own.")
        identity = reconstruct = tally = None
        if dictionary is not None:
            model = check_model(dictionary)
            components, identity = model.components_, model.fingerprint()
            reconstruct = reconstruction_by(model)
        elif components is not None:
            components = np.asarray(components)
            identity = fingerprint(components)

            def reconstruct(X, codes):
                return codes @ components

        if len(acts.provenance):
            codes = check_codes(codes)
            if components is not None:
                # What predicts other rows has components of their width.
                shape = codes.shape[1], acts.X.shape[1] if reconstruct else components.shape[1]
                if components.shape != shape:
                    raise ValueError(
                        f"components have shape {components.shape}; for these codes and rows it must be {shape}."
                    )
            tally = Tally(codes.shape[1], dictionary=identity, **parameters)
            tally.add(codes, acts.provenance, acts.texts, X=acts.X, reconstruct=reconstruct)
        return cls._from_tally(tally, components, dictionary=dictionary, texts=acts.texts)

    @classmethod
    def from_store(
        cls,
        store,
        dictionary,
        *,
        k=20,
        top=200,
        window=10,
        unique_documents=True,
        shards=None,
        checkpoint_dir=None,
        checkpoint_every=10,
        verbose=None,
    ):
        """
        Read a store once, shard by shard, and report on every factor; no model runs.

        Parameters
        ----------
        store : ActivationStore
            Rows, with the texts that they are from.
        dictionary : FactorModel, Pipeline or estimator
            As :meth:`from_texts` takes it.
        k : int, default=20
            Contexts for each factor and layer, at most.
        top : int, default=200
            Activations that an importance score is the mean of.
        window : int, default=10
            Words of context on either side, at most.
        unique_documents : bool, default=True
            Whether a document appears in a list of contexts at most once.
        shards : sequence of int, default=None
            Numbers of the shards to read, in any order; None reads all. Reports on disjoint shards, made by as many
            processes, :meth:`merge` to the report on all of them.
        checkpoint_dir : str or Path, default=None
            A folder, made if need be, to keep in one file what was counted so far. A report that was stopped, even
            killed, and is started again with the same store, shards, dictionary and parameters goes on from there,
            and ends equal to one that never stopped. A report that was finished is not counted again. Processes that
            read different shards may share the folder.
        checkpoint_every : int, default=10
            Shards from one checkpoint to the next.
        verbose : bool, default=None
            Show a progress bar. None shows one where `dictionary` is verbose.

        Returns
        -------
        FactorReport

        Raises
        ------
        NotFittedError
            If the dictionary is not fitted.
        TypeError, ValueError
            If a parameter is out of range, the dictionary is a Crosscoder, there is no such shard, the shards hold no
            row at all, or the checkpoint was cut short or altered.

        Notes
        -----
        In memory are one shard, its codes, and what the report counts, whose size does not grow with the store. The
        fingerprint of the dictionary tells whether a checkpoint is of the same one.
        """
        model = check_model(dictionary)
        parameters = check_parameters(k, top, window, unique_documents)
        check_scalar(checkpoint_every, "checkpoint_every", Integral, min_val=1)
        tally = tally_store(
            store,
            model,
            parameters,
            check_shards(shards, store.n_shards),
            checkpoint_dir=checkpoint_dir,
            checkpoint_every=checkpoint_every,
            verbose=getattr(model, "verbose", False) if verbose is None else verbose,
        )
        return cls._from_tally(tally, model.components_, dictionary=dictionary)

    @classmethod
    def merge(cls, reports):
        """
        Put reports on disjoint parts of one corpus together.

        Parameters
        ----------
        reports : iterable of FactorReport
            In any order. Of one dictionary and the same parameters; their documents have the numbers of the whole
            corpus, and each report's rows came in the order of the corpus.

        Returns
        -------
        FactorReport
            Equal to the report made of the same codes in one pass, every table to the last bit. It has the saliency and
            the names of all reports, of a factor's names the last, what :meth:`add_outputs` added to the first of them
            that has it, and knows no extractor, dictionary or texts.

        Raises
        ------
        TypeError
            If one is not a FactorReport.
        ValueError
            If there are no reports, their parameters, dictionaries or stores differ, two have documents in common, or
            one does not know what it was counted from.

        Notes
        -----
        A document may be in two reports only where it was cut between them, so that each has other positions of it in
        every layer. Of equal activations the one whose document, then position, comes first is the earlier.

        Codes are the same in parts and in one pass where the dictionary codes each row by itself, or where both
        were coded in the same pieces, as the shards of a store are.
        """
        reports = list(reports)
        for report in reports:
            if not isinstance(report, FactorReport):
                raise TypeError(f"reports holds {report!r}; pass a list of FactorReport.")
        if not reports:
            raise ValueError("nothing to merge: reports is empty.")
        for number, report in enumerate(reports):
            if report._tally is None:
                raise ValueError(
                    f"report {number} cannot be merged, since it does not know what it was counted from: the folder "
                    f"that it was loaded from had no {TALLY_FILE} of this report. Make the report again."
                )
        total = cls._from_tally(merged([report._tally for report in reports]))
        total._tables.directions, total._tables.layout = reports[0]._tables.directions, reports[0]._tables.layout
        added = (report._tables.outputs for report in reports)
        total._tables.outputs = next((outputs for outputs in added if outputs is not None), None)
        for report in reports:
            total._tables.saliency |= report._tables.saliency
            total._tables.names |= report._tables.names
        total._summarize()
        return total

    @classmethod
    def _from_tally(cls, tally, components=None, **sources):
        if tally is None:
            raise ValueError("there are no rows to report on: no text or shard has a token.")
        return cls(ReportTables.of(tally, components), tally, **sources)

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
        return self._chosen(self._tables.contexts, factor, layer)

    def token_activations(self, of="top") -> pd.DataFrame:
        """
        Return on which other tokens of its contexts each factor is active.

        Parameters
        ----------
        of : {"top", "samples"}, default="top"
            Contexts of :meth:`top_contexts` or of :meth:`sampled_contexts`.

        Returns
        -------
        DataFrame
            Columns `line`, the line number of the contexts of all factors, `start` and `end`, a token in characters of
            ``left + token + right``, and `activation`, to four digits. The context's own token is left out: its
            activation is in that line.

        Raises
        ------
        ValueError
            If `of` is neither.

        Notes
        -----
        Where a document was cut between shards or reports, tokens beyond the cut are missing. Contexts of reports saved
        by earlier versions have none.
        """
        if of == "top":
            return self._tables.shades.copy()
        if of != "samples":
            raise ValueError(f"of={of!r} must be 'top' or 'samples'.")
        samples, shades = self._shown_samples()
        order = quantile_contexts(samples, self.totals["n_components"]).index.to_numpy(dtype=np.int64)
        lines = np.empty(len(order), dtype=np.int64)
        lines[order] = np.arange(len(order))
        return shades.assign(line=lines[shades["line"]]).sort_values("line", kind="stable", ignore_index=True)

    def sampled_contexts(self, factor=None) -> pd.DataFrame:
        """
        Return contexts from the whole range of the activations of factors, not the strongest only.

        Parameters
        ----------
        factor : int or sequence of int, default=None
            Which to return; None returns all.

        Returns
        -------
        DataFrame
            Up to 100 active rows of each factor, drawn at random from those of all layers, the strongest first: columns
            `factor`, `layer`, `quantile`, `draw`, `activation`, `token`, `left`, `right`, `document`, `position` and
            `met_before`, whether the token was met before in the 2,000 characters before it. `quantile` is 10 for the
            strongest tenth of the factor's activations, 1 for the weakest (of fewer than ten, each is of the tenth that
            its place from the top falls in), and `draw` numbers the rows of a tenth, from 1, in random order: those
            with a draw of at most n are n drawn from each tenth. Empty for a report of an earlier version.

        Raises
        ------
        TypeError, ValueError
            If there is no such factor.
        """
        samples = quantile_contexts(self._shown_samples()[0], self.totals["n_components"])
        if factor is not None:
            samples = samples[samples["factor"].isin(self._known_factors(factor))]
        return samples.reset_index(drop=True)

    def patterns(self) -> pd.DataFrame:
        """
        Return what the tokens on which factors fire have in common.

        Returns
        -------
        DataFrame
            As :func:`firing_patterns` has it; without rows for a report of an earlier version.
        """
        return pd.DataFrame(columns=PATTERN_COLUMNS) if self._patterns is None else self._patterns.copy()

    def importance_by_layer(self) -> pd.DataFrame:
        """
        Return the importance of each factor in each layer.

        Returns
        -------
        DataFrame of shape (n_components, n_layers)
            As :func:`importance_by_layer` gives it.
        """
        return self._tables.importance.copy()

    def summary(self) -> pd.DataFrame:
        """
        Return one row per factor.

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
            - `emergence`: as :func:`emergence` has it, 0 where it is as strong in the embeddings as anywhere, 1 where
              it is not there
            - `coverage`, `activation_coverage`: about what share of its active rows, and of its activation, are on its
              top tokens: of 100 rows drawn at random from all layers, and so right to a tenth
            - `pattern`: what the tokens have in common where it is no word, as :func:`firing_patterns` tells it
            - `name`: what :meth:`add_names` was given, empty by default
            - `speaks_for`, `speaks_against` and `loss_effect`, once :meth:`add_outputs` was called

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
        bins = self._tables.histogram["bin"].to_numpy()
        return pd.DataFrame(
            {
                "factor": self._tables.histogram["factor"],
                "layer": self._tables.histogram["layer"],
                "lower": BIN_EDGES[bins],
                "upper": BIN_EDGES[bins + 1],
                "count": self._tables.histogram["count"],
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
            return nearest_by_contexts(self._tables.contexts, self.totals["n_components"])
        if by != "direction":
            raise ValueError(f"by={by!r} must be 'direction' or 'contexts'.")
        if self._tables.directions is None:
            return pd.DataFrame(columns=NEIGHBOUR_COLUMNS)
        return self._tables.directions.copy()

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
        The more a factor's top contexts at its peak layer exceed its mean activation, the more it stands out; so it
        does the more of its activation its top tokens cover, or if all its tokens follow a pattern that is more than
        word pieces, the more it emerges in the layers, and the rarer it is. First come factors whose contexts are from
        five documents or more, and that are active in at most a tenth of the rows; after them the others that fire at
        all. In either, every peak layer in turn gives the factor that stands out most of those it has left: the first
        few come from all depths.
        """
        check_scalar(n, "n", Integral, min_val=0)
        return self._summary.loc[clearest_order(self._summary, self._tables.contexts, self.parameters["k"])[:n]]

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
        return self._chosen(saliency_table(self._tables.saliency), factor, layer)

    def show(self, factor, *, n=10, layer=None, console=None):
        """
        Print a factor: its importance by layer, and the contexts in which it is most active.

        Parameters
        ----------
        factor : int
            The factor's number.
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
            self._tables.importance.loc[factor],
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
        extractor, dictionary : estimator, default=None
            What the report was made with; None takes those that :meth:`from_texts` was given.
        factors : int or sequence of int, default=None
            None takes all that fire.
        layers : int or sequence of int, default=None
            Layers whose contexts are taken; None takes each factor's peak layer.
        k : int, default=3
            Contexts for each factor and layer, the strongest first.
        texts : iterable of str, default=None
            What the report was made from; None takes those that :meth:`from_texts` was given.
        method : {"lime", "occlusion", "group_occlusion", "gradient"}, default="lime"
            As in :func:`token_saliency`.
        n_samples : int, default=1000
            As in :func:`token_saliency`.
        random_state : int, RandomState or None, default=0
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
        sources = self._known(extractor=extractor, dictionary=dictionary, texts=texts)
        check_scalar(k, "k", Integral, min_val=1)
        contexts = self.top_contexts(factors, layers)
        if layers is None:
            contexts = contexts[contexts["layer"] == contexts["factor"].map(self._summary["peak_layer"])]
        contexts = contexts[contexts["rank"] <= k]
        try:
            add_missing(
                self._tables.saliency,
                *sources,
                contexts,
                method=method,
                n_samples=n_samples,
                random_state=random_state,
                verbose=any(getattr(source, "verbose", False) for source in sources[:2])
                if verbose is None
                else verbose,
            )
        finally:
            self._summarize()
        return self

    def add_names(self, names):
        """
        Give factors names, which the summary, the terminal and the page show.

        Parameters
        ----------
        names : dict, Series, DataFrame or path-like
            Names by factor: your own, those that :func:`skfactors.evaluations.name_factors` returned, or a file that
            the page exported. An empty one takes the factor's name away.

        Returns
        -------
        FactorReport
            Itself. Names are saved with it.

        Raises
        ------
        FileNotFoundError, TypeError, ValueError
            If there is no such file or factor, or a name is no text, or longer than 200 characters.
        """
        given = self._tables.names | names_by_factor(names, self.totals["n_components"])
        self._tables.names = {factor: name for factor, name in given.items() if name}
        self._summary["name"] = name_column(self._tables.names, self._summary.index)
        return self

    def add_outputs(self, extractor=None, dictionary=None, *, k=5, effects=None):
        """
        Add to the summary, and to the page, what factors of a decoder do to its output.

        Parameters
        ----------
        extractor, dictionary : estimator, default=None
            None takes those that :meth:`from_texts` was given.
        k : int, default=5
            Tokens at either end, as :func:`output_tokens` gives them.
        effects : DataFrame, default=None
            What :func:`skfactors.interventions.ablation_effects` gives, of all factors or of some. None adds none, and
            takes away those that were added before.

        Returns
        -------
        FactorReport
            Itself.

        Raises
        ------
        NotFittedError, TypeError, ValueError
            As :func:`output_tokens`, or if extractor or dictionary are neither given nor known, the dictionary has
            more or fewer factors than the report, or an effect is infinite.
        """
        extractor, dictionary = self._known(extractor=extractor, dictionary=dictionary)
        table = output_tokens(extractor, dictionary, k=k)
        texts = table.assign(token=table["token"].map(visible)).groupby(["factor", "end"])["token"].agg(" ".join)
        texts = texts.unstack()
        if len(texts) != self.totals["n_components"]:
            raise ValueError(
                f"the dictionary has {len(texts)} factors, and the report {self.totals['n_components']}: pass the one "
                "that the report was made with."
            )
        self._tables.outputs = outputs_table(
            texts["top"], texts["bottom"], None if effects is None else effects["effect"].reindex(texts.index)
        )
        self._summarize()
        return self

    def explain(self, text, *, extractor=None, dictionary=None):
        """
        Take the hidden states of a text apart: token by token, layer by layer, which factors make up each.

        Parameters
        ----------
        text : str
            Any text, of the report's corpus or not.
        extractor, dictionary : estimator, default=None
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
            If text is not a str or holds no token, extractor or dictionary are neither given nor known, the dictionary
            is a Transcoder or Crosscoder, or the extractor reads several sites.
        """
        extractor, dictionary = self._known(extractor=extractor, dictionary=dictionary)
        return explain_text(extractor, dictionary, text, self._summary["top_tokens"])

    def plot_importance(self, factor, ax=None):
        """
        Plot the importance of one or more factors over the layers.

        Parameters
        ----------
        factor : int or sequence of int
            Numbers of the factors.
        ax : matplotlib Axes, default=None
            Where to plot; a new figure by default.

        Returns
        -------
        matplotlib Axes
            Those that were plotted on.

        Raises
        ------
        ImportError
            If matplotlib is not installed.
        TypeError, ValueError
            If there is no such factor.
        """
        names = self._summary["top_tokens"].map(first_token)
        return plot_importance(self._tables.importance, self._known_factors(factor), names=names, ax=ax)

    def to_html(self, path, examples=(), *, model=None, corpus=None, layout="pca"):
        """
        Write the explorer: one HTML file with everything in it, to open from disk or to send to somebody.

        Parameters
        ----------
        path : str or Path
            The file. It is replaced as a whole, or stays as it was.
        examples : sequence of str, Explanation or DataFrame, default=()
            What to show above the factors. Texts are explained, as :meth:`explain` does, where the report knows its
            extractor and dictionary; for one that was loaded pass what :meth:`explain` returned.
        model, corpus : str, default=None
            What to call them in the heading; None names the model where the report knows its extractor.
        layout : {"pca", "umap"} or array-like of shape (n_components, 2), default="pca"
            Where factors lie on the map: by the first two principal components of their directions, by umap-learn (an
            extra, ``pip install "skfactors[umap]"``; only where the report knows its dictionary), or as given.

        Raises
        ------
        ImportError
            If umap-learn is asked for and not installed.
        OSError
            If the file cannot be written; the message names it.
        TypeError, ValueError
            If an example is none of these, or holds no token, or `layout` is none of these.

        Notes
        -----
        Tokens are shaded by how active the factor is on them, and contexts that :meth:`add_saliency` was called for by
        their saliency. The page runs no script but its own and loads nothing from anywhere, and its browser is told to
        hold it to that. Corpus text is shown as text, whatever it says. Numbers are rounded to four digits.
        """
        if isinstance(examples, (str, pd.DataFrame)):
            raise TypeError("examples must be a list of examples, even for a single one.")
        extractor, dictionary = self._sources["extractor"], self._sources["dictionary"]
        if extractor is not None and dictionary is not None:
            examples = [self.explain(example) if isinstance(example, str) else example for example in examples]
        about = [
            text
            for text in (model or model_name(extractor), corpus, coverage(self.totals), f"L0 {self.totals['l0']:.3g}")
            if text
        ]
        places, method = map_asked_for(layout, self._tables.layout, dictionary, self.totals["n_components"])
        write_page(path, self, about=" · ".join(about), layout=places, method=method, examples=examples)

    def save(self, path):
        """
        Save the report to a folder.

        Parameters
        ----------
        path : str or Path
            The folder; made if need be. A report that is there is replaced as a whole: a save that is stopped leaves
            either.

        Notes
        -----
        `report.json` holds all tables, says what they were made of, and has checksums of itself and the other files.
        `tally.safetensors` holds what the tables were counted from, which only :meth:`merge` needs: without it the
        folder still loads.

        `summary.csv`, `importance.csv` and `contexts.csv` are exports for spreadsheets, which :meth:`load` does not
        read. So that no text in them runs as a formula, whatever a spreadsheet takes for a separator, each of = + - @
        that does not follow a letter, a digit or another of them has an apostrophe in front, as has a tab or a carriage
        return with which a cell could begin. Characters that UTF-8 cannot hold are written as backslash escapes.
        """
        write_report(path, self._tables, self._tally, self._summary)

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
        FileNotFoundError, NotADirectoryError
            If the folder holds no report; the message says what is there.
        ValueError
            If a file of the report was cut short or altered, is of another report, or of a format that this version
            does not read.
        """
        return cls(*read_report(path))

    def __repr__(self):
        return f"FactorReport({coverage(self.totals)}; next: clearest(), show(factor), to_html(path))"

    def _repr_html_(self):
        return overview_html(self.totals, self.clearest())

    def __eq__(self, other):
        """Return whether every table is the same, to the last bit."""
        return self._tables == other._tables if isinstance(other, FactorReport) else NotImplemented

    __hash__ = None

    @property
    def origin(self):
        """
        What the report was counted from.

        Returns
        -------
        dict of str
            `dictionary` and `corpus`: fingerprints of the dictionary and of the store, None where they are not known.
        """
        return dict(self._tables.origin)

    def _summarize(self):
        tables = self._tables
        self._summary = summarize(
            tables.contexts,
            tables.importance,
            tables.active_rows,
            tables.activation_sums,
            self.totals["n_rows"],
            tables.saliency,
            tables.names,
            tables.samples,
            None if self._patterns is None else self._patterns["pattern"],
        )
        if tables.outputs is not None:
            self._summary = self._summary.join(tables.outputs)

    def _shown_samples(self):
        """Return the rows drawn at random and their shades, with as many words around them as the report shows."""
        samples, shades, window = self._tables.samples, self._tables.sample_shades, self.parameters["window"]
        return (samples, shades) if samples is None or window >= WORDS_AROUND else narrowed(samples, shades, window)

    def _chosen(self, table, factor, layer):
        if factor is not None:
            table = table[table["factor"].isin(self._known_factors(factor))]
        if layer is not None:
            table = table[table["layer"].isin(check_known(layer, self.totals["layers"], "layer"))]
        return table.reset_index(drop=True)

    def _known_factors(self, factor):
        return check_known(factor, range(self.totals["n_components"]), "factor")

    def _known(self, **given):
        """Return what is given or else known, or say what is neither."""
        found = {name: self._sources[name] if value is None else value for name, value in given.items()}
        missing = [name for name, value in found.items() if value is None]
        if missing:
            raise ValueError(
                f"this report does not know its {' and '.join(missing)}: a report that was loaded, merged, made from "
                f"codes, a store or an iterator does not. Pass {', '.join(f'{name}=' for name in missing)}."
            )
        model, known = given.get("dictionary"), self.origin["dictionary"]
        # One that has another number of factors is told in words of its own.
        n_components = len(getattr(model, "components_", ()))
        is_like = isinstance(model, FactorModel) and n_components == self.totals["n_components"]
        if is_like and known not in (None, model.fingerprint()):
            raise ValueError("this is another dictionary than the report is on: pass the one that it was made with.")
        return list(found.values())
