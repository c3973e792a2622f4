"""ActivationStream: texts in, parts of rows out, with a model that is open."""

import time
from collections.abc import Generator, Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
import transformers

from skfactors.callers import warn_caller
from skfactors.extraction.activations import Activations
from skfactors.extraction.cache import CachedRunner, HiddenStateCache
from skfactors.extraction.forward import HiddenStateRunner
from skfactors.extraction.identity import ModelIdentity, model_content
from skfactors.extraction.models import ModelSource, OpenModel
from skfactors.extraction.outliers import PASSAGE, median_norms, without_outliers
from skfactors.extraction.parts import Part, assemble, split_into_parts
from skfactors.extraction.sites import HIDDEN_STATES, Place, find_site
from skfactors.extraction.text.corpus import iter_texts
from skfactors.extraction.windows import Window, windows_of_model
from skfactors.progress import progress_bar
from skfactors.records import digest


@dataclass(frozen=True)
class ActivationStream:
    """
    A model, open, and all that decides which rows come out of it.

    Attributes
    ----------
    opened : OpenModel
    source : ModelSource
        What it was opened from.
    windowing : dict
        `max_length`, `stride` and `add_special_tokens`, as :func:`iter_windows` takes them.
    places : list of Place
        What is read of the model.
    batch_size : int
    cache_dir, cache_limit, drop_outliers
        As the extractor takes them.
    """

    opened: OpenModel
    source: ModelSource
    windowing: dict
    places: list[Place]
    batch_size: int
    cache_dir: str | None = None
    cache_limit: int | None = None
    drop_outliers: float | None = None

    @property
    def widths(self) -> list[int]:
        """Width of each place."""
        return self.opened.facts.widths_at(self.places)

    @property
    def dtype(self) -> np.dtype:
        """Data type of the rows."""
        return np.dtype(np.float64 if self.source.dtype == "float64" else np.float32)

    @property
    def content(self) -> dict:
        """All that decides the rows, told by content: checksums of the model's files, layers, windows and precision."""
        dropped = {} if self.drop_outliers is None else {"drop_outliers": float(self.drop_outliers)}
        return self._content_of_states | self.windowing | dropped

    @cached_property
    def _content_of_states(self) -> dict:
        # Asked for by stores and caches only: reading all weights takes long.
        content = {
            "files": model_content(self.opened.files),
            "layers": [place.layer for place in self.places],
            "dtype": self.source.dtype,
        }
        return content | self._content_of_sites | self.opened.facts.content

    @property
    def _content_of_sites(self) -> dict:
        """Which sites are read and where they lie; nothing for hidden states, by which stores were named before."""
        sites = [place.site for place in self.places]
        if set(sites) == {HIDDEN_STATES}:
            return {}
        within = {site: str(find_site(self.opened.model, site)) for site in sites if site != HIDDEN_STATES}
        return {"sites": sites, "modules": within}

    @property
    def _content_of_passes(self) -> dict:
        """What else decides hidden states, and is no part of the model's files."""
        return {
            "places": self.places,
            "transformers": transformers.__version__,
            "attention": getattr(self.opened.model.config, "_attn_implementation", None),
            "products": torch.get_float32_matmul_precision(),
        }

    @cached_property
    def _runner(self) -> HiddenStateRunner | CachedRunner:
        """What turns windows into hidden states."""
        runner = HiddenStateRunner(self.opened.model, self.opened.facts, self.places, self.batch_size)
        if self.cache_dir is None:
            return runner
        identity = digest(self._content_of_states | self._content_of_passes)
        return CachedRunner(runner, HiddenStateCache(self.cache_dir, identity, self.cache_limit))

    def iter_extract(
        self, texts: Iterable[str], *, max_rows: int | None, verbose: bool
    ) -> Generator[Activations, None, int]:
        """Yield the rows of `texts` in parts; warn of texts that gave none, and return how many outliers there were."""
        n_rowless = n_outliers = 0
        with progress_bar("extracting hidden states", total=n_characters(texts), enabled=verbose) as advance:
            for part in self.split(iter_texts(texts), max_rows):
                acts = self.read(part, advance)
                n_rowless += part.n_rowless
                n_outliers += part.n_outliers
                yield acts
        warn_of_rowless(n_rowless)
        return n_outliers

    def split(self, texts: Iterable[str], max_rows: int | None, first_document: int = 0) -> Iterator[Part]:
        """Cut texts into windows, and these into parts; no model runs. Documents are numbered from the one given."""
        tokenizer, n_embeddings = self.opened.tokenizer, self.opened.facts.n_embeddings
        windowed = windows_of_model(texts, tokenizer, n_embeddings, **self.windowing, first_document=first_document)
        return split_into_parts(windowed, len(self.places), max_rows, first_document)

    def read(self, part: Part, advance) -> Activations:
        """Run the model over a part's windows."""
        acts = self._rows(part, advance)
        if self.drop_outliers is not None:
            acts, part.n_outliers = without_outliers(acts, self._limits)
        return acts

    def _rows(self, part: Part, advance) -> Activations:
        states = _reported(self._runner, part.windows, advance)
        model = ModelIdentity(self.source.name, self.opened.files)
        return assemble(part, states, self.places, self.widths, self.dtype, model)

    @cached_property
    def _limits(self) -> dict[Place, float]:
        (part,) = self.split([PASSAGE], None)
        medians = median_norms(self._rows(part, lambda *_: None))
        return {place: self.drop_outliers * median for place, median in medians.items()}

    def warn_of_outliers(self, n_outliers: int) -> None:
        """Say how many tokens were left out."""
        if n_outliers:
            warn_caller(
                f"{n_outliers} tokens are left out as outliers: the norm of a row is more than {self.drop_outliers:g} "
                "times the median there (drop_outliers)."
            )


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


def _reported(runner: HiddenStateRunner | CachedRunner, windows: list[Window], advance):
    start, n_tokens = time.perf_counter(), 0
    for indices, states in runner.run([window.input_ids for window in windows]):
        yield indices, states
        del states
        done = [windows[index] for index in indices]
        n_tokens += sum(window.n_rows for window in done)
        rate = n_tokens / (time.perf_counter() - start)
        advance(sum(int(window.offsets[-1, 1] - window.offsets[0, 0]) for window in done), f"{rate:,.0f} tokens/s")
