"""The folders of this package's own."""

from skfactors.dictionaries.base import FactorModel
from skfactors.dictionaries.formats.base import Format

_CONFIG, _TENSORS = "config.json", "dictionary.safetensors"


class Own(Format):
    """What :meth:`skfactors.FactorModel.save` writes."""

    def fits(self, files):
        """Say whether both files are there."""
        return _CONFIG in files and _TENSORS in files

    def read(self, files):
        """Load it."""
        paths = [files.path(name) for name in (_CONFIG, _TENSORS)]
        return FactorModel.load(paths[0].parent)
