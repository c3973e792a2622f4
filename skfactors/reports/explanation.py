"""Explanation: the hidden states of a text as sums of factors, token by token and layer by layer."""

import html

import numpy as np
import pandas as pd
from rich.box import SIMPLE_HEAD
from rich.cells import cell_len
from rich.console import Console
from rich.table import Table
from rich.text import Text
from scipy.sparse import csr_array

from skfactors.reports.arguments import check_model, reconstruction_by
from skfactors.reports.counting.entries import check_places
from skfactors.reports.display import visible, visible_token
from skfactors.reports.naming import first_token, token_text

FACTORS_SHOWN = 3
TOKEN_WIDTH = 16
CELL_WIDTH = 18


def explain_text(extractor, dictionary, text, top_tokens) -> "Explanation":
    """
    Take the hidden states of a text apart into factors.

    Parameters
    ----------
    extractor : TransformerFeatureExtractor
    dictionary : FactorModel, Pipeline or estimator
        Fitted: a dictionary, or a pipeline that ends in one.
    text : str
    top_tokens : Series of str
        By factor: what it responds to.

    Returns
    -------
    Explanation

    Raises
    ------
    NotFittedError
        If the dictionary is not fitted.
    TypeError, ValueError
        If text is not a str, holds no token, the dictionary has other factors than `top_tokens` or is a Transcoder or
        Crosscoder, or the extractor reads several sites.
    """
    if not isinstance(text, str):
        raise TypeError(f"text is of type {type(text).__name__}; explain one str at a time.")
    if not text.strip():
        raise ValueError("text is empty or white space: there is no token to explain.")
    model = check_model(dictionary)
    if (reconstruct := reconstruction_by(model)) is None:
        raise TypeError("a transcoder's factors add up to other rows than those that it reads, and take none apart.")
    if len(model.components_) != len(top_tokens):
        raise ValueError(
            f"the dictionary has {len(model.components_)} factors, and the report is on {len(top_tokens)}: pass "
            "the dictionary that the report was made with."
        )
    acts = extractor.extract([text])
    if len(acts.X) == 0:
        raise ValueError("text holds nothing that gives a token to explain.")
    check_places(acts.provenance, len(acts.X))
    codes = csr_array(model.transform(acts.X), dtype=np.float64)
    codes.eliminate_zeros()
    X = np.asarray(acts.X, dtype=np.float64)
    reconstructions = reconstruct(acts.X, codes)
    shares, intercept, unexplained = shares_of_states(X, codes, model.components_, reconstructions)
    provenance = acts.provenance
    tokens = [token_text(text, start, end) for start, end in zip(provenance["start"], provenance["end"], strict=True)]
    n_factors = np.diff(codes.indptr)
    states = pd.DataFrame(
        {
            "position": provenance["position"].to_numpy(),
            "token": pd.Series(tokens, dtype=object),
            "layer": provenance["layer"].to_numpy(),
            "n_factors": n_factors,
            "length": np.linalg.norm(X, axis=1),
            "intercept": intercept,
            "unexplained": unexplained,
        }
    )
    frame = states.loc[np.repeat(np.arange(len(states)), n_factors), ["position", "token", "layer"]]
    frame = frame.assign(factor=codes.indices.astype(np.int64), activation=codes.data, share=shares)
    frame["top_tokens"] = top_tokens.reindex(frame["factor"]).to_numpy()
    by_place = ["position", "layer"]
    strongest_first = frame.iloc[np.argsort(-abs(codes.data), kind="stable")]
    return Explanation(
        text,
        strongest_first.sort_values(by_place, kind="stable").reset_index(drop=True),
        states.sort_values(by_place, kind="stable").reset_index(drop=True),
    )


def shares_of_states(X, codes, components, reconstructions) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """
    Divide the squared length of each hidden state among its factors, the intercept and what they leave.

    Parameters
    ----------
    X, reconstructions : ndarray of shape (n_rows, n_features)
    codes : csr_array of shape (n_rows, n_components)
    components : ndarray of shape (n_components, n_features)

    Returns
    -------
    shares : ndarray of shape (codes.nnz,)
        For each code a of a row x that is reconstructed as y, with the factor d: a⟨d, 2x - y⟩ / ‖x‖².
    intercept : ndarray of shape (n_rows,)
        The same of what y holds beside its factors: ⟨b, 2x - y⟩ / ‖x‖².
    unexplained : ndarray of shape (n_rows,)
        ‖x - y‖² / ‖x‖², which is 1 less the row's shares. A row of zeros has nothing unexplained.
    """
    squared = np.square(X).sum(axis=1)
    squared[squared == 0] = 1
    unexplained = np.square(X - reconstructions).sum(axis=1) / squared
    rows = np.repeat(np.arange(len(X)), np.diff(codes.indptr))
    components = np.asarray(components, dtype=np.float64)
    toward = 2 * X - reconstructions
    along = np.einsum("ij,ij->i", components[codes.indices], toward[rows])
    intercept = np.einsum("ij,ij->i", reconstructions - codes @ components, toward) / squared
    return codes.data * along / squared[rows], intercept, unexplained


