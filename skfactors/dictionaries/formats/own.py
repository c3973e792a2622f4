"""The folders of this package's own."""

from skfactors.dictionaries.base import FactorModel
from skfactors.dictionaries.formats.base import Format
from skfactors.dictionaries.formats.repositories import of_plain_files
from skfactors.dictionaries.persistence import FILES


class Own(Format):
    """What :meth:`skfactors.FactorModel.save` writes."""

    def fits(self, files):
        """Say whether both files are there."""
        return all(name in files for name in FILES)

    def read(self, files):
        """Load it."""
        with of_plain_files([files.path(name) for name in FILES]) as folder:
            return FactorModel.load(folder)
