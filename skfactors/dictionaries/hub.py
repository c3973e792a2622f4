"""Dictionaries on a hub of models, and the cards that say what they are."""

import re
from pathlib import Path
from tempfile import TemporaryDirectory

from skfactors.dictionaries.formats.reading import SUBFOLDERS, Files

_REPO = re.compile(r"[\w.-]+/[\w.-]+")


def is_repo_name(name: str) -> bool:
    """Say whether something may be the name of a repository."""
    return _REPO.fullmatch(name) is not None and not name.startswith(".")


def files_of_repo(repo: str, revision: str | None, subfolder: str | None, ignore: tuple[str, ...]) -> Files:
    """
    Find the files in a folder of a repository; only what is read is downloaded.

    Parameters
    ----------
    repo : str
    revision : str or None
    subfolder : str or None
        May be a file of tensors.
    ignore : tuple of str

    Returns
    -------
    Files

    Raises
    ------
    FileNotFoundError
        If there is no such folder.
    """
    from huggingface_hub import HfApi, hf_hub_download

    everything = HfApi().list_repo_files(repo, revision=revision)
    folder, chosen = (subfolder or "").strip("/"), None
    if folder in everything:
        folder, _, chosen = folder.rpartition("/")
    prefix = f"{folder}/" if folder else ""
    within = [name.removeprefix(prefix) for name in everything if name.startswith(prefix)]
    names = [name for name in within if "/" not in name or name.rpartition("/")[0] in SUBFOLDERS]
    where = f"{repo}/{subfolder}" if subfolder else repo
    if not names:
        folders = sorted({name.rpartition("/")[0] for name in everything if "/" in name})
        raise FileNotFoundError(
            f"{where!r} holds no files; the repository has {len(folders)} folders, such as {', '.join(folders[:5])}."
        )

    def fetch(name):
        return Path(hf_hub_download(repo, f"{prefix}{name}", revision=revision))

    return Files(where, names, fetch, chosen, ignore)
