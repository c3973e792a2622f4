"""Dictionaries of other tools: one file a tool, all in one registry."""

from pathlib import Path

from skfactors.dictionaries.base import FactorModel
from skfactors.dictionaries.formats.base import Format, WritableFormat
from skfactors.dictionaries.formats.circuit_tracer import CircuitTracer
from skfactors.dictionaries.formats.crosscoder_learning import CrosscoderLearning
from skfactors.dictionaries.formats.dictionary_learning import DictionaryLearning
from skfactors.dictionaries.formats.gemma_scope import GemmaScope, GemmaScope2
from skfactors.dictionaries.formats.llama_scope import LlamaScope
from skfactors.dictionaries.formats.llamascopium import Llamascopium
from skfactors.dictionaries.formats.overcomplete import Overcomplete
from skfactors.dictionaries.formats.own import Own
from skfactors.dictionaries.formats.qwen_scope import QwenScope
from skfactors.dictionaries.formats.reading import Files
from skfactors.dictionaries.formats.repositories import files_of_repo, is_repo_name
from skfactors.dictionaries.formats.saelens import SAELens
from skfactors.dictionaries.formats.sparsify import Sparsify
from skfactors.files import replaced_file

FORMATS: dict[str, Format] = {
    "skfactors": Own(),
    "saelens": SAELens(),
    "dictionary_learning": DictionaryLearning(),
    "sparsify": Sparsify(),
    "overcomplete": Overcomplete(),
    "crosscoder_learning": CrosscoderLearning(),
    "gemma_scope": GemmaScope(),
    "gemma_scope_2": GemmaScope2(),
    "llama_scope": LlamaScope(),
    "llamascopium": Llamascopium(),
    "qwen_scope": QwenScope(),
    "circuit_tracer": CircuitTracer(),
}


def load_dictionary(
    path_or_repo, *, format="auto", revision=None, subfolder=None, ignore=(), **what_the_file_does_not_say
) -> FactorModel:
    """
    Load a dictionary that another tool has learned.

    Codes and reconstructions are those of the tool. What is read is read strictly: an unknown key, tensor or
    architecture, a missing tensor and a shape that does not fit are errors that name it. No code that a file may hold
    is run.

    Parameters
    ----------
    path_or_repo : path-like
        A folder, a file of tensors with its configuration beside it, or a repository of the model hub.
    format : str, default="auto"
        Name in `FORMATS`; "auto" tells it by the files that are there.
    revision : str, default=None
        Of a repository: a branch, tag or commit.
    subfolder : str, default=None
        Where in the folder or repository the files lie; of a repository also a file of tensors.
    ignore : sequence of str, default=()
        Unknown keys and tensors that you know to change no code.
    **what_the_file_does_not_say
        Depends on the format; the page on files of other tools lists it.

    Returns
    -------
    FactorModel
        A :class:`SparseAutoencoder`, a :class:`Transcoder` where it reads one place and predicts another, or a
        :class:`Crosscoder` where it reads several; what these cannot be is a :class:`PretrainedDictionary` or a
        :class:`PretrainedTranscoder`. ``source_`` has what the files say about model, place and L0.

    Raises
    ------
    FileNotFoundError
        If there is no such folder or file.
    ValueError
        If the files are of no format or several, damaged, or not what the format says.
    TypeError
        If the format takes no such keyword.

    See Also
    --------
    skfactors.dictionaries.check_l0 : Compares the L0 on rows with the one that the files state.

    Examples
    --------
    >>> from pathlib import Path
    >>> from tempfile import TemporaryDirectory
    >>> import numpy as np
    >>> from skfactors import load_dictionary
    >>> tensors = {"W_enc": np.eye(3, 4), "W_dec": np.eye(4, 3), "b_enc": np.zeros(4), "b_dec": np.zeros(3)}
    >>> with TemporaryDirectory() as folder:
    ...     np.savez(Path(folder) / "params.npz", **tensors, threshold=np.full(4, 0.5))  # as Gemma Scope's
    ...     dictionary = load_dictionary(folder)
    >>> dictionary.transform([[0.4, 0.6, -1.0]]).toarray().round(1)
    array([[0. , 0.6, 0. , 0. ]], dtype=float32)
    >>> dictionary.source_
    {'format': 'gemma_scope', 'architecture': 'jump_relu'}
    """
    if format != "auto" and format not in FORMATS:
        raise ValueError(f"format is {format!r}; known are 'auto', {', '.join(map(repr, FORMATS))}.")
    files = _files_of(path_or_repo, revision, subfolder, (ignore,) if isinstance(ignore, str) else tuple(ignore))
    name = _format_of(files) if format == "auto" else format
    chosen = FORMATS[name]
    unknown = sorted(set(what_the_file_does_not_say) - chosen.options)
    if unknown:
        known = ", ".join(sorted(chosen.options)) or "nothing"
        raise TypeError(f"the format {name!r} takes no {', '.join(unknown)}; it takes {known}.")
    return chosen.read(files, **what_the_file_does_not_say)


def export(model: FactorModel, path, format: str) -> None:
    """
    Write a dictionary as another tool has it; see :meth:`FactorModel.export`.

    Parameters
    ----------
    model : FactorModel
        Fitted.
    path : path-like
        A folder, made if need be.
    format : str
        Name in `FORMATS` of one that is written, too.
    """
    known = [name for name, one in FORMATS.items() if isinstance(one, WritableFormat)]
    if format not in known:
        raise ValueError(f"format is {format!r}; written are {', '.join(map(repr, known))}.")
    # What cannot be written leaves nothing behind.
    files = FORMATS[format].written(model)
    folder = Path(path)
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        with replaced_file(folder / name) as file:
            file.write(content)


def _files_of(path_or_repo, revision, subfolder, ignore) -> Files:
    path = Path(path_or_repo)
    if path.exists():
        path = path / subfolder if subfolder else path
        if not path.exists():
            raise FileNotFoundError(f"there is no {str(path)!r}.")
        return Files.at(path, ignore)
    if not is_repo_name(str(path_or_repo)):
        raise FileNotFoundError(
            f"there is no {str(path)!r}, and it is not the name of a repository, as in 'user/name'."
        )
    return files_of_repo(str(path_or_repo), revision, subfolder, ignore)


def _format_of(files: Files) -> str:
    found = [name for name, one in FORMATS.items() if one.fits(files)]
    if len(found) != 1:
        which = f"several formats ({', '.join(found)})" if found else "no format that is known here"
        raise ValueError(
            f"{files.where!r} holds {', '.join(files.names) or 'no files'}, which are those of {which}: pass format=, "
            f"one of {', '.join(FORMATS)}."
        )
    return found[0]
