"""Format: how one tool keeps its dictionaries."""

from abc import ABC, abstractmethod

from skfactors.dictionaries.base import FactorModel
from skfactors.dictionaries.formats.reading import Files


class Format(ABC):
    """
    How one tool keeps its dictionaries.

    Attributes
    ----------
    options : frozenset of str
        What :func:`skfactors.load_dictionary` may be told because the files do not say it.
    """

    options = frozenset()

    @abstractmethod
    def fits(self, files: Files) -> bool:
        """Say whether files are of this format, by their names and keys."""

    @abstractmethod
    def read(self, files: Files, **options) -> FactorModel:
        """
        Read a dictionary.

        Parameters
        ----------
        files : Files
        **options
            Of `options`, those that were given.

        Returns
        -------
        FactorModel

        Raises
        ------
        ValueError
            If a file is not what it should be: what is unknown, missing or of another shape is named.
        """


class WritableFormat(Format):
    """A format that :meth:`skfactors.FactorModel.export` writes, too."""

    @abstractmethod
    def written(self, model: FactorModel) -> dict[str, bytes]:
        """
        Return the files of a dictionary, such that the tool computes the same codes from it.

        Parameters
        ----------
        model : FactorModel
            Fitted.

        Returns
        -------
        dict of str to bytes
            What each file holds, by name.

        Raises
        ------
        ValueError
            If the tool has no such dictionaries.
        """