class Explanation:
    """
    The hidden states of a text as sums of factors.

    Made by :meth:`FactorReport.explain`. Prints itself as a table in a terminal and is one in a notebook: a line for
    each token, with its strongest factors in any layer and the share that all factors leave unexplained. The details,
    layer by layer, are shown by ``show(details=True)``, and below the table in a notebook. A minus before a factor says
    that its code is negative.

    Parameters
    ----------
    text : str
        What was explained.
    frame, states : DataFrame
        See the attributes.

    Attributes
    ----------
    text : str
        What was explained.
    frame : DataFrame
        A row for each token, layer and factor active there: `position`, `token`, `layer`, `factor`, `activation`,
        `share` (of the hidden state's squared length) and `top_tokens` (what the factor responds to in the report, by
        positive codes). Sorted by position, layer and falling size of the activation, whatever its sign.
    states : DataFrame
        A row for each token and layer: `position`, `token`, `layer`, `n_factors` (active), `length` (of the hidden
        state), and as shares of its squared length `intercept` (what the dictionary adds to every state) and
        `unexplained`. The shares of a state's factors and these two sum to 1.

    Notes
    -----
    For a code a of a hidden state x, reconstructed as y, and its factor d, the share is a⟨d, 2x - y⟩ / ‖x‖²; what is
    unexplained is ‖x - y‖² / ‖x‖².

    Examples
    --------
    >>> from skfactors import FactorReport, SparseDictionary, TransformerFeatureExtractor
    >>> from skfactors.datasets import demo_model
    >>> texts = ["She left the park by the left gate.", "They left at dawn.", "The gate is on the left."]
    >>> extractor = TransformerFeatureExtractor(demo_model(), layers=[0, 6])
    >>> dictionary = SparseDictionary(8, alpha=1.0, random_state=0).fit(extractor.extract(texts).X)
    >>> report = FactorReport.from_texts(extractor, dictionary, texts)
    >>> explanation = report.explain("He left at dawn.")
    >>> explanation.layers, len(explanation.states)
    ([0, 6], 10)
    >>> float(round(explanation.frame["share"].sum() + explanation.states["unexplained"].sum(), 6))
    10.0
    """

    def __init__(self, text, frame, states):
        self.text = text
        self.frame = frame
        self.states = states

    @property
    def layers(self) -> list[int]:
        """The layers explained, ascending."""
        return sorted(self.states["layer"].unique().tolist())

    def show(self, *, n=FACTORS_SHOWN, details=False, console=None):
        """
        Print the table.

        Parameters
        ----------
        n : int, default=3
            Factors for each token, at most.
        details : bool, default=False
            Whether to print for each token and layer its factors, and what they leave.
        console : rich.console.Console, default=None
            Where to print; by default the terminal, or the output cell of a notebook.
        """
        console = console or Console()
        console.print(*self._tables(n, console.width) if details else [self._table(n, console.width)], sep="\n")

    def __rich_console__(self, console, options):
        yield self._table(FACTORS_SHOWN, options.max_width)

    def __repr__(self):
        n_tokens, layers = self.states["position"].nunique(), ", ".join(map(str, self.layers))
        return (
            f"Explanation({n_tokens} tokens, layers {layers}; {self.states['unexplained'].mean():.1%} unexplained; "
            "show() prints it, frame and states have the figures)"
        )

    def _repr_html_(self):
        lines = [
            f'<tr><th dir="auto">{html.escape(visible_token(token))}</th>'
            f"{''.join(f'<td>{_html_factor(factor, self.layers)}</td>' for factor in factors.itertuples())}"
            f"{'<td></td>' * (FACTORS_SHOWN - len(factors))}<td>{unexplained:.0%}</td></tr>"
            for token, factors, unexplained in self.strongest(FACTORS_SHOWN)
        ]
        head = f'<th>token</th><th colspan="{FACTORS_SHOWN}">{self._heading()}</th><th>left</th>'
        return (
            f"<div><p><strong>Explanation</strong>: the strongest factors, and the share that all leave</p>"
            f"<table><thead><tr>{head}</tr></thead><tbody>{''.join(lines)}</tbody></table>"
            f"<details><summary>layer by layer</summary>{self._detailed_html()}</details></div>"
        )

    def _heading(self) -> str:
        return "factors, layers" if len(self.layers) > 1 else "factors"

    def _detailed_html(self) -> str:
        layers = self.layers
        head = "<th>token</th>" + "".join(f"<th>layer {layer}</th>" for layer in layers)
        lines = []
        for token, cells in self.lines(FACTORS_SHOWN, layers):
            row = "".join(f'<td style="vertical-align: top">{_html_cell(*cell)}</td>' for cell in cells)
            lines.append(
                f'<tr><th dir="auto" style="vertical-align: top">{html.escape(visible_token(token))}</th>{row}</tr>'
            )
        return f"<table><thead><tr>{head}</tr></thead><tbody>{''.join(lines)}</tbody></table>"

    def _table(self, n, width) -> Table:
        """Return the table of a line for each token."""
        table = Table(box=SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1))
        longest = max(len("token"), *(cell_len(visible_token(token)) for token in self.states["token"]))
        of_token = min(longest, TOKEN_WIDTH)
        cut = {"no_wrap": True, "overflow": "ellipsis"}
        table.add_column("token", style="bold", width=of_token, **cut)
        for number in range(n):
            of_factor = max((width - of_token - len("100%") - 4) // n - 3, 1)
            table.add_column("" if number else self._heading(), max_width=of_factor, **cut)
        table.add_column("left", justify="right", style="dim", no_wrap=True)
        for token, factors, unexplained in self.strongest(n):
            cells = [_rich_factor(factor, self.layers) for factor in factors.itertuples()]
            table.add_row(Text(visible_token(token)), *cells, *[Text()] * (n - len(cells)), Text(f"{unexplained:.0%}"))
        return table

    def _tables(self, n, width):
        """Yield one table, or several below each other where the layers do not fit side by side."""
        layers = self.layers
        at_a_time = max(1, (width - TOKEN_WIDTH - 4) // (CELL_WIDTH + 3))
        for start in range(0, len(layers), at_a_time):
            shown = layers[start : start + at_a_time]
            table = Table(show_lines=True, expand=False)
            table.add_column("token", style="bold", max_width=TOKEN_WIDTH, overflow="ellipsis", no_wrap=True)
            for layer in shown:
                table.add_column(f"layer {layer}", width=CELL_WIDTH, no_wrap=True, overflow="ellipsis")
            for token, cells in self.lines(n, shown):
                table.add_row(Text(visible_token(token)), *(_rich_cell(*cell) for cell in cells))
            yield table

    def strongest(self, n=FACTORS_SHOWN):
        """
        Yield a line for each token.

        Parameters
        ----------
        n : int, default=3
            Factors for each token, at most.

        Yields
        ------
        token : str
        factors : DataFrame
            Rows of `frame`: of each factor the layer where it is most active, those that are most active first.
        unexplained : float
            The mean over layers.
        """
        order = np.argsort(-self.frame["activation"].abs().to_numpy(), kind="stable")
        by_activation = self.frame.iloc[order].drop_duplicates(["position", "factor"])
        factors, none = dict(iter(by_activation.groupby("position"))), self.frame.iloc[:0]
        unexplained = self.states.groupby("position")["unexplained"].mean()
        for position, token in self.states.drop_duplicates("position")[["position", "token"]].itertuples(index=False):
            yield token, factors.get(position, none).head(n), unexplained[position]

    def lines(self, n=FACTORS_SHOWN, layers=None):
        """
        Yield the table line by line.

        Parameters
        ----------
        n : int, default=3
            Factors for each token and layer, at most.
        layers : list of int, default=None
            None takes all.

        Yields
        ------
        token : str
        cells : list of (DataFrame, float)
            For each layer the strongest factors, as rows of `frame`, and the share that all leave unexplained.
        """
        layers = self.layers if layers is None else layers
        factors = dict(iter(self.frame.groupby(["position", "layer"])))
        unexplained = self.states.set_index(["position", "layer"])["unexplained"]
        none = self.frame.iloc[:0]
        for position, token in self.states.drop_duplicates("position")[["position", "token"]].itertuples(index=False):
            places = [(position, layer) for layer in layers]
            yield token, [(factors.get(place, none).head(n), unexplained[place]) for place in places]


def _rich_factor(factor, layers) -> Text:
    text = Text(f"{_signed(factor)} ", style="cyan").append(visible(first_token(factor.top_tokens)), style="italic")
    return text.append(f" {factor.layer}", style="dim") if len(layers) > 1 else text


def _html_factor(factor, layers) -> str:
    where = f" <small>{factor.layer}</small>" if len(layers) > 1 else ""
    title = html.escape(visible(factor.top_tokens), quote=True)
    name = html.escape(visible(first_token(factor.top_tokens)))
    return f'<span title="{title}">{_signed(factor)} <em>{name}</em></span>{where}'


def _signed(factor) -> str:
    return f"{'−' if factor.activation < 0 else ''}{factor.factor}"


def _rich_cell(factors, unexplained):
    cell = Text()
    for factor in factors.itertuples():
        cell.append(f"{factor.factor:>4}", style="cyan")
        cell.append(f" {factor.activation:.3g} ").append(visible(first_token(factor.top_tokens)) + "\n", style="italic")
    return cell.append(f"{unexplained:.0%} left", style="dim")


def _html_cell(factors, unexplained):
    lines = [
        f'<span title="{html.escape(visible(factor.top_tokens), quote=True)}">{factor.factor}</span> '
        f"{factor.activation:.3g} <em>{html.escape(visible(first_token(factor.top_tokens)))}</em><br>"
        for factor in factors.itertuples()
    ]
    return "".join(lines) + f"<small>{unexplained:.0%} left</small>"
