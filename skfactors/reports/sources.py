"""What a report was made from, and saliency computed with it."""

from dataclasses import dataclass

from skfactors.progress import progress_bar
from skfactors.reports.saliency import iter_saliency
from skfactors.reports.saliency_records import context_key


@dataclass(frozen=True)
class Sources:
    """Extractor, dictionary and texts of a report, where they are known."""

    extractor: object = None
    dictionary: object = None
    texts: object = None

    def given(self, extractor=None, dictionary=None, texts=None, *, also_texts=False) -> "Sources":
        """
        Return these sources, with what is given in the place of what is known.

        Raises
        ------
        ValueError
            If extractor, dictionary or (`also_texts`) texts are neither given nor known.
        """
        asked = {"extractor": extractor, "dictionary": dictionary} | ({"texts": texts} if also_texts else {})
        found = {name: getattr(self, name) if value is None else value for name, value in asked.items()}
        missing = [name for name, value in found.items() if value is None]
        if missing:
            raise ValueError(
                f"this report does not know its {' and '.join(missing)}: a report that was loaded, merged, made from "
                f"codes, a store or an iterator does not. Pass {', '.join(f'{name}=' for name in missing)}."
            )
        return Sources(**found)

    @property
    def can_explain(self) -> bool:
        """Whether extractor and dictionary are known."""
        return self.extractor is not None and self.dictionary is not None

    def is_verbose(self) -> bool:
        """Return whether extractor or dictionary want to be heard."""
        return any(getattr(estimator, "verbose", False) for estimator in (self.extractor, self.dictionary))


def add_missing(saliencies, sources, contexts, *, method, n_samples, random_state, verbose):
    """
    Compute the saliency of contexts that have none by this method yet.

    Parameters
    ----------
    saliencies : dict of context key to Series
        Each saliency is put in as soon as it is there.
    sources : Sources
    contexts : DataFrame
        Rows of a table of top contexts.
    method, n_samples, random_state
        As :func:`token_saliency` takes them.
    verbose : bool

    Raises
    ------
    ValueError
        If the texts are not those of the contexts.
    """
    asked = (method, n_samples if method == "lime" else None)
    have = {key for key, saliency in saliencies.items() if _made_by(saliency) == asked}
    is_missing = [context_key(context) not in have for context in contexts.itertuples()]
    contexts = contexts[is_missing]
    keys = [context_key(context) for context in contexts.itertuples()]
    if not keys:
        return
    texts = ContextTexts(sources.texts)
    found = iter_saliency(
        sources.extractor,
        sources.dictionary,
        texts,
        contexts,
        method=method,
        n_samples=n_samples,
        random_state=random_state,
    )
    tokens = contexts["token"].tolist()
    with progress_bar("finding salient tokens", total=len(keys), enabled=verbose) as advance:
        for number, saliency in found:
            key = keys[number]
            token = saliency.xs(key[-1], level="position").index[0]
            if token != tokens[number]:
                raise ValueError(
                    f"texts[{key[2]}] has the token {token!r} at position {key[-1]}, and the report has "
                    f"{tokens[number]!r}: pass the texts and the extractor that the report was made from."
                )
            saliencies[key] = saliency
            advance(1)


class ContextTexts:
    """Texts by document number, whatever collection they come in."""

    def __init__(self, texts):
        # A pandas Series goes by its index in brackets; documents are numbered by their order.
        self._texts = texts.iloc if hasattr(texts, "iloc") else texts

    def __getitem__(self, document):
        try:
            return self._texts[document]
        except IndexError as error:
            raise ValueError(f"texts have no document {document}: pass those that the report was made from.") from error


def _made_by(saliency):
    return saliency.attrs["method"], saliency.attrs["n_samples"]
