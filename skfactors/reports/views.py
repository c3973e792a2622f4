"""A report for people: shown, plotted, explained, and written as a page."""

from numbers import Integral

import pandas as pd
from rich.console import Console
from sklearn.utils import check_scalar

from skfactors.reports.display import FactorView, coverage, overview_html
from skfactors.reports.explanation import explain_text
from skfactors.reports.explorer import write_page
from skfactors.reports.plots import plot_importance
from skfactors.reports.sources import add_missing
from skfactors.reports.tables import ReportTables


class ReportViews(ReportTables):
    """What a :class:`FactorReport` shows, and what it asks the model to explain."""

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
        method : {"lime", "occlusion", "gradient"}, default="lime"
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

    def __repr__(self):
        return f"FactorReport({coverage(self.totals)})"

    def _repr_html_(self):
        return overview_html(self.totals, self.clearest())
