"""Files in repositories of a hub of models."""

import re
from pathlib import Path

from skfactors.dictionaries.formats.reading import SUBFOLDERS, Files
from skfactors.dictionaries.persistence import FILES

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


def folder_of(path_or_repo, revision: str | None, subfolder: str | None, token) -> Path:
    """Return the folder with a saved dictionary; of a repository, after these files were downloaded."""
    from huggingface_hub import snapshot_download

    path = Path(path_or_repo)
    if not path.is_dir():
        if not is_repo_name(str(path_or_repo)):
            raise FileNotFoundError(
                f"there is no folder {str(path)!r}, and it is not the name of a repository, as in 'user/name'."
            )
        wanted = [f"{subfolder}/{name}" if subfolder else name for name in FILES]
        path = Path(snapshot_download(str(path_or_repo), revision=revision, allow_patterns=wanted, token=token))
    return path / subfolder if subfolder else path
