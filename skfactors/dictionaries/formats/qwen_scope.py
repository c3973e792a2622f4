"""Qwen Scope: layerN.sae.pt."""

import re

from skfactors.dictionaries.formats.base import Format
from skfactors.dictionaries.formats.weights import Weights
from skfactors.dictionaries.learned_from import source_in_file

_NAME = re.compile(r"layer(\d+)\.sae\.pt")
_K_IN_NAME = re.compile(r"L0_(\d+)")


class QwenScope(Format):
    """
    Dictionaries of Qwen Scope: top-k, the decoder's bias not subtracted, both matrices the other way round.

    Options: ``layer``, where there are several, and ``k``, which no file says; by default what the repository's name
    says (``L0_50``).
    """

    options = frozenset({"k", "layer"})

    def fits(self, files):
        """Say whether there are such files."""
        return bool(files.matching(_NAME))

    def read(self, files, k=None, layer=None):
        """Read a dictionary."""
        found = files.matching(_NAME)
        if layer is None and len(found) == 1:
            layer = next(iter(found))
        if layer not in found:
            raise ValueError(f"{files.where!r} holds layers {', '.join(map(str, sorted(found)))}: pass one as layer=.")
        if k is None:
            named = _K_IN_NAME.search(files.where)
            if named is None:
                raise ValueError(f"{files.where!r} does not say how many codes of a row are kept: pass k=.")
            k = int(named[1])
        tensors = files.tensors(found[layer])
        encoder, components = tensors.take("W_enc", "m", "d"), tensors.take("W_dec", "d", "m").T
        weights = Weights(encoder, tensors.take("b_enc", "m"), components, tensors.take("b_dec", "d"))
        tensors.finish()
        return weights.autoencoder("largest", source_in_file("qwen_scope", layer=layer, l0=k), n_nonzero_coefs=int(k))
