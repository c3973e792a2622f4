"""TransformerFeatureExtractor: texts to rows of hidden states, as a scikit-learn transformer."""

from collections.abc import Iterator
from numbers import Integral, Real
from os import PathLike
from pathlib import Path

import numpy as np
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.utils import check_scalar
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.validation import check_is_fitted

from skfactors.callers import warn_caller
from skfactors.devices import resolve_device
from skfactors.extraction.activations import Activations
from skfactors.extraction.facts import ModelFacts
from skfactors.extraction.identity import model_content, model_fingerprint
from skfactors.extraction.models import (
    DTYPES,
    Headless,
    ModelSlot,
    ModelSource,
    OpenModel,
    resolve_places,
)
from skfactors.extraction.pooling import POOLINGS, GroupPool
from skfactors.extraction.probe import ModelProbe
from skfactors.extraction.provenance import is_at
from skfactors.extraction.sites import Place
from skfactors.extraction.store import ActivationStore
from skfactors.extraction.store.filling import fill, open_folder
from skfactors.extraction.stream import ActivationStream, n_characters, warn_of_rowless
from skfactors.extraction.text.corpus import check_is_collection, held, iter_texts, open_corpus
from skfactors.extraction.windows import check_windowing
from skfactors.output import framed
from skfactors.progress import progress_bar


