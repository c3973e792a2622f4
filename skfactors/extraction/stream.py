"""ActivationStream: texts in, parts of rows out, with a model that is open."""

import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from skfactors.callers import warn_caller
from skfactors.extraction.activations import Activations
from skfactors.extraction.cache import CachedRunner
from skfactors.extraction.forward import HiddenStateRunner
from skfactors.extraction.parts import Part, assemble, split_into_parts
from skfactors.extraction.sites import Place
from skfactors.extraction.text.corpus import iter_texts
from skfactors.extraction.windows import Window, iter_windows
from skfactors.progress import progress_bar


@dataclass(frozen=True)
class ActivationStream:
    """
    A model, open, and all that decides which rows come out of it.

    Attributes
    ----------
    tokenizer : transformers fast tokenizer
    windowing : dict
        `max_length`, `stride` and `add_special_tokens`, as :func:`iter_windows` takes them.
    places : list of Place
        What is read of the model.
    widths : list of int
        Of each place.
    dtype : dtype of the rows
    runner : HiddenStateRunner or CachedRunner
        What turns windows into hidden states.
    content : dict
        All that decides the rows, told by content: checksums of the model's files, layers, windows and precision.
    """

    tokenizer: object
    windowing: dict
    places: list[Place]
    widths: list[int]
    dtype: np.dtype
    runner: HiddenStateRunner | CachedRunner
    content: dict

    def iter_extract(self, texts: Iterable[str], *, max_rows: int | None, verbose: bool) -> Iterator[Activations]:
        """Yield the rows of `texts` in parts; warn at the end of texts that gave none."""
        n_rowless = 0
        with progress_bar("extracting hidden states", total=n_characters(texts), enabled=verbose) as advance:
            for part in self.split(iter_texts(texts), max_rows):
                n_rowless += part.n_rowless
                yield self.read(part, advance)
        warn_of_rowless(n_rowless)

    def split(self, texts: Iterable[str], max_rows: int | None, first_document: int = 0) -> Iterator[Part]:
        """Cut texts into windows, and these into parts; no model runs. Documents are numbered from the one given."""
        windowed = iter_windows(texts, self.tokenizer, **self.windowing, first_document=first_document)
        return split_into_parts(windowed, len(self.places), max_rows, first_document)

    def read(self, part: Part, advance) -> Activations:
        """Run the model over a part's windows."""
        states = _reported(self.runner, part.windows, [place.layer for place in self.places], advance)
        return assemble(part, states, self.places, self.widths, self.dtype)


def n_characters(texts) -> int | None:
    """Count the characters of all texts; None where that would use them up, or read a corpus from end to end."""
    return sum(len(text) for text in texts if isinstance(text, str)) if hasattr(texts, "__len__") else None


def warn_of_rowless(n_rowless: int) -> None:
    """Say how many texts gave no rows."""
    if n_rowless:
        warn_caller(
            f"{n_rowless} of the texts are empty or white space, or hold nothing that gives a token; "
            "they are kept, with no rows."
        )


def _reported(runner: HiddenStateRunner | CachedRunner, windows: list[Window], layers: list[int], advance):
    start, n_tokens = time.perf_counter(), 0
    for indices, states in runner.run([window.input_ids for window in windows], layers):
        yield indices, states
        del states
        done = [windows[index] for index in indices]
        n_tokens += sum(window.n_rows for window in done)
        rate = n_tokens / (time.perf_counter() - start)
        advance(sum(int(window.offsets[-1, 1] - window.offsets[0, 0]) for window in done), f"{rate:,.0f} tokens/s")
