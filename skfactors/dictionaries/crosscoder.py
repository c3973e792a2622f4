"""Crosscoder: factors of several places at once, and which of them are of one place alone."""

from numbers import Integral

import numpy as np
import pandas as pd
from scipy.sparse import csr_array
from sklearn.utils._param_validation import Interval
from sklearn.utils.validation import check_is_fitted

from skfactors.codes import LARGEST
from skfactors.dictionaries.autoencoders.sparse_autoencoder import SparseAutoencoder
from skfactors.dictionaries.autoencoders.starting import Standardizer
from skfactors.dictionaries.learned_from import source_of
from skfactors.dictionaries.rows import batches_of, check_rows
from skfactors.learning.batches import rows_of
from skfactors.output import with_plain_output, without_feature_names

_ROWS_AT_A_TIME = 4096
_ROWS_OF_SPECIFICITY = 16_384


class Crosscoder(SparseAutoencoder):
    """
    Learn factors of several sites at once: one code of a token, and a component in each site.

    Minimises, over the encoders W, biases b and c, and components D of each site s,

        Σ_i w_i [ ½Σ_s ‖x_is - (a_i D_s + b_s)‖² + penalty(a_i) ]   with a_i = keep(Σ_s W_s x_is + c)

    as :class:`SparseAutoencoder` does with the sites side by side. Sites may be layers of a model, or one layer of
    two models.

    Parameters
    ----------
    n_components : int, default=None
        Number of factors; None is the number of features.
    n_sites : int
        Number of sites, whose rows lie side by side in X, all of one width.
    activation : {"relu", "topk", "batch_topk", "jump_relu", "gated", "abs_topk"}, default="batch_topk"
        What makes codes of pre-activations. "topk" keeps the largest of each row, "abs_topk" those furthest from zero,
        with their signs. "batch_topk" keeps the largest of a minibatch, and learns a threshold for `transform`. "relu"
        keeps what is positive, under an L1 penalty; "jump_relu" what is above each factor's own threshold, under a
        penalty on the number of codes; "gated" decides by a gate which factors are active, apart from how much.
    n_nonzero_coefs : int, default=32
        Codes of a row asked for. "topk" and "abs_topk" keep at most so many of each; the others have so many in the
        mean, by steering their penalty while they learn, and in the end a threshold. The default asks for no more than
        there are components.
    alpha : float, default=None
        A fixed penalty instead, for "relu", "jump_relu" and "gated", in the unit of ½‖x - x̂‖² by a code, or for
        "jump_relu" by the number of codes.
    group_sizes : sequence of int or float, default=None
        Sizes of groups of components, or their shares, for nested prefixes (Matryoshka): the loss is then the mean over
        reconstructions from the first group, the first two, and so on, so that the first factors are the most general.
    dict_init : {"dictionary", "random"} or array-like of shape (n_components, n_features), default="dictionary"
        Components to start from. "dictionary" learns them from a sample, with exact codes, as
        :class:`SparseDictionary` does; the encoder starts from a regression to the exact codes, as it does for given
        components.
    normalize : {"rms", None}, default="rms"
        "rms" scales the rows of each site alike, to a mean squared length of their width, while it learns: sites count
        alike. The fitted attributes are for rows as they come. Rows are centred in any case.
    auxk : float, default=1/32
        Weight of the loss with which factors that have been silent for some time are to reconstruct what the others
        leave (AuxK); 0 does without.
    learning_rate : float or "auto", default="auto"
        Of Adam, at its highest: it grows over the first steps and falls to zero over the last seven tenths of a fit.
        "auto" is 0.1 / √n_features.
    max_iter : int, default=10
        Epochs.
    batch_size : int, default=1024
        Rows in a minibatch. They are shuffled in every epoch.
    early_stopping : bool, default=False
        Whether to hold rows out and stop after the epoch that lowers their mean error by less than a thousandth.
        `max_iter` is then the most epochs there may be.
    validation_fraction : float, default=0.1
        Share of the rows that is held out for early stopping.
    warm_start : bool, default=False
        Whether `fit` goes on from the weights of the last fit.
    random_state : int, RandomState instance or None, default=None
        For the start and the shuffling.
    device : str, default="auto"
        "auto" takes cuda, then mps, then cpu.
    dtype : {"float32", "float64", "bfloat16"}, default="float32"
        Precision of weights and codes. "bfloat16" multiplies matrices in it on an accelerator; weights and codes are
        float32.
    distributed : "auto" or bool, default="auto"
        Whether the processes of a torch.distributed group, such as torchrun starts, learn together, each from its share
        of every minibatch. "auto" does so where there is a group; True raises where there is none.
    checkpoint_dir : path-like, default=None
        Folder in which `fit` keeps what it needs to go on after it was killed. The same call, with the same parameters
        and rows, then ends at the same bits as one that was never stopped.
    checkpoint_every : int, default=1000
        Minibatches from one checkpoint to the next.
    sparse_output : bool, default=True
        Whether codes are a `scipy.sparse.csr_array`; dense codes are needed for pandas output.
    verbose : bool, default=False
        Show a progress bar with explained variance, codes per row and the number of silent factors.

    Attributes
    ----------
    components_ : ndarray of shape (n_components, n_features)
        The factors, sites side by side: of length 1 while rows are scaled, in all sites together.
    components_by_site_ : ndarray of shape (n_sites, n_components, width)
        The same, for each site.
    site_norms_ : ndarray of shape (n_sites, n_components)
        Lengths of the factors in each site.
    specificity_ : ndarray of shape (n_sites, n_components)
        1 where a factor is of that site alone, and 0 where another site holds as much of it: see
        :meth:`latent_scaling`. Above ½, a factor is specific to the site. Measured on a sample of the rows that were
        learned from.
    intercept_ : ndarray of shape (n_features,)
        What a row of no factors is reconstructed as.
    encoder_ : ndarray of shape (n_components, n_features)
        Pre-activations are ``X @ encoder_.T + encoder_intercept_``.
    encoder_intercept_ : ndarray of shape (n_components,)
    threshold_ : ndarray of shape (n_components,)
        What a pre-activation must be above; for "batch_topk", "jump_relu" and "gated".
    history_ : list of dict
        For each step: `step`, `n_rows`, and over its batch, before the update, `objective` (weighted mean of ½‖x - x̂‖²,
        of rows as they are scaled), `explained_variance`, `l0`, `n_silent`, `n_reseeded`, `penalty`; with early
        stopping, for the last step of each epoch, `validation_objective`.
    n_iter_ : int
        Epochs run by the last `fit`; 1 after `partial_fit`.
    n_features_in_ : int
        Number of features.
    feature_names_in_ : ndarray of shape (n_features,)
        Names of features, where X had any.
    device_ : str
        Where it was learned.
    source_ : dict
        What it was learned from, where X is Activations or a store: their `source`.

    See Also
    --------
    SparseAutoencoder : Factors of a single site.
    Transcoder : Factors of what is written, with codes of what is read.

    Notes
    -----
    Components have length 1 over all sites together, so that what is compared, to keep the largest codes or to set a
    penalty, is a code times √Σ_s ‖D_s‖²: by how much it changes what is reconstructed. The sum Σ_s ‖D_s‖, which others
    take, would count a factor of n sites √n times what it counts one of a single site.

    References
    ----------
    Lindsey, Templeton, Marcus, Conerly, Batson, Olah (2024), "Sparse crosscoders for cross-layer features and model
    diffing".

    Minder, Dumas, Juang, Chughtai, Nanda (2025), "Robustly identifying concepts introduced during chat fine-tuning
    using crosscoders", for latent scaling.

    Examples
    --------
    >>> import numpy as np
    >>> from skfactors import Crosscoder
    >>> X = np.random.default_rng(0).random((500, 12))
    >>> crosscoder = Crosscoder(n_components=16, n_sites=2, n_nonzero_coefs=4, random_state=0).fit(X)
    >>> crosscoder.components_by_site_.shape, crosscoder.specificity_.shape
    ((2, 16, 6), (2, 16))
    """

    _fitted_arrays = {"specificity_?": ("n_sites", "n_components"), "state.scale?": ("n_sites",)}

    _parameter_constraints = SparseAutoencoder._parameter_constraints | {
        "n_sites": [Interval(Integral, 1, None, closed="left")],
    }

    def __init__(
        self,
        n_components=None,
        *,
        n_sites,
        activation="batch_topk",
        n_nonzero_coefs=32,
        alpha=None,
        group_sizes=None,
        dict_init="dictionary",
        normalize="rms",
        auxk=1 / 32,
        learning_rate="auto",
        max_iter=10,
        batch_size=1024,
        early_stopping=False,
        validation_fraction=0.1,
        warm_start=False,
        random_state=None,
        device="auto",
        dtype="float32",
        distributed="auto",
        checkpoint_dir=None,
        checkpoint_every=1000,
        sparse_output=True,
        verbose=False,
    ):
        super().__init__(
            n_components,
            activation=activation,
            n_nonzero_coefs=n_nonzero_coefs,
            alpha=alpha,
            group_sizes=group_sizes,
            dict_init=dict_init,
            normalize=normalize,
            auxk=auxk,
            learning_rate=learning_rate,
            max_iter=max_iter,
            batch_size=batch_size,
            early_stopping=early_stopping,
            validation_fraction=validation_fraction,
            warm_start=warm_start,
            random_state=random_state,
            device=device,
            dtype=dtype,
            distributed=distributed,
            checkpoint_dir=checkpoint_dir,
            checkpoint_every=checkpoint_every,
            sparse_output=sparse_output,
            verbose=verbose,
        )
        self.n_sites = n_sites

    @property
    def components_by_site_(self):
        """The factors of each site."""
        return self.components_.reshape(len(self.components_), self.n_sites, -1).swapaxes(0, 1)

    @property
    def site_norms_(self):
        """Lengths of the factors in each site."""
        return np.linalg.norm(self.components_by_site_, axis=2)

    def latent_scaling(self, X):
        """
        Measure how much of each factor there is in each site, whatever the crosscoder makes of it.

        A component that is zero in a site does not show that the site knows nothing of the factor: it may have been
        left out to save a code (it is then in the site's error), or other factors may stand for it (it is then in the
        site's reconstruction). For a factor with codes a, of which D is the component in its own site, the one in which
        it is longest, latent scaling finds by least squares how much of it is in each site s::

            β = argmin Σ_i ‖β a_i D - y_is‖²

        with y the reconstruction of the site, less its mean, or its error without this factor, x - x̂ + a D_s; ν is
        β of a site over that of the factor's own. All is of rows that are scaled as in a fit, site by site.

        Parameters
        ----------
        X : array-like of shape (n_rows, n_sites · width)
            Rows to code, sites side by side.

        Returns
        -------
        DataFrame
            A row for each factor and site, with the columns `factor`, `site`, `own_site`, `relative_norm` (length of
            the component there over that in its own site), `nu_reconstruction`, `nu_error`, and `specificity`: in the
            factor's own site 1 less the largest of these three in any other, at least 0; elsewhere 0. Factors without a
            code in X have zeros.
        """
        check_is_fitted(self)
        X = check_rows(self, X, reset=False, largest=LARGEST[self.encoder_.dtype.name])
        sample = next(iter(batches_of(X, _ROWS_OF_SPECIFICITY)))
        measured = Standardizer.of(
            np.asarray(sample), np.ones(len(sample)), scaled=self.normalize == "rms", widths=self._widths()
        )
        scale = measured.by_column
        components = (self.components_ * scale).reshape(len(self.components_), self.n_sites, -1)
        of_errors, of_reconstructions = np.zeros((2, *components.shape))
        squares, sums, totals = np.zeros(len(components)), np.zeros(len(components)), np.zeros(X.shape[1])
        model = without_feature_names(with_plain_output(self))
        for rows in batches_of(X, _ROWS_AT_A_TIME):
            codes = csr_array(model.transform(rows), dtype=np.float64)
            decoded = codes @ (self.components_ * scale)
            error = (rows - self.intercept_) * scale - decoded
            of_errors += (codes.T @ error).reshape(components.shape)
            of_reconstructions += (codes.T @ decoded).reshape(components.shape)
            squares += (codes * codes).sum(axis=0)
            sums += codes.sum(axis=0)
            totals += decoded.sum(axis=0)
        # Of reconstructions the mean says nothing of a factor.
        of_reconstructions -= sums[:, None, None] * (totals / len(X)).reshape(components.shape[1:])
        of_errors += squares[:, None, None] * components
        norms = np.linalg.norm(components, axis=2)
        every, own = np.arange(len(norms)), norms.argmax(axis=1)
        in_error, in_reconstruction = (
            np.einsum("jsw,jw->js", sums_of, components[every, own]) for sums_of in (of_errors, of_reconstructions)
        )
        shares = [_over_own(found, own) for found in (norms, in_reconstruction, in_error)]
        active = squares > 0
        elsewhere = np.max(shares, axis=0)
        elsewhere[every, own] = -np.inf if self.n_sites > 1 else 1.0
        specificity = np.zeros_like(norms)
        specificity[every, own] = np.clip(1 - elsewhere.max(axis=1), 0, 1) * active
        table = pd.DataFrame(
            {"factor": np.repeat(every, self.n_sites), "site": np.tile(range(self.n_sites), len(norms))}
        )
        table["own_site"] = np.repeat(own, self.n_sites)
        names = ("relative_norm", "nu_reconstruction", "nu_error")
        for name, share in zip(names, shares, strict=True):
            table[name] = np.where(active[:, None], share, 0).ravel()
        table["specificity"] = specificity.ravel()
        return table

    def _checked(self, X, y, sample_weight, *, reset):
        if self.n_sites > 1 and source_of(X):
            raise ValueError(
                f"each row of X is of one place, and n_sites={self.n_sites} asks for several side by side: give "
                "acts.side_by_side(), or what TransformerFeatureExtractor(arrange='columns') returns."
            )
        X, weight = super()._checked(X, y, sample_weight, reset=reset)
        self._widths()
        return X, weight

    def _widths(self):
        if self.n_features_in_ % self.n_sites:
            raise ValueError(
                f"n_sites={self.n_sites} does not divide the {self.n_features_in_} features of X: give sites side by "
                "side, all of one width."
            )
        return (self.n_features_in_ // self.n_sites,) * self.n_sites

    def _blocks(self):
        return {"widths": self._widths()}

    def _learn(self, X, weight, *others):
        super()._learn(X, weight, *others)
        sample, _ = rows_of(X, weight).draw(min(len(X), _ROWS_OF_SPECIFICITY), np.random.RandomState(0))
        model = without_feature_names(with_plain_output(self))
        self.specificity_ = model.latent_scaling(sample)["specificity"].to_numpy(self.components_.dtype)
        self.specificity_ = np.ascontiguousarray(self.specificity_.reshape(-1, self.n_sites).T)
        return self


def _over_own(found, own):
    """Return what is found in each site over what is found in a factor's own; 1 where there is nothing there."""
    of_own = np.take_along_axis(found, own[:, None], axis=1)
    return np.divide(found, of_own, out=np.ones_like(found), where=of_own > 0)
