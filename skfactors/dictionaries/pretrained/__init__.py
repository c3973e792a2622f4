"""Dictionaries that other tools have learned, whose encoders are not those of a SparseAutoencoder."""

from skfactors.dictionaries.pretrained.encoders import ENCODERS
from skfactors.dictionaries.pretrained.models import PretrainedDictionary, PretrainedTranscoder

__all__ = ["ENCODERS", "PretrainedDictionary", "PretrainedTranscoder"]
