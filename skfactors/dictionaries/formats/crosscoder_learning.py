"""crosscoder_learning: ae.pt, a state dict alone."""

import numpy as np

from skfactors.dictionaries.formats.base import Format
from skfactors.dictionaries.formats.weights import Weights
from skfactors.dictionaries.learned_from import source_in_file

_CROSSCODER, _SAE, _MIXED, _NONE, _DECOUPLED = 1, 2, 3, 4, 5
_NORMALIZATIONS = {_CROSSCODER, _SAE, _MIXED, _NONE, _DECOUPLED}


class CrosscoderLearning(Format):
    """
    Crosscoders, of rows that are sites side by side.

    Options: ``mixed_weights``, of the two lengths that mixed code normalisation adds up, which no file says; (1.0, 0.1)
    by default. A decoupled crosscoder has a code for each latent and site, those of the first site first.
    """

    options = frozenset({"mixed_weights"})

    def fits(self, files):
        """Say whether there is one file of tensors, with a normalisation of codes."""
        found = _tensor_files(files)
        return len(found) == 1 and "code_normalization_id" in files.content(found[0])

    def read(self, files, mixed_weights=(1.0, 0.1)):
        """Read a crosscoder."""
        tensors = files.tensors(next(iter(_tensor_files(files)), "ae.pt"))
        encoder = np.float64(tensors.take("encoder.weight", "n_sites", "d", "m"))
        decoder = np.float64(tensors.take("decoder.weight", "n_sites", "m", "d"))
        bias = np.float64(tensors.take("encoder.bias", "m"))
        intercept = np.float64(tensors.take("decoder.bias", "n_sites", "d"))
        mean = np.float64(tensors.take("activation_mean", "n_sites", "d", finite=False))
        scale = np.float64(tensors.take("activation_global_scale", "n_sites", finite=False))[:, None]
        for unused in ("activation_std", "target_rms"):
            if unused in tensors:
                tensors.take(unused, *(("n_sites", "d") if unused == "activation_std" else ()), finite=False)
        kind = int(tensors.number("code_normalization_id"))
        if kind not in _NORMALIZATIONS:
            raise ValueError(f"{tensors.where} is not read: code_normalization_id {kind} is not known here.")
        k = int(tensors.number("k")) if "k" in tensors else None
        has_threshold = "threshold" in tensors
        if has_threshold != (k is not None):
            raise ValueError(f"{tensors.where} is not read: of k and threshold, it has only one.")
        shape = ("n_sites",) if kind == _DECOUPLED else ()
        threshold = np.float64(tensors.take("threshold", *shape)) if has_threshold else None
        tensors.finish()

        lengths = _lengths(decoder, kind, mixed_weights)
        if has_threshold and not lengths.all():
            raise ValueError(f"{tensors.where} is not read: latents with a decoder of zeros have no threshold.")
        if not np.isnan(mean).any():
            if not np.isfinite([*mean.ravel(), *scale.ravel()]).all():
                raise ValueError(f"{tensors.where} is not read: its activation_global_scale is {scale.ravel()}.")
            # A decoupled one scales rows twice.
            for _ in range(2 if kind == _DECOUPLED else 1):
                bias = bias - np.einsum("ld,ldm->m", mean * scale, encoder)
                encoder = encoder * scale[:, :, None]
            decoder = decoder / (scale[:, :, None] + 1e-8)
            intercept = intercept / (scale + 1e-8) + mean
        n_sites, d, m = encoder.shape
        encoder = encoder.reshape(n_sites * d, m).T
        if kind == _DECOUPLED:
            components = np.zeros((n_sites, m, n_sites, d))
            components[np.arange(n_sites), :, np.arange(n_sites)] = decoder
            components = components.reshape(n_sites * m, n_sites * d)
            encoder, bias = np.tile(encoder, (n_sites, 1)), np.tile(bias, n_sites)
            threshold = None if threshold is None else (threshold[:, None] / lengths).ravel()
        else:
            components = decoder.transpose(1, 0, 2).reshape(m, n_sites * d)
            threshold = None if threshold is None else threshold / lengths
        weights = Weights(encoder, bias, components, intercept.ravel(), threshold)
        said = source_in_file("crosscoder_learning", l0=k if kind != _DECOUPLED else None, n_sites=n_sites)
        if has_threshold:
            return weights.crosscoder("above", said, activation="batch_topk", n_sites=n_sites)
        return weights.crosscoder("positive", said, n_sites=n_sites)


def _tensor_files(files):
    return [name for name in files.names if name.endswith(".pt")]


def _lengths(decoder, kind, mixed_weights):
    """Return what codes are multiplied by before they are compared: (n_components,), or a row a site."""
    by_site = np.linalg.norm(decoder, axis=2)
    together = np.linalg.norm(by_site, axis=0)
    return {
        _CROSSCODER: by_site.sum(0),
        _SAE: together,
        _MIXED: mixed_weights[0] * together + mixed_weights[1] * by_site.sum(0),
        _NONE: np.ones_like(together),
        _DECOUPLED: by_site,
    }[kind]
