"""FactorReport: what the factors of a dictionary respond to in a corpus."""

from collections.abc import Iterator
from numbers import Integral

from sklearn.utils import check_scalar
from sklearn.utils.validation import check_is_fitted

from skfactors.reports.accumulator import ReportAccumulator
from skfactors.reports.arguments import check_parameters, reconstruction_by
from skfactors.reports.building import check_shards, components_checksum, tally_store, tally_texts
from skfactors.reports.entries import check_codes
from skfactors.reports.merging import merge_tallies
from skfactors.reports.neighbours import nearest_directions
from skfactors.reports.persistence import TALLY_FILE, read_folder, write_folder
from skfactors.reports.sources import Sources
from skfactors.reports.views import ReportViews


class FactorReport(ReportViews):
    """
    What the factors of a dictionary respond to in a corpus.

    Made by :meth:`from_texts`, :meth:`from_store`, :meth:`from_codes`, :meth:`merge` or :meth:`load`.

    Parameters
    ----------
    contexts : DataFrame
        Top contexts by factor and layer, as :func:`top_contexts` gives them.
    importance, active_rows, activation_sums : DataFrame of shape (n_components, n_layers)
        By factor and layer: the importance score, the number of rows in which the factor is active, and the sum of
        its activations.
    totals, parameters : dict
        See the attributes.
    histogram : DataFrame
        Counts of activations by factor, layer and bin.
    directions : DataFrame, default=None
        Factors near each factor by direction, where the dictionary is known.
    saliency : dict, default=None
        Saliency of tokens by context, as :meth:`add_saliency` adds it.
    tally : ReportAccumulator, default=None
        What the tables were counted from; :meth:`merge` needs it.

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
    >>> from skfactors import FactorReport, SparseDictionary, TransformerFeatureExtractor
    >>> from skfactors.datasets import demo_model
    >>> texts = ["She left the park by the left gate.", "They left at dawn.", "The gate is on the left."]
    >>> extractor = TransformerFeatureExtractor(demo_model(), layers=[0, 6])
    >>> dictionary = SparseDictionary(8, alpha=1.0, random_state=0).fit(extractor.extract(texts).X)
    >>> report = FactorReport.from_texts(extractor, dictionary, texts)
    >>> report.importance_by_layer().shape
    (8, 2)
    >>> summary = report.summary()
    >>> summary.loc[summary["top_tokens"] == "left", "peak_layer"].tolist()
    [6, 0]
    >>> factor = summary.index[summary["top_tokens"] == "left"][0]
    >>> report.top_contexts(factor, 6)[["rank", "token", "right"]]
       rank token      right
    0     1  left          .
    1     2  left      gate.
    2     3  left   at dawn.
    """

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
        tally = tally_texts(extractor, dictionary, texts, parameters, verbose=verbose)
        sources = Sources(extractor, dictionary, None if isinstance(texts, Iterator) else texts)
        return cls._from_tally(tally, getattr(dictionary, "components_", None), sources)

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
        k : int, default=20
            Contexts for each factor and layer, at most.
        top : int, default=200
            Activations that an importance score is the mean of.
        window : int, default=10
            Words of context on either side, at most.
        unique_documents : bool, default=True
            Whether a document appears in a list of contexts at most once.
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
        tally = None
        if len(acts.provenance):
            codes = check_codes(codes)
            reconstruct = reconstruction_by(components, codes.shape[1], acts.X.shape[1])
            tally = ReportAccumulator(codes.shape[1], dictionary=components_checksum(components), **parameters)
            tally.add(codes, acts.provenance, acts.texts, X=acts.X, reconstruct=reconstruct)
        return cls._from_tally(tally, components, Sources(texts=acts.texts))

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
        dictionary : SparseDictionary
            Or another fitted estimator with `transform` and `inverse_transform` between rows and codes.
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
            If a parameter is out of range, there is no such shard, the shards hold no row at all, or the checkpoint
            was cut short or altered.

        Notes
        -----
        In memory are one shard, its codes, and what the report counts, whose size does not grow with the store. Beside
        its components, the parameters of the dictionary that are numbers, texts, booleans or None tell whether a
        checkpoint is of the same dictionary.
        """
        check_is_fitted(dictionary)
        parameters = check_parameters(k, top, window, unique_documents)
        check_scalar(checkpoint_every, "checkpoint_every", Integral, min_val=1)
        tally = tally_store(
            store,
            dictionary,
            parameters,
            check_shards(shards, store.n_shards),
            checkpoint_dir=checkpoint_dir,
            checkpoint_every=checkpoint_every,
            verbose=getattr(dictionary, "verbose", False) if verbose is None else verbose,
        )
        return cls._from_tally(tally, getattr(dictionary, "components_", None), Sources(dictionary=dictionary))

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
            Equal to the report made of the same codes in one pass, every table to the last bit. It has the saliency of
            all reports, and knows no extractor, dictionary or texts.

        Raises
        ------
        TypeError
            If one is no FactorReport.
        ValueError
            If there are no reports, their parameters or dictionaries differ, two have documents in common, or one
            does not know what it was counted from.

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
        merged = cls._from_tally(merge_tallies([report._tally for report in reports]), None, Sources())
        merged._directions = reports[0]._directions
        for report in reports:
            merged._saliency |= report._saliency
        merged._summarize()
        return merged

    @classmethod
    def _from_tally(cls, tally, components, sources):
        if tally is None:
            raise ValueError("there are no rows to report on: no text or shard has a token.")
        report = cls(
            tally.contexts(),
            tally.importance(),
            tally.active_rows(),
            tally.activation_sums(),
            tally.totals(),
            dict(tally.parameters),
            tally.histogram(),
            None if components is None else nearest_directions(components),
            tally=tally,
        )
        report._sources = sources
        return report

    def save(self, path):
        """
        Save the report to a folder.

        Parameters
        ----------
        path : str or Path
            The folder; made if need be. Each file in it is replaced as a whole.

        Notes
        -----
        `report.json` holds all tables. `tally.safetensors` holds what they were counted from, which only :meth:`merge`
        needs: without it the folder still loads. `summary.csv`, `importance.csv` and
        `contexts.csv` are for spreadsheets: in them a text that would run as a formula there, since it begins with
        = + - or @, has an apostrophe in front, and characters that UTF-8 cannot hold are written as backslash escapes.
        """
        write_folder(
            path,
            tally=self._tally,
            summary=self._summary,
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
            If a file of the report was cut short or altered, or is of a format that this version does not read.
        """
        content = read_folder(path)
        return cls(**content.pop("by_layer"), **content)
