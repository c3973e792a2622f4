"""The arrays of an autoencoder on their way from a file to a model: what is done to rows is folded into them."""

import numpy as np

from skfactors.dictionaries.autoencoders.sparse_autoencoder import SparseAutoencoder
from skfactors.dictionaries.base import FactorModel
from skfactors.dictionaries.crosscoder import Crosscoder
from skfactors.dictionaries.pretrained import PretrainedDictionary, PretrainedTranscoder
from skfactors.dictionaries.transcoder import Transcoder

# Where a file says no more than which pre-activations are kept.
_ACTIVATION_OF = {
    "positive": "relu",
    "above": "jump_relu",
    "largest": "topk",
    "largest_of_any_sign": "topk",
    "largest_magnitudes": "abs_topk",
    "largest_of_groups": "topk",
}


# What is kept, for messages.
WORDS = {
    "positive": "all positive codes",
    "above": "codes above a threshold",
    "largest": "the largest codes of a row",
    "largest_of_any_sign": "the largest codes of a row, negative ones too",
    "largest_magnitudes": "the codes of a row that are furthest from zero",
    "largest_of_groups": "the largest code of each group",
}


class Weights:
    """
    Codes are ``keep(x @ encoder.T + bias)``, reconstructions ``codes @ components + intercept``.

    Everything is computed in double precision until a model is made of it.

    Parameters
    ----------
    encoder : ndarray of shape (n_components, n_features)
    bias : ndarray of shape (n_components,)
    components : ndarray of shape (n_components, n_outputs)
    intercept : ndarray of shape (n_outputs,)
    threshold : float or ndarray of shape (n_components,), default=None
        What codes must be above.
    """

    def __init__(self, encoder, bias, components, intercept, threshold=None):
        self.encoder, self.bias, self.components, self.intercept = (
            np.asarray(array, np.float64) for array in (encoder, bias, components, intercept)
        )
        self.threshold = None if threshold is None else np.broadcast_to(np.float64(threshold), self.bias.shape)

    def of_scaled_rows(self, scale: float, scale_out: float | None = None) -> None:
        """Make weights fit rows as they are that read them times `scale` and gave them times `scale_out`."""
        self.encoder = self.encoder * scale
        self.components = self.components / (scale_out or scale)
        self.intercept = self.intercept / (scale_out or scale)

    def of_subtracted(self, shift: np.ndarray) -> None:
        """Make weights that were learned on rows minus `shift` fit rows as they are."""
        self.bias = self.bias - self.encoder @ shift

    def with_unit_components(self) -> None:
        """Move the lengths of the components into the codes; thresholds stay, for codes of that length."""
        lengths = np.linalg.norm(self.components, axis=1)
        if not lengths.all():
            raise ValueError(
                f"{np.count_nonzero(lengths == 0)} latents have a decoder of zeros, whose length codes are divided by."
            )
        self.encoder, self.bias = self.encoder * lengths[:, None], self.bias * lengths
        self.components = self.components / lengths[:, None]

    def autoencoder(self, selection: str, source: dict, *, skip=None, **settings) -> FactorModel:
        """
        Make the model.

        Parameters
        ----------
        selection : str
            Name in `SELECTIONS`.
        source : dict
            What the files say about where they are from.
        skip : ndarray of shape (n_features, n_features), default=None
            What of the row itself is added to what it is reconstructed as.
        **settings
            `n_nonzero_coefs`, `scaling`, `activation`.

        Returns
        -------
        SparseAutoencoder or PretrainedDictionary
        """
        if skip is not None:
            return self._pretrained(PretrainedDictionary, selection, source, skip, **settings)
        return self._learned(SparseAutoencoder, selection, source, **settings)

    def transcoder(self, selection: str, source: dict, *, skip=None, **settings) -> FactorModel:
        """Make a model that reads one place and writes another; else as :meth:`autoencoder`."""
        scaled = settings.get("scaling", "none") != "none"
        if settings.get("any_sign") or (scaled and settings.get("undo_scaling", True)):
            return self._pretrained(PretrainedTranscoder, selection, source, skip, **settings)
        settings.pop("any_sign", None), settings.pop("undo_scaling", None)
        return self._learned(Transcoder, selection, source, skip=skip, **settings)

    def crosscoder(self, selection: str, source: dict, **settings) -> Crosscoder:
        """Make a model that reads several sites, `n_sites`, side by side; else as :meth:`autoencoder`."""
        return self._learned(Crosscoder, selection, source, **settings)

    def _learned(self, kind, selection, source, **settings):
        model = kind._from_arrays(
            self.components,
            self.encoder,
            activation=settings.pop("activation", _ACTIVATION_OF[selection]),
            intercept=self.intercept,
            encoder_intercept=self.bias,
            threshold=self.threshold,
            selection=selection,
            **settings,
        )
        model.source_ = source
        return model

    def _pretrained(self, kind, selection, source, skip, **settings):
        settings.pop("activation", None)
        arrays = {"encoder": self.encoder, "encoder_intercept": self.bias, "threshold": self.threshold, "skip": skip}
        return kind.from_arrays(
            "linear",
            self.components,
            self.intercept,
            {name: array for name, array in arrays.items() if array is not None},
            {"selection": selection, **settings},
            source,
        )


def parts_of(model):
    """
    Return what a model with a linear encoder is made of.

    Returns
    -------
    weights : dict of str to ndarray, or None
        `encoder`, `encoder_intercept`, and where there are, `threshold` and `skip`; None if it has another encoder.
    settings : dict
        `selection`, `scaling`, `n_nonzero_coefs`, and what else is said of an encoder.
    predicts : bool
        Whether it predicts another place.
    """
    predicts = hasattr(model, "predict")
    if isinstance(model, SparseAutoencoder):
        names = ("encoder", "encoder_intercept", "threshold", "skip")
        found = {name: getattr(model, f"{name}_", None) for name in names}
        settings = {"selection": model.selection_, "scaling": model.scaling_, "n_nonzero_coefs": model.n_nonzero_coefs}
        settings |= {"undo_scaling": not predicts}
        return {name: array for name, array in found.items() if array is not None}, settings, predicts
    if getattr(model, "architecture", None) == "linear":
        return model.weights_, model.settings, predicts
    return None, {}, predicts