class TransformerFeatureExtractor(ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseEstimator):
    """
    Turn texts into rows of a transformer's hidden states, or of what flows at other places in it.

    One row per token and layer, ordered by document, then site and layer as given, then position; one row per token,
    with its layers side by side (`arrange="columns"`); or one pooled row per text (`level="document"`). Special and
    padding tokens never give rows, and no token of a text is dropped, unless `drop_outliers` asks for it: a text longer
    than a window is read in several.

    Parameters
    ----------
    model : str, default="bert-base-uncased"
        Name on the Hugging Face hub, or a local folder. Encoders, decoders and the encoders of encoder-decoders work;
        the tokenizer must be a fast one.
    revision : str, default=None
        Branch, tag or commit of the model on the hub.
    layers : "all", int or list of int, default="all"
        Indices into the model's `hidden_states`: 0 is the embeddings, negative ones count from the end. Of other sites
        a layer is one of the model's blocks, counted from 0.
    site : str or list of str, default="hidden_states"
        What is read in each layer; several are read in one pass. "block_input" and "block_output", the residual stream;
        "attention_heads", side by side before their projection, and "attention_output"; "mlp_input", after the norm,
        and "mlp_output"; or a module's path, such as "encoder.layer.{layer}.attention.self.query:output", with
        `{layer}`, and with ":input" for what the module reads or ":output" for what it gives.
    level : {"token", "document"}, default="token"
        What a row of :meth:`transform` is.
    arrange : {"rows", "columns"}, default="rows"
        For `level="token"`: whether the places of a token, each a site in a layer, are rows of their own, or stand side
        by side in the columns of one row. Rows must be of one width.
    pooling : {"mean", "max", "sum", "first", "last"}, default="mean"
        For `level="document"`: how a text's tokens become one row. Several layers stand side by side, in columns. A
        text without tokens is a row of zeros.
    max_length : int, default=128
        Tokens in a window, special tokens included; fewer where the model has fewer positions.
    stride : int, default=0
        Tokens that a window repeats from the one before it, as context. Each token gives its rows once, from the first
        window that holds it.
    add_special_tokens : bool, default=True
        Whether windows carry the model's special tokens, such as [CLS] and [SEP].
    drop_outliers : float, default=None
        Leave out a token, at all places, whose norm at one of them is more than so many times the median norm there,
        such as the attention sinks of many decoders: 10 finds those. The median is over the tokens of a passage of
        English that comes with this package, so that a text's rows do not depend on the texts beside it. None keeps
        all tokens.
    batch_size : int, default=32
        Windows per forward pass. Halved, and the pass repeated, when an accelerator runs out of memory.
    device : str, default="auto"
        "auto" takes cuda, then mps, then cpu.
    dtype : {"float32", "float64", "float16", "bfloat16"}, default="float32"
        Precision the model runs in. Half precision comes back as float32.
    trust_remote_code : bool, default=False
        Whether code that comes with the model may run.
    cache_dir : path-like, default=None
        Folder that keeps hidden states, so that the model runs over a text only once, across folds and candidates of a
        grid search, across sessions, and across processes that use the folder together. What it keeps goes by the
        content of model and text; another model, other layers or another precision never meet.
    cache_limit : int, default=None
        Bytes that `cache_dir` may take, about. Beyond them, what was used least recently goes. None sets no limit.
    verbose : bool, default=False
        Show a progress bar.

    Attributes
    ----------
    layers_ : list of int
        The layers, as indices from 0.
    places_ : list of Place
        What is read, each a site and a layer, in the order of a text's rows.
    hidden_size_ : int
        Width of a row; of the widest, where places differ.
    n_outliers_ : int
        Tokens that the last call left out; only with `drop_outliers`.

    See Also
    --------
    SparseDictionary : Learns the factors of these rows.
    DocumentFactors : Rows of factor activations, one per text.

    Notes
    -----
    `fit` learns nothing; it opens the model, runs it over a few tokens, and checks parameters against what that shows.
    :meth:`extract` and :meth:`iter_extract` give rows with their provenance and need no `fit`. An open model is shared
    with clones, and is not part of a pickle.

    A row does not depend on the texts that are read beside its own or before it. A model whose hidden states do, as it
    ignores the attention mask or changes as it reads, is run over windows of one length at a time; one whose states
    cannot be told apart in that way is refused.

    Examples
    --------
    >>> from skfactors import TransformerFeatureExtractor
    >>> from skfactors.datasets import demo_model
    >>> extractor = TransformerFeatureExtractor(demo_model(), layers=[0, 6])
    >>> extractor.extract(["The bank of the river."])
    Activations(12 rows x 384 features, layers [0, 6], 1 documents)
    """

    _parameter_constraints = {
        "model": [str],
        "revision": [str, None],
        "layers": [StrOptions({"all"}), Integral, "array-like"],
        "site": [str, "array-like"],
        "level": [StrOptions({"token", "document"})],
        "arrange": [StrOptions({"rows", "columns"})],
        "pooling": [StrOptions(set(POOLINGS))],
        "max_length": [Interval(Integral, 1, None, closed="left")],
        "stride": [Interval(Integral, 0, None, closed="left")],
        "add_special_tokens": ["boolean"],
        "drop_outliers": [Interval(Real, 1, None, closed="neither"), None],
        "batch_size": [Interval(Integral, 1, None, closed="left")],
        "device": [str],
        "dtype": [StrOptions(set(DTYPES))],
        "trust_remote_code": ["boolean"],
        "cache_dir": [str, PathLike, None],
        "cache_limit": [Interval(Integral, 1, None, closed="left"), None],
        "verbose": ["verbose"],
    }

    def __init__(
        self,
        model="bert-base-uncased",
        *,
        revision=None,
        layers="all",
        site="hidden_states",
        level="token",
        arrange="rows",
        pooling="mean",
        max_length=128,
        stride=0,
        add_special_tokens=True,
        drop_outliers=None,
        batch_size=32,
        device="auto",
        dtype="float32",
        trust_remote_code=False,
        cache_dir=None,
        cache_limit=None,
        verbose=False,
    ):
        self.model = model
        self.revision = revision
        self.layers = layers
        self.site = site
        self.level = level
        self.arrange = arrange
        self.pooling = pooling
        self.max_length = max_length
        self.stride = stride
        self.add_special_tokens = add_special_tokens
        self.drop_outliers = drop_outliers
        self.batch_size = batch_size
        self.device = device
        self.dtype = dtype
        self.trust_remote_code = trust_remote_code
        self.cache_dir = cache_dir
        self.cache_limit = cache_limit
        self.verbose = verbose

    def fit(self, texts, y=None):
        """
        Open the model, and check parameters and texts; nothing is learned from the texts.

        Parameters
        ----------
        texts : iterable of str of length n_texts
            Each is checked; those of a generator, which can be read only once, are left for :meth:`transform`.
        y : None
            Ignored.

        Returns
        -------
        self : TransformerFeatureExtractor
            With `layers_`, `places_` and `hidden_size_`.

        Raises
        ------
        TypeError, ValueError
            For a bad parameter, or what is not a collection of texts.
        OSError
            For a model that cannot be loaded.
        """
        check_is_collection(texts)
        if hasattr(texts, "__len__"):
            for _ in iter_texts(texts):
                pass
        self.places_, facts = self._check_model()
        self.layers_ = list(dict.fromkeys(place.layer for place in self.places_))
        self._widths = facts.widths_at(self.places_)
        self.hidden_size_ = max(self._widths)
        in_rows = self.level == "token" and self.arrange == "rows"
        self._n_features_out = facts.width_of(self.places_) if in_rows else sum(self._widths)
        return self

    def fit_transform(self, texts, y=None):
        """
        Check parameters and texts, and turn texts into rows of hidden states.

        Parameters
        ----------
        texts : iterable of str of length n_texts
            Read once, so a generator will do.
        y : None
            Ignored.

        Returns
        -------
        X : ndarray
            As :meth:`transform` gives it.
        """
        texts = held(texts)
        return self.fit(texts).transform(texts)

    def transform(self, texts):
        """
        Turn texts into rows of hidden states.

        Parameters
        ----------
        texts : iterable of str of length n_texts
            One text after the other; an empty one gives no row, or a row of zeros at document level.

        Returns
        -------
        X : ndarray of shape (n_rows, hidden_size), (n_tokens, sum of widths) or (n_texts, sum of widths)
            At token level, pandas output has a (document, layer, position) MultiIndex, with the site after the document
            where there are several, or (document, position) with `arrange="columns"`; documents of a Series go by its
            own index.
        """
        check_is_fitted(self)
        texts = held(texts)
        if self.level == "document":
            return framed(self, self._pooled(texts), texts)
        acts = self.extract(texts)
        if self.arrange == "rows":
            several = len({place.site for place in self.places_}) > 1
            index = ["document", "site", "layer", "position"] if several else ["document", "layer", "position"]
            return framed(self, acts.X, texts, acts.provenance[index])
        X = acts.side_by_side() if len(acts) else np.empty((0, sum(self._widths)), acts.dtype)
        tokens = acts.provenance.loc[is_at(acts.provenance, self.places_[0]), ["document", "position"]]
        return framed(self, X, texts, tokens)

    def extract(self, texts) -> Activations:
        """
        Turn texts into rows of hidden states with their provenance, whatever the `level`.

        Parameters
        ----------
        texts : iterable of str of length n_texts
            One text after the other; an empty one gives no row.

        Returns
        -------
        Activations
            All rows at once; :meth:`iter_extract` gives them in parts.
        """
        (acts,) = self._stream(texts, max_rows=None)
        return acts

    def iter_extract(self, texts, *, max_rows=65_536) -> Iterator[Activations]:
        """
        Turn texts into rows of hidden states, one part of bounded size after the other.

        Parameters
        ----------
        texts : iterable of str
            Read as the parts are asked for, so a generator of any length will do.
        max_rows : int, default=65_536
            Rows in a part, at most; a single window always stays whole. A document that has more is continued in the
            following part.

        Yields
        ------
        Activations
            Documents keep their number in the whole of `texts`; each part holds the texts of its own.

        Raises
        ------
        ValueError
            If `max_rows` is not positive.
        """
        if max_rows is not None:
            check_scalar(max_rows, "max_rows", Integral, min_val=1)
        return self._stream(texts, max_rows=max_rows)

    def extract_to(self, texts, path, *, column="text", dtype=None, rows_per_shard=65_536) -> ActivationStore:
        """
        Extract a corpus of any size to a folder, which :class:`ActivationStore` opens.

        Can be stopped at any moment and called again: what is there is checked and kept, what is damaged or missing is
        extracted. Several processes that are given the same texts and folder share the work.

        Parameters
        ----------
        texts : iterable of str, path-like or Hugging Face dataset
            A list or generator of texts, a file with one text per line (a `pathlib.Path`), or a dataset, streamed or
            not.
        path : path-like
            The folder; made if need be.
        column : str, default="text"
            The column of a dataset that has the texts.
        dtype : {"float32", "float16", "bfloat16", "float64"}, default=None
            Precision on disk; None is the precision that the model runs in.
        rows_per_shard : int, default=65_536
            Rows in a shard, at most; a single window always stays whole. Memory goes by it.

        Returns
        -------
        ActivationStore
            The folder, complete and open.

        Raises
        ------
        OSError
            If the disk is full; what was written before is kept.
        TypeError, ValueError
            If an element of `texts` is not a str, `path` holds something else, or rows of another model, of other
            settings or of other texts.

        Warns
        -----
        UserWarning
            If texts give no rows, tokens are left out as outliers, or rows hold NaN or infinite values.
        """
        check_scalar(rows_per_shard, "rows_per_shard", Integral, min_val=1)
        if dtype is not None and dtype not in DTYPES:
            raise ValueError(f"dtype={dtype!r} must be one of {sorted(DTYPES)}, or None.")
        self._check_model()
        corpus = open_corpus(texts, column)
        stream = self._open()
        manifest = open_folder(
            Path(path),
            stream.content,
            model=self.model,
            places=stream.places,
            widths=stream.widths,
            dtype=dtype or self.dtype,
            rows_per_shard=int(rows_per_shard),
        )
        with progress_bar("extracting hidden states", total=n_characters(corpus), enabled=self.verbose) as advance:
            n_missing, n_rowless = fill(Path(path), manifest, stream, iter_texts(corpus), advance)
        warn_of_rowless(n_rowless)
        if n_missing and not isinstance(corpus, Iterator):
            return self.extract_to(texts, path, column=column, dtype=dtype, rows_per_shard=rows_per_shard)
        store = ActivationStore(path)
        if self.drop_outliers is not None:
            self._count_outliers(stream, store.n_outliers)
        if store.n_nonfinite:
            warn_caller(
                f"{store.n_nonfinite} values of the store are NaN or infinite: half precision overflows where "
                'float32 does not; extract with dtype="float32" to another folder.'
            )
        return store

    def probe(self) -> ModelProbe:
        """
        Open the model for questions about single windows: what it says when tokens are masked, and its gradients.

        Returns
        -------
        ModelProbe
            With the model, windows and batch size of this extractor; it reads all layers of its site.

        Raises
        ------
        ValueError
            If the extractor reads more than one site.
        """
        self._check_model()
        opened = self._slot().get(self._source())
        if not isinstance(self.site, str) and len(self.site) > 1:
            raise ValueError(f"site={self.site!r}: questions are about one site. Ask an extractor of that site alone.")
        places = resolve_places(self.site, "all", opened, self.model)
        opened.facts.measure(opened.model, places)
        return ModelProbe(opened, places, self.batch_size, self._windowing(opened))

    def language_model(self, *, need_head=True):
        """
        Open the model with the head that it predicts tokens with, to generate, or to measure its loss.

        It is shared with clones of the extractor, apart from the model that rows are read from, and takes memory of its
        own: a change to it stays, and changes no rows.

        Parameters
        ----------
        need_head : bool, default=True
            False opens a model that has no such head without one; it is then the model that rows are read from.

        Returns
        -------
        model : torch.nn.Module
            As transformers loads it, on `device` and in `dtype`.
        tokenizer : transformers fast tokenizer
            The one that the extractor reads texts with.

        Raises
        ------
        OSError
            For a model that cannot be loaded.
        ValueError
            If it has no such head, as most encoders of sentences have none, and `need_head`.

        Examples
        --------
        >>> from skfactors import TransformerFeatureExtractor
        >>> from skfactors.datasets import demo_language_model
        >>> model, tokenizer = TransformerFeatureExtractor(demo_language_model()).language_model()
        >>> inputs = tokenizer("The capital of France is", return_tensors="pt")
        >>> tokenizer.decode(model(**inputs).logits[0, -1].argmax())
        ' Paris'
        """
        self._validate_params()
        try:
            opened = self._slot().get_with_head(self._source())
        except Headless:
            if need_head:
                raise
            opened = self._slot().get(self._source())
        return opened.model, opened.tokenizer

    def model_fingerprint(self) -> str | None:
        """
        Tell the model by its weights, whatever it is called and wherever it lies.

        Returns
        -------
        str
            32 hexadecimal digits: a digest of the files of weights, which the first call reads from end to end. Rows
            have it in their `source`. None for a model without such files.

        Raises
        ------
        OSError
            For a model that cannot be loaded, or whose files have changed since.
        """
        self._validate_params()
        return model_fingerprint(model_content(self._slot().files(self._source())))

    def _stream(self, texts, max_rows) -> Iterator[Activations]:
        # All that is wrong with model and parameters is said here, before the first part is asked for.
        if max_rows is not None:
            check_scalar(max_rows, "max_rows", Integral, min_val=1)
        self._check_model()
        check_is_collection(texts)
        return self._parts(texts, max_rows)

    def _parts(self, texts, max_rows) -> Iterator[Activations]:
        stream = self._open()
        n_outliers = yield from stream.iter_extract(texts, max_rows=max_rows, verbose=self.verbose)
        if self.drop_outliers is not None:
            self._count_outliers(stream, n_outliers)

    def _count_outliers(self, stream: ActivationStream, n_outliers: int) -> None:
        self.n_outliers_ = n_outliers
        stream.warn_of_outliers(n_outliers)

    def _open(self) -> ActivationStream:
        places, _ = self._check_model()
        opened = self._slot().get(self._source())
        windowing = self._windowing(opened)
        return ActivationStream(
            opened,
            self._source(),
            windowing,
            places,
            self.batch_size,
            self.cache_dir,
            self.cache_limit,
            self.drop_outliers,
        )

    def _windowing(self, opened: OpenModel) -> dict:
        max_length = min(self.max_length, opened.facts.n_positions or self.max_length)
        check_windowing(opened.tokenizer, max_length, self.stride, self.add_special_tokens)
        return {"max_length": max_length, "stride": self.stride, "add_special_tokens": self.add_special_tokens}

    def _pooled(self, texts) -> np.ndarray:
        pools = [GroupPool(len(texts), width, self.pooling) for width in self._widths]
        for acts in self.iter_extract(texts):
            for place, pool in zip(self.places_, pools, strict=True) if len(acts) else ():
                at_place = acts.at(*place)
                pool.add(at_place.X, at_place.provenance["document"].to_numpy())
        dtype = np.float64 if self.dtype == "float64" else np.float32
        return np.hstack([pool.result() for pool in pools]).astype(dtype)

    def _check_model(self) -> tuple[list[Place], ModelFacts]:
        self._validate_params()
        opened = self._slot().get(self._source())
        places = resolve_places(self.site, self.layers, opened, self.model)
        opened.facts.measure(opened.model, places)
        return places, opened.facts

    def _source(self) -> ModelSource:
        return ModelSource(self.model, self.revision, resolve_device(self.device), self.dtype, self.trust_remote_code)

    def _slot(self) -> ModelSlot:
        return self.__dict__.setdefault("_model_slot", ModelSlot())

    def __sklearn_clone__(self):
        twin = super().__sklearn_clone__()
        twin._model_slot = self._slot()
        return twin

    def __getstate__(self):
        state = dict(super().__getstate__())
        state.pop("_model_slot", None)
        return state

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.two_d_array = False
        tags.input_tags.string = True
        tags.transformer_tags.preserves_dtype = []
        return tags
