"""A factor in a terminal or a notebook, and a report's overview in HTML.

Corpus text is put into `rich.text.Text` or escaped: it is never read as mark-up.
"""

import html
import math
import re
from pathlib import Path

from rich.cells import cell_len, set_cell_size
from rich.text import Text

from skfactors.reports.naming import is_visible, token_name

BARS = " ▁▂▃▄▅▆▇█"
BAR_WIDTH = 5
LEVEL_STYLES = {"low": "green", "mid": "cyan", "high": "magenta", "flat": "dim"}
TOKEN_STYLE = "bold black on bright_yellow"

_WHITE_SPACE = re.compile(r"\s")
# Control characters, lone surrogates, and the marks that turn the direction of what follows them on the line.
_UNPRINTABLE = re.compile("[\x00-\x1f\x7f-\x9f\ud800-\udfff\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]")


def visible(text):
    """Return text that stays on its line: white space as spaces, unprintable characters as "�"."""
    return _UNPRINTABLE.sub("�", _WHITE_SPACE.sub(" ", text))


def visible_token(token):
    """Return a token as it is shown on a line: by name where nothing of it can be seen."""
    return visible(token if is_visible(token) else token_name(token))


class FactorView:
    """
    A factor for rich to print: facts, importance by layer, contexts with their tokens one below the other.

    Parameters
    ----------
    factor : int
    facts : Series
        The factor's row of the summary.
    curve : Series
        Importance by layer.
    contexts : DataFrame
        The contexts to print, in this order.
    """

    def __init__(self, factor, facts, curve, contexts):
        self.factor = factor
        self.facts = facts
        self.curve = curve
        self.contexts = contexts

    def __rich_console__(self, console, options):
        yield from self._heading(options.max_width)
        yield Text()
        yield from self._curve_lines(options.max_width)
        yield Text()
        if self.contexts.empty:
            yield Text("No contexts: the factor is not active here.", style="dim")
        else:
            yield from self._context_lines(options.max_width, marked=console.color_system is None)

    def _heading(self, width):
        level = self.facts["level"]
        heading = Text.assemble((f"Factor {self.factor}", "bold"), "  ", (level, LEVEL_STYLES[level]))
        fires = self.facts["frequency"] > 0
        if fires:
            heading.append(f"  peak at layer {self.facts['peak_layer']}")
            heading.append(f"  active in {self.facts['frequency']:.2%} of rows")
            heading.append(f"  mean {self.facts['mean_activation']:.3g}")
        yield heading
        if self.facts["name"]:
            yield _one_line((_cut_right(self.facts["name"], width), "bold"))
        if fires:
            yield _one_line((_cut_right(visible(self.facts["top_tokens"]), width), "italic"))
        said = said_of(self.facts)
        if said:
            yield _one_line((_cut_right(said, width), "dim"))

    def _curve_lines(self, width):
        values = same_decimals(self.curve)
        bars = [self._bar(value) for value in self.curve]
        layers = [str(layer) for layer in self.curve.index]
        cell_width = max(BAR_WIDTH, *map(len, values)) + 2
        label = "importance"
        cells_a_line = max(1, (width - len(label)) // cell_width)
        for start in range(0, len(values), cells_a_line):
            for name, cells, style in (("", bars, "cyan"), (label, values, ""), ("layer", layers, "dim")):
                line = "".join(cell.rjust(cell_width) for cell in cells[start : start + cells_a_line])
                yield _one_line((name.ljust(len(label)), "dim"), (line, style))

    def _bar(self, value):
        tallest = self.curve.max()
        height = round(value / tallest * (len(BARS) - 1)) if tallest > 0 else 0
        return BARS[height] * BAR_WIDTH

    def _context_lines(self, width, marked):
        yield _one_line(("activation  layer  context", "dim"))
        activations = same_decimals(self.contexts["activation"])
        for activation, context in zip(activations, self.contexts.itertuples(), strict=True):
            numbers = f"{activation:>10}  {context.layer:>5}  "
            excerpt = context_line(context.left, context.token, context.right, width - len(numbers), marked)
            yield _one_line(numbers, excerpt)


def _one_line(*pieces):
    line = Text.assemble(*pieces)
    line.no_wrap, line.overflow = True, "crop"
    return line


def same_decimals(values):
    """Return numbers as strings with equally many decimals, three digits for the largest of them."""
    largest = max(values, default=0)
    decimals = max(0, 2 - math.floor(math.log10(largest))) if largest > 0 else 0
    return [f"{value:.{decimals}f}" for value in values]


def context_line(left, token, right, width, marked=False):
    """
    Lay a context out on one line, its token beginning in the middle.

    Parameters
    ----------
    left, token, right : str
    width : int
        Cells of the line; taken as 30 where it is less.
    marked : bool, default=False
        Whether the token stands in brackets, where colours cannot set it apart.

    Returns
    -------
    Text
    """
    width = max(30, width)
    opening, closing = "[]" if marked else ("", "")
    line = Text(_fit_left(visible(left), (width - 1) // 2 - len(opening)) + opening)
    line.append(_cut_right(visible_token(token), width // 3), style=TOKEN_STYLE).append(closing)
    return line.append(_cut_right(visible(right), width - line.cell_len))


def coverage(totals):
    """Return in a line what a report with these totals covers."""
    line = (
        f"{totals['n_components']:,} factors, layers {', '.join(map(str, totals['layers']))}; "
        f"{totals['n_documents']:,} documents, {totals['n_tokens']:,} tokens"
    )
    if totals["explained_variance"] is not None:
        line += f"; explained variance {totals['explained_variance']:.3f}"
    return line


def model_name(extractor):
    """Return the name of an extractor's model, of a path the last two folders; None where it has none."""
    model = getattr(extractor, "model", None)
    name = model if isinstance(model, (str, Path)) else getattr(getattr(model, "config", None), "name_or_path", "")
    return visible("/".join(Path(name).parts[-2:])) or None


def overview_html(totals, summary):
    """
    Return a report's overview as HTML.

    Parameters
    ----------
    totals : dict
        Of the report.
    summary : DataFrame
        Rows of the summary to show.

    Returns
    -------
    str
    """
    headings = ("factor", "level", "peak layer", "peak importance", "frequency", "name", "top tokens")
    lines = [
        (
            row.Index,
            row.level,
            row.peak_layer,
            f"{row.peak_importance:.3g}",
            f"{row.frequency:.2%}",
            row.name,
            row.top_tokens[:200],
        )
        for row in summary.itertuples()
    ]
    head = "".join(f"<th>{heading}</th>" for heading in headings)
    body = "".join("<tr>" + "".join(map(_html_cell, line)) + "</tr>" for line in lines)
    return (
        f"<div><p><strong>FactorReport</strong>: {html.escape(coverage(totals))}</p>"
        f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"
    )


def _html_cell(value):
    return f'<td dir="auto">{html.escape(visible(str(value)))}</td>'


def _fit_left(text, width):
    if cell_len(text) <= width:
        return " " * (width - cell_len(text)) + text
    start = 0
    while cell_len(text[start:]) > width - 1:
        start += 1
    kept = text[start:]
    return " " * (width - 1 - cell_len(kept)) + "…" + kept


def _cut_right(text, width):
    return text if cell_len(text) <= width else set_cell_size(text, width - 1) + "…"


def said_of(facts) -> str:
    """Return what a factor does to the model's output, from its row of the summary; nothing where that is not known."""
    if "speaks_for" not in facts:
        return ""
    effect = facts.get("loss_effect", float("nan"))
    loss = "" if math.isnan(effect) else f" · without it the loss rises by {effect:.2g}"
    return f"speaks for {facts['speaks_for']} · against {facts['speaks_against']}{loss}"
